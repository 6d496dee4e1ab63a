package layer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"

	"golang.org/x/sys/unix"

	"unio/unionfs/merge"
)

// Flags of an index record.
const (
	flagWhiteout = 1 << iota // the path is hidden in the lower layers; there is nothing else
	flagOpaque               // nothing of the lower layers shows through in this folder
	flagHardlink             // another name of the file that link names
	flagImplicit             // a parent that is not in the tar
	flagsAll     = 1<<iota - 1
)

// Extent is a stretch of a file's data and where the layer's tar holds it.
type Extent struct {
	Off int64 // bytes from the start of the file
	Len int64 // bytes, > 0
	At  int64 // bytes from the start of the uncompressed tar
}

// indexRecord is one entry of a layer as it is built.
type indexRecord struct {
	path, link heapRef
	flags      uint32
	attr       merge.Attr
	xattrs     tableRange
	extents    tableRange
}

// tableRange is a run of records in a table.
type tableRange struct{ first, count uint32 }

// maxIntern is the longest string worth a comparison with earlier ones.
const maxIntern = 256

// indexBuilder collects the entries of a layer, in any order.
type indexBuilder struct {
	lim     Limits
	recs    []indexRecord
	heap    []byte
	xattrs  []byte
	extents []byte
	interns map[string]heapRef // attribute names and values, which repeat
	aufs    map[string]indexRecord
}

func newIndexBuilder(lim Limits) *indexBuilder {
	return &indexBuilder{lim: lim, interns: make(map[string]heapRef), aufs: make(map[string]indexRecord)}
}

// add takes in an entry.
func (b *indexBuilder) add(e *Entry) error {
	r := indexRecord{flags: e.flags(), attr: e.Attr, path: b.text(e.Path), link: b.text(e.Link)}
	r.xattrs = tableRange{uint32(len(b.xattrs) / xattrSize), uint32(len(e.Xattrs))}
	for _, x := range e.Xattrs {
		b.xattrs = appendRef(appendRef(b.xattrs, b.intern(x.Name)), b.intern(string(x.Value)))
	}
	r.extents = tableRange{uint32(len(b.extents) / extentSize), uint32(len(e.Extents))}
	for _, x := range e.Extents {
		b.extents = appendExtent(b.extents, x, 0)
	}
	b.recs = append(b.recs, r)
	return b.checkLimits()
}

func (b *indexBuilder) checkLimits() error {
	if len(b.recs) > b.lim.Entries {
		return limitError("entries", int64(len(b.recs)), int64(b.lim.Entries))
	}
	// A record in memory is larger than in the file; count it as it is there.
	n := int64(len(b.recs))*indexRecSize + int64(len(b.heap)+len(b.xattrs)+len(b.extents))
	if n > b.lim.Tables {
		return limitError("bytes of tables", n, b.lim.Tables)
	}
	return nil
}

// text puts a string into the heap. Its place is only of use while the heap is
// below 4 GiB, which checkLimits sees to before the index is written.
func (b *indexBuilder) text(s string) heapRef {
	r := heapRef{uint32(len(b.heap)), uint32(len(s))}
	b.heap = append(b.heap, s...)
	return r
}

// intern is text for strings that are often the same.
func (b *indexBuilder) intern(s string) heapRef {
	if len(s) > maxIntern {
		return b.text(s)
	}
	r, ok := b.interns[s]
	if !ok {
		r = b.text(s)
		b.interns[s] = r
	}
	return r
}

func (b *indexBuilder) pathBytes(r *indexRecord) []byte {
	return b.heap[r.path.off : r.path.off+r.path.len]
}

func (e *Entry) flags() (f uint32) {
	return flagIf(flagWhiteout, e.isWhiteout()) | flagIf(flagOpaque, e.Opaque) |
		flagIf(flagHardlink, e.Hardlink) | flagIf(flagImplicit, e.Implicit)
}

func flagIf(flag uint32, set bool) uint32 {
	if set {
		return flag
	}
	return 0
}

// build sorts the entries, drops those that a later one replaces, adds the
// parents that the tar left out, and lays out the index.
func (b *indexBuilder) build(tarSize int64) (*Index, error) {
	b.sort()
	b.dedupe()
	b.resolveAufsLinks()
	if err := b.addParents(); err != nil {
		return nil, err
	}
	t := tables{magic: indexMagic, tar: uint64(tarSize)}
	t.body[tabRecords] = b.encodeRecords(&t.content)
	t.body[tabExtents] = b.extents
	t.body[tabXattrs] = b.xattrs
	t.body[tabHeap] = b.heap
	return parseIndex(t.encode())
}

// sort puts the entries into path order; of the same path whiteouts come
// first and the rest stays in the order of the tar.
func (b *indexBuilder) sort() {
	compare := func(x, y indexRecord) int {
		if c := merge.ComparePaths(b.pathBytes(&x), b.pathBytes(&y)); c != 0 {
			return c
		}
		return int(y.flags&flagWhiteout) - int(x.flags&flagWhiteout)
	}
	if !slices.IsSortedFunc(b.recs, compare) {
		slices.SortStableFunc(b.recs, compare)
	}
}

// dedupe keeps the last of the entries with the same path. An opaque marker
// counts wherever it stood, and alone it is a folder that is not in the tar.
func (b *indexBuilder) dedupe() {
	kept := b.recs[:0]
	for _, r := range b.recs {
		if n := len(kept); n > 0 && b.sameEntry(&kept[n-1], &r) {
			kept[n-1] = replaceRecord(kept[n-1], r)
			continue
		}
		kept = append(kept, r)
	}
	b.recs = kept
}

