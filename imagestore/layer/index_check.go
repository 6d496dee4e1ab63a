package layer

import (
	"encoding/binary"
	"math"
	"strings"

	"golang.org/x/sys/unix"

	"unio/unionfs/merge"
)

// checkRecords checks that every record of an index is one that Scan could
// have written, so that nothing behind it needs to doubt them again: right
// checksums say that the disk is sound, not that the writer was.
func (x *Index) checkRecords() error {
	if x.file.tar > math.MaxInt64 {
		return badIndex("tar of %d bytes", x.file.tar)
	}
	var prev record
	for i := range x.Len() {
		if err := x.checkRefs(i); err != nil {
			return err
		}
		r := x.record(i)
		if i > 0 && !ordered(&prev, &r) {
			return badIndex("record %d: %q after %q", i, r.path, prev.path)
		}
		if err := x.checkRecord(&r); err != nil {
			return badIndex("record %d, %q: %v", i, r.path, err)
		}
		prev = r
	}
	return nil
}

// ordered reports whether b may follow a. Find and the merge rely on the
// order, and on there being one entry and one whiteout of a path at most.
func ordered(a, b *record) bool {
	if c := merge.ComparePaths(a.path, b.path); c != 0 {
		return c < 0
	}
	return a.flags&flagWhiteout != 0 && b.flags&flagWhiteout == 0
}

// checkRefs checks that the tables hold what record i refers to.
func (x *Index) checkRefs(i int) error {
	b := x.file.record(tabRecords, uint64(i))
	if b == nil {
		return badIndex("record %d", i)
	}
	_, ok1 := x.file.heap(getRef(b[recPath:]))
	_, ok2 := x.file.heap(getRef(b[recLink:]))
	xattrs, extents := getRange(b[recXattrs:]), getRange(b[recExtents:])
	_, ok3 := x.file.records(tabXattrs, xattrs.first, xattrs.count)
	_, ok4 := x.file.records(tabExtents, extents.first, extents.count)
	if !ok1 || !ok2 || !ok3 || !ok4 || binary.LittleEndian.Uint32(b[recFlags:])&^flagsAll != 0 {
		return badIndex("record %d out of bounds", i)
	}
	return nil
}

// checkRecord checks the record itself, whose references are good.
func (x *Index) checkRecord(r *record) error {
	if err := checkPath(r.path); err != nil {
		return err
	}
	if r.attr.Nsec >= 1e9 || r.attr.Size > math.MaxInt64 {
		return badIndex("attributes out of range")
	}
	if !knownType(r.attr.Mode) && r.flags&(flagWhiteout|flagHardlink) == 0 {
		return badIndex("mode %o", r.attr.Mode)
	}
	if r.flags&flagHardlink != 0 {
		if err := checkPath(r.link); err != nil {
			return err
		}
	}
	if err := x.file.checkXattrs(r.xattrs); err != nil {
		return err
	}
	return x.file.checkExtents(r.extents, r.attr.Size)
}

// knownType reports whether the mode is that of some kind of file. Hard links
// and whiteouts have none.
func knownType(mode uint32) bool {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK, unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO, unix.S_IFSOCK:
		return true
	}
	return false
}

// checkPath checks that a path is clean and relative.
func checkPath(path string) error {
	if path == "" {
		return nil
	}
	for name := range strings.SplitSeq(path, "/") {
		if !validName(name) {
			return badIndex("path %q", path)
		}
	}
	return nil
}

// validName reports whether a folder may hold an entry of this name.
func validName(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= maxName && strings.IndexByte(name, 0) < 0 && strings.IndexByte(name, '/') < 0
}

// checkXattrs checks that attributes lie in the heap, sorted by name.
func (f *tableFile) checkXattrs(r tableRange) error {
	n, prev := uint32(0), ""
	for x := range f.xattrSeq(r) {
		if x.Name <= prev {
			break
		}
		prev = x.Name
		n++
	}
	if n != r.count {
		return badIndex("extended attributes")
	}
	return nil
}

// checkExtents checks that extents are sorted and inside the file.
func (f *tableFile) checkExtents(r tableRange, size uint64) error {
	end := int64(0)
	for x := range f.extentSeq(r) {
		if x.Off < end || x.Len <= 0 || x.At < 0 || x.Len > math.MaxInt64-max(x.Off, x.At) || uint64(x.Off+x.Len) > size {
			return badIndex("extent %+v of a file of %d bytes", x, size)
		}
		end = x.Off + x.Len
	}
	return nil
}
