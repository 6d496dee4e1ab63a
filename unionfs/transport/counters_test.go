package transport

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestBuckets(t *testing.T) {
	for _, c := range []struct {
		took time.Duration
		want int
	}{
		{0, 0},
		{time.Microsecond, 0},
		{time.Microsecond + 1, 1},
		{2 * time.Microsecond, 1},
		{2*time.Microsecond + 1, 2},
		{1024 * time.Microsecond, 10},
		{time.Second, 20},
		{1 << 23 * time.Microsecond, 23},
		{1<<23*time.Microsecond + 1, 24},
		{time.Hour, 24},
	} {
		got := bucketOf(c.took)
		bound, ok := BucketBound(got)
		if got != c.want || ok != (got < buckets-1) || ok && c.took > bound {
			t.Errorf("%v: bucket %d up to %v, want bucket %d", c.took, got, bound, c.want)
		}
	}
}

// answerOf is an answer with an error and a body.
func answerOf(code unix.Errno, body []byte) []byte {
	return append(appendHeader(nil, len(body), uint32(-int32(code)), 1), body...)
}

func TestCounterStats(t *testing.T) {
	var c Counters
	see := func(op uint32, took time.Duration, answer []byte) {
		c.add(op)
		noteAnswer(&c, op, took, answer)
	}
	see(opRead, time.Microsecond, answerOf(0, make([]byte, 100)))
	see(opRead, 3*time.Microsecond, answerOf(0, nil))
	see(opRead, 4*time.Microsecond, answerOf(unix.EIO, nil))
	see(opWrite, time.Millisecond, answerOf(0, binary.NativeEndian.AppendUint64(nil, 4096)))
	see(14, time.Microsecond, answerOf(unix.ENOSYS, nil))
	see(opForget, time.Microsecond, nil)
	c.add(1) // not answered yet
	s := c.Stats()
	if s.BytesRead != 100 || s.BytesWritten != 4096 {
		t.Errorf("bytes read %d, written %d", s.BytesRead, s.BytesWritten)
	}
	read := s.Ops["READ"]
	if read.Requests != 3 || read.Answered != 3 || read.Errors != 1 || read.Seconds != 8e-6 ||
		!slices.Equal(read.Buckets, []uint64{1, 0, 2}) {
		t.Errorf("READ: %+v", read)
	}
	if open := s.Ops["OPEN"]; open.Errors != 0 || open.Answered != 1 {
		t.Errorf("OPEN: %+v", open)
	}
	if forget := s.Ops["FORGET"]; forget.Errors != 0 || forget.Answered != 1 {
		t.Errorf("FORGET: %+v", forget)
	}
	if lookup := s.Ops["LOOKUP"]; lookup.Requests != 1 || lookup.Answered != 0 || len(lookup.Buckets) != 0 {
		t.Errorf("LOOKUP: %+v", lookup)
	}
	if len(s.Ops) != 5 {
		t.Errorf("%d operations", len(s.Ops))
	}
}

// BenchmarkNote measures what the figures cost a request: its clock readings
// and additions.
func BenchmarkNote(b *testing.B) {
	var c Counters
	start := time.Now()
	answer := answerOf(0, nil)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.add(3)
			began := time.Since(start)
			noteAnswer(&c, 3, time.Since(start)-began, answer)
		}
	})
}

// noteAnswer notes an answer in one piece.
func noteAnswer(c *Counters, op uint32, took time.Duration, answer []byte) {
	header := answer[:min(len(answer), outHeaderSize)]
	c.note(op, took, header, answer[len(header):])
}
