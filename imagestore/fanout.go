package imagestore

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

const (
	// chunkSize is how much is read at once: large enough that handing it
	// over costs nothing, small enough to stay in the processor's cache.
	chunkSize = 128 << 10
	// chunkQueue is how many chunks a sink may lag behind the fastest. Three
	// compressed layers at once have some forty chunks under way.
	chunkQueue = 4
)

// chunk is a piece of a stream that several sinks read at the same time.
type chunk struct {
	buf  *[]byte
	n    int
	refs atomic.Int32
	pool *sync.Pool
}

func (c *chunk) bytes() []byte { return (*c.buf)[:c.n] }

// done is called by each sink once.
func (c *chunk) done() {
	if c.refs.Add(-1) == 0 {
		c.pool.Put(c.buf)
	}
}

// sink consumes a stream. One that returns nil before the end of the stream
// just misses the rest.
type sink func(r io.Reader) error

// fanOut reads r to its end, once, and gives every sink all of it. The sinks
// run at the same time, each in a goroutine, so that hashing, writing and
// parsing share the cores. The first failure stops everything; a failure of r
// is returned as it is, whatever the sinks make of it.
func fanOut(parent context.Context, r io.Reader, sinks ...sink) error {
	g, ctx := errgroup.WithContext(parent)
	readers := make([]*chunkReader, len(sinks))
	for i, s := range sinks {
		cr := &chunkReader{ctx: ctx, c: make(chan *chunk, chunkQueue)}
		readers[i] = cr
		g.Go(func() error {
			if err := s(cr); err != nil {
				return err
			}
			return cr.drain()
		})
	}
	var readErr error
	g.Go(func() error {
		readErr = feed(ctx, r, readers)
		return readErr
	})
	err := g.Wait()
	switch {
	case readErr != nil && readErr != errStopped:
		return readErr
	case err == errStopped: // by the caller, before any sink saw it
		return parent.Err()
	}
	return err
}

// errStopped ends the feeding of sinks after one of them has failed, or when
// the caller has had enough.
var errStopped = errors.New("stopped")

// feed reads r in chunks and hands each to all readers.
func feed(ctx context.Context, r io.Reader, readers []*chunkReader) error {
	pool := &sync.Pool{New: func() any { b := make([]byte, chunkSize); return &b }}
	for {
		c := &chunk{buf: pool.Get().(*[]byte), pool: pool}
		var err error
		c.n, err = io.ReadFull(r, *c.buf)
		c.refs.Store(int32(len(readers)))
		if c.n > 0 && !hand(ctx, c, readers) {
			return errStopped
		}
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF && c.n < chunkSize:
			closeAll(readers, nil)
			return nil
		case err != nil:
			closeAll(readers, err)
			return err
		}
	}
}

func hand(ctx context.Context, c *chunk, readers []*chunkReader) bool {
	for _, cr := range readers {
		select {
		case cr.c <- c:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

func closeAll(readers []*chunkReader, err error) {
	for _, cr := range readers {
		cr.err = err
		close(cr.c)
	}
}

// chunkReader is one sink's view of the stream.
type chunkReader struct {
	ctx  context.Context
	c    chan *chunk
	err  error // why the stream ended, set before c is closed
	cur  *chunk
	left []byte // unread part of cur
}

// next makes left non-empty or returns why it cannot.
func (r *chunkReader) next() error {
	if len(r.left) > 0 {
		return nil
	}
	if r.cur != nil {
		r.cur.done()
		r.cur = nil
	}
	select {
	case c, ok := <-r.c:
		if !ok && r.err != nil {
			return r.err
		}
		if !ok {
			return io.EOF
		}
		r.cur, r.left = c, c.bytes()
		return nil
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	}
}

func (r *chunkReader) Read(p []byte) (int, error) {
	if err := r.next(); err != nil {
		return 0, err
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}

// WriteTo lets io.Copy hand over whole chunks.
func (r *chunkReader) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		if err := r.next(); err == io.EOF {
			return total, nil
		} else if err != nil {
			return total, err
		}
		n, err := w.Write(r.left)
		total += int64(n)
		if err != nil {
			return total, err
		}
		r.left = nil
	}
}

// drain discards what the sink did not read.
func (r *chunkReader) drain() error {
	_, err := r.WriteTo(io.Discard)
	return err
}
