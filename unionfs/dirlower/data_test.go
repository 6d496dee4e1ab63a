package dirlower_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"unio/unionfs/dirlower"
	"unio/unionfs/merge"
	"unio/unionfs/merge/lowertest"
)

// TestPartial completes files of which an upper of our own has some blocks.
func TestPartial(t *testing.T) {
	needRoot(t)
	d := dirs(t, "top", "middle", "bottom")
	sh(t, d[2], "head -c 40000 /dev/zero | tr '\\0' b > f; cp f g; cp f h; cp f short")
	sh(t, d[1], `truncate -s 40000 f; printf mmmm | dd of=f bs=4096 seek=2 conv=notrunc status=none; setfattr -n trusted.unio.partial -v 40000 f
mkdir r; truncate -s 40000 r/moved; setfattr -n trusted.overlay.metacopy r/moved; setfattr -n trusted.overlay.redirect -v /g r/moved
truncate -s 40000 short; setfattr -n trusted.unio.partial -v 8192 short`)
	sh(t, d[0], `truncate -s 50000 f; printf tttt | dd of=f bs=4096 seek=1 conv=notrunc status=none; setfattr -n trusted.unio.partial -v 30000 f
truncate -s 40000 bad; setfattr -n trusted.unio.partial -v nonsense bad; truncate -s 9 none; setfattr -n trusted.unio.partial -v 9 none`)
	tree := open(t, dirlower.Options{Dirs: d, Root: true})
	block := func(c string) string { return strings.Repeat(c, 4096) }
	zeros := func(n int) string { return strings.Repeat("\x00", n) }
	f := block("b") + "tttt" + zeros(4092) + "mmmm" + zeros(4092) + strings.Repeat("b", 30000-3*4096) + zeros(20000)
	for path, want := range map[string]string{
		"f": f, "r/moved": strings.Repeat("b", 40000), "short": strings.Repeat("b", 8192) + zeros(40000-8192),
	} {
		ino := find(t, tree, path)
		got, err := content(tree, ino)
		if got != want || err != nil {
			t.Errorf("%s reads otherwise, %v", path, err)
		}
		for _, off := range []int64{0, 4095, 4096, 8191, 12287, 29990, 39999} {
			part := make([]byte, 5000)
			n, err := tree.ReadAt(ino, part, off)
			if end := min(off+5000, int64(len(want))); string(part[:n]) != want[off:end] || err != nil {
				t.Errorf("%s at %d: %d bytes, %v", path, off, n, err)
			}
		}
	}
	segments, err := tree.Segments(find(t, tree, "f"))
	if want := []merge.Segment{{Off: 0, Len: 30000}}; !slices.Equal(segments, want) || err != nil {
		t.Errorf("segments %v, %v", segments, err)
	}
	for _, path := range []string{"bad", "none"} {
		if _, err := content(tree, find(t, tree, path)); err != unix.EIO {
			t.Errorf("%s: %v, want EIO", path, err)
		}
	}
	if _, err := tree.CopyTo(find(t, tree, "f"), 0, merge.Segment{Len: 1}); err != unix.ENOTSUP {
		t.Errorf("copying it in the kernel: %v", err)
	}
}

// TestDataInNoLayer: metacopy without data is an error to read, not zeros.
func TestDataInNoLayer(t *testing.T) {
	needRoot(t)
	d := dirs(t, "over", "under", "below")
	sh(t, d[0], `truncate -s 100 f g l hidden; for x in f g l hidden; do setfattr -n trusted.overlay.metacopy $x; done
setfattr -n trusted.overlay.redirect -v /none g; setfattr -n trusted.overlay.redirect -v /link l`)
	sh(t, d[1], "mkdir f; ln -s /etc/passwd link; mknod hidden c 0 0; truncate -s 5 last; setfattr -n trusted.overlay.metacopy last")
	sh(t, d[2], "echo x > hidden; truncate -s 3 bottom; setfattr -n trusted.overlay.metacopy bottom")
	tree := open(t, dirlower.Options{Dirs: d, Root: true})
	for _, path := range []string{"f", "g", "l", "hidden", "last", "bottom"} {
		if got, err := content(tree, find(t, tree, path)); err != unix.EIO {
			t.Errorf("%s reads %q, %v, want EIO", path, got, err)
		}
	}
}

