package transport

import (
	"encoding/binary"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// answering is a handler that has nothing to do but write an answer of so many
// bytes.
type answering int

func (n answering) HandleRequest(in, out [][]byte) (int, fuse.Status) {
	binary.NativeEndian.PutUint32(out[0], uint32(n))
	binary.NativeEndian.PutUint32(out[0][4:], 0)
	copy(out[0][8:16], in[0][8:16])
	return int(n), fuse.OK
}

// put writes a request into an entry as the kernel does (fs/fuse/dev_uring.c,
// fuse_uring_args_to_ring).
func (e *entry) put(op uint32, fixed, payload int) {
	b := e.header.inOut[:]
	binary.NativeEndian.PutUint32(b, uint32(inHeaderSize+fixed+payload))
	binary.NativeEndian.PutUint32(b[4:], op)
	binary.NativeEndian.PutUint64(b[8:], 42)
	e.header.commitID, e.header.payloadSize = 42, uint32(payload)
}

// newTestWorker makes a worker that serves nobody.
func newTestWorker(t testing.TB, h Handler) *ringWorker {
	t.Helper()
	o := MountOptions{Dir: "/none"}
	o.normalise()
	rs := &rings{pool: newPool(newDevice(-1, &o), h, ServeOptions{})}
	e, err := newEntry(&queue{rings: rs}, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.free)
	return newRingWorker(e)
}

// TestNoAllocation: the transport allocates nothing for a request, over either
// way.
func TestNoAllocation(t *testing.T) {
	for _, c := range []struct {
		name                   string
		op                     uint32
		fixed, payload, answer int
	}{
		{"LOOKUP", 1, 0, 30, 128},
		{"GETATTR", 3, 16, 0, 104},
		{"MKNOD", 8, 16, 30, 128},
		{"UNLINK", 10, 0, 30, 0},
		{"READ", opRead, 40, 0, 4096},
		{"WRITE", opWrite, 40, 4096, 8},
		{"READDIRPLUS", 44, 40, 0, 4000},
		{"no such file", 1, 0, 30, 0},
	} {
		w := newTestWorker(t, answering(outHeaderSize+c.answer))
		ring := func() {
			w.entry.put(c.op, c.fixed, c.payload)
			if n := w.handle(); n != outHeaderSize+c.answer {
				t.Fatalf("%s: an answer of %d bytes", c.name, n)
			}
		}
		if n := testing.AllocsPerRun(1000, ring); n != 0 {
			t.Errorf("%s over io_uring: %v allocations", c.name, n)
		}
		p, r := w.entry.queue.rings.pool, newReader(1<<20, 1<<20)
		dev := func() { p.handle(r, copy(r.in, w.entry.header.inOut[:inHeaderSize])) }
		if n := testing.AllocsPerRun(1000, dev); n != 0 {
			t.Errorf("%s over /dev/fuse: %v allocations", c.name, n)
		}
		r.free()
	}
}

// TestLargePayloads: a worker knows when it has pages to give back.
func TestLargePayloads(t *testing.T) {
	for _, c := range []struct {
		payload, answer int
		large           bool
	}{{0, 0, false}, {keptPayload, 8, false}, {keptPayload + 1, 8, true}, {0, keptPayload, false}, {0, 1 << 20, true}} {
		w := newTestWorker(t, answering(outHeaderSize+c.answer))
		w.entry.put(opWrite, 40, c.payload)
		w.handle()
		if w.large != c.large {
			t.Errorf("%d bytes in, %d out: large is %v", c.payload, c.answer, w.large)
		}
	}
}

// TestGiveBack: an idle worker keeps little of a large payload, but all of an
// answer that the kernel has not taken.
func TestGiveBack(t *testing.T) {
	w := newTestWorker(t, answering(outHeaderSize))
	w.ring = &uring{pending: 1}
	w.large = true
	last := &w.entry.payload[len(w.entry.payload)-1]
	w.entry.payload[0], *last = 1, 2
	if w.giveBack() || *last != 2 || !w.large {
		t.Errorf("given back before it was taken: the last byte is %d", *last)
	}
	w.ring.pending = 0
	if !w.giveBack() || *last != 0 || w.large {
		t.Errorf("not given back: the last byte is %d", *last)
	}
	if w.entry.payload[0] != 1 {
		t.Error("nothing is kept")
	}
}

// TestUnreadableRequests: what the kernel never sends is answered nevertheless.
func TestUnreadableRequests(t *testing.T) {
	w := newTestWorker(t, answering(outHeaderSize))
	for _, c := range [][3]int{{-1, 0, 0}, {129, 0, 0}, {0, 2 << 20, 0}} {
		w.entry.put(1, c[0], c[1])
		size := w.handle()
		code := int32(binary.NativeEndian.Uint32(w.outHeader[4:]))
		if size != outHeaderSize || code != -5 || binary.NativeEndian.Uint64(w.outHeader[8:]) != 42 {
			t.Errorf("%v: %d bytes, error %d", c, size, code)
		}
	}
}

// BenchmarkHandle shows what a handler that decodes by go-fuse takes for a
// LOOKUP, beside one that does nothing: the rest is the transport's.
func BenchmarkHandle(b *testing.B) {
	goFuse := fuse.NewProtocolServer(newTestFS(), &fuse.MountOptions{MaxWrite: 1 << 20})
	for name, h := range map[string]Handler{"nothing": answering(outHeaderSize + 128), "go-fuse": goFuse} {
		w := newTestWorker(b, h)
		name0 := "12345\x00"
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				copy(w.entry.payload, name0)
				w.entry.put(1, 0, len(name0))
				w.handle()
			}
		})
	}
}
