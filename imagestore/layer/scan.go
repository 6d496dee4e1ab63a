package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"

	"golang.org/x/sys/unix"

	"unio/unionfs/merge"
	"unio/whiteout"
)

// Scan reads an uncompressed layer tar, once and to EOF, and makes its index.
// It reads v7, ustar, star, GNU and PAX headers, GNU's sparse files in all
// their formats, and extended attributes as SCHILY.xattr and LIBARCHIVE.xattr
// records. Content is passed over; only where it lies is kept.
//
// Errors are ErrBadTar with the entry and its offset, ErrLimit, and those of r
// and ctx. Nothing of r beyond the tar may follow it: trailing bytes belong to
// the layer and are part of its digest, but are not looked at.
func Scan(ctx context.Context, r io.Reader, lim Limits) (*Index, error) {
	lim = lim.withDefaults()
	s := &scanner{in: newSource(ctx, r, lim.Total), lim: lim, out: newIndexBuilder(lim), local: paxRecords{}, global: paxRecords{}}
	for {
		s.at = s.in.pos
		s.name = ""
		err := s.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, s.wrap(err)
		}
	}
	if err := s.in.drain(); err != nil {
		return nil, err
	}
	x, err := s.out.build(s.in.pos)
	if err != nil {
		return nil, fmt.Errorf("index the layer: %w", err)
	}
	return x, nil
}

// scanner is one layer tar being read.
type scanner struct {
	in            *source
	lim           Limits
	out           *indexBuilder
	global, local paxRecords
	localSize     int64  // bytes of extended headers of the next entry
	longName      string // of the next entry, by GNU's headers
	longLink      string
	head          headerBlock
	one           [1]Extent // of a plain file, to be copied by add
	at            int64     // offset of the header being read
	name          string    // of the entry being read, for errors
}

// wrap says where an error happened. What is no other known kind is a bad tar.
func (s *scanner) wrap(err error) error {
	entry := ""
	if s.name != "" {
		entry = fmt.Sprintf(" %q", s.name)
	}
	if errors.Is(err, ErrLimit) || s.in.err != nil && errors.Is(err, s.in.err) && s.in.err != io.EOF {
		return fmt.Errorf("layer tar, entry%s at byte %d: %w", entry, s.at, err)
	}
	return fmt.Errorf("%w: entry%s at byte %d: %w", ErrBadTar, entry, s.at, err)
}

// endOfFile is an error of source where the tar must not end.
func endOfFile(err error) error {
	if err == io.EOF {
		return errTruncated
	}
	return err
}

// next reads one header and what belongs to it. io.EOF is the end of the tar:
// two blocks of zeros, or, as some writers have it, nothing more.
func (s *scanner) next() error {
	block, err := s.in.block()
	if err != nil {
		return err
	}
	if isZero(block) {
		return s.trailer()
	}
	h := &s.head
	if err := h.parse(block); err != nil {
		return err
	}
	s.name = h.name
	switch h.typ {
	case typePax, typePaxSun, typeGlobal, typeGNUName, typeGNULink:
		return s.extended(h)
	}
	if err := s.entry(h); err != nil {
		return err
	}
	clear(s.local)
	s.localSize, s.longName, s.longLink = 0, "", ""
	return nil
}

// trailer reads the second of the two blocks of zeros.
func (s *scanner) trailer() error {
	block, err := s.in.block()
	if err != nil {
		return err
	}
	if !isZero(block) {
		return errors.New("a lone block of zeros")
	}
	return io.EOF
}

func isZero(block []byte) bool { return [tarBlockSize]byte(block) == [tarBlockSize]byte{} }

// extended reads a header that speaks of the next entry, or of all that
// follow.
func (s *scanner) extended(h *headerBlock) error {
	s.localSize += max(h.size, 0)
	if h.size < 0 || s.localSize > s.lim.HeaderSize {
		return limitError("bytes of extended headers", s.localSize, s.lim.HeaderSize)
	}
	data, err := s.in.content(h.size)
	if err != nil {
		return err
	}
	switch h.typ {
	case typeGNUName:
		s.longName = cstring(data)
	case typeGNULink:
		s.longLink = cstring(data)
	case typeGlobal:
		return s.global.parse(data)
	default:
		clear(s.local) // a second one replaces the first
		return s.local.parse(data)
	}
	return nil
}

// records are the PAX records of the next entry: its own over the global ones.
func (s *scanner) records() paxRecords {
	if len(s.global) == 0 {
		return s.local
	}
	all := maps.Clone(s.global)
	maps.Copy(all, s.local)
	return all
}

// entry reads an entry and adds it to the index.
func (s *scanner) entry(h *headerBlock) error {
	pax := s.records()
	if err := s.complete(h, pax); err != nil {
		return err
	}
	sparse, err := s.readSparse(h, pax)
	if err != nil {
		return err
	}
	if sparse != nil && sparse.name != "" {
		h.name = sparse.name
		s.name = h.name
	}
	e, err := s.describe(h, pax)
	if err != nil {
		return err
	}
	if err := s.setData(e, h, sparse); err != nil {
		return err
	}
	if err := s.addEntry(e); err != nil {
		return err
	}
	if err := s.in.skip(h.size); err != nil {
		return err
	}
	return s.in.skipPadding(h.size)
}

