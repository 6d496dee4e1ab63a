package layer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"sync/atomic"
	"unsafe"
)

// Indexes and views are table files: a header, a body of tables, and a
// checksum of each block of the body. docs/formats.md describes them; all
// numbers are little-endian.

// table names a table of the body; both kinds of file use the same numbers.
type table int

const (
	tabRecords table = iota // entries of a layer, or nodes of a view
	tabExtents              // where files have their data
	tabXattrs               // extended attributes
	tabHeap                 // bytes of names, link targets and attribute values
	tabDirents              // view: names in folders
	tabLinks                // view: all names of files with several
	numTables
)

// Sizes of records and parts.
const (
	headerSize = 256
	blockSize  = 16 << 10 // bytes of the body under one checksum

	indexRecSize = 80
	nodeRecSize  = 64
	extentSize   = 32
	xattrSize    = 16
	direntSize   = 16
	linkSize     = 4
)

// Offsets in the header.
const (
	hdrMagic   = 0   // 8 bytes
	hdrVersion = 8   // u32
	hdrLayers  = 12  // u32, layers of a view; 0 in an index
	hdrSize    = 16  // u64, size of the file
	hdrContent = 24  // u64, bytes of content, each file once
	hdrTar     = 32  // u64, bytes of the layer tar; 0 in a view
	hdrTables  = 40  // numTables × (u64 offset, u64 size)
	hdrSums    = 168 // u64, offset of the checksums, end of the body
	hdrSumsSum = 176 // u32, checksum of the checksums
	hdrSum     = 252 // u32, checksum of the header up to here
)

const formatVersion = 1

const (
	indexMagic = "UNIOINDX"
	viewMagic  = "UNIOVIEW"
)

// recordSizes are the sizes of records by table, for one kind of file.
type recordSizes [numTables]uint64

