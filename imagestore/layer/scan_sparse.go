package layer

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

var errSparse = errors.New("sparse map")

// Layout of GNU's old sparse header (GNU tar, src/tar.h, struct
// oldgnu_header and struct sparse_header).
const (
	offOldSparse   = 386 // 4 segments in the header block
	offOldExtended = 482 // whether a block of more follows
	offOldRealSize = 483
	extSegments    = 21 // segments in a block of more, from its start
	offExtExtended = 504
	segmentSize    = 24 // 12 bytes offset, 12 bytes length
)

// sparseFile is what the sparse headers of an entry say.
type sparseFile struct {
	name     string // instead of the entry's, if not ""
	size     int64  // of the file, holes included
	segments []Extent
}

// readSparse reads the sparse map of an entry, in whichever of GNU's formats
// it has one, or returns nil. What of the entry's data holds the map is
// taken off h.size.
func (s *scanner) readSparse(h *headerBlock, p paxRecords) (*sparseFile, error) {
	if h.typ == typeSparse {
		return s.readOldSparse(h)
	}
	major, minor := p["GNU.sparse.major"], p["GNU.sparse.minor"]
	is10 := major == "1" && minor == "0"
	is0x := major == "0" && (minor == "0" || minor == "1") || major == "" && minor == "" && p[sparseMap] != ""
	if !is10 && !is0x {
		return nil, nil
	}
	f := &sparseFile{name: p["GNU.sparse.name"], size: h.size}
	for _, key := range []string{"GNU.sparse.realsize", "GNU.sparse.size"} {
		if value := p[key]; value != "" {
			var err error
			if f.size, err = paxNumber(value); err != nil {
				return nil, fmt.Errorf("%w: %s: %w", errSparse, key, err)
			}
		}
	}
	if is10 {
		return f, s.readSparse10(f, h)
	}
	return f, f.parseMap(p[sparseMap])
}

// parseMap reads the map of formats 0.0 and 0.1: offset,length,offset,length…
func (f *sparseFile) parseMap(m string) error {
	var numbers []int64
	for text := range strings.SplitSeq(m, ",") {
		if m == "" {
			break
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("%w: %w", errSparse, err)
		}
		numbers = append(numbers, n)
	}
	return f.addPairs(numbers)
}

func (f *sparseFile) addPairs(numbers []int64) error {
	if len(numbers)%2 != 0 {
		return fmt.Errorf("%w: odd number of fields", errSparse)
	}
	for i := 0; i < len(numbers); i += 2 {
		f.segments = append(f.segments, Extent{Off: numbers[i], Len: numbers[i+1]})
	}
	return nil
}

// readSparse10 reads the map of format 1.0, which stands before the data, as
// lines of decimal numbers in whole blocks: how many segments, then offset and
// length of each.
func (s *scanner) readSparse10(f *sparseFile, h *headerBlock) error {
	var text []byte
	count, lines, seen := int64(-1), int64(0), 0
	for count < 0 || lines < 2*count+1 {
		if h.size < tarBlockSize {
			return fmt.Errorf("%w: longer than the data", errSparse)
		}
		block, err := s.in.block()
		if err != nil {
			return endOfFile(err)
		}
		h.size -= tarBlockSize
		text = append(text, block...)
		if int64(len(text)) > s.lim.HeaderSize {
			return limitError("bytes of sparse map", int64(len(text)), s.lim.HeaderSize)
		}
		lines += int64(bytes.Count(text[seen:], []byte("\n")))
		seen = len(text)
		if count < 0 && lines > 0 {
			if count, err = firstLine(text); err != nil {
				return err
			}
		}
	}
	return f.parseLines(text, count)
}

func firstLine(text []byte) (int64, error) {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	n, err := strconv.ParseInt(string(line), 10, 64)
	if err != nil || n < 0 || n > 1<<40 {
		return 0, fmt.Errorf("%w: %q segments", errSparse, line)
	}
	return n, nil
}

// parseLines reads count pairs of lines behind the first.
func (f *sparseFile) parseLines(text []byte, count int64) error {
	numbers := make([]int64, 0, 2*count)
	_, text, _ = bytes.Cut(text, []byte("\n"))
	for range 2 * count {
		line, rest, _ := bytes.Cut(text, []byte("\n"))
		n, err := strconv.ParseInt(string(line), 10, 64)
		if err != nil {
			return fmt.Errorf("%w: %w", errSparse, err)
		}
		numbers = append(numbers, n)
		text = rest
	}
	return f.addPairs(numbers)
}

// readOldSparse reads the map that stands in the header block and the blocks
// behind it.
func (s *scanner) readOldSparse(h *headerBlock) (*sparseFile, error) {
	if h.format != formatGNU {
		return nil, fmt.Errorf("%w: not by GNU tar", errSparse)
	}
	p := numberParser{block: h.block[:]}
	f := &sparseFile{size: p.number(offOldRealSize, 12)}
	f.addOld(&p, offOldSparse, 4)
	more := h.block[offOldExtended] != 0
	for more {
		block, err := s.in.block()
		if err != nil {
			return nil, endOfFile(err)
		}
		if n := int64(len(f.segments)) * segmentSize; n > s.lim.HeaderSize {
			return nil, limitError("bytes of sparse map", n, s.lim.HeaderSize)
		}
		p.block = block
		f.addOld(&p, 0, extSegments)
		more = block[offExtExtended] != 0
	}
	return f, p.err
}

// addOld adds segments of a block up to the first empty one.
func (f *sparseFile) addOld(p *numberParser, off, count int) {
	for i := range count {
		at := off + i*segmentSize
		if p.block[at] == 0 {
			return
		}
		f.segments = append(f.segments, Extent{Off: p.number(at, 12), Len: p.number(at+12, 12)})
	}
}

// place gives the segments their offsets in the tar, one behind the other from
// at on, and checks that they fit the file and fill the data exactly.
func (f *sparseFile) place(at, dataSize int64) ([]Extent, error) {
	if f.size < 0 {
		return nil, fmt.Errorf("%w: file of %d bytes", errSparse, f.size)
	}
	var out []Extent
	end, total := int64(0), int64(0)
	for _, x := range f.segments {
		if x.Off < end || x.Len < 0 || x.Off > f.size || x.Len > f.size-x.Off || x.Len > dataSize-total {
			return nil, fmt.Errorf("%w: segment %d+%d of a file of %d bytes with %d of data", errSparse, x.Off, x.Len, f.size, dataSize)
		}
		x.At = at + total
		end = x.Off + x.Len
		total += x.Len
		out = appendSegment(out, x)
	}
	if total != dataSize {
		return nil, fmt.Errorf("%w: %d bytes of data, segments of %d", errSparse, dataSize, total)
	}
	return out, nil
}

// appendSegment adds a segment, as part of the last one where it goes on.
func appendSegment(out []Extent, x Extent) []Extent {
	if x.Len == 0 {
		return out
	}
	if n := len(out); n > 0 && out[n-1].Off+out[n-1].Len == x.Off {
		out[n-1].Len += x.Len
		return out
	}
	return append(out, x)
}
