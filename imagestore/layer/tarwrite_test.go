package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"unio/cow/fsat"
	"unio/unionfs/merge"
)

// tarNames returns the names in a tar, in its order.
func tarNames(t testing.TB, b []byte) []string {
	t.Helper()
	var names []string
	for _, e := range readTar(t, b) {
		names = append(names, e.hdr.Name)
	}
	return names
}

func TestTarOrder(t *testing.T) {
	h := newHandmade(t, true)
	h.sh(`mkdir -p etc/conf.d b-dir b; mknod etc/passwd c 0 0; mknod etc/conf.d/two c 0 0; echo 1 > etc/a; echo 2 > etc/zz; echo 3 > b-dir/x; echo 4 > b/x
		ln b/x b-dir/link; ln b/x a-link; ` + sameTime)
	h.set("etc", h.names.Opaque, "y")
	_, got := layerOf(t, h.up(), h.lower)
	want := []string{
		"a-link", "b/", "b/x", "b-dir/", "b-dir/link", "b-dir/x",
		"etc/", "etc/.wh.passwd", "etc/a", "etc/conf.d/", "etc/conf.d/.wh.one", "etc/conf.d/.wh.two", "etc/zz",
	}
	names := tarNames(t, got)
	if !slices.Equal(names, want) {
		t.Errorf("order:\n%q\nwant:\n%q", names, want)
	}
	for _, e := range readTar(t, got) {
		if strings.Contains(e.hdr.Name, "link") && e.hdr.Name != "a-link" || e.hdr.Name == "b/x" {
			if e.hdr.Typeflag != tar.TypeLink || e.hdr.Linkname != "a-link" {
				t.Errorf("%s is of type %c to %q, not a link to a-link", e.hdr.Name, e.hdr.Typeflag, e.hdr.Linkname)
			}
		}
	}
}

// TestTarFormat looks at headers: the old format where it suffices, records
// for what it cannot say, no names of users.
func TestTarFormat(t *testing.T) {
	long := strings.Repeat("d", 90) + "/" + strings.Repeat("f", 120)
	node := func(mode uint32, set func(*changeNode)) *changeNode {
		n := &changeNode{name: "x", attr: merge.Attr{Mode: mode, Sec: 1000}}
		set(n)
		return n
	}
	cases := []struct {
		name, path string
		node       *changeNode
		records    string // sorted keywords, "" for a plain ustar header
	}{
		{"plain", "etc/x", node(0o100644, func(*changeNode) {}), ""},
		{"setuid folder", "etc/x/", node(0o46755, func(*changeNode) {}), ""},
		{"largest plain owner", "x", node(0o100644, func(n *changeNode) { n.attr.UID = 0o7777777 }), ""},
		{"owner", "x", node(0o100644, func(n *changeNode) { n.attr.UID, n.attr.GID = 0o10000000, 4294967294 }), "gid uid"},
		{"nanoseconds", "x", node(0o100644, func(n *changeNode) { n.attr.Nsec = 1 }), "mtime"},
		{"before 1970", "x", node(0o100644, func(n *changeNode) { n.attr.Sec = -1 }), "mtime"},
		{"far future", "x", node(0o100644, func(n *changeNode) { n.attr.Sec = 1 << 33 }), "mtime"},
		{"8 GiB", "x", node(0o100644, func(n *changeNode) { n.attr.Size = 1 << 33 }), "size"},
		{"split name", strings.Repeat("d", 150) + "/" + strings.Repeat("f", 100), node(0o100644, func(*changeNode) {}), ""},
		{"long name", long, node(0o100644, func(*changeNode) {}), "path"},
		{"long target", "x", node(0o120777, func(n *changeNode) { n.target = long }), "linkpath"},
		{"letters", "é", node(0o100644, func(*changeNode) {}), "path"},
		{"bytes", "\xff", node(0o100644, func(*changeNode) {}), "hdrcharset path"},
		{"target of bytes", "x", node(0o120777, func(n *changeNode) { n.target = "\xff" }), "hdrcharset linkpath"},
		{"newline", "a\nb", node(0o100644, func(*changeNode) {}), ""},
		{"attributes", "x", node(0o100644, func(n *changeNode) {
			n.xattrs = []xattrPair{{"user.a", "\x00="}, {"security.capability", "c"}}
		}), "SCHILY.xattr.security.capability SCHILY.xattr.user.a"},
		{"device", "x", node(0o60660, func(n *changeNode) { n.attr.Rdev = unix.Mkdev(259, 1048575) }), ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var b bytes.Buffer
			tw := tar.NewWriter(&b)
			want := tarHeader(c.path, c.node)
			must(t, tw.WriteHeader(want))
			got, err := tar.NewReader(bytes.NewReader(b.Bytes())).Next()
			must(t, err)
			var keys []string
			for k := range got.PAXRecords {
				keys = append(keys, k)
			}
			slices.Sort(keys)
			if s := strings.Join(keys, " "); s != c.records {
				t.Errorf("records %q, want %q", s, c.records)
			}
			if c.records == "" && b.Len() != 512 {
				t.Errorf("header of %d bytes", b.Len())
			}
			if got.Name != c.path || got.Linkname != c.node.target || got.Uname+got.Gname != "" || got.Mode != want.Mode || got.Uid != want.Uid ||
				got.Gid != want.Gid || !got.ModTime.Equal(want.ModTime) || got.Size != want.Size || got.Devmajor != want.Devmajor || got.Devminor != want.Devminor {
				t.Errorf("read back %+v,\nwrote %+v", got, want)
			}
		})
	}
}

