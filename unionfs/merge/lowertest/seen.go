// Package lowertest checks implementations of [merge.Lower]: that they keep
// the contract ([Conform]) and that they show what a folder shows ([Lower],
// [Folder], [Same]), also after changes at random ([Changer]).
package lowertest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"unio/cow/fsat"
	"unio/unionfs/merge"
)

// content reads a whole file, and more than there is.
func content(l merge.Lower, ino merge.Ino) (string, error) {
	var a merge.Attr
	if err := l.Attr(ino, &a); err != nil {
		return "", err
	}
	buf := make([]byte, a.Size+1)
	n, err := l.ReadAt(ino, buf, 0)
	return string(buf[:n]), err
}

// seen is one line for everything that can be seen of a tree. What cannot be
// had is written down as its error.
type seen struct{ lines []string }

func (s *seen) add(path string, st *unix.Stat_t, rest string) {
	size := st.Size
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		size = 0
	}
	rdev := st.Rdev
	if typ := st.Mode & unix.S_IFMT; typ != unix.S_IFCHR && typ != unix.S_IFBLK {
		rdev = 0
	}
	s.lines = append(s.lines, fmt.Sprintf("%s %o %d:%d %d rdev %x mtime %d.%09d ctime %d.%09d%s", path, st.Mode, st.Uid, st.Gid,
		size, rdev, st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec, rest))
}

func text(s string, err error) string {
	if errno := unix.Errno(0); errors.As(err, &errno) {
		return unix.ErrnoName(errno)
	}
	if len(s) > 64 {
		return fmt.Sprintf("%x", sha256.Sum256([]byte(s)))
	}
	return fmt.Sprintf("%q", s)
}

// Lower describes what a lower shows, a line an entry, and checks that its
// listings agree with its lookups.
func Lower(t *testing.T, l merge.Lower) []string {
	t.Helper()
	s := &seen{}
	s.lower(t, l, merge.RootIno, "")
	return s.lines
}

func (s *seen) lower(t *testing.T, l merge.Lower, ino merge.Ino, path string) {
	t.Helper()
	if c, ok := l.(merge.Counter); ok {
		c.Remember(ino)
		defer c.Forget(ino, 1)
	}
	var a merge.Attr
	if err := l.Attr(ino, &a); err != nil {
		s.lines = append(s.lines, path+" "+text("", err))
		return
	}
	st := unix.Stat_t{
		Mode: a.Mode, Uid: a.UID, Gid: a.GID, Size: int64(a.Size), Rdev: a.Rdev,
		Mtim: unix.Timespec{Sec: a.Sec, Nsec: int64(a.Nsec)}, Ctim: a.Change,
	}
	rest := ""
	switch a.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		data, err := content(l, ino)
		if err != nil {
			s.lines = append(s.lines, path+" "+text("", err))
			return
		}
		rest = " " + text(data, err)
	case unix.S_IFLNK:
		target, err := l.Readlink(ino)
		rest = " -> " + text(target, err)
	}
	err := l.Xattrs(ino, func(name string, value []byte) bool {
		rest += " " + name + "=" + text(string(value), nil)
		return true
	})
	if err != nil {
		rest += " " + err.Error()
	}
	s.add(path, &st, rest)
	if !a.IsDir() {
		return
	}
	var entries []merge.Entry
	err = l.ReadDir(ino, 0, func(e merge.Entry) bool { entries = append(entries, e); return true })
	if err != nil {
		s.lines = append(s.lines, path+"/ "+err.Error())
	}
	for _, e := range entries {
		got, err := l.Lookup(ino, e.Name)
		if err != nil {
			s.lines = append(s.lines, path+"/"+e.Name+" "+text("", err))
			continue
		}
		if got != e.Ino {
			t.Errorf("%s/%s is %x in the listing and %x by name", path, e.Name, e.Ino, got)
		}
		s.lower(t, l, got, path+"/"+e.Name)
	}
}

// Folder describes in the same form what a folder of the host shows.
func Folder(t *testing.T, dir string) []string {
	t.Helper()
	fd, err := fsat.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer fsat.Close(fd)
	s := &seen{}
	s.host(fd, ".", "")
	return s.lines
}

func (s *seen) host(dirfd int, name, path string) {
	var st unix.Stat_t
	if err := fsat.Stat(dirfd, name, &st); err != nil {
		s.lines = append(s.lines, path+" "+text("", err))
		return
	}
	rest := ""
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		fd, err := fsat.Open(dirfd, name, unix.O_RDONLY, 0)
		if err != nil {
			s.lines = append(s.lines, path+" "+text("", err))
			return
		}
		data := make([]byte, st.Size)
		n, err := unix.Pread(fd, data, 0)
		fsat.Close(fd)
		rest = " " + text(string(data[:max(n, 0)]), err)
	case unix.S_IFLNK:
		target, err := fsat.Readlink(dirfd, name)
		rest = " -> " + text(target, err)
	}
	names, _ := fsat.ListXattr(dirfd, name)
	slices.Sort(names)
	for _, x := range names {
		value, err := fsat.XattrValue(dirfd, name, x)
		rest += " " + x + "=" + text(string(value), err)
	}
	s.add(path, &st, rest)
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return
	}
	fd, err := fsat.OpenDir(dirfd, name)
	if err != nil {
		s.lines = append(s.lines, path+"/ "+err.Error())
		return
	}
	defer fsat.Close(fd)
	list, _ := fsat.Names(fd, ".")
	slices.Sort(list)
	for _, n := range list {
		s.host(fd, n, path+"/"+n)
	}
}

// Same compares two descriptions and shows where they part.
func Same(t *testing.T, what string, got, want []string) {
	t.Helper()
	bad := 0
	for i := range max(len(got), len(want)) {
		g, w := "", ""
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("%s: line %d\n got %s\nwant %s", what, i+1, g, w)
			if bad++; bad > 4 {
				t.FailNow()
			}
		}
	}
}
