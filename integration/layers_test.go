package integration

import (
	"archive/tar"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"unio/integration/tree"
)

// layerCase is one of the layer rules: what the layers hold, bottom first,
// and what must be seen. A case without want is an error.
type layerCase struct {
	name   string
	layers [][]item
	want   map[string]string // path → "dir", "file BODY", "link TARGET"
	peers  bool              // umoci unpack shows the same
	fails  string            // what the error must say
}

var layerCases = []layerCase{
	{
		name:   "01 file and its own whiteout in one layer",
		layers: layersOf(layerOf(file("f", "old")), layerOf(file("f", "new"), gone(".wh.f"))),
		want:   map[string]string{"f": "file new"},
	},
	{
		name:   "02 entry in a folder whited out by the same layer",
		layers: layersOf(layerOf(folder("d"), file("d/a", "a")), layerOf(folder("d"), file("d/b", "b"), gone(".wh.d"))),
		want:   map[string]string{"d": "dir", "d/b": "file b"},
	},
	{
		name:   "03 opaque marker behind its siblings",
		layers: layersOf(layerOf(folder("d"), file("d/a", "a")), layerOf(folder("d"), file("d/b", "b"), gone("d/.wh..wh..opq"))),
		want:   map[string]string{"d": "dir", "d/b": "file b"},
		peers:  true,
	},
	{
		name:   "04 opaque marker before its siblings",
		layers: layersOf(layerOf(folder("d"), file("d/a", "a")), layerOf(folder("d"), gone("d/.wh..wh..opq"), file("d/b", "b"))),
		want:   map[string]string{"d": "dir", "d/b": "file b"},
		peers:  true,
	},
	{
		name:   "05 whiteout without a name",
		layers: layersOf(layerOf(folder("d"), file("d/a", "a")), layerOf(folder("d"), gone("d/.wh."))),
		fails:  ".wh.",
	},
	{
		name:   "05 whiteout of dot",
		layers: layersOf(layerOf(file("a", "a")), layerOf(gone(".wh.."))),
		fails:  ".wh.",
	},
	{
		name:   "05 whiteout of dot dot",
		layers: layersOf(layerOf(folder("d"), file("d/a", "a")), layerOf(gone("d/.wh..."))),
		fails:  ".wh.",
	},
	{
		name:   "06 child over a regular file",
		layers: layersOf(layerOf(file("p", "file")), layerOf(file("p/c", "child"))),
		want:   map[string]string{"p": "dir", "p/c": "file child"},
	},
	{
		name:   "07 symbolic link out of the tree",
		layers: layersOf(layerOf(symlink("up", "../../../etc/x"), symlink("abs", "/etc/x"))),
		want:   map[string]string{"up": "link ../../../etc/x", "abs": "link /etc/x"},
		peers:  true,
	},
	{
		name:   "08 child below a lower link to a folder",
		layers: layersOf(layerOf(folder("real"), file("real/a", "a"), symlink("link", "real")), layerOf(file("link/b", "b"))),
		want:   map[string]string{"real": "dir", "real/a": "file a", "real/b": "file b", "link": "link real"},
	},
	{
		name:   "09 hard link to a file of a lower layer",
		layers: layersOf(layerOf(file("a", "x")), layerOf(hardlink("b", "a"))),
		want:   map[string]string{"a": "file x", "b": "file x"},
		peers:  true,
	},
	{
		name:   "10 file replaces folder",
		layers: layersOf(layerOf(folder("d"), file("d/a", "a")), layerOf(file("d", "file"))),
		want:   map[string]string{"d": "file file"},
		peers:  true,
	},
	{
		name:   "11 folder replaces file",
		layers: layersOf(layerOf(file("d", "file")), layerOf(folder("d"), file("d/a", "a"))),
		want:   map[string]string{"d": "dir", "d/a": "file a"},
		peers:  true,
	},
	{
		name:   "12 whiteout of nothing",
		layers: layersOf(layerOf(file("a", "a")), layerOf(gone(".wh.b"), gone("x/.wh.y"))),
		want:   map[string]string{"a": "file a"},
	},
	{
		name:   "13 whiteout and new folder in one layer",
		layers: layersOf(layerOf(folder("d"), file("d/old", "o")), layerOf(gone(".wh.d"), folder("d"), file("d/new", "n"))),
		want:   map[string]string{"d": "dir", "d/new": "file n"},
	},
	{
		name:   "14 hard link before its target",
		layers: layersOf(layerOf(hardlink("b", "a"), file("a", "x"))),
		want:   map[string]string{"a": "file x", "b": "file x"},
	},
	{
		name:   "14 hard link to a whiteout",
		layers: layersOf(layerOf(file("a", "x")), layerOf(gone(".wh.a"), hardlink("b", ".wh.a"))),
		fails:  ".wh.a",
	},
	{
		name:   "15 the last of two entries wins",
		layers: layersOf(layerOf(file("a", "first"), folder("d"), file("a", "second"), file("d", "now a file"))),
		want:   map[string]string{"a": "file second", "d": "file now a file"},
		peers:  true,
	},
	{
		name:   "16 missing parents",
		layers: layersOf(layerOf(file("x/y/z", "deep"))),
		want:   map[string]string{"x": "dir", "x/y": "dir", "x/y/z": "file deep"},
	},
	{
		name: "17 unclean names",
		layers: layersOf(layerOf(folder("./"), file("./a", "1"), file("/b", "2"), folder("//d"), file("d/../c", "3"),
			file("d/./e", "4"), file("../../f", "5"))),
		want: map[string]string{"a": "file 1", "b": "file 2", "c": "file 3", "d": "dir", "d/e": "file 4", "f": "file 5"},
	},
	{
		name: "17 strange names",
		layers: layersOf(layerOf(file("new\nline", "1"), file("not \xff\xfe utf8", "2"), file(strings.Repeat("n", 255), "3"),
			file(" leading and trailing ", "4"), file(`back\slash`, "5"))),
		want: map[string]string{
			"new\nline": "file 1", "not \xff\xfe utf8": "file 2", strings.Repeat("n", 255): "file 3",
			" leading and trailing ": "file 4", `back\slash`: "file 5",
		},
		peers: true,
	},
	{
		name:   "17 a name of 256 bytes",
		layers: layersOf(layerOf(file(strings.Repeat("n", 256), "too long"))),
		fails:  "name",
	},
	{
		name:   "20 empty layer and layer of one whiteout",
		layers: layersOf(layerOf(file("a", "a"), file("b", "b")), layerOf(), layerOf(gone(".wh.a"))),
		want:   map[string]string{"b": "file b"},
		peers:  true,
	},
}

