package layer

import (
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"os"
	"runtime/debug"
	"sort"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"unio/unionfs/merge"
	"unio/whiteout"
)

// Xattr is an extended attribute.
type Xattr struct {
	Name  string
	Value []byte
}

// Entry is one entry of a layer.
type Entry struct {
	Path     string        // clean and relative, "a/b"; "" is the root
	Whiteout whiteout.Kind // File: hides Path of the lower layers and is nothing else; None otherwise
	Opaque   bool          // hides all that lower layers have in folder Path
	Hardlink bool          // another name of the file at Link; it has no attributes of its own
	Implicit bool          // a folder above other entries that is not in the tar: 0755, root's
	Attr     merge.Attr    // Nlink is 0: names are only counted in a view
	Link     string        // target of a symbolic link as written; clean path of a hard link's target
	Xattrs   []Xattr       // sorted by name
	Extents  []Extent      // where the tar holds the data, sorted; what lies between is a hole
}

func (e *Entry) isWhiteout() bool { return e.Whiteout == whiteout.File }

// Index says what is in a layer and where in its tar. It is immutable and may
// be used from several goroutines until it is closed.
type Index struct {
	file  *tableFile
	unmap bool        // the file is mapped
	bad   atomic.Bool // a read of the mapping failed
}

// OpenIndex maps the index at path and checks all of it: checksums and every
// offset. What is wrong with it gives ErrBadIndex: it is to be made again by
// Scan from the layer's tar.
func OpenIndex(path string) (*Index, error) {
	data, err := mapFile(path)
	if err != nil {
		return nil, err
	}
	x, err := parseIndex(data)
	if err != nil {
		_ = unix.Munmap(data) // nothing was written through it
		return nil, fmt.Errorf("index %s: %w", path, err)
	}
	x.unmap = true
	return x, nil
}

// ReadDataSize returns what DataSize of the index at path is, from its header
// alone. What is wrong with that gives ErrBadIndex; the rest is not looked at.
func ReadDataSize(path string) (uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	head := make([]byte, headerSize)
	if _, err := f.ReadAt(head, 0); err != nil {
		return 0, fmt.Errorf("%w: %s: %w", ErrBadIndex, path, err)
	}
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if err := checkHeader(head, indexMagic); err != nil {
		return 0, err
	}
	if binary.LittleEndian.Uint64(head[hdrSize:]) != uint64(st.Size()) {
		return 0, fmt.Errorf("%w: %s: %d bytes, not as its header says", ErrBadIndex, path, st.Size())
	}
	return binary.LittleEndian.Uint64(head[hdrContent:]), nil
}

// parseIndex checks an index.
func parseIndex(data []byte) (x *Index, err error) {
	defer catchFault(debug.SetPanicOnFault(true), &err)
	f, err := parseTables(data, indexMagic)
	if err != nil {
		return nil, err
	}
	if err := f.checkAll(); err != nil {
		return nil, err
	}
	x = &Index{file: f}
	return x, x.checkRecords()
}

// Close releases the index. No string or value it gave out may be used after.
func (x *Index) Close() error {
	if !x.unmap {
		return nil
	}
	x.unmap = false
	return unix.Munmap(x.file.data)
}

// WriteTo writes the index in the form that OpenIndex reads. The same layer
// gives the same bytes.
func (x *Index) WriteTo(w io.Writer) (int64, error) { return x.file.writeTo(w) }

// Len returns the number of entries, those that Entries yields.
func (x *Index) Len() int { return int(x.file.count[tabRecords]) }

// TarSize returns the bytes of the uncompressed tar, all of it up to EOF.
func (x *Index) TarSize() int64 { return int64(x.file.tar) }

// DataSize returns the bytes of all regular files of the layer, holes
// included.
func (x *Index) DataSize() uint64 { return x.file.content }

// Entries yields all entries in path order, a folder before what is in it, a
// whiteout before the entry of the same path. What it yields lies in the
// mapping: clone what must live longer than the index. Should the mapping turn
// unreadable it stops early and Err says so.
func (x *Index) Entries() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for i := range x.Len() {
			e, err := x.entryAt(i)
			if err != nil || !yield(e) {
				return
			}
		}
	}
}

// Err returns ErrBadIndex when Entries or Find could not read the mapping to
// the end.
func (x *Index) Err() error {
	if x.bad.Load() {
		return errDamaged
	}
	return nil
}

// entryAt is entry for a mapping that may fail.
func (x *Index) entryAt(i int) (e Entry, err error) {
	defer func() {
		if err != nil {
			x.bad.Store(true)
		}
	}()
	defer catchFault(debug.SetPanicOnFault(true), &err)
	return x.entry(i), nil
}

