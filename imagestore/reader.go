package imagestore

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
)

// ContextReader returns a reader over r whose Read ends with ctx, even while
// r blocks, as a pipe does that nobody writes to. r may then still be read
// from in the background once, so it must not be used for anything else.
func ContextReader(ctx context.Context, r io.Reader) io.Reader {
	return &contextReader{ctx: ctx, r: r, done: make(chan readResult, 1)}
}

type readResult struct {
	n   int
	err error
}

type contextReader struct {
	ctx  context.Context
	r    io.Reader
	buf  []byte
	done chan readResult
	left []byte // read, and not handed on yet
	err  error  // stays
}

func (c *contextReader) Read(p []byte) (int, error) {
	if len(c.left) == 0 && c.err == nil {
		c.fill(len(p))
	}
	n := copy(p, c.left)
	c.left = c.left[n:]
	if n == 0 && len(p) > 0 {
		return 0, c.err
	}
	return n, nil
}

// fill waits for bytes of r. The buffer belongs to the background until it
// answers, so that a caller who gave up is not written to.
func (c *contextReader) fill(n int) {
	if cap(c.buf) < n {
		c.buf = make([]byte, n)
	}
	buf := c.buf[:n]
	go func() {
		n, err := c.r.Read(buf)
		c.done <- readResult{n, err}
	}()
	select {
	case res := <-c.done:
		c.left, c.err = buf[:res.n], res.err
	case <-c.ctx.Done():
		c.buf, c.err = nil, context.Cause(c.ctx)
	}
}

// GuardedDecompress is [Decompress] for a stream that holds more than one
// layer: what expands beyond all measure ends with [ErrLimit].
func GuardedDecompress(r io.Reader) (io.ReadCloser, error) {
	src := &countingReader{r: r}
	plain, c, err := Decompress(src)
	if err != nil || c == Uncompressed {
		return plain, err
	}
	return &ratioReader{ReadCloser: plain, src: src}, nil
}

type countingReader struct {
	r io.Reader
	n atomic.Int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

type ratioReader struct {
	io.ReadCloser
	src *countingReader
	n   int64
}

func (r *ratioReader) Read(p []byte) (int, error) {
	if r.n > ratioFree+ratioMax*r.src.n.Load() {
		return 0, fmt.Errorf("%w: the archive expands to more than %d times its size", ErrLimit, ratioMax)
	}
	n, err := r.ReadCloser.Read(p)
	r.n += int64(n)
	return n, err
}
