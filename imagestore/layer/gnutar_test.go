package layer_test

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"unio/imagestore/layer"
	"unio/unionfs/merge"
)

// gnuTar runs GNU tar over a folder and returns what it writes.
func gnuTar(t *testing.T, dir string, args ...string) []byte {
	t.Helper()
	out, err := exec.Command("tar", "--version").Output()
	if err != nil || !bytes.Contains(out, []byte("GNU tar")) {
		t.Skip("GNU tar is missing")
	}
	cmd := exec.Command("tar", append(append([]string{"-C", dir, "-c"}, args...), ".")...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	b, err := cmd.Output()
	if err != nil {
		t.Fatalf("tar %q: %v\n%s", args, err, &stderr)
	}
	return b
}

// sourceTree makes a folder with everything that the oldest format can hold,
// and, where asked, with what only newer ones can.
func sourceTree(t *testing.T, newer bool) string {
	t.Helper()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	check(t, os.MkdirAll(at("d/e"), 0o755))
	check(t, os.WriteFile(at("d/text"), []byte("hello"), 0o640))
	check(t, os.WriteFile(at("d/empty"), nil, 0o600))
	check(t, os.WriteFile(at("d/large"), bytes.Repeat([]byte("0123456789"), 100_000), 0o644))
	check(t, os.Link(at("d/text"), at("d/e/text again")))
	check(t, os.Symlink("../../../etc/passwd", at("link")))
	check(t, os.WriteFile(at("latin\xe9\nline"), []byte("x"), 0o644))
	check(t, os.WriteFile(at("suid"), nil, 0o755))
	check(t, unix.Chmod(at("suid"), 0o6711))
	check(t, unix.Chmod(at("d/e"), 0o1777))
	sparseFile(t, at("sparse"), 3<<20, 0, 1<<20, 2<<20)
	sparseFile(t, at("hole"), 1<<20)
	sparseFile(t, at("many"), 1<<20, everyEighthPage()...)
	if newer {
		newerThings(t, at)
	}
	check(t, os.Chtimes(at("d/text"), fsTime(1234, 0), fsTime(1234, 0)))
	return dir
}

// newerThings adds what the oldest format has no place for.
func newerThings(t *testing.T, at func(string) string) {
	t.Helper()
	long := strings.Repeat("n", 200)
	check(t, os.MkdirAll(at(long+"/"+long), 0o755))
	check(t, os.WriteFile(at(long+"/"+long+"/f"), []byte("deep"), 0o644))
	check(t, os.Symlink(strings.Repeat("../", 60)+long, at("long link")))
	check(t, unix.Mkfifo(at("pipe"), 0o644))
	if os.Geteuid() == 0 {
		check(t, unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		check(t, unix.Mknod(at("disk"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 70000))))
		check(t, os.Lchown(at("link"), 70000, 3_000_000_000))
	}
}

func everyEighthPage() (offsets []int64) {
	for off := int64(4096); off < 1<<20; off += 8 * 4096 {
		offsets = append(offsets, off)
	}
	return offsets
}

// sparseFile makes a file of size bytes, all hole but a few bytes at offsets.
func sparseFile(t *testing.T, path string, size int64, offsets ...int64) {
	t.Helper()
	f, err := os.Create(path)
	check(t, err)
	check(t, f.Truncate(size))
	for _, off := range offsets {
		_, err := f.WriteAt([]byte("data"), off)
		check(t, err)
	}
	check(t, f.Close())
}

// likeSource compares a view with the folder that its tar was made of.
func likeSource(t *testing.T, v *layer.View, dir string, nanoseconds bool) {
	t.Helper()
	count := 0
	links := map[uint64]merge.Ino{}
	check(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		check(t, err)
		count++
		var st unix.Stat_t
		check(t, unix.Lstat(path, &st))
		rel, err := filepath.Rel(dir, path)
		check(t, err)
		ino := merge.RootIno
		if rel != "." {
			ino = find(t, v, rel)
		}
		if known, ok := links[st.Ino]; ok && known != ino {
			t.Errorf("%q: node %d, its other name has %d", rel, ino, known)
		}
		links[st.Ino] = ino
		likeFile(t, v, ino, path, &st, nanoseconds)
		return nil
	}))
	if n := len(slices.Collect(func(yield func(string) bool) {
		for p := range walkView(t, v) {
			if !yield(p) {
				return
			}
		}
	})); n != count-1 {
		t.Errorf("%d paths in the view, %d in the source", n, count-1)
	}
}