func TestXattrNoTarCanHold(t *testing.T) {
	h := newHandmade(t, true)
	h.sh("echo x > file")
	h.set("file", "user.a=b", "c")
	c, err := Diff(context.Background(), h.up(), h.lower)
	must(t, err)
	if err := c.WriteTar(context.Background(), io.Discard); err == nil || !strings.Contains(err.Error(), "/file") {
		t.Errorf("an attribute whose name holds '=': %v", err)
	}
}

// TestCreationOrder makes the same upper twice, in opposite order and on
// another filesystem.
func TestCreationOrder(t *testing.T) {
	needRoot(t)
	shm, err := os.MkdirTemp("/dev/shm", "unio-order")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(shm)) })
	lower := newHostLower(t, t.TempDir())
	steps := []string{"mkdir d; echo 1 > d/one", "mkdir e; echo 2 > e/two", "echo 3 > three", "mkdir -p d; echo 4 > d/four", "ln -s x link", "echo l > h"}
	var tars [2][]byte
	for i, dir := range []string{t.TempDir(), shm} {
		must(t, os.Chmod(dir, 0o755))
		for j := range steps {
			if i == 1 {
				j = len(steps) - 1 - j
			}
			shell(t, dir, strings.ReplaceAll(steps[j], "mkdir ", "mkdir -p "))
		}
		shell(t, dir, []string{"ln h d/h; ln h e/h; ln h a", "ln h a; mv h z; ln z e/h; ln z d/h; ln z h; rm z"}[i]+"\n"+sameTime)
		_, tars[i] = layerOf(t, Upper{Dir: dir, Root: true}, lower)
	}
	if !bytes.Equal(tars[0], tars[1]) {
		t.Errorf("the order of creation shows:\n%q\n%q", tarNames(t, tars[0]), tarNames(t, tars[1]))
	}
}

func TestFilesThatChange(t *testing.T) {
	cases := []struct {
		name, script string
		atOnce       bool // nothing of the file can be written
	}{
		{"shorter", "truncate -s 100 etc/f", false},
		{"longer", "echo more >> etc/f", false},
		{"emptied", ": > etc/f", false},
		{"gone", "rm etc/f", true},
		{"replaced", "cp etc/f g; mv g etc/f", true},
		{"a fifo now", "rm etc/f; mkfifo etc/f", true},
		{"a link now", "rm etc/f; ln -s /etc/shadow etc/f", true},
		{"folder is a link now", "mv etc e2; ln -s e2 etc", true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := newHandmade(t, true)
			h.sh("mkdir etc; head -c 3000000 /dev/zero | tr '\\0' x > etc/f; echo last > etc/z")
			d, err := Diff(context.Background(), h.up(), h.lower)
			must(t, err)
			h.sh(c.script)
			var b bytes.Buffer
			err = d.WriteTar(context.Background(), &b)
			if err == nil || !strings.Contains(err.Error(), "/etc/f") || (!c.atOnce && !errors.Is(err, ErrChanged)) {
				t.Fatalf("WriteTar: %v", err)
			}
			if !c.atOnce && tarNames(t, b.Bytes())[len(readTar(t, b.Bytes()))-1] != "etc/z" {
				t.Error("the tar does not go on behind the file")
			}
		})
	}
}

// headWriter keeps the start of what is written to it and counts the rest.
type headWriter struct {
	head  bytes.Buffer
	n     int64
	other int64 // bytes behind the head that are not zero
}

func (w *headWriter) Write(p []byte) (int, error) {
	if w.head.Len() < 4096 {
		w.head.Write(p)
	} else {
		w.other += int64(len(p) - bytes.Count(p, []byte{0}))
	}
	w.n += int64(len(p))
	return len(p), nil
}

