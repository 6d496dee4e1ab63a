package transport

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Opcodes that this package must know (include/uapi/linux/fuse.h, enum
// fuse_opcode).
const (
	opForget      = 2
	opRead        = 15
	opWrite       = 16
	opInit        = 26
	opBatchForget = 42
	opcodes       = 64 // one more than the largest that is counted by name
)

// opcodeName names the request of an opcode as the kernel does, without FUSE_.
func opcodeName(op int) string {
	names := [opcodes]string{
		1: "LOOKUP", "FORGET", "GETATTR", "SETATTR", "READLINK", "SYMLINK",
		8: "MKNOD", "MKDIR", "UNLINK", "RMDIR", "RENAME", "LINK", "OPEN", "READ", "WRITE", "STATFS", "RELEASE",
		20: "FSYNC", "SETXATTR", "GETXATTR", "LISTXATTR", "REMOVEXATTR", "FLUSH", "INIT", "OPENDIR", "READDIR",
		29: "RELEASEDIR", "FSYNCDIR", "GETLK", "SETLK", "SETLKW", "ACCESS", "CREATE", "INTERRUPT", "BMAP", "DESTROY",
		39: "IOCTL", "POLL", "NOTIFY_REPLY", "BATCH_FORGET", "FALLOCATE", "READDIRPLUS", "RENAME2", "LSEEK",
		47: "COPY_FILE_RANGE", "SETUPMAPPING", "REMOVEMAPPING", "SYNCFS", "TMPFILE", "STATX", "COPY_FILE_RANGE_64",
	}
	switch {
	case op == 0:
		return "OTHER"
	case names[op] == "":
		return fmt.Sprintf("OPCODE_%d", op)
	}
	return names[op]
}

// Counters counts requests by opcode: how many came, how many were answered
// with an error, how long the server took, and the bytes of data that READ and
// WRITE moved. A request is counted before it is handled, so whoever has an
// answer finds it counted; the rest is noted before the answer is sent.
// FORGET, BATCH_FORGET and INTERRUPT come whenever the kernel likes.
type Counters struct {
	ops     [opcodes]opCounters // index 0: opcodes out of range
	read    atomic.Uint64
	written atomic.Uint64
}

type opCounters struct {
	n       atomic.Uint64
	errors  atomic.Uint64
	nanos   atomic.Uint64
	buckets [buckets]atomic.Uint64
}

func (c *Counters) op(op uint32) *opCounters {
	if op >= opcodes {
		op = 0
	}
	return &c.ops[op]
}

func (c *Counters) add(op uint32) { c.op(op).n.Add(1) }

// note records that a request was answered in so much time. What goes to the
// kernel is a header, empty if nothing does, and data.
func (c *Counters) note(op uint32, took time.Duration, header, data []byte) {
	o := c.op(op)
	o.nanos.Add(uint64(took))
	o.buckets[bucketOf(took)].Add(1)
	if len(header) < outHeaderSize {
		return
	}
	switch code := int32(binary.NativeEndian.Uint32(header[4:])); {
	case code == -int32(unix.ENOSYS): // tells the kernel not to ask again
	case code != 0:
		o.errors.Add(1)
	case op == opRead:
		c.read.Add(uint64(len(data)))
	case op == opWrite && len(data) >= 4:
		c.written.Add(uint64(binary.NativeEndian.Uint32(data))) // struct fuse_write_out
	}
}

// buckets is the number of a histogram's buckets: bucket i holds what took up
// to 2^i µs, the last one what took longer than 2^(buckets-2) µs (8.4 s).
const buckets = 25

func bucketOf(took time.Duration) int {
	if took <= time.Microsecond {
		return 0
	}
	return min(bits.Len64(uint64((took-1)/time.Microsecond)), buckets-1)
}

// BucketBound returns the longest time that bucket i of [OpStats.Buckets]
// holds; ok is false for the last bucket, which has no bound.
func BucketBound(i int) (bound time.Duration, ok bool) {
	return time.Microsecond << i, i < buckets-1
}

// OpStats are the figures of one kind of request.
type OpStats struct {
	Requests uint64 `json:"requests"`
	// Errors counts answers that were an error, ENOSYS aside: with that the
	// server tells the kernel not to ask again.
	Errors uint64 `json:"errors"`
	// Answered counts the requests that were handled to the end, and Seconds
	// is the time this took, from reading the request to writing the answer.
	Answered uint64  `json:"answered"`
	Seconds  float64 `json:"seconds"`
	// Buckets counts them by the time they took; see [BucketBound]. Buckets
	// behind the last that is not 0 are left out.
	Buckets []uint64 `json:"buckets"`
}

// Stats are the figures of a server's requests.
type Stats struct {
	Ops          map[string]OpStats `json:"ops"` // by name, as in [Counters.Snapshot]
	BytesRead    uint64             `json:"bytesRead"`
	BytesWritten uint64             `json:"bytesWritten"`
}

// Stats returns everything counted so far. Requests that come meanwhile may be
// in one figure and not yet in another.
func (c *Counters) Stats() Stats {
	s := Stats{Ops: map[string]OpStats{}, BytesRead: c.read.Load(), BytesWritten: c.written.Load()}
	for i := range c.ops {
		if o := &c.ops[i]; o.n.Load() > 0 {
			s.Ops[opcodeName(i)] = o.stats()
		}
	}
	return s
}

func (o *opCounters) stats() OpStats {
	s := OpStats{Seconds: time.Duration(o.nanos.Load()).Seconds(), Errors: o.errors.Load()}
	last := 0
	all := make([]uint64, buckets)
	for i := range all {
		all[i] = o.buckets[i].Load()
		s.Answered += all[i]
		if all[i] > 0 {
			last = i + 1
		}
	}
	s.Buckets = all[:last]
	s.Requests = o.n.Load() // last: never fewer than were answered
	return s
}

// Total returns the number of all requests.
func (c *Counters) Total() uint64 {
	var sum uint64
	for i := range c.ops {
		sum += c.ops[i].n.Load()
	}
	return sum
}

// Snapshot returns the numbers that are not zero, by the name of the request:
// LOOKUP, GETATTR and so on; OTHER for what FUSE had not defined when this
// was written.
func (c *Counters) Snapshot() map[string]uint64 {
	m := map[string]uint64{}
	for i := range c.ops {
		if n := c.ops[i].n.Load(); n > 0 {
			m[opcodeName(i)] = n
		}
	}
	return m
}

// String lists the numbers, sorted by name: "GETATTR=2 LOOKUP=7".
func (c *Counters) String() string {
	m := c.Snapshot()
	var b strings.Builder
	for i, name := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%s=%d", name, m[name])
	}
	return b.String()
}
