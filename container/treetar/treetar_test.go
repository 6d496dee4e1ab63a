package treetar

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"unio/container/inroot"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openRoot(t *testing.T, dir string) int {
	t.Helper()
	fd, err := inroot.Dir(dir)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// copyTree writes a path of one folder into another.
func copyTree(t *testing.T, from, path, name, to string) error {
	t.Helper()
	var b bytes.Buffer
	if err := Write(t.Context(), WriteOptions{Root: openRoot(t, from), Path: path, Name: name}, &b); err != nil {
		return err
	}
	return Extract(t.Context(), ExtractOptions{Root: openRoot(t, to), Path: "/", Owners: true}, &b)
}

func TestCopy(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	must(t, os.MkdirAll(from+"/d/sub", 0o750))
	must(t, os.WriteFile(from+"/d/file", []byte("text"), 0o640))
	must(t, os.Link(from+"/d/file", from+"/d/other"))
	must(t, os.Symlink("/etc/passwd", from+"/d/link"))
	must(t, unix.Mkfifo(from+"/d/fifo", 0o600))
	must(t, unix.Setxattr(from+"/d/file", "user.x", []byte("y"), 0))
	at := time.Unix(1600000000, 123456789)
	must(t, os.Chtimes(from+"/d/sub", at, at))
	if os.Geteuid() == 0 {
		must(t, os.Chown(from+"/d/file", 1234, 1235))
	}
	must(t, os.Chmod(from+"/d/file", 0o4750))
	must(t, copyTree(t, from, "/d", "new", to))
	var a, b unix.Stat_t
	must(t, unix.Stat(from+"/d/file", &a))
	must(t, unix.Stat(to+"/new/file", &b))
	if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Mtim != b.Mtim || b.Nlink != 2 {
		t.Errorf("file: %+v, %+v", a, b)
	}
	if target, err := os.Readlink(to + "/new/link"); err != nil || target != "/etc/passwd" {
		t.Errorf("link: %q, %v", target, err)
	}
	if st, err := os.Stat(to + "/new/sub"); err != nil || !st.ModTime().Equal(at) || st.Mode().Perm() != 0o750 {
		t.Errorf("folder: %v, %v", st, err)
	}
	if st, err := os.Lstat(to + "/new/fifo"); err != nil || st.Mode().Type() != os.ModeNamedPipe {
		t.Errorf("fifo: %v, %v", st, err)
	}
	buf := make([]byte, 8)
	if n, err := unix.Getxattr(to+"/new/file", "user.x", buf); err != nil || string(buf[:n]) != "y" {
		t.Errorf("xattr: %q, %v", buf[:max(n, 0)], err)
	}
	// The contents of a folder, over what is there.
	must(t, copyTree(t, from, "/d", ".", to+"/new"))
	if err := copyTree(t, from, "/d", "new/file", to); err == nil || !strings.Contains(err.Error(), "cannot overwrite non-directory") {
		t.Errorf("folder over file: %v", err)
	}
	if err := copyTree(t, from, "/d/file", "new", to); err == nil || !strings.Contains(err.Error(), "cannot overwrite directory") {
		t.Errorf("file over folder: %v", err)
	}
}

// TestNothingOutside tries every way out of the root that a tar or a tree has:
// what lies outside is neither changed nor read.
func TestNothingOutside(t *testing.T) {
	outside := t.TempDir()
	must(t, os.WriteFile(outside+"/canary", []byte("canary"), 0o600))
	must(t, os.Mkdir(outside+"/dir", 0o700))
	for what, entries := range map[string][]tar.Header{
		"dots":          {{Name: "../../../../../.." + outside + "/canary", Typeflag: tar.TypeReg, Mode: 0o600}},
		"absolute":      {{Name: outside + "/canary", Typeflag: tar.TypeReg, Mode: 0o600}},
		"through link":  {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: outside}, {Name: "l/canary", Typeflag: tar.TypeReg, Mode: 0o600}},
		"link of link":  {{Name: "a", Typeflag: tar.TypeSymlink, Linkname: "../.."}, {Name: "b", Typeflag: tar.TypeSymlink, Linkname: "a" + outside}, {Name: "b/canary", Typeflag: tar.TypeReg}},
		"over link":     {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: outside + "/canary"}, {Name: "l", Typeflag: tar.TypeReg, Mode: 0o666}},
		"hard link":     {{Name: "h", Typeflag: tar.TypeLink, Linkname: outside + "/canary"}, {Name: "h", Typeflag: tar.TypeReg}},
		"hard dots":     {{Name: "h", Typeflag: tar.TypeLink, Linkname: "../../../../.." + outside + "/canary"}},
		"folder's mode": {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: outside + "/dir"}, {Name: "l", Typeflag: tar.TypeDir, Mode: 0o777}},
		"folder itself": {{Name: "..", Typeflag: tar.TypeDir, Mode: 0o777}},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range entries {
			must(t, w.WriteHeader(&h))
		}
		must(t, w.Close())
		_ = Extract(t.Context(), ExtractOptions{Root: openRoot(t, t.TempDir()), Path: "/", Owners: true}, &b) // an error is as good
		data, err := os.ReadFile(outside + "/canary")
		st, statErr := os.Stat(outside + "/canary")
		dir, dirErr := os.Stat(outside + "/dir")
		if err != nil || statErr != nil || dirErr != nil || string(data) != "canary" || st.Mode().Perm() != 0o600 || dir.Mode().Perm() != 0o700 {
			t.Fatalf("%s: the canary: %q, %v, %v", what, data, err, st)
		}
	}
	root := t.TempDir()
	must(t, os.Symlink(outside, root+"/l"))
	for _, path := range []string{"/l/canary", "/../.." + outside + "/canary", outside + "/canary"} {
		var b bytes.Buffer
		if err := Write(t.Context(), WriteOptions{Root: openRoot(t, root), Path: path, Name: "x", Follow: true}, &b); err == nil || bytes.Contains(b.Bytes(), []byte("canary")) {
			t.Errorf("read %s: %v", path, err)
		}
	}
}

// TestSwapper copies in and out while another process swaps a folder for a
// link to the outside, again and again.
func TestSwapper(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(outside+"/file", []byte("canary"), 0o600))
	must(t, os.MkdirAll(root+"/d", 0o755))
	must(t, os.WriteFile(root+"/d/file", []byte("inside"), 0o600))
	must(t, os.Symlink(outside, root+"/evil"))
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, root+"/d", unix.AT_FDCWD, root+"/evil", unix.RENAME_EXCHANGE)
			}
		}
	}()
	for range 300 {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		must(t, w.WriteHeader(&tar.Header{Name: "file", Typeflag: tar.TypeReg, Size: 3, Mode: 0o600}))
		_, err := io.WriteString(w, "new")
		must(t, err)
		must(t, w.Close())
		_ = Extract(t.Context(), ExtractOptions{Root: openRoot(t, root), Path: "/d"}, &b)
		b.Reset()
		_ = Write(t.Context(), WriteOptions{Root: openRoot(t, root), Path: "/d/file", Name: "x"}, &b)
		if bytes.Contains(b.Bytes(), []byte("canary")) {
			t.Fatal("read from outside")
		}
	}
	close(stop)
	<-stopped
	entries, err := os.ReadDir(outside)
	must(t, err)
	if data, err := os.ReadFile(filepath.Join(outside, "file")); err != nil || string(data) != "canary" || len(entries) != 1 {
		t.Errorf("outside: %q, %v, %v", data, entries, err)
	}
}
