package lowertest

import (
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"unio/unionfs/merge"
)

// Conform walks a lower and checks what the contract promises of every node.
// The lower should hold files of every type, holes, links and attributes.
func Conform(t *testing.T, l merge.Lower) {
	t.Helper()
	c := &check{T: t, l: l, names: make(map[merge.Ino]uint32)}
	if links, err := l.Links(merge.RootIno); err != nil || len(links) != 0 {
		t.Errorf("names of the root: %v, %v", links, err)
	}
	c.stale()
	c.node(merge.RootIno, "")
	for ino, names := range c.names {
		var a merge.Attr
		if l.Attr(ino, &a) == nil && a.Nlink < names {
			t.Errorf("%d names lead to node %d, which has %d links", names, ino, a.Nlink)
		}
	}
	if n := l.Nodes(); n < uint64(len(c.names)) {
		t.Errorf("%d nodes, of which %d were seen", n, len(c.names))
	}
}

type check struct {
	*testing.T
	l     merge.Lower
	names map[merge.Ino]uint32
}

// is checks for one of several errors.
func (c *check) is(what, path string, err error, want ...error) {
	c.Helper()
	if !slices.ContainsFunc(want, func(w error) bool { return errors.Is(err, w) }) {
		c.Errorf("%s of %q: %v, want one of %v", what, path, err, want)
	}
}

// stale asks for a number that no node has.
func (c *check) stale() {
	const nobody = merge.Ino(1)<<61 - 7
	_, err := c.l.Lookup(nobody, "x")
	c.is("lookup", "nobody", err, merge.ErrStale)
	c.is("attributes", "nobody", c.l.Attr(nobody, &merge.Attr{}), merge.ErrStale)
	c.is("listing", "nobody", c.l.ReadDir(nobody, 0, func(merge.Entry) bool { return true }), merge.ErrStale)
	_, err = c.l.Readlink(nobody)
	c.is("target", "nobody", err, merge.ErrStale)
	_, err = c.l.Xattr(nobody, "user.x")
	c.is("attribute", "nobody", err, merge.ErrStale)
	_, err = c.l.ReadAt(nobody, make([]byte, 1), 0)
	c.is("data", "nobody", err, merge.ErrStale)
	_, err = c.l.Segments(nobody)
	c.is("segments", "nobody", err, merge.ErrStale)
	_, err = c.l.Links(nobody)
	c.is("names", "nobody", err, merge.ErrStale)
}

// node checks a node and all below it.
func (c *check) node(ino merge.Ino, path string) {
	c.names[ino]++
	if counter, ok := c.l.(merge.Counter); ok {
		counter.Remember(ino)
	}
	var a merge.Attr
	if err := c.l.Attr(ino, &a); err != nil {
		c.Errorf("attributes of %q: %v", path, err)
		return
	}
	c.xattrs(ino, path)
	if a.IsDir() {
		c.folder(ino, path, &a)
		return
	}
	_, err := c.l.Lookup(ino, "x")
	c.is("lookup", path, err, unix.ENOTDIR)
	c.is("listing", path, c.l.ReadDir(ino, 0, func(merge.Entry) bool { return true }), unix.ENOTDIR)
	target, err := c.l.Readlink(ino)
	switch {
	case !a.IsSymlink():
		c.is("target", path, err, unix.EINVAL)
	case err != nil || uint64(len(target)) != a.Size:
		c.Errorf("%q leads to %q, %d bytes: %v", path, target, a.Size, err)
	}
	if a.IsRegular() {
		c.data(ino, path, int64(a.Size))
		return
	}
	_, err = c.l.ReadAt(ino, make([]byte, 1), 0)
	c.is("data", path, err, unix.EINVAL, unix.EISDIR)
}

func (c *check) folder(ino merge.Ino, path string, a *merge.Attr) {
	_, err := c.l.ReadAt(ino, make([]byte, 1), 0)
	c.is("data", path, err, unix.EISDIR)
	_, err = c.l.Readlink(ino)
	c.is("target", path, err, unix.EINVAL)
	_, err = c.l.Lookup(ino, "no such name")
	c.is("lookup", path, err, merge.ErrNotExist)
	all := c.list(ino, path, 0)
	folders := uint32(2)
	for i, e := range all {
		if i%7 == 0 {
			c.continues(ino, path, all, i)
		}
		if e.Type == unix.S_IFDIR {
			folders++
		}
		c.entry(ino, path, e)
	}
	if a.Nlink != folders && a.Nlink != 1 {
		c.Errorf("%q has %d links and %d subfolders", path, a.Nlink, folders-2)
	}
	c.continues(ino, path, all, -1) // once more, after all lookups
}

