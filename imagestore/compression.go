package imagestore

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/ulikunitz/xz"
)

// Compression is how a stream is compressed.
type Compression int

// The compressions that can be read.
const (
	Uncompressed Compression = iota
	Gzip
	Zstd
	Bzip2
	Xz
)

// magicLen is how many bytes DetectCompression needs at most.
const magicLen = 6

// maxWindow bounds the memory, in bytes, that a zstd frame may ask for. It is what
// zstd(1) reads without being asked for more (--long=27, --ultra -22).
const maxWindow = 128 << 20

// DetectCompression tells from its first bytes how a stream is compressed
// (RFC 1952, RFC 8878, the file formats of bzip2 and xz).
func DetectCompression(head []byte) Compression {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b, 0x08}):
		return Gzip
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return Zstd
	case bytes.HasPrefix(head, []byte("BZh")):
		return Bzip2
	case bytes.HasPrefix(head, []byte{0xfd, '7', 'z', 'X', 'Z', 0x00}):
		return Xz
	}
	return Uncompressed
}

func (c Compression) String() string {
	return [...]string{"uncompressed", "gzip", "zstd", "bzip2", "xz"}[c]
}

// mediaType is the OCI media type of a layer so compressed; empty where there
// is none.
func (c Compression) mediaType() string {
	switch c {
	case Uncompressed:
		return ocispec.MediaTypeImageLayer
	case Gzip:
		return ocispec.MediaTypeImageLayerGzip
	case Zstd:
		return ocispec.MediaTypeImageLayerZstd
	}
	return ""
}

// Decompress detects by content how r is compressed and returns the plain
// bytes. Damage gives errors that wrap [ErrCorrupt]; errors of r itself come
// through as they are. Closing releases the decoder, not r.
func Decompress(r io.Reader) (io.ReadCloser, Compression, error) {
	src := &sourceReader{r: r}
	br := bufio.NewReaderSize(src, 1<<16)
	head, err := br.Peek(magicLen)
	if err != nil && err != io.EOF {
		return nil, Uncompressed, err
	}
	c := DetectCompression(head)
	dec, err := newDecoder(br, c)
	if err != nil {
		return nil, c, corruptStream(c, src, err)
	}
	return &plainReader{ReadCloser: dec, src: src, c: c}, c, nil
}

func newDecoder(r io.Reader, c Compression) (io.ReadCloser, error) {
	switch c {
	case Gzip:
		return gzip.NewReader(r)
	case Zstd:
		// One goroutine: as fast, with hashing and writing beside it, and a
		// quarter less memory.
		d, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case Bzip2:
		return io.NopCloser(bzip2.NewReader(r)), nil
	case Xz:
		// The dictionary may be up to 4 GiB of address space; memory is only
		// used as far as the stream really has content.
		d, err := xz.NewReader(r)
		return io.NopCloser(d), err
	}
	return io.NopCloser(r), nil
}

// sourceReader remembers the error of a reader, to tell a broken source from
// broken content.
type sourceReader struct {
	r   io.Reader
	err error
}

func (s *sourceReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

type plainReader struct {
	io.ReadCloser
	src *sourceReader
	c   Compression
}

func (p *plainReader) Read(b []byte) (int, error) {
	n, err := p.ReadCloser.Read(b)
	if err != nil && err != io.EOF {
		err = corruptStream(p.c, p.src, err)
	}
	return n, err
}

func corruptStream(c Compression, src *sourceReader, err error) error {
	if src.err != nil {
		return src.err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %s stream is cut short", ErrCorrupt, c)
	}
	if errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return fmt.Errorf("%w: zstd stream needs a window of more than %d MiB (zstd --long=27), compress it with less", ErrLimit, maxWindow>>20)
	}
	return fmt.Errorf("%w: %s stream: %w", ErrCorrupt, c, err)
}