// TestLayerRules loads images of hand-made layers and looks at the mount.
func TestLayerRules(t *testing.T) {
	needTool(t, "umoci")
	for _, c := range layerCases {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t)
			var layers [][]byte
			for _, items := range c.layers {
				layers = append(layers, tarOf(t, items))
			}
			dir := b.path("layout")
			layout(t, dir, "case", layers...)
			if c.want == nil {
				assertLoadFails(t, b, dir, c.fails)
				return
			}
			b.run("load", "-q", "-i", dir)
			mnt := b.mount("--read-only", b.run("images", "-q"))
			assertShows(t, mnt, c.want)
			if c.peers {
				tool(t, "umoci", "unpack", "--image", dir+":case", b.path("bundle"))
				assertSameTree(t, b.path("bundle/rootfs"), mnt, tree.Options{NoRoot: true})
			}
		})
	}
}

func assertLoadFails(t *testing.T, b *box, dir, says string) {
	t.Helper()
	r := b.try("load", "-q", "-i", dir)
	if r.code != 1 || !strings.Contains(r.stderr, says) {
		t.Errorf("exit code %d, stderr %q; want 1 and a message with %q", r.code, r.stderr, says)
	}
	if strings.Count(strings.TrimSpace(r.stderr), "\n") > 0 {
		t.Errorf("more than one line: %q", r.stderr)
	}
	if out := b.run("images", "-q"); out != "" {
		t.Errorf("a failed load left the image %s", out)
	}
}

// assertShows compares what a folder shows with what it should.
func assertShows(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	got := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name := strings.TrimPrefix(path, dir+"/")
		got[name], err = describe(path, d)
		return err
	})
	must(t, err)
	for name, w := range want {
		if got[name] != w {
			t.Errorf("%q is %q, want %q", name, got[name], w)
		}
	}
	for name, g := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%q should not be there (%s)", name, g)
		}
	}
}