// Find returns the entry of a path, or false. A whiteout is found only when
// the layer has nothing else at that path.
func (x *Index) Find(path string) (e Entry, ok bool) {
	i, err := x.search(path)
	if err != nil {
		x.bad.Store(true)
	}
	if i == 0 || err != nil {
		return Entry{}, false
	}
	e, err = x.entryAt(i - 1)
	return e, err == nil && e.Path == path
}

// search returns how many entries have the path or one before it.
func (x *Index) search(path string) (n int, err error) {
	defer catchFault(debug.SetPanicOnFault(true), &err)
	return sort.Search(x.Len(), func(i int) bool { return merge.ComparePaths(x.record(i).path, path) > 0 }), nil
}

// record is an index record with its strings.
type record struct {
	path, link string
	flags      uint32
	attr       merge.Attr
	xattrs     tableRange
	extents    tableRange
}

// record decodes record i, which checkRecords has seen to be right; should
// the file have changed since, the result is zeros.
func (x *Index) record(i int) record {
	b := x.file.record(tabRecords, uint64(i))
	if b == nil {
		return record{}
	}
	r := record{
		flags:   binary.LittleEndian.Uint32(b[recFlags:]),
		attr:    getRecordAttr(b),
		xattrs:  getRange(b[recXattrs:]),
		extents: getRange(b[recExtents:]),
	}
	r.path, _ = x.file.str(getRef(b[recPath:]))
	r.link, _ = x.file.str(getRef(b[recLink:]))
	return r
}

func getRecordAttr(b []byte) merge.Attr {
	le := binary.LittleEndian
	return merge.Attr{
		Mode: le.Uint32(b[recMode:]), UID: le.Uint32(b[recUID:]), GID: le.Uint32(b[recGID:]),
		Rdev: le.Uint64(b[recRdev:]), Size: le.Uint64(b[recSize:]),
		Sec: int64(le.Uint64(b[recSec:])), Nsec: le.Uint32(b[recNsec:]),
	}
}

// kind is what the flags say of whiteouts.
func (r *record) kind() whiteout.Kind {
	if r.flags&flagWhiteout != 0 {
		return whiteout.File
	}
	return whiteout.None
}

func (x *Index) entry(i int) Entry {
	r := x.record(i)
	e := Entry{
		Path: r.path, Link: r.link, Attr: r.attr, Whiteout: r.kind(),
		Opaque:   r.flags&flagOpaque != 0,
		Hardlink: r.flags&flagHardlink != 0,
		Implicit: r.flags&flagImplicit != 0,
	}
	for x := range x.file.xattrSeq(r.xattrs) {
		e.Xattrs = append(e.Xattrs, x)
	}
	for x := range x.file.extentSeq(r.extents) {
		e.Extents = append(e.Extents, x)
	}
	return e
}

// xattrSeq yields the attributes of a range. It stops where the file is
// damaged.
func (f *tableFile) xattrSeq(r tableRange) iter.Seq[Xattr] {
	return func(yield func(Xattr) bool) {
		b, _ := f.records(tabXattrs, r.first, r.count)
		for ; len(b) >= xattrSize; b = b[xattrSize:] {
			name, ok1 := f.str(getRef(b))
			value, ok2 := f.heap(getRef(b[8:]))
			if !ok1 || !ok2 || !yield(Xattr{name, value}) {
				return
			}
		}
	}
}

// extentSeq yields the extents of a range.
func (f *tableFile) extentSeq(r tableRange) iter.Seq[Extent] {
	return func(yield func(Extent) bool) {
		b, _ := f.records(tabExtents, r.first, r.count)
		for ; len(b) >= extentSize; b = b[extentSize:] {
			if x, _ := getExtent(b); !yield(x) {
				return
			}
		}
	}
}

// layerEntries are the entries as the merge takes them, numbered for Ref.
func (x *Index) layerEntries(layer int) []merge.LayerEntry {
	list := make([]merge.LayerEntry, x.Len())
	for i := range list {
		r := x.record(i)
		list[i] = merge.LayerEntry{
			Path: r.path, Link: r.link, Attr: r.attr, Whiteout: r.kind(),
			Opaque:   r.flags&flagOpaque != 0,
			Hardlink: r.flags&flagHardlink != 0,
			Implicit: r.flags&flagImplicit != 0,
			Ref:      uint64(layer)<<32 | uint64(i),
		}
	}
	return list
}
