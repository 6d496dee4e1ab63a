package layer

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"os"
	"slices"
	"sort"
)

// Digests are the SHA-256 of the files of a layer, by where their content lies
// in the tar. Two files can be compared by them without being read. Files that
// are empty or sparse have none. They are derived from the tar, as an index
// is, but only when they are asked for: nothing else needs them, and they cost
// a reading of the whole tar.
type Digests struct{ data []byte }

const (
	digestsMagic  = "UNIOSUMS"
	digestsHeader = 24 // magic, u32 version, u32 checksum of the records, u64 count
	digestsRecord = 8 + sha256.Size
	// digestsRead is how much of a tar is read at once, bytes.
	digestsRead = 1 << 20
)

// SumFiles computes the digests of a layer's files. The tar is read once, from
// its beginning to its end.
func SumFiles(ctx context.Context, x *Index, tar io.ReaderAt) (*Digests, error) {
	places := x.plainFiles()
	if err := x.Err(); err != nil {
		return nil, err
	}
	out := make([]byte, digestsHeader, digestsHeader+len(places)*digestsRecord)
	s := &summer{r: bufio.NewReaderSize(io.NewSectionReader(tar, 0, x.TarSize()), digestsRead), h: sha256.New()}
	for _, p := range places {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		out = binary.LittleEndian.AppendUint64(out, uint64(p.At))
		var err error
		if out, err = s.sum(out, p); err != nil {
			return nil, fmt.Errorf("read layer tar at byte %d: %w", p.At, err)
		}
	}
	copy(out, digestsMagic)
	le := binary.LittleEndian
	le.PutUint32(out[8:], formatVersion)
	le.PutUint32(out[12:], checksum(out[digestsHeader:]))
	le.PutUint64(out[16:], uint64(len(places)))
	return &Digests{data: out}, nil
}

// plainFiles lists where files without holes lie, in the order of the tar.
func (x *Index) plainFiles() []Extent {
	var list []Extent
	for e := range x.Entries() {
		if len(e.Extents) == 1 && e.Attr.IsRegular() && e.Extents[0].Off == 0 && uint64(e.Extents[0].Len) == e.Attr.Size {
			list = append(list, e.Extents[0])
		}
	}
	slices.SortFunc(list, func(a, b Extent) int { return int(min(max(a.At-b.At, -1), 1)) })
	return slices.CompactFunc(list, func(a, b Extent) bool { return a.At == b.At })
}

// summer hashes parts of a tar as they pass by.
type summer struct {
	r   *bufio.Reader
	pos int64
	h   hash.Hash
}

// sum appends the digest of a part.
func (s *summer) sum(out []byte, p Extent) ([]byte, error) {
	for s.pos < p.At {
		n, err := s.r.Discard(int(min(p.At-s.pos, digestsRead)))
		if s.pos += int64(n); err != nil {
			return out, endOfFile(err)
		}
	}
	s.h.Reset()
	n, err := io.CopyN(s.h, s.r, int64(p.Len))
	s.pos += n
	return s.h.Sum(out), endOfFile(err)
}

// OpenDigests reads digests from a file. What is wrong with it gives
// ErrBadIndex: it is to be made again by [SumFiles].
func OpenDigests(path string) (*Digests, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	bad := len(data) < digestsHeader || string(data[:len(digestsMagic)]) != digestsMagic || le.Uint32(data[8:]) != formatVersion ||
		le.Uint64(data[16:]) != uint64(len(data)-digestsHeader)/digestsRecord || (len(data)-digestsHeader)%digestsRecord != 0 ||
		le.Uint32(data[12:]) != checksum(data[digestsHeader:])
	if bad {
		return nil, fmt.Errorf("digests %s: %w", path, ErrBadIndex)
	}
	return &Digests{data: data}, nil
}

// WriteTo writes the digests in the form that OpenDigests reads.
func (d *Digests) WriteTo(w io.Writer) (int64, error) {
	return bytes.NewReader(d.data).WriteTo(w)
}

// At returns the digest of the file whose content begins at a byte of the tar,
// or false.
func (d *Digests) At(at int64) (sum [sha256.Size]byte, ok bool) {
	b := d.data[digestsHeader:]
	record := func(i int) []byte { return b[i*digestsRecord : (i+1)*digestsRecord] }
	n := len(b) / digestsRecord
	i := sort.Search(n, func(i int) bool { return binary.LittleEndian.Uint64(record(i)) >= uint64(at) })
	if i == n || binary.LittleEndian.Uint64(record(i)) != uint64(at) {
		return sum, false
	}
	return [sha256.Size]byte(record(i)[8:]), true
}