func describe(path string, d fs.DirEntry) (string, error) {
	switch {
	case d.IsDir():
		return "dir", nil
	case d.Type()&fs.ModeSymlink != 0:
		target, err := os.Readlink(path)
		return "link " + target, err
	default:
		data, err := os.ReadFile(path)
		return "file " + string(data), err
	}
}

// TestHardlinksAcrossLayers checks that names stay names of one file.
func TestHardlinksAcrossLayers(t *testing.T) {
	b := newBox(t)
	layout(t, b.path("layout"), "links",
		tarOf(t, layerOf(file("a", "x"), hardlink("b", "a"), folder("d"))),
		tarOf(t, layerOf(hardlink("d/c", "b"))))
	b.run("load", "-q", "-i", b.path("layout"))
	mnt := b.mount("--read-only", b.run("images", "-q"))
	var first syscall.Stat_t
	must(t, syscall.Stat(filepath.Join(mnt, "a"), &first))
	for _, name := range []string{"a", "b", "d/c"} {
		var st syscall.Stat_t
		must(t, syscall.Stat(filepath.Join(mnt, name), &st))
		if st.Ino != first.Ino || st.Nlink != 3 {
			t.Errorf("%s: inode %d, %d links; want inode %d, 3 links", name, st.Ino, st.Nlink, first.Ino)
		}
	}
}

// TestLongPaths walks down to a path of 4,095 bytes.
func TestLongPaths(t *testing.T) {
	b := newBox(t)
	var items []item
	path := ""
	for len(path)+201 < 4090 {
		path += strings.Repeat("p", 200)
		items = append(items, folder(path))
		path += "/"
	}
	path += strings.Repeat("f", 4095-len(path))
	items = append(items, file(path, "deep down"))
	layout(t, b.path("layout"), "long", tarOf(t, items))
	b.run("load", "-q", "-i", b.path("layout"))
	mnt := b.mount("--read-only", b.run("images", "-q"))
	folders := strings.Split(path, "/")
	dir, err := os.OpenRoot(mnt)
	must(t, err)
	defer func() { _ = dir.Close() }()
	for _, name := range folders[:len(folders)-1] {
		next, err := dir.OpenRoot(name)
		must(t, err)
		must(t, dir.Close())
		dir = next
	}
	data, err := dir.ReadFile(folders[len(folders)-1])
	must(t, err)
	if string(data) != "deep down" {
		t.Errorf("read %q", data)
	}
}

// TestTarFormats imports the same tree written in every format tar knows.
func TestTarFormats(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	shell(t, b.dir, `
		mkdir -p src/dir && cd src
		echo text >dir/file; ln dir/file dir/hard; ln -s file dir/soft; mkfifo fifo
		truncate -s 3M sparse; echo data | dd of=sparse bs=1 seek=1500000 conv=notrunc status=none
		find . -exec touch -h -d @1234567890 {} +`)
	sparse := []string{"--sparse"}
	for name, flags := range map[string][]string{
		"v7": {"--format=v7", "--exclude=./fifo"}, "ustar": {"--format=ustar"}, "gnu": {"--format=gnu"},
		"oldgnu": {"--format=oldgnu"}, "pax": {"--format=pax"},
		"gnu sparse": append(sparse, "--format=gnu"), "oldgnu sparse": append(sparse, "--format=oldgnu"),
		"pax sparse 0.0": append(sparse, "--format=pax", "--sparse-version=0.0"),
		"pax sparse 0.1": append(sparse, "--format=pax", "--sparse-version=0.1"),
		"pax sparse 1.0": append(sparse, "--format=pax", "--sparse-version=1.0"),
	} {
		t.Run(name, func(t *testing.T) {
			archive := b.path(strings.ReplaceAll(name, " ", "-") + ".tar")
			args := append([]string{"-cf", archive, "-C", b.path("src"), "--numeric-owner"}, flags...)
			tool(t, "tar", append(args, ".")...)
			mnt := b.mount("--read-only", b.run("import", "-q", archive))
			skip := func(path string) bool { return name == "v7" && path == "fifo" }
			assertSameTree(t, b.path("src"), mnt, tree.Options{Skip: skip})
			b.run("umount", mnt)
		})
	}
}