func sizesFor(magic string) recordSizes {
	s := recordSizes{tabRecords: indexRecSize, tabExtents: extentSize, tabXattrs: xattrSize, tabHeap: 1, tabDirents: direntSize, tabLinks: linkSize}
	if magic == viewMagic {
		s[tabRecords] = nodeRecSize
	}
	return s
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// tables are the parts of a file to be written.
type tables struct {
	magic   string
	layers  uint32
	content uint64
	tar     uint64
	body    [numTables][]byte
}

// encode lays out the file.
func (t *tables) encode() []byte {
	sumsAt, at := t.place()
	blocks := (sumsAt - headerSize + blockSize - 1) / blockSize
	out := make([]byte, sumsAt+4*blocks)
	for i, b := range t.body {
		copy(out[at[i]:], b)
	}
	sums := out[sumsAt:]
	for i := range blocks {
		lo := headerSize + i*blockSize
		hi := min(lo+blockSize, sumsAt)
		binary.LittleEndian.PutUint32(sums[4*i:], checksum(out[lo:hi]))
	}
	t.putHeader(out, sumsAt, at)
	return out
}

// place gives each table its offset, a multiple of 8.
func (t *tables) place() (end uint64, at [numTables]uint64) {
	end = headerSize
	for i, b := range t.body {
		at[i] = end
		end = (end + uint64(len(b)) + 7) &^ 7
	}
	return end, at
}

func (t *tables) putHeader(out []byte, sumsAt uint64, at [numTables]uint64) {
	le := binary.LittleEndian
	copy(out[hdrMagic:], t.magic)
	le.PutUint32(out[hdrVersion:], formatVersion)
	le.PutUint32(out[hdrLayers:], t.layers)
	le.PutUint64(out[hdrSize:], uint64(len(out)))
	le.PutUint64(out[hdrContent:], t.content)
	le.PutUint64(out[hdrTar:], t.tar)
	for i := range t.body {
		le.PutUint64(out[hdrTables+16*i:], at[i])
		le.PutUint64(out[hdrTables+16*i+8:], uint64(len(t.body[i])))
	}
	le.PutUint64(out[hdrSums:], sumsAt)
	le.PutUint32(out[hdrSumsSum:], checksum(out[sumsAt:]))
	le.PutUint32(out[hdrSum:], checksum(out[:hdrSum]))
}

// tableFile reads a table file, in memory or mapped. Each block of the body
// is checked against its checksum when it is first touched, so opening costs
// the same whatever the size; every access is checked against the bounds, so
// not even a file that changes afterwards can make it read elsewhere.
type tableFile struct {
	data    []byte
	off     [numTables]uint64
	count   [numTables]uint64 // records; bytes for the heap
	size    recordSizes
	sumsAt  uint64
	checked []atomic.Uint32 // one bit per block
	layers  uint32
	content uint64
	tar     uint64
}

// parseTables reads and checks the header.
func parseTables(data []byte, magic string) (*tableFile, error) {
	if err := checkHeader(data, magic); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	f := &tableFile{
		data:    data,
		size:    sizesFor(magic),
		sumsAt:  le.Uint64(data[hdrSums:]),
		layers:  le.Uint32(data[hdrLayers:]),
		content: le.Uint64(data[hdrContent:]),
		tar:     le.Uint64(data[hdrTar:]),
	}
	if err := f.parseSums(); err != nil {
		return nil, err
	}
	return f, f.parseTable()
}

// checkHeader checks the header by itself.
func checkHeader(data []byte, magic string) error {
	if len(data) < headerSize || !bytes.Equal(data[:8], []byte(magic)) {
		return fmt.Errorf("%w: not a %s file", ErrBadIndex, magic)
	}
	le := binary.LittleEndian
	if v := le.Uint32(data[hdrVersion:]); v != formatVersion {
		return fmt.Errorf("%w: version %d, not %d", ErrBadIndex, v, formatVersion)
	}
	if checksum(data[:hdrSum]) != le.Uint32(data[hdrSum:]) {
		return fmt.Errorf("%w: checksum of the header", ErrBadIndex)
	}
	return nil
}

// parseSums checks the size of the file and the checksums themselves.
func (f *tableFile) parseSums() error {
	le := binary.LittleEndian
	size := uint64(len(f.data))
	if le.Uint64(f.data[hdrSize:]) != size || f.sumsAt < headerSize || f.sumsAt > size {
		return fmt.Errorf("%w: %d bytes, not as its header says", ErrBadIndex, size)
	}
	blocks := (f.sumsAt - headerSize + blockSize - 1) / blockSize
	if size-f.sumsAt != 4*blocks || checksum(f.data[f.sumsAt:]) != le.Uint32(f.data[hdrSumsSum:]) {
		return fmt.Errorf("%w: checksum of the checksums", ErrBadIndex)
	}
	f.checked = make([]atomic.Uint32, (blocks+31)/32)
	return nil
}

// parseTable checks that every table lies in the body and holds whole records.
func (f *tableFile) parseTable() error {
	for i := range numTables {
		entry := f.data[hdrTables+16*int(i):]
		off, size := binary.LittleEndian.Uint64(entry), binary.LittleEndian.Uint64(entry[8:])
		if off < headerSize || off > f.sumsAt || size > f.sumsAt-off || size%f.size[i] != 0 {
			return fmt.Errorf("%w: table %d out of bounds", ErrBadIndex, i)
		}
		f.off[i], f.count[i] = off, size/f.size[i]
	}
	return nil
}

// record returns record i of a table, or nil when there is none or it is
// damaged.
func (f *tableFile) record(t table, i uint64) []byte {
	if i >= f.count[t] {
		return nil
	}
	return f.body(f.off[t]+i*f.size[t], f.size[t])
}

// records returns count records of a table, from first on.
func (f *tableFile) records(t table, first, count uint32) ([]byte, bool) {
	if uint64(first)+uint64(count) > f.count[t] {
		return nil, false
	}
	if count == 0 {
		return nil, true
	}
	b := f.body(f.off[t]+uint64(first)*f.size[t], uint64(count)*f.size[t])
	return b, b != nil
}

// heap returns a piece of the heap.
func (f *tableFile) heap(r heapRef) ([]byte, bool) { return f.records(tabHeap, r.off, r.len) }

// str returns a piece of the heap as a string that lies in the file: it must
// not be used after the file is closed.
func (f *tableFile) str(r heapRef) (string, bool) {
	b, ok := f.heap(r)
	if !ok || len(b) == 0 {
		return "", ok
	}
	return unsafe.String(&b[0], len(b)), true
}

// body returns bytes that the caller knows to lie in a table, or nil when a
// block of them is damaged.
func (f *tableFile) body(off, n uint64) []byte {
	for b := (off - headerSize) / blockSize; b <= (off-headerSize+n-1)/blockSize; b++ {
		if f.checked[b/32].Load()&(1<<(b%32)) == 0 && !f.check(b) {
			return nil
		}
	}
	return f.data[off : off+n : off+n]
}

// check compares a block with its checksum.
func (f *tableFile) check(b uint64) bool {
	lo := headerSize + b*blockSize
	hi := min(lo+blockSize, f.sumsAt)
	if checksum(f.data[lo:hi]) != binary.LittleEndian.Uint32(f.data[f.sumsAt+4*b:]) {
		return false
	}
	f.checked[b/32].Or(1 << (b % 32))
	return true
}

// checkAll compares every block with its checksum.
func (f *tableFile) checkAll() error {
	for b := uint64(0); headerSize+b*blockSize < f.sumsAt; b++ {
		if !f.check(b) {
			return fmt.Errorf("%w: checksum of block %d", ErrBadIndex, b)
		}
	}
	return nil
}

// WriteTo writes the file as it is.
func (f *tableFile) writeTo(w io.Writer) (int64, error) {
	n, err := w.Write(f.data)
	return int64(n), err
}

// heapRef is a piece of the heap.
type heapRef struct{ off, len uint32 }

func getRef(b []byte) heapRef {
	return heapRef{binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])}
}

func putRef(b []byte, r heapRef) {
	binary.LittleEndian.PutUint32(b, r.off)
	binary.LittleEndian.PutUint32(b[4:], r.len)
}
