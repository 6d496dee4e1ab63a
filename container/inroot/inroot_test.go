package inroot

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newRoot makes a root folder beside a secret, and returns a descriptor of it.
func newRoot(t *testing.T) (root int, dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "root")
	must(t, os.MkdirAll(filepath.Join(dir, "etc"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "../secret"), []byte("secret"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "etc/passwd"), []byte("inside"), 0o644))
	root, err := Dir(dir)
	must(t, err)
	t.Cleanup(func() { unix.Close(root) })
	return root, dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestNeverOut resolves paths and links that would lead out of the root.
func TestNeverOut(t *testing.T) {
	t.Parallel()
	root, dir := newRoot(t)
	must(t, os.Symlink("../../../../../../etc/passwd", filepath.Join(dir, "up")))
	must(t, os.Symlink("/etc/passwd", filepath.Join(dir, "absolute")))
	must(t, os.Symlink("../secret", filepath.Join(dir, "leak")))
	for _, name := range []string{"up", "absolute", "/etc/passwd", "../../etc/passwd", "etc/../../../etc/passwd"} {
		if data, err := Read(root, name); err != nil || string(data) != "inside" {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	for _, name := range []string{"leak", "../secret", filepath.Join(dir, "../secret")} {
		if data, err := Read(root, name); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	proc, err := Dir("/proc")
	must(t, err)
	defer unix.Close(proc)
	if fd, err := Open(proc, "/self/root/etc/passwd", unix.O_RDONLY); err == nil {
		unix.Close(fd)
		t.Error("a magic link was followed")
	}
}

// TestRead refuses what is no regular file of a sensible size.
func TestRead(t *testing.T) {
	t.Parallel()
	root, dir := newRoot(t)
	must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "large"), nil, 0o644))
	must(t, os.Truncate(filepath.Join(dir, "large"), maxTable+1))
	for name, want := range map[string]string{"fifo": "not a regular file", "etc": "not a regular file", "large": "larger than"} {
		if _, err := Read(root, name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMkdirAll makes folders inside of the root, through links too, and leaves
// the times of those above as they were.
func TestMkdirAll(t *testing.T) {
	t.Parallel()
	root, dir := newRoot(t)
	must(t, os.Symlink("../../../etc", filepath.Join(dir, "link")))
	must(t, os.Symlink("/nowhere", filepath.Join(dir, "dangling")))
	old := time.Unix(1234567890, 0)
	must(t, os.Chtimes(filepath.Join(dir, "etc"), old, old))
	for name, want := range map[string]string{
		"/link/a/b": "/link/a /link/a/b", "/etc": "", "/": "", "/x/../y": "/y",
	} {
		fd, made, err := MkdirAll(root, name)
		must(t, err)
		unix.Close(fd)
		if got := strings.Join(made, " "); got != want {
			t.Errorf("%s: made %q, want %q", name, got, want)
		}
	}
	if st, err := os.Stat(filepath.Join(dir, "etc/a/b")); err != nil || !st.IsDir() {
		t.Errorf("etc/a/b: %v", err)
	}
	if st, err := os.Stat(filepath.Join(dir, "etc")); err != nil || !st.ModTime().Equal(old) {
		t.Errorf("the time of etc: %v, %v", st.ModTime(), err)
	}
	for _, name := range []string{"/dangling/x", "/etc/passwd/x"} {
		if fd, _, err := MkdirAll(root, name); err == nil {
			unix.Close(fd)
			t.Errorf("%s was made", name)
		}
	}
}
