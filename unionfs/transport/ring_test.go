package transport

import (
	"errors"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestRefusedEntries: entries that the kernel does not take are given back, and
// the others serve; the end of the connection is none of that.
func TestRefusedEntries(t *testing.T) {
	rs := newTestWorker(t, answering(outHeaderSize)).entry.queue.rings
	q := &queue{rings: rs, bound: 1000}
	rs.queues = []*queue{q}
	if err := rs.allocate(1 << 20); err != nil {
		t.Fatal(err)
	}
	if q.entries != reserveSize || q.reserve != reserveSize {
		t.Fatalf("%d entries, %d in reserve", q.entries, q.reserve)
	}
	var head, tail uint32
	cqes := []completion{{userData: 3, res: -int32(unix.EINVAL)}, {userData: 5, res: -int32(unix.ENOMEM)}}
	rs.ring = &uring{fd: -1, cqHead: &head, cqTail: &tail, cqMask: 1, cqes: unsafe.Pointer(&cqes[0])}
	tail = 2
	if err := rs.takeAll(); err != nil {
		t.Errorf("two refused: %v", err)
	}
	if !errors.Is(rs.refused, unix.ENOMEM) || q.entries != reserveSize-2 || q.reserve != q.entries || rs.waiting[3] != nil || len(rs.free) != 2 {
		t.Errorf("%v; %d entries, %d in reserve, numbers %v free", rs.refused, q.entries, q.reserve, rs.free)
	}
	cqes[0].res, tail = -int32(unix.ENOTCONN), 3
	if err := rs.takeAll(); !errors.Is(err, errGone) {
		t.Errorf("the end: %v", err)
	}
	for _, e := range rs.waiting {
		e.free()
	}
}
