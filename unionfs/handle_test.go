package unionfs_test

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// A file's handle, as an NFS server keeps it, leads to the file after the
// kernel has forgotten it, whatever became of its name; that of a file that is
// gone leads nowhere.
func TestHandles(t *testing.T) {
	r := newRig(t, lowerScript)
	r.mount(false)
	r.run("mkdir -p made/deep; echo new >made/deep/file; echo gone >made/gone")
	handles := map[string]unix.FileHandle{}
	for _, name := range []string{"etc/passwd", "made/deep/file", "made/deep", "made/gone"} {
		h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, filepath.Join(r.dir, name), 0)
		if err != nil {
			t.Fatalf("handle of %s: %v", name, err)
		}
		handles[name] = h
	}
	r.run("echo more >>etc/passwd; mv made/deep moved; rm made/gone")
	want := r.run("cat etc/passwd")
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0); err != nil {
		t.Fatal(err)
	}
	top, err := os.Open(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer top.Close()
	open := func(name string) (string, error) {
		fd, err := unix.OpenByHandleAt(int(top.Fd()), handles[name], unix.O_RDONLY)
		if err != nil {
			return "", err
		}
		f := os.NewFile(uintptr(fd), name)
		defer f.Close()
		if name == "made/deep" {
			names, err := f.Readdirnames(-1)
			if err != nil || len(names) != 1 {
				t.Errorf("listing by handle: %q, %v", names, err)
			}
			return os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
		}
		raw, err := io.ReadAll(f)
		return string(raw), err
	}
	for name, content := range map[string]string{
		"etc/passwd": want, "made/deep/file": "new\n", "made/deep": filepath.Join(r.dir, "moved"),
	} {
		if got, err := open(name); err != nil || got != content {
			t.Errorf("%s by handle: %q, %v; want %q", name, got, err, content)
		}
	}
	if _, err := open("made/gone"); err != unix.ESTALE {
		t.Errorf("a file that is gone, by handle: %v", err)
	}
}
