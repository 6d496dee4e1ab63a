package cow

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseOwner(t *testing.T) {
	for text, want := range map[string]owner{
		"0:0:0755":                   {mode: 0o755},
		"1000:4294967294:4711":       {uid: 1000, gid: 4294967294, mode: 0o4711},
		"1:2:0600:file":              {uid: 1, gid: 2, mode: 0o600},
		"1:2:0644:pipe":              {uid: 1, gid: 2, mode: unix.S_IFIFO | 0o644},
		"1:2:0644:socket":            {uid: 1, gid: 2, mode: unix.S_IFSOCK | 0o644},
		"0:6:0660:block-8-1":         {gid: 6, mode: unix.S_IFBLK | 0o660, rdev: unix.Mkdev(8, 1)},
		"0:0:0666:char-1-4294967295": {mode: unix.S_IFCHR | 0o666, rdev: unix.Mkdev(1, 4294967295)},
	} {
		if got, ok := parseOwner(text); !ok || got != want {
			t.Errorf("%s: %+v, %v, want %+v", text, got, ok, want)
		}
	}
	for _, text := range []string{
		"", "0", "0:0", "x:0:0644", "0:-1:0644", "0:0:0999", "4294967296:0:0644", "0:0:0644:", "0:0:0644:door",
		"0:0:0644:char", "0:0:0644:char-1", "0:0:0644:char-x-1", "0:0:0644:block-1-4294967296", "0:0:0644:char-1-2-3",
	} {
		if got, ok := parseOwner(text); ok {
			t.Errorf("%q is taken for %+v", text, got)
		}
	}
}

// TestOwnerTypes checks that parseOwner reads the types that record writes.
func TestOwnerTypes(t *testing.T) {
	for _, o := range []owner{
		{mode: unix.S_IFCHR, rdev: unix.Mkdev(1, 3)},
		{mode: unix.S_IFBLK, rdev: unix.Mkdev(259, 70000)},
		{mode: unix.S_IFIFO},
		{mode: unix.S_IFSOCK},
	} {
		got, ok := parseOwner("0:0:0000:" + typeName(o))
		if !ok || got != o {
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
