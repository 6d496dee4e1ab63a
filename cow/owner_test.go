package cow

import (
	"testing"

	"golang.org/x/sys/unix"

	"unio/whiteout"
)

// TestOwnerTypes checks that whiteout.ParseOverride reads the types that record writes.
func TestOwnerTypes(t *testing.T) {
	for _, o := range []owner{
		{mode: unix.S_IFCHR, rdev: unix.Mkdev(1, 3)},
		{mode: unix.S_IFBLK, rdev: unix.Mkdev(259, 70000)},
		{mode: unix.S_IFIFO},
		{mode: unix.S_IFSOCK},
	} {
		got, ok := whiteout.ParseOverride("0:0:0000:" + typeName(o))
		if !ok || got.Mode != o.mode || got.Rdev != o.rdev {
			t.Errorf("%s: %+v, %v, want %+v", typeName(o), got, ok, o)
		}
	}
	for _, mode := range []uint32{unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK} {
		if name := typeName(owner{mode: mode}); name != "" {
			t.Errorf("type %o has the name %q, but the inode says it itself", mode, name)
		}
	}
}

func TestRealMode(t *testing.T) {
	root, user := &FS{root: true}, &FS{}
	for mode, want := range map[uint32]uint32{
		unix.S_IFREG | 0o4000:  unix.S_IFREG | 0o600,
		unix.S_IFREG | 0o755:   unix.S_IFREG | 0o755,
		unix.S_IFDIR | 0o1055:  unix.S_IFDIR | 0o755,
		unix.S_IFCHR | 0o666:   unix.S_IFREG | 0o666,
		unix.S_IFIFO | 0o444:   unix.S_IFREG | 0o644,
		unix.S_IFLNK | 0o777:   unix.S_IFLNK | 0o777,
		unix.S_IFSOCK | 0o1777: unix.S_IFREG | 0o777,
	} {
		if got := user.realMode(owner{mode: mode}); got != want {
			t.Errorf("%o becomes %o without privilege, want %o", mode, got, want)
		}
		if got := root.realMode(owner{mode: mode}); got != mode {
			t.Errorf("%o becomes %o with privilege", mode, got)
		}
	}
}