// TestCopyTo copies data inside the kernel, holes left out.
func TestCopyTo(t *testing.T) {
	d := dirs(t, "d", "out")
	sh(t, d[0], "truncate -s 1M f; echo middle | dd of=f bs=4096 seek=100 conv=notrunc status=none")
	tree := open(t, dirlower.Options{Dirs: d[:1]})
	ino := find(t, tree, "f")
	out, err := os.Create(filepath.Join(d[1], "copy"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	segments, err := tree.Segments(ino)
	if err != nil || len(segments) != 1 {
		t.Fatalf("segments %v, %v", segments, err)
	}
	if n, err := tree.CopyTo(ino, int(out.Fd()), segments[0]); n != segments[0].Len || err != nil {
		t.Errorf("%d of %d bytes, %v", n, segments[0].Len, err)
	}
	got := make([]byte, 7)
	if _, err := out.ReadAt(got, 100*4096); string(got) != "middle\n" || err != nil {
		t.Errorf("the copy has %q, %v", got, err)
	}
}

// TestOverride shows owners, modes and types as their attribute says.
func TestOverride(t *testing.T) {
	d := dirs(t, "over", "under")
	for _, dir := range d {
		sh(t, dir, `mkdir d; touch null pipe file bad plain; ln -s file link
o() { setfattr -n user.containers.override_stat -v "$1" $2; }
o 12:34:0750 d; o 0:0:0666:char-1-3 null; o 5:6:0640:pipe pipe; o 7:8:4711:file file; o nonsense bad`)
	}
	sh(t, d[1], "mkdir only; touch only/null; setfattr -n user.containers.override_stat -v 0:0:0600:block-7-1 only/null")
	check := func(o dirlower.Options, plain uint32) {
		t.Helper()
		o.Dirs = d
		tree := open(t, o)
		for path, want := range map[string]merge.Attr{
			"d":         {Mode: unix.S_IFDIR | 0o750, UID: 12, GID: 34},
			"null":      {Mode: unix.S_IFCHR | 0o666, Rdev: unix.Mkdev(1, 3)},
			"only/null": {Mode: unix.S_IFBLK | 0o600, Rdev: unix.Mkdev(7, 1)},
			"pipe":      {Mode: unix.S_IFIFO | 0o640, UID: 5, GID: 6},
			"file":      {Mode: unix.S_IFREG | 0o4711, UID: 7, GID: 8},
			"plain":     {Mode: unix.S_IFREG | 0o644, UID: plain, GID: plain},
			"bad":       {Mode: unix.S_IFREG | 0o644, UID: plain, GID: plain},
		} {
			var a merge.Attr
			if err := tree.Attr(find(t, tree, path), &a); err != nil {
				t.Fatal(err)
			}
			if got := (merge.Attr{Mode: a.Mode, UID: a.UID, GID: a.GID, Rdev: a.Rdev}); got != want {
				t.Errorf("%s is %+v, want %+v", path, got, want)
			}
			if _, err := tree.Xattr(find(t, tree, path), "user.containers.override_stat"); err != merge.ErrNoXattr {
				t.Errorf("the attribute of %s can be seen: %v", path, err)
			}
		}
		lowertest.Conform(t, tree)
	}
	me := uint32(os.Geteuid())
	check(dirlower.Options{}, 0)
	check(dirlower.Options{HostOwners: true}, me)
	for _, dir := range d { // what fuse-overlayfs goes by
		sh(t, dir, "setfattr -n user.containers.override_stat -v 0:0:0755 .")
	}
	if me == 0 {
		check(dirlower.Options{Root: true}, 0)
	}
}

// TestAttributesOfNestedUnions: only the union's own namespace is hidden, and
// what is escaped in it is shown.
func TestAttributesOfNestedUnions(t *testing.T) {
	needRoot(t)
	d := dirs(t, "d")
	sh(t, d[0], `touch f; for a in trusted.overlay.origin trusted.overlay.overlay.opaque trusted.unio.unio.x user.overlay.opaque user.unio.origin \
user.fuseoverlayfs.origin trusted.mine user.mine; do setfattr -n $a -v v f; done`)
	names := func(o dirlower.Options) string {
		t.Helper()
		o.Dirs = d
		tree := open(t, o)
		var names []string
		tree.Xattrs(find(t, tree, "f"), func(name string, _ []byte) bool { names = append(names, name); return true })
		return strings.Join(names, " ")
	}
	const shown = "trusted.mine trusted.overlay.opaque trusted.unio.x user.mine user.overlay.opaque user.unio.origin"
	if got := names(dirlower.Options{Root: true}); got != shown {
		t.Errorf("with privilege: %s", got)
	}
	const other = "trusted.mine trusted.overlay.origin trusted.overlay.overlay.opaque trusted.unio.unio.x user.mine"
	if got := names(dirlower.Options{Root: true, UserXattr: true}); got != other {
		t.Errorf("with user attributes: %s", got)
	}
}