func (c *check) entry(dir merge.Ino, path string, e merge.Entry) {
	path += "/" + e.Name
	ino, err := c.l.Lookup(dir, e.Name)
	if err != nil || ino != e.Ino {
		c.Errorf("%q is node %d by name and %d in the listing: %v", path, ino, e.Ino, err)
		return
	}
	var a merge.Attr
	if err := c.l.Attr(ino, &a); err == nil && a.Mode&unix.S_IFMT != e.Type {
		c.Errorf("%q has mode %o and type %o in the listing", path, a.Mode, e.Type)
	}
	links, err := c.l.Links(ino)
	if err != nil || !slices.Contains(links, merge.Link{Dir: dir, Name: e.Name}) {
		c.Errorf("the names of %q are %v: %v", path, links, err)
	}
	if c.names[ino] > 0 {
		c.names[ino]++
		return
	}
	c.node(ino, path)
}

func (c *check) list(ino merge.Ino, path string, after uint64) (all []merge.Entry) {
	err := c.l.ReadDir(ino, after, func(e merge.Entry) bool { all = append(all, e); return true })
	if err != nil {
		c.Errorf("list %q: %v", path, err)
	}
	last := after
	for _, e := range all {
		if e.Cookie <= last || e.Name == "" || e.Name == "." || e.Name == ".." {
			c.Errorf("%q lists %+v behind cookie %d", path, e, last)
		}
		last = e.Cookie
	}
	return all
}

// continues checks that a listing goes on behind entry i as it did before.
func (c *check) continues(ino merge.Ino, path string, all []merge.Entry, i int) {
	after := uint64(0)
	if i >= 0 {
		after = all[i].Cookie
	}
	if got := c.list(ino, path, after); !slices.Equal(got, all[i+1:]) {
		c.Errorf("%q lists %v behind cookie %d, and before %v", path, got, after, all[i+1:])
	}
	seen := 0
	c.l.ReadDir(ino, after, func(merge.Entry) bool { seen++; return false })
	if want := min(1, len(all)-i-1); seen != want {
		c.Errorf("%q goes on after it was told to stop: %d entries", path, seen)
	}
}

func (c *check) xattrs(ino merge.Ino, path string) {
	var names []string
	err := c.l.Xattrs(ino, func(name string, value []byte) bool {
		names = append(names, name)
		got, err := c.l.Xattr(ino, name)
		if err != nil || string(got) != string(value) {
			c.Errorf("%s of %q is %q, in the list %q: %v", name, path, got, value, err)
		}
		return true
	})
	if err != nil || !slices.IsSorted(names) {
		c.Errorf("the attributes of %q are %q: %v", path, names, err)
	}
	_, err = c.l.Xattr(ino, "user.no such name")
	c.is("attribute", path, err, merge.ErrNoXattr)
}

func (c *check) data(ino merge.Ino, path string, size int64) {
	whole, err := content(c.l, ino)
	if err != nil || int64(len(whole)) != size {
		c.Errorf("%q has %d bytes, %d can be read: %v", path, size, len(whole), err)
		return
	}
	n, err := c.l.ReadAt(ino, make([]byte, 8), size)
	if n != 0 || err != nil {
		c.Errorf("%d bytes behind the end of %q: %v", n, path, err)
	}
	part := make([]byte, size/3)
	n, err = c.l.ReadAt(ino, part, size/2)
	if err != nil || string(part[:n]) != whole[size/2:size/2+int64(n)] || int64(n) != min(size/3, size-size/2) {
		c.Errorf("a part of %q is %d bytes, or others: %v", path, n, err)
	}
	c.segments(ino, path, whole)
}

func (c *check) segments(ino merge.Ino, path, whole string) {
	segments, err := c.l.Segments(ino)
	if err != nil {
		c.Errorf("segments of %q: %v", path, err)
	}
	end := int64(0)
	for _, s := range append(segments, merge.Segment{Off: int64(len(whole)), Len: 1}) {
		if s.Off < end || s.Len <= 0 || s.Off > int64(len(whole)) {
			c.Errorf("segments of %q: %v", path, segments)
			return
		}
		for _, b := range []byte(whole[end:s.Off]) {
			if b != 0 {
				c.Errorf("%q has data in a hole before %d", path, s.Off)
				return
			}
		}
		end = s.Off + s.Len
	}
	seeker, ok := c.l.(merge.Seeker)
	for _, s := range segments {
		if !ok {
			break
		}
		off, err := seeker.Seek(ino, s.Off, unix.SEEK_DATA)
		end, err2 := seeker.Seek(ino, s.Off, unix.SEEK_HOLE)
		if off != s.Off || end != s.Off+s.Len || err != nil || err2 != nil {
			c.Errorf("data of %q at %d goes from %d to %d: %v, %v", path, s.Off, off, end, err, err2)
		}
	}
}