func (b *indexBuilder) sameEntry(x, y *indexRecord) bool {
	return x.flags&flagWhiteout == y.flags&flagWhiteout && string(b.pathBytes(x)) == string(b.pathBytes(y))
}

// replaceRecord is what is left of two entries with the same path.
func replaceRecord(old, last indexRecord) indexRecord {
	if last.flags&flagImplicit != 0 { // a marker: says nothing of the folder itself
		old.flags |= last.flags & flagOpaque
		return old
	}
	last.flags |= old.flags & flagOpaque
	return last
}

// addParents adds the folders that entries lie in but the tar does not hold.
func (b *indexBuilder) addParents() error {
	out := make([]indexRecord, 0, len(b.recs)+8)
	var prev []byte
	for i := range b.recs {
		path := b.pathBytes(&b.recs[i])
		for n := range missingParents(path, prev) {
			out = append(out, implicitRecord(heapRef{b.recs[i].path.off, uint32(n)}))
		}
		out = append(out, b.recs[i])
		if len(out) > b.lim.Entries {
			break // checkLimits has the words
		}
		if prev = path; b.recs[i].flags&flagWhiteout != 0 { // of that path there is nothing yet
			prev = path[:max(0, bytes.LastIndexByte(path, '/'))]
		}
	}
	b.recs = out
	return b.checkLimits()
}

// missingParents yields the lengths of the paths of the folders above path
// that are neither prev nor above it, the topmost first. In path order prev is
// the entry before, so that all its parents are there already; the root
// always is.
func missingParents(path, prev []byte) iter.Seq[int] {
	return func(yield func(int) bool) {
		same := 0
		for same < min(len(path), len(prev)) && path[same] == prev[same] {
			same++
		}
		for i, c := range path {
			known := i < same || i == same && i == len(prev)
			if c == '/' && !known && !yield(i) {
				return
			}
		}
	}
}

// implicitRecord is a folder that is not in the tar. Its path is the start of
// that of an entry below it, so it takes no room of its own.
func implicitRecord(path heapRef) indexRecord {
	return indexRecord{path: path, flags: flagImplicit, attr: merge.Attr{Mode: unix.S_IFDIR | 0o755}}
}

// encodeRecords encodes the records and counts the bytes of content.
func (b *indexBuilder) encodeRecords(content *uint64) []byte {
	out := make([]byte, len(b.recs)*indexRecSize)
	for i := range b.recs {
		r := &b.recs[i]
		r.encode(out[i*indexRecSize:])
		if r.attr.IsRegular() {
			*content += r.attr.Size
		}
	}
	return out
}

// Offsets in an index record.
const (
	recPath    = 0  // u32 offset, u32 length in the heap
	recLink    = 8  // the same
	recFlags   = 16 // u32
	recMode    = 20 // u32
	recUID     = 24 // u32
	recGID     = 28 // u32
	recRdev    = 32 // u64
	recSize    = 40 // u64
	recSec     = 48 // i64
	recNsec    = 56 // u32
	recXattrs  = 60 // u32 first, u32 count
	recExtents = 68 // u32 first, u32 count; 4 bytes of zeros follow
)

func (r *indexRecord) encode(out []byte) {
	le := binary.LittleEndian
	putRef(out[recPath:], r.path)
	putRef(out[recLink:], r.link)
	le.PutUint32(out[recFlags:], r.flags)
	le.PutUint32(out[recMode:], r.attr.Mode)
	le.PutUint32(out[recUID:], r.attr.UID)
	le.PutUint32(out[recGID:], r.attr.GID)
	le.PutUint64(out[recRdev:], r.attr.Rdev)
	le.PutUint64(out[recSize:], r.attr.Size)
	le.PutUint64(out[recSec:], uint64(r.attr.Sec))
	le.PutUint32(out[recNsec:], r.attr.Nsec)
	putRange(out[recXattrs:], r.xattrs)
	putRange(out[recExtents:], r.extents)
}

func getRange(b []byte) tableRange {
	return tableRange{binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])}
}

func putRange(b []byte, r tableRange) {
	binary.LittleEndian.PutUint32(b, r.first)
	binary.LittleEndian.PutUint32(b[4:], r.count)
}

func appendRef(b []byte, r heapRef) []byte {
	b = binary.LittleEndian.AppendUint32(b, r.off)
	return binary.LittleEndian.AppendUint32(b, r.len)
}

// An extent is u64 offset in the file, u64 length, u64 offset in the tar, u32
// number of the layer (a view's; 0 in an index), 4 bytes of zeros.
func appendExtent(b []byte, x Extent, layer uint32) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(b, uint64(x.Off))
	b = le.AppendUint64(b, uint64(x.Len))
	b = le.AppendUint64(b, uint64(x.At))
	return le.AppendUint64(b, uint64(layer))
}

func getExtent(b []byte) (x Extent, layer uint32) {
	le := binary.LittleEndian
	x.Off, x.Len, x.At = int64(le.Uint64(b)), int64(le.Uint64(b[8:])), int64(le.Uint64(b[16:]))
	return x, le.Uint32(b[24:])
}

// badIndex is ErrBadIndex with a message.
func badIndex(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBadIndex, fmt.Sprintf(format, args...))
}
