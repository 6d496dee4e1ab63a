package integration

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"unio/integration/tree"
)

// inodeKey names an inode of a plain folder. The number alone is given out
// again; with the time of birth it is not.
type inodeKey struct {
	ino  uint64
	born unix.StatxTimestamp
}

func sumOf(data []byte) []byte {
	s := sha256.Sum256(data)
	return s[:8]
}

// check compares everything: the trees, the inodes behind the names, link
// counts and listings.
func (w *twin) check(when string) {
	w.t.Helper()
	w.assertTree(when, w.mount)
	w.assertInodes(when)
	assertListings(w.t, when, w.mount)
	if w.t.Failed() {
		w.t.Fatalf("%s: what was done last:\n%s", when, w.history())
	}
}

func (w *twin) history() (text string) {
	for _, l := range w.last(40) {
		text += string(l) + "\n"
	}
	return text
}

// assertTree compares a folder with the plain one. Times that an operation set
// are the clock's, so they only have to be as new as that.
func (w *twin) assertTree(when, dir string) {
	w.t.Helper()
	o := tree.Options{NoRoot: true, IgnoreXattr: w.foreign}
	want, got := readTree(w.t, w.plain, o), readTree(w.t, dir, o)
	for _, entries := range []map[string]tree.Entry{want, got} {
		for name, e := range entries {
			if e.MTime.Sec >= w.started.Unix() {
				e.MTime = unix.Timespec{Sec: w.started.Unix()}
			}
			if w.lowerLinks {
				e.Nlink = 1
			}
			entries[name] = e
		}
	}
	for _, line := range tree.Diff(want, got, 20) {
		w.t.Errorf("%s: %s", when, line)
	}
}

// assertInodes follows every inode of the plain folder: the mount's number for
// it is the same for ever, and no other inode's. Link counts agree.
func (w *twin) assertInodes(when string) {
	w.t.Helper()
	owner := map[uint64]inodeKey{}
	seen := map[inodeKey]bool{}
	for name, key := range plainInodes(w.t, w.plain) {
		var want, got unix.Stat_t
		must(w.t, unix.Lstat(filepath.Join(w.plain, name), &want))
		if err := unix.Lstat(filepath.Join(w.mount, name), &got); err != nil {
			w.t.Errorf("%s: %s: %v", when, name, err)
			continue
		}
		if want.Nlink != got.Nlink && !(w.lowerLinks && got.Nlink > want.Nlink) {
			w.t.Errorf("%s: %s: %d links, want %d", when, name, got.Nlink, want.Nlink)
		}
		if before, known := w.inodes[key]; known && before != got.Ino {
			w.t.Errorf("%s: %s: inode %#x, was %#x", when, name, got.Ino, before)
		}
		if other, taken := owner[got.Ino]; taken && other != key {
			w.t.Errorf("%s: %s: inode %#x is another file's too", when, name, got.Ino)
		}
		owner[got.Ino], seen[key], w.inodes[key] = key, true, got.Ino
	}
	for key := range w.inodes {
		if !seen[key] {
			delete(w.inodes, key)
		}
	}
}

// plainInodes maps every path below dir, the root as ".", to its inode.
func plainInodes(t *testing.T, dir string) map[string]inodeKey {
	t.Helper()
	keys := map[string]inodeKey{}
	must(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Statx_t
		if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		keys[name] = inodeKey{st.Ino, st.Btime}
		return err
	}))
	return keys
}

// assertListings reads every folder with getdents64: each entry has the number
// and type that stat gives, "." and ".." included (but the mount's own "..").
func assertListings(t *testing.T, when, dir string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		entries, err := getdents(path)
		if err != nil {
			return err
		}
		names := map[string]bool{}
		for _, e := range entries {
			var st unix.Stat_t
			if err := unix.Lstat(path+"/"+e.name, &st); err != nil {
				t.Errorf("%s: listed, but: %s/%s: %v", when, path, e.name, err)
				continue
			}
			if atTop := e.name == ".." && path == dir; !atTop && (e.ino != st.Ino || uint32(e.kind)<<12 != st.Mode&unix.S_IFMT) {
				t.Errorf("%s: %s/%s: listed as inode %#x type %d, is %#x mode %o", when, path, e.name, e.ino, e.kind, st.Ino, st.Mode)
			}
			if names[e.name] {
				t.Errorf("%s: %s/%s is listed twice", when, path, e.name)
			}
			names[e.name] = true
		}
		if !names["."] || !names[".."] {
			t.Errorf("%s: %s lists no dots", when, path)
		}
		return nil
	}))
}

// dirent is one entry as getdents64(2) gives it.
type dirent struct {
	name string
	ino  uint64
	kind byte
}

func getdents(path string) (list []dirent, err error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd)
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.Getdents(fd, buf)
		if err != nil || n <= 0 {
			return list, err
		}
		for rest := buf[:n]; len(rest) > 0; {
			var e dirent
			e, rest = parseDirent(rest)
			list = append(list, e)
		}
	}
}

// parseDirent takes one struct linux_dirent64 off b: u64 ino, s64 off, u16
// reclen, u8 type, name.
func parseDirent(b []byte) (dirent, []byte) {
	length := int(b[16]) | int(b[17])<<8
	var ino uint64
	for i := range 8 {
		ino |= uint64(b[i]) << (8 * i)
	}
	return dirent{name: unix.ByteSliceToString(b[19:length]), ino: ino, kind: b[18]}, b[length:]
}

// rounds is how much a random test does: as much as CI has time for, or ten
// times that with UNIO_TEST_LONG=1.
func rounds(n int) int {
	if os.Getenv("UNIO_TEST_LONG") != "" {
		return 10 * n
	}
	return n
}
