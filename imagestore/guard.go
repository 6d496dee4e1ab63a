package imagestore

import (
	"fmt"
	"io"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	// freeReserve is what a layer must leave free on the disk, in bytes.
	freeReserve = 32 << 20
	// ratioFree and ratioMax bound expansion: a layer may grow to ratioFree
	// bytes and ratioMax times its compressed length. Honest images reach
	// 20; gzip's bound is 1,032, zstd has none.
	ratioFree = 1 << 30
	ratioMax  = 200
	// guardStep is how many bytes pass between two looks at the disk.
	guardStep = 64 << 20
)

// meter counts a stream as it comes, checks its length and reports progress.
type meter struct {
	r io.Reader
	o *LayerOptions
	n atomic.Int64 // bytes so far
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	total := m.n.Add(int64(n))
	if m.o.Progress != nil {
		m.o.Progress.Update(Event{ID: m.o.ID, Action: m.o.Action, Current: total, Total: m.o.Size})
	}
	if m.o.Size > 0 && total > m.o.Size {
		return n, fmt.Errorf("%w: it is longer than the %d bytes expected", ErrCorrupt, m.o.Size)
	}
	return n, err
}

// complete tells whether the stream had the expected length.
func (m *meter) complete() error {
	if n := m.n.Load(); m.o.Size > 0 && n != m.o.Size {
		return fmt.Errorf("%w: it has %d bytes, expected %d", ErrCorrupt, n, m.o.Size)
	}
	return nil
}

// guard bounds how large a tar may get, by the free space on disk and by the
// length of the compressed stream that it comes from.
func (s *Store) guard(r io.Reader, from *meter) io.Reader {
	return &guardReader{r: r, root: s.root, free: s.ratioFree, from: from, next: guardStep}
}

type guardReader struct {
	r    io.Reader
	root string
	free int64 // bytes that any layer may have
	from *meter
	n    int64 // bytes of the tar so far
	next int64 // where to look again
	err  error // stays: readers may drop an error that comes with bytes
}

func (g *guardReader) Read(p []byte) (int, error) {
	if g.err != nil {
		return 0, g.err
	}
	n, err := g.r.Read(p)
	g.n += int64(n)
	if g.n >= g.next {
		g.next += guardStep
		if g.err = g.check(); g.err != nil {
			return n, g.err
		}
	}
	return n, err
}

func (g *guardReader) check() error {
	// The meter may be ahead of what was decompressed, never behind.
	if limit := g.free + ratioMax*g.from.n.Load(); g.n > limit {
		return fmt.Errorf("%w: it expands to more than %d times its size", ErrLimit, ratioMax)
	}
	return g.checkDisk()
}

func (g *guardReader) checkDisk() error {
	var st unix.Statfs_t
	if err := unix.Statfs(g.root, &st); err != nil {
		return fmt.Errorf("free space: %w", err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < freeReserve {
		return fmt.Errorf("%w: only %d bytes are free on the disk of the store: %w", ErrLimit, free, unix.ENOSPC)
	}
	return nil
}