// complete lets the extended headers replace what the header block says.
func (s *scanner) complete(h *headerBlock, pax paxRecords) error {
	if err := pax.apply(h); err != nil {
		return err
	}
	if s.longName != "" {
		h.name = s.longName
	}
	if s.longLink != "" {
		h.link = s.longLink
	}
	s.name = h.name
	if h.typ == typeRegOld {
		h.typ = typeReg
		if n := len(h.name); n > 0 && h.name[n-1] == '/' {
			h.typ = typeDir
		}
	}
	switch h.typ {
	case typeLink, typeSymlink, typeChar, typeBlock, typeDir, typeFifo:
		h.size = 0 // whatever it says, no data follows
	}
	if h.size < 0 || h.size > math.MaxInt64-s.in.pos-tarBlockSize {
		return fmt.Errorf("size %d", h.size)
	}
	return nil
}

// typeBits gives the type of the mode for a type of tar entry.
func typeBits(typ byte) (uint32, error) {
	switch typ {
	case typeReg, typeCont, typeSparse, typeLink:
		return unix.S_IFREG, nil
	case typeSymlink:
		return unix.S_IFLNK, nil
	case typeChar:
		return unix.S_IFCHR, nil
	case typeBlock:
		return unix.S_IFBLK, nil
	case typeDir, typeGNUDump:
		return unix.S_IFDIR, nil
	case typeFifo:
		return unix.S_IFIFO, nil
	case typeGNULabel:
		return 0, nil
	}
	return 0, fmt.Errorf("unknown type %q", typ)
}

// describe makes the entry that the headers describe, without its data.
func (s *scanner) describe(h *headerBlock, pax paxRecords) (*Entry, error) {
	p, err := cleanPath(h.name, s.lim)
	if err != nil {
		return nil, err
	}
	e := &Entry{Path: p}
	bits, err := typeBits(h.typ)
	if bits == 0 || err != nil {
		e.Whiteout = whiteout.Ignore
		return e, err
	}
	if e.Whiteout, e.Path, err = classify(p); err != nil {
		return e, err
	}
	if e.Whiteout != whiteout.None && !isAufsLink(e.Path, bits) {
		return e, nil
	}
	if e.Attr, err = h.attr(bits); err != nil {
		return nil, err
	}
	if e.Path == "" && bits != unix.S_IFDIR {
		return nil, errors.New("the root is not a folder")
	}
	if err := s.setLink(e, h); err != nil {
		return nil, err
	}
	if e.Hardlink {
		return e, nil
	}
	e.Xattrs, err = pax.xattrs(s.lim)
	return e, err
}

// attr gives the attributes but the size.
func (h *headerBlock) attr(typ uint32) (merge.Attr, error) {
	if h.uid < 0 || h.uid > maxID || h.gid < 0 || h.gid > maxID {
		return merge.Attr{}, fmt.Errorf("owner %d:%d", h.uid, h.gid)
	}
	mode := uint32(h.mode) & 0o7777
	if typ == unix.S_IFLNK {
		mode = 0o777 // as every symbolic link has on Linux, whatever the header says
	}
	a := merge.Attr{Mode: typ | mode, UID: uint32(h.uid), GID: uint32(h.gid), Sec: h.sec, Nsec: h.nsec}
	if typ == unix.S_IFCHR || typ == unix.S_IFBLK {
		if h.major < 0 || h.major > math.MaxUint32 || h.minor < 0 || h.minor > math.MaxUint32 {
			return merge.Attr{}, fmt.Errorf("device %d:%d", h.major, h.minor)
		}
		a.Rdev = unix.Mkdev(uint32(h.major), uint32(h.minor))
	}
	return a, nil
}

// setLink gives a link its target: a symbolic link's as it is written, a hard
// link's as a path of the layer.
func (s *scanner) setLink(e *Entry, h *headerBlock) (err error) {
	switch h.typ {
	case typeLink:
		e.Hardlink = true
		e.Attr = merge.Attr{}
		e.Link, err = cleanPath(h.link, s.lim)
	case typeSymlink:
		if h.link == "" || len(h.link) > maxTarget {
			return fmt.Errorf("target of a symbolic link of %d bytes", len(h.link))
		}
		e.Link = h.link
		e.Attr.Size = uint64(len(h.link))
	}
	return err
}

// setData gives a regular file its size and the places of its data.
func (s *scanner) setData(e *Entry, h *headerBlock, sparse *sparseFile) (err error) {
	regular := h.typ == typeReg || h.typ == typeCont || h.typ == typeSparse
	if sparse != nil {
		if !regular {
			return fmt.Errorf("%w: not a regular file", errSparse)
		}
		if e.Extents, err = sparse.place(s.in.pos, h.size); err != nil {
			return err
		}
		e.Attr.Size = uint64(sparse.size)
		return nil
	}
	if !regular || h.size == 0 {
		return nil
	}
	e.Attr.Size = uint64(h.size)
	s.one[0] = Extent{Len: h.size, At: s.in.pos}
	e.Extents = s.one[:]
	return nil
}

// addEntry adds what an entry means to the index.
func (s *scanner) addEntry(e *Entry) error {
	switch e.Whiteout {
	case whiteout.Ignore:
		if isAufsLink(e.Path, e.Attr.Mode) && !e.Hardlink {
			return s.out.addAufsLink(e)
		}
		return nil
	case whiteout.File:
		return s.out.add(&Entry{Path: e.Path, Whiteout: whiteout.File})
	case whiteout.Opaque:
		marker := &Entry{Path: e.Path, Opaque: true, Implicit: true}
		marker.Attr.Mode = unix.S_IFDIR | 0o755
		return s.out.add(marker)
	}
	return s.out.add(e)
}
