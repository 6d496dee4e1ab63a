package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
)

const (
	tarBlockSize  = 512
	sourceBuffer  = 512 << 10 // large, for upstream hashes and writes what one Read gives
	maxEmptyReads = 100
)

// errTruncated is the end of the tar where there must be more.
var errTruncated = errors.New("truncated")

// source reads a tar in blocks and knows the offset. It reads ahead, for the
// tar is read to EOF anyway.
type source struct {
	ctx    context.Context
	r      io.Reader
	buf    []byte
	lo, hi int   // buf[lo:hi] is read but not used
	pos    int64 // offset of buf[lo] in the tar
	limit  int64 // largest tar
	err    error // of the reader, io.EOF included
}

func newSource(ctx context.Context, r io.Reader, limit int64) *source {
	return &source{ctx: ctx, r: r, buf: make([]byte, sourceBuffer), limit: limit}
}

// fill reads until n bytes, at most a buffer, are there, and returns how many
// there are: fewer only at the end of the tar.
func (s *source) fill(n int) (int, error) {
	if s.hi-s.lo >= n {
		return s.hi - s.lo, nil
	}
	s.hi = copy(s.buf, s.buf[s.lo:s.hi])
	s.lo = 0
	for s.hi < n && s.err == nil {
		s.read()
	}
	if s.hi < n && s.err != io.EOF {
		return s.hi, s.err
	}
	return s.hi, nil
}

// read makes one call of the reader, and more only while it gives nothing.
func (s *source) read() {
	if s.err = s.ctx.Err(); s.err != nil {
		return
	}
	for range maxEmptyReads {
		n, err := s.r.Read(s.buf[s.hi:])
		s.hi += n
		if s.err = err; err != nil || n > 0 {
			break
		}
		s.err = io.ErrNoProgress
	}
	if total := s.pos + int64(s.hi-s.lo); total > s.limit {
		s.err = limitError("bytes of tar", total, s.limit)
	}
}

func (s *source) use(n int) []byte {
	b := s.buf[s.lo : s.lo+n]
	s.lo += n
	s.pos += int64(n)
	return b
}

// block returns the next block, good until the next call, or io.EOF when the
// tar ends here.
func (s *source) block() ([]byte, error) {
	n, err := s.fill(tarBlockSize)
	switch {
	case err != nil:
		return nil, err
	case n == 0:
		return nil, io.EOF
	case n < tarBlockSize:
		return nil, errTruncated
	}
	return s.use(tarBlockSize), nil
}

// skip passes over n bytes.
func (s *source) skip(n int64) error {
	for n > 0 {
		have, err := s.fill(1)
		if err != nil {
			return err
		}
		if have == 0 {
			return errTruncated
		}
		step := int(min(int64(have), n))
		s.use(step)
		n -= int64(step)
	}
	return nil
}

// skipPadding passes over what fills up the last block of n bytes. Some
// writers leave it out at the end of the tar.
func (s *source) skipPadding(n int64) error {
	err := s.skip(-n & (tarBlockSize - 1))
	if errors.Is(err, errTruncated) {
		return nil
	}
	return err
}

// content returns n bytes of a header's content and passes over the padding.
func (s *source) content(n int64) ([]byte, error) {
	out := make([]byte, 0, min(n, 64<<10)) // grows as the bytes come, not as the header claims
	for int64(len(out)) < n {
		have, err := s.fill(1)
		if err != nil {
			return nil, err
		}
		if have == 0 {
			return nil, errTruncated
		}
		out = append(out, s.use(int(min(int64(have), n-int64(len(out)))))...)
	}
	return out, s.skipPadding(n)
}

// drain reads to the end of the tar.
func (s *source) drain() error {
	for {
		n, err := s.fill(1)
		if err != nil {
			return fmt.Errorf("read to the end of the tar: %w", err)
		}
		if n == 0 {
			return nil
		}
		s.use(n)
	}
}
