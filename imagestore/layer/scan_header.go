package layer

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// Types of tar entries (POSIX pax, "ustar Interchange Format"; GNU tar,
// src/tar.h).
const (
	typeRegOld   = 0 // before POSIX; a folder when the name ends with a slash
	typeReg      = '0'
	typeLink     = '1'
	typeSymlink  = '2'
	typeChar     = '3'
	typeBlock    = '4'
	typeDir      = '5'
	typeFifo     = '6'
	typeCont     = '7' // contiguous file: a regular one
	typeGlobal   = 'g' // PAX headers for all that follows
	typePax      = 'x' // PAX headers for the next entry
	typePaxSun   = 'X' // the same, by Solaris before POSIX
	typeGNULink  = 'K' // long link target of the next entry
	typeGNUName  = 'L' // long name of the next entry
	typeSparse   = 'S' // GNU's old sparse file
	typeGNUDump  = 'D' // folder with a list of its files, by incremental dumps
	typeGNULabel = 'V' // name of the volume
)

// format is a dialect of tar, told by the magic number.
type format uint8

const (
	formatV7 format = iota
	formatUstar
	formatStar
	formatGNU
)

var (
	errChecksum = errors.New("checksum of the header")
	errNumber   = errors.New("number in the header")
)

// Layout of a header block, common part and ustar's (POSIX pax).
const (
	offName, lenName         = 0, 100
	offMode, lenMode         = 100, 8
	offUID, lenUID           = 108, 8
	offGID, lenGID           = 116, 8
	offSize, lenSize         = 124, 12
	offMtime, lenMtime       = 136, 12
	offChecksum, lenChecksum = 148, 8
	offType                  = 156
	offLink, lenLink         = 157, 100
	offMagic                 = 257
	offMajor, lenMajor       = 329, 8
	offMinor, lenMinor       = 337, 8
	offPrefix, lenPrefix     = 345, 155
	lenStarPrefix            = 131
	offStarTrailer           = 508
	offGNUAtime              = 345
	offGNUCtime              = 357
	lenGNUTime               = 12
)

// headerBlock is what a header block says, and, in the end, what extended
// headers say instead.
type headerBlock struct {
	name, link     string
	mode, uid, gid int64
	size           int64 // bytes of data in the tar
	sec            int64
	nsec           uint32
	major, minor   int64
	typ            byte
	format         format
	block          [tarBlockSize]byte
}

// parse reads a header block into h, which may hold another one.
func (h *headerBlock) parse(block []byte) error {
	if !checksumOK(block) {
		return errChecksum
	}
	*h = headerBlock{typ: block[offType], format: formatOf(block)}
	copy(h.block[:], block)
	h.name = cstring(block[offName : offName+lenName])
	h.link = cstring(block[offLink : offLink+lenLink])
	p := numberParser{block: block}
	h.size = p.number(offSize, lenSize)
	h.mode = p.number(offMode, lenMode)
	h.uid = p.number(offUID, lenUID)
	h.gid = p.number(offGID, lenGID)
	h.sec = p.number(offMtime, lenMtime)
	if h.typ == typeChar || h.typ == typeBlock {
		h.major = p.number(offMajor, lenMajor)
		h.minor = p.number(offMinor, lenMinor)
	}
	if prefix := h.prefix(block); prefix != "" {
		h.name = prefix + "/" + h.name
	}
	return p.err
}

// prefix is what stands before the name in formats that split long names.
func (h *headerBlock) prefix(block []byte) string {
	switch h.format {
	case formatUstar:
		return cstring(block[offPrefix : offPrefix+lenPrefix])
	case formatStar:
		return cstring(block[offPrefix : offPrefix+lenStarPrefix])
	case formatGNU:
		return buggyPrefix(block)
	}
	return ""
}

// buggyPrefix is the prefix that Go's writer before 1.8 put into some GNU
// headers, where that format has access and change time instead; old images
// hold such headers (golang.org/issue/12594). Only what cannot be times is
// taken for one.
func buggyPrefix(block []byte) string {
	p := numberParser{block: block}
	for _, off := range []int{offGNUAtime, offGNUCtime} {
		if block[off] != 0 {
			p.number(off, lenGNUTime)
		}
	}
	prefix := cstring(block[offPrefix : offPrefix+lenPrefix])
	if p.err == nil || strings.ContainsFunc(prefix, func(r rune) bool { return r >= 0x80 }) {
		return ""
	}
	return prefix
}

// formatOf tells the dialect by the magic number.
func formatOf(block []byte) format {
	switch magic := string(block[offMagic : offMagic+8]); {
	case magic == "ustar  \x00":
		return formatGNU
	case magic[:6] != "ustar\x00":
		return formatV7
	case string(block[offStarTrailer:]) == "tar\x00":
		return formatStar
	}
	return formatUstar
}

// IsHeader reports whether a block of 512 bytes is the header of a tar entry, of
// whatever kind and age, by its checksum.
func IsHeader(block []byte) bool { return len(block) == tarBlockSize && checksumOK(block) }

// checksumOK compares the checksum, the sum of all bytes with its own field
// as spaces. Some old writers summed signed bytes.
func checksumOK(block []byte) bool {
	p := numberParser{block: block}
	want := p.octal(block[offChecksum : offChecksum+lenChecksum])
	if p.err != nil {
		return false
	}
	var unsigned, signed int64
	for i, c := range block {
		if i >= offChecksum && i < offChecksum+lenChecksum {
			c = ' '
		}
		unsigned += int64(c)
		signed += int64(int8(c))
	}
	return want == unsigned || want == signed
}

// cstring is a field up to its first NUL.
func cstring(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// numberParser reads the numbers of a header and keeps the first error.
type numberParser struct {
	block []byte
	err   error
}

// number reads a field in octal, or in GNU's base-256 when its top bit is set.
func (p *numberParser) number(off, n int) int64 {
	b := p.block[off : off+n]
	if b[0]&0x80 != 0 {
		return p.base256(b)
	}
	return p.octal(b)
}

// base256 reads a big-endian two's complement number whose top bit only marks
// the encoding.
func (p *numberParser) base256(b []byte) int64 {
	flip := byte(0)
	if b[0]&0x40 != 0 {
		flip = 0xff
	}
	var x uint64
	for i, c := range b {
		c ^= flip
		if i == 0 {
			c &= 0x7f
		}
		if x>>56 != 0 {
			p.fail(b)
			return 0
		}
		x = x<<8 | uint64(c)
	}
	if x>>63 != 0 {
		p.fail(b)
		return 0
	}
	if flip != 0 {
		return int64(^x)
	}
	return int64(x)
}

// octal reads a number with spaces or NULs around it; an empty field is 0.
func (p *numberParser) octal(b []byte) (n int64) {
	digits := bytes.Trim(b, " \x00")
	for _, c := range digits {
		if c == 0 {
			break
		}
		if c < '0' || c > '7' || n>>60 != 0 {
			p.fail(b)
			return 0
		}
		n = n<<3 | int64(c-'0')
	}
	return n
}

func (p *numberParser) fail(b []byte) {
	if p.err == nil {
		p.err = fmt.Errorf("%w: %q", errNumber, b)
	}
}
