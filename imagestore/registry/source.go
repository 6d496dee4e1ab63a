package registry

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// compressBlock is how much of a layer one goroutine compresses at a time. It
// is part of what decides the compressed bytes, so it must not depend on the
// machine: the same layer is to have the same digest everywhere.
const compressBlock = 1 << 20

// blobSource is a blob as it lies in the store.
type blobSource struct {
	desc ocispec.Descriptor
	read func() (io.ReadCloser, error)
}

func (s *blobSource) open() (io.ReadCloser, error) { return s.read() }

func (s *blobSource) known() (ocispec.Descriptor, bool) { return s.desc, true }

func (s *blobSource) mediaType() string { return s.desc.MediaType }

// bytesSource is a blob in memory: a config.
func bytesSource(desc ocispec.Descriptor, raw []byte) *blobSource {
	return &blobSource{desc: desc, read: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(raw)), nil
	}}
}

// Names of compressions, as in media types.
const (
	gzipName = "gzip"
	zstdName = "zstd"
)

// compressionOf is the compression that a layer's media type names, empty for
// none.
func compressionOf(mediaType string) string {
	for _, name := range []string{gzipName, zstdName} {
		if strings.HasSuffix(mediaType, "+"+name) || strings.HasSuffix(mediaType, "."+name) {
			return name
		}
	}
	return ""
}

// packedSource compresses a layer's tar while it is sent.
type packedSource struct {
	tar func() (io.ReadCloser, error)
	as  string // media type of the result
	// pack compresses r into w, always to the same bytes.
	pack func(w io.Writer, r io.Reader) error
	// onRead hears how many bytes of the tar are compressed; may be nil.
	onRead func(int64)
}

func (s *packedSource) known() (ocispec.Descriptor, bool) { return ocispec.Descriptor{}, false }

func (s *packedSource) mediaType() string { return s.as }

// open starts the compression, which runs until the reader is closed.
func (s *packedSource) open() (io.ReadCloser, error) {
	tar, err := s.tar()
	if err != nil {
		return nil, err
	}
	out, in := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer tar.Close()
		in.CloseWithError(s.pack(in, &meter{r: tar, onRead: s.onRead}))
	}()
	return &compressing{PipeReader: out, done: done}, nil
}

// compressing waits on Close until the goroutine has let go of the tar.
type compressing struct {
	*io.PipeReader
	done chan struct{}
}

func (c *compressing) Close() error {
	err := c.PipeReader.Close()
	<-c.done
	return err
}

// packZstd writes r as zstd. The encoder's blocks do not depend on how many
// goroutines it has.
func packZstd(w io.Writer, r io.Reader) error {
	zw, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)))
	if err != nil {
		return fmt.Errorf("start zstd: %w", err)
	}
	_, err = zw.ReadFrom(r)
	if cerr := zw.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("compress layer: %w", err)
	}
	return nil
}

// packGzip writes r as gzip, on all processors: no name, no time, blocks of
// one size.
func packGzip(w io.Writer, r io.Reader) error {
	out := &latch{w: w}
	zw, err := pgzip.NewWriterLevel(out, pgzip.DefaultCompression)
	if err != nil {
		return fmt.Errorf("start gzip: %w", err)
	}
	if err := zw.SetConcurrency(compressBlock, runtime.GOMAXPROCS(0)+1); err != nil {
		return fmt.Errorf("start gzip: %w", err)
	}
	_, err = io.Copy(zw, &untilBroken{r: r, out: out})
	if cerr := zw.Close(); err == nil {
		err = cerr
	}
	if oerr := out.broken(); oerr != nil {
		err = oerr
	}
	if err != nil {
		return fmt.Errorf("compress layer: %w", err)
	}
	return nil
}

// latch passes writes on until one fails, and then swallows them: a pgzip
// writer whose output fails never ends its goroutines.
type latch struct {
	w io.Writer

	mu  sync.Mutex
	err error
}

func (l *latch) Write(p []byte) (int, error) {
	if l.broken() != nil {
		return len(p), nil
	}
	if _, err := l.w.Write(p); err != nil {
		l.mu.Lock()
		l.err = err
		l.mu.Unlock()
	}
	return len(p), nil
}

func (l *latch) broken() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// untilBroken ends the input when nobody wants the output any more.
type untilBroken struct {
	r   io.Reader
	out *latch
}

func (u *untilBroken) Read(p []byte) (int, error) {
	if u.out.broken() != nil {
		return 0, io.EOF
	}
	return u.r.Read(p)
}

// meter counts what is read.
type meter struct {
	r      io.Reader
	n      int64
	onRead func(int64)
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.n += int64(n)
	if n > 0 && m.onRead != nil {
		m.onRead(m.n)
	}
	return n, err
}