// TestHugeFolder mounts a folder of 100,000 entries.
func TestHugeFolder(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	items := []item{folder("many")}
	for i := range 100_000 {
		items = append(items, file(fmt.Sprintf("many/entry-%06d", i), ""))
	}
	layout(t, b.path("layout"), "huge", tarOf(t, items))
	b.run("load", "-q", "-i", b.path("layout"))
	id := b.run("images", "-q")
	mnt := b.mount("--name", "huge", id)
	names, err := os.ReadDir(filepath.Join(mnt, "many"))
	must(t, err)
	if len(names) != 100_000 || !slices.IsSortedFunc(names, func(a, b os.DirEntry) int { return strings.Compare(a.Name(), b.Name()) }) {
		t.Errorf("%d names", len(names))
	}
	must(t, os.Remove(filepath.Join(mnt, "many/entry-050000")))
	must(t, os.RemoveAll(filepath.Join(mnt, "many")))
	if diff := b.run("diff", "huge"); diff != "D /many" {
		t.Errorf("diff says %q", diff)
	}
}

// TestOverlayXattrsInLayer loads a layer with overlayfs's own xattrs: they are
// content, never obeyed, and invisible to nobody.
func TestOverlayXattrsInLayer(t *testing.T) {
	b := newBox(t)
	needTool(t, "setfattr")
	shell(t, b.dir, `
		mkdir -p src/d && echo a >src/d/a
		setfattr -n trusted.overlay.opaque -v y src/d
		setfattr -n trusted.overlay.redirect -v /elsewhere src/d
		setfattr -n user.overlay.opaque -v y src/d`)
	pack(t, b.path("src"), b.path("top.tar"))
	top, err := os.ReadFile(b.path("top.tar"))
	must(t, err)
	layout(t, b.path("layout"), "x", tarOf(t, layerOf(folder("d"), file("d/lower", "seen"))), top)
	b.run("load", "-q", "-i", b.path("layout"))
	mnt := b.mount("--name", "xattrs", b.run("images", "-q"))
	assertSameXattrs(t, b.path("src/d"), filepath.Join(mnt, "d"))
	if _, err := os.Stat(filepath.Join(mnt, "d/lower")); err != nil {
		t.Errorf("an opaque xattr in a layer was obeyed: %v", err)
	}
	// After a copy-up it is still the user's.
	must(t, os.WriteFile(filepath.Join(mnt, "d/new"), nil, 0o644))
	assertSameXattrs(t, b.path("src/d"), filepath.Join(mnt, "d"))
	if _, err := os.Stat(filepath.Join(mnt, "d/lower")); err != nil {
		t.Errorf("an opaque xattr was obeyed after copy-up: %v", err)
	}
}

func assertSameXattrs(t *testing.T, want, got string) {
	t.Helper()
	dump := func(path string) string {
		out, err := exec.Command("getfattr", "--absolute-names", "-d", "-m", "-", "-e", "hex", path).Output()
		must(t, err)
		_, values, _ := strings.Cut(string(out), "\n")
		return values
	}
	if w, g := dump(want), dump(got); w != g {
		t.Errorf("xattrs of %s:\n%s\nwant\n%s", got, g, w)
	}
}

// TestKindsInLayer is case 19: what tar can say of a file, the mount shows.
func TestKindsInLayer(t *testing.T) {
	b := newBox(t)
	items := []item{
		{name: "char", kind: tar.TypeChar},
		{name: "fifo", kind: tar.TypeFifo, mode: 0o600},
		file("suid", "x").withMode(0o4755), file("sgid", "x").withMode(0o2755), folder("sticky").withMode(0o1777),
	}
	layout(t, b.path("layout"), "kinds", tarOf(t, items))
	b.run("load", "-q", "-i", b.path("layout"))
	mnt := b.mount("--read-only", b.run("images", "-q"))
	got := readTree(t, mnt, tree.Options{})
	for name, mode := range map[string]uint32{
		"char": 0o020644, "fifo": 0o010600, "suid": 0o104755, "sgid": 0o102755, "sticky": 0o041777,
	} {
		if got[name].Mode != mode {
			t.Errorf("%s has mode %o, want %o", name, got[name].Mode, mode)
		}
	}
}