func likeFile(t *testing.T, v *layer.View, ino merge.Ino, path string, st *unix.Stat_t, nanoseconds bool) {
	t.Helper()
	want := merge.Attr{Mode: st.Mode, UID: st.Uid, GID: st.Gid, Nlink: uint32(st.Nlink), Rdev: st.Rdev, Size: uint64(st.Size), Sec: st.Mtim.Sec, Nsec: uint32(st.Mtim.Nsec)}
	got := attrOf(t, v, ino)
	if !nanoseconds {
		want.Nsec = 0
	}
	if got.IsDir() {
		want.Size, want.Nlink = 0, got.Nlink // as each filesystem likes
	}
	if got != want {
		t.Errorf("%q: %+v, want %+v", path, got, want)
	}
	switch {
	case got.IsSymlink():
		target, err := os.Readlink(path)
		check(t, err)
		if s, err := v.Readlink(ino); s != target || err != nil {
			t.Errorf("%q: target %q, %v", path, s, err)
		}
	case got.IsRegular():
		data, err := os.ReadFile(path)
		check(t, err)
		if !bytes.Equal(readAll(t, v, ino), data) {
			t.Errorf("%q: other content", path)
		}
	}
}

// What GNU tar writes in each of its formats is the source again.
func TestLayerCase18GNUTarFormats(t *testing.T) {
	for _, c := range []struct {
		name   string
		newer  bool
		sparse bool
		args   []string
	}{
		{"v7", false, false, []string{"--format=v7"}},
		{"oldgnu", true, false, []string{"--format=oldgnu"}},
		{"gnu", true, false, []string{"--format=gnu"}},
		{"ustar", false, false, []string{"--format=ustar"}},
		{"pax", true, false, []string{"--format=pax"}},
		{"gnu sparse", true, true, []string{"--format=gnu", "--sparse"}},
		{"pax sparse 0.0", true, true, []string{"--format=pax", "--sparse", "--sparse-version=0.0"}},
		{"pax sparse 0.1", true, true, []string{"--format=pax", "--sparse", "--sparse-version=0.1"}},
		{"pax sparse 1.0", true, true, []string{"--format=pax", "--sparse", "--sparse-version=1.0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := sourceTree(t, c.newer)
			pax := strings.HasPrefix(c.name, "pax")
			if pax || c.sparse {
				old := fsTime(-5, 5e8)
				check(t, os.Chtimes(filepath.Join(dir, "d/large"), old, old))
			}
			b := gnuTar(t, dir, c.args...)
			v := mustView(t, b)
			likeSource(t, v, dir, pax)
			if c.sparse && len(b) > 4<<20 {
				t.Errorf("tar of %d bytes: not sparse", len(b))
			}
			checkHoles(t, v, c.sparse)
		})
	}
}

func checkHoles(t *testing.T, v *layer.View, sparse bool) {
	t.Helper()
	for name, want := range map[string]int{"hole": 0, "sparse": 3, "many": 32} {
		segments, err := v.Segments(find(t, v, name))
		check(t, err)
		if !sparse {
			want = 1
		}
		if len(segments) != want {
			t.Errorf("%s: %d segments, want %d", name, len(segments), want)
		}
	}
}

func TestLayerCase19GNUTarXattrs(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	check(t, os.WriteFile(path, nil, 0o644))
	values := map[string]string{"user.note": "a\x00b\n=c", "user.empty": "", "user.long": strings.Repeat("v", 2000)}
	if os.Geteuid() == 0 {
		values["trusted.overlay.opaque"] = "y"
		values["security.capability"] = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	}
	for name, value := range values {
		if err := unix.Lsetxattr(path, name, []byte(value), 0); err != nil {
			t.Skipf("no extended attributes in the folder for temporary files: %v", err)
		}
	}
	v := mustView(t, gnuTar(t, dir, "--format=pax", "--xattrs", "--xattrs-include=*"))
	ino := find(t, v, "f")
	n := 0
	check(t, v.Xattrs(ino, func(name string, value []byte) bool {
		n++
		if want, ok := values[name]; !ok || want != string(value) {
			t.Errorf("%s = %q, want %q", name, value, want)
		}
		return true
	}))
	if n != len(values) {
		t.Errorf("%d attributes, want %d", n, len(values))
	}
}
