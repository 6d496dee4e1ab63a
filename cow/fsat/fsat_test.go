package fsat

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// folder makes a folder to play in and returns it open.
func folder(t *testing.T) (int, string) {
	t.Helper()
	path := t.TempDir()
	fd, err := OpenRoot(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { Close(fd) })
	return fd, path
}

func TestOnlyComponents(t *testing.T) {
	fd, path := folder(t)
	if err := os.WriteFile(filepath.Join(path, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{
		"..": unix.EINVAL, "a/b": unix.EINVAL, "/etc": unix.EINVAL, "a\x00b": unix.EINVAL,
		strings.Repeat("n", 256): unix.ENAMETOOLONG,
	} {
		for op, err := range map[string]error{
			"open":    errOf(Open(fd, name, unix.O_RDONLY, 0)),
			"mkdir":   Mkdir(fd, name, 0o700),
			"mknod":   Mknod(fd, name, unix.S_IFREG|0o600, 0),
			"symlink": Symlink("x", fd, name),
			"link":    Link(fd, "f", fd, name),
			"unlink":  Unlink(fd, name),
			"rmdir":   Rmdir(fd, name),
			"rename":  Rename(fd, "f", fd, name, 0),
		} {
			if err != want {
				t.Errorf("%s %q: %v, want %v", op, name, err, want)
			}
		}
	}
}

func errOf(_ int, err error) error { return err }

func TestNoLinkIsFollowed(t *testing.T) {
	fd, path := folder(t)
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "canary"), []byte("alive"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(path, "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenDir(fd, "link"); err != unix.ENOTDIR && err != unix.ELOOP {
		t.Errorf("a link opened as a folder: %v", err)
	}
	if err := RemoveAll(fd, "link"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(outside, "canary")); err != nil {
		t.Errorf("what the link led to: %v", err)
	}
}

func TestReadDirAndRemoveAll(t *testing.T) {
	fd, path := folder(t)
	want := []string{"dir", strings.Repeat("l", 255), "new\nline", "\xff\xfe"}
	if err := os.MkdirAll(filepath.Join(path, "dir", "in", "deep"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range want[1:] {
		if err := os.WriteFile(filepath.Join(path, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // each reading begins at the start
		names, err := Names(fd, ".")
		slices.Sort(names)
		slices.Sort(want)
		if err != nil || !slices.Equal(names, want) {
			t.Fatalf("names %q, %v", names, err)
		}
	}
	for _, name := range append(want, "never there") {
		if err := RemoveAll(fd, name); err != nil {
			t.Errorf("remove %q: %v", name, err)
		}
	}
	if names, err := Names(fd, "."); err != nil || len(names) > 0 {
		t.Errorf("left %q, %v", names, err)
	}
}

// TestEmptyName works on a file that has no name any more, by a descriptor
// that is open and by a mere handle.
func TestEmptyName(t *testing.T) {
	for what, flags := range map[string]int{"open": unix.O_RDWR, "handle": unix.O_PATH} {
		fd, path := folder(t)
		if err := os.WriteFile(filepath.Join(path, "f"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := Open(fd, "f", flags, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := Unlink(fd, "f"); err != nil {
			t.Fatal(err)
		}
		when := unix.Timespec{Sec: -5, Nsec: 7}
		large := strings.Repeat("v", 300)
		for op, err := range map[string]error{
			"chmod": Chmod(f, "", 0o640), "utimes": Utimes(f, "", when, when),
			"setxattr": SetXattr(f, "", "user.k", []byte(large), 0), "chown": Chown(f, "", -1, -1),
		} {
			if err != nil {
				t.Errorf("%s: %s: %v", what, op, err)
			}
		}
		if v, err := XattrValue(f, "", "user.k"); err != nil || string(v) != large {
			t.Errorf("%s: value %q, %v", what, v, err)
		}
		if names, err := ListXattr(f, ""); err != nil || !slices.Contains(names, "user.k") {
			t.Errorf("%s: attributes %q, %v", what, names, err)
		}
		if err := RemoveXattr(f, "", "user.k"); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := XattrValue(f, "", "user.k"); err != unix.ENODATA {
			t.Errorf("%s: a removed attribute: %v", what, err)
		}
		var st unix.Stat_t
		if err := Stat(f, "", &st); err != nil || st.Mode&0o777 != 0o640 || st.Mtim != when || st.Nlink != 0 {
			t.Errorf("%s: mode %o, mtime %v, nlink %d, %v", what, st.Mode, st.Mtim, st.Nlink, err)
		}
		Close(f)
	}
}

func TestTmpfile(t *testing.T) {
	fd, path := folder(t)
	f, err := Tmpfile(fd, 0o600)
	if err == unix.EOPNOTSUPP {
		t.Skip("the filesystem of temporary files has no O_TMPFILE")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer Close(f)
	if err := LinkOpen(f, fd, "named"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(path, "named")); err != nil {
		t.Error(err)
	}
}