// TestLargeSparseFiles writes 9 GiB of holes, of a file in the upper and of
// one whose data is the lower's.
func TestLargeSparseFiles(t *testing.T) {
	needRoot(t)
	const size = 9 << 30
	for _, metacopy := range []bool{false, true} {
		lowerDir, upper := t.TempDir(), t.TempDir()
		data := upper
		if metacopy {
			data = lowerDir
		}
		shell(t, data, fmt.Sprintf("truncate -s %d big; printf end | dd of=big bs=1 seek=%d conv=notrunc 2>/dev/null", size, int64(size-3)))
		if metacopy {
			shell(t, upper, fmt.Sprintf("truncate -s %d big; setfattr -n trusted.overlay.metacopy big; chmod 600 big", size))
		}
		c, err := Diff(context.Background(), Upper{Dir: upper, Root: true}, newHostLower(t, lowerDir))
		must(t, err)
		var w headWriter
		must(t, c.WriteTar(context.Background(), &w))
		r := tar.NewReader(&w.head)
		hdr, err := r.Next()
		must(t, err)
		if hdr.Name == "./" {
			hdr, err = r.Next()
			must(t, err)
		}
		if hdr.Name != "big" || hdr.Size != size || w.n < size || w.n > size+8192 || w.other != 3 {
			t.Errorf("metacopy %v: %s of %d bytes, tar of %d with %d bytes of data", metacopy, hdr.Name, hdr.Size, w.n, w.other)
		}
	}
}

// TestManyEntries replaces a folder of 100,000 files by another.
func TestManyEntries(t *testing.T) {
	needRoot(t)
	const n = 100_000
	lower := &hostLower{nodes: []*hostNode{
		{attr: merge.Attr{Mode: unix.S_IFDIR | 0o755}, names: []string{"d"}, kids: []merge.Ino{2}},
		{attr: merge.Attr{Mode: unix.S_IFDIR | 0o755}, links: []merge.Link{{Dir: 1, Name: "d"}}},
	}}
	d := lower.nodes[1]
	for i := range n {
		d.names, d.kids = append(d.names, fmt.Sprintf("old%06d", i)), append(d.kids, merge.Ino(3+i))
		lower.nodes = append(lower.nodes, &hostNode{attr: merge.Attr{Mode: unix.S_IFREG | 0o644, Nlink: 1}})
	}
	upper, err := os.MkdirTemp("/dev/shm", "unio-many") // of memory: making files is not the test
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(upper)) })
	must(t, os.Mkdir(filepath.Join(upper, "d"), 0o755))
	fd, err := fsat.OpenRoot(filepath.Join(upper, "d"))
	must(t, err)
	defer fsat.Close(fd)
	for i := range n {
		must(t, fsat.Mknod(fd, fmt.Sprintf("new%06d", i), unix.S_IFREG|0o644, 0))
	}
	up := Upper{Dir: upper, Root: true}
	start := time.Now()
	c, err := Diff(context.Background(), up, lower)
	must(t, err)
	var b bytes.Buffer
	must(t, c.WriteTar(context.Background(), &b))
	t.Logf("diff and tar of %d entries: %v", n, time.Since(start))
	if got := len(c.List()); got != n+1 {
		t.Errorf("%d changes over the lower's own folder, want %d", got, n+1)
	}
	shell(t, upper, "setfattr -n trusted.overlay.opaque -v y d")
	c, err = Diff(context.Background(), up, lower)
	must(t, err)
	b.Reset()
	must(t, c.WriteTar(context.Background(), &b))
	names := tarNames(t, b.Bytes())
	i := slices.Index(names, "d/new000000")
	if len(c.List()) != 2*n+1 || i < n || names[i-1] != "d/.wh.old099999" || names[len(names)-1] != "d/new099999" {
		t.Errorf("%d changes, %d names, first new one at %d", len(c.List()), len(names), i)
	}
}

// TestExportWithTar lets GNU tar unpack an export, and compares everything.
func TestExportWithTar(t *testing.T) {
	h := newHandmade(t, true)
	shell(t, h.lowerDir, "printf x > \"$(printf 'bad\\377utf')\"; n=$(printf %0250d 0); mkdir $n; echo y > $n/$n; chown 4294967294:3000000 $n/$n")
	var b bytes.Buffer
	must(t, WriteTree(context.Background(), newHostLower(t, h.lowerDir), &b))
	out := t.TempDir()
	cmd := exec.Command("tar", "-x", "-p", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C", out)
	cmd.Stdin = &b
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, msg)
	}
	compare(t, "GNU tar", capture(t, out), capture(t, h.lowerDir))
}

// BenchmarkSmallCommit is a diff and tar of a small change to a large lower.
func BenchmarkSmallCommit(b *testing.B) {
	needRoot(b)
	upper := b.TempDir()
	shell(b, upper, "mkdir -p etc/d; for i in 1 2 3 4 5 6 7 8 9; do echo $i > etc/d/$i; done")
	lower := newHostLower(b, b.TempDir())
	for b.Loop() {
		c, err := Diff(context.Background(), Upper{Dir: upper, Root: true}, lower)
		must(b, err)
		must(b, c.WriteTar(context.Background(), io.Discard))
	}
}
