package transport

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// ringWorker is a thread that handles the requests of one entry, all of them
// of clients on one processor, to which it is bound: the client waits for the answer
// while the thread runs, so neither takes the processor from the other, and
// the answer wakes nobody elsewhere.
type ringWorker struct {
	entry *entry
	ring  *uring
	turn  turn
	large bool // pages of the payload beyond keptPayload are in use

	outHeader [outHeaderSize]byte
	inv       [3][]byte // the request as the handler wants it, kept to spare an allocation
	outv      [2][]byte // the answer
}

const (
	// keptPayload is as much of a payload buffer as an idle thread keeps.
	keptPayload = 64 << 10
	// retryRing is after what time a worker tries again to set up its ring.
	retryRing = 100 * time.Millisecond
)

func newRingWorker(e *entry) *ringWorker { return &ringWorker{entry: e} }

// run is the life of a worker, which begins with a request in its entry. The
// thread ends with its goroutine, for nobody else is to inherit its processor.
func (w *ringWorker) run() {
	runtime.LockOSThread()
	// Where it may not run there, as in some containers, it runs elsewhere.
	_ = pin(w.entry.queue.cpu)
	p := w.entry.queue.rings.pool
	p.dev.acquire()
	defer p.dev.release()
	defer w.entry.free()
	var err error
	for w.ring, err = openRing(1); err != nil; w.ring, err = openRing(1) {
		p.dev.log.Error("a request waits", "dir", p.dev.dir, "err", err)
		time.Sleep(retryRing)
		if p.stopped.Load() {
			w.entry.queue.working.Add(-1)
			return
		}
	}
	defer func() {
		if err := w.ring.close(); err != nil {
			p.dev.log.Error("end a thread", "dir", p.dev.dir, "err", err)
		}
	}()
	if err := w.loop(); err != nil {
		p.stop(err)
	}
}

// loop handles requests until the connection ends, which is the error, or the
// server leaves them to another one.
func (w *ringWorker) loop() error {
	p, working := w.entry.queue.rings.pool, &w.entry.queue.working
	for !p.drained.Load() {
		size := w.handle()
		// Off before the answer is out: who gets it may see the server idle.
		working.Add(-1)
		w.commit(size)
		due := w.turn.due(time.Since(p.start))
		if due || !p.answered.Load() {
			if err := w.ring.enter(0, 0); err != nil { // submits without waiting
				return err
			}
			p.sayAnswered(size)
		}
		if due { // with the answer out: a locked thread waits for its turn
			runtime.Gosched()
		}
		if err := w.await(); err != nil {
			return err
		}
		working.Add(1)
	}
	working.Add(-1)
	return nil
}

// await submits the answer and waits for a request.
func (w *ringWorker) await() error {
	var atMost time.Duration
	if w.large {
		atMost = calm
	}
	for {
		if err := w.ring.enter(1, atMost); err != nil {
			return err
		}
		if _, err, ok := w.ring.next(); ok {
			return err
		}
		if w.giveBack() {
			atMost = 0
		}
	}
}

// giveBack frees the pages that an idle worker does not keep. It reports false
// while the kernel has yet to take the answer that lies there. The kernel writes
// into the payload inside of enter only, so no request can be lost.
func (w *ringWorker) giveBack() bool {
	if w.ring.pending > 0 {
		return false
	}
	if w.large {
		_ = unix.Madvise(w.entry.payload[keptPayload:], unix.MADV_DONTNEED)
	}
	w.large = false
	return true
}

// request cuts what the kernel has written into the pieces of a request.
func (w *ringWorker) request(op uint32) ([][]byte, error) {
	h, data := w.entry.header, w.entry.payload
	size := int(h.payloadSize)
	fixed := int(binary.NativeEndian.Uint32(h.inOut[:])) - inHeaderSize - size
	if size > len(data) || fixed < 0 || fixed > len(h.opIn) {
		return nil, fmt.Errorf("%s of %d bytes with a payload of %d", opcodeName(int(op%opcodes)), fixed, size)
	}
	data = data[:size]
	// The answer is built where the request lies. A handler that still looks at
	// a name while it fills in the answer must have that name elsewhere; the
	// data of a WRITE, or of an attribute, have no such answer.
	if op != opWrite && size <= len(w.entry.names) {
		data = w.entry.names[:copy(w.entry.names, data)]
	}
	w.large = w.large || size > keptPayload
	in := append(w.inv[:0], h.inOut[:inHeaderSize])
	if fixed > 0 {
		in = append(in, h.opIn[:fixed])
	}
	if size > 0 {
		in = append(in, data)
	}
	return in, nil
}

// handle counts and handles the request in the entry. It returns the length of
// the answer in outHeader and the payload.
func (w *ringWorker) handle() int {
	p := w.entry.queue.rings.pool
	op := binary.NativeEndian.Uint32(w.entry.header.inOut[4:])
	p.dev.counters.add(op)
	began := time.Since(p.start)
	size, status := 0, eio
	in, err := w.request(op)
	if err == nil {
		w.outv = [2][]byte{w.outHeader[:], w.entry.payload}
		size, status = p.call(in, w.outv[:])
	} else {
		p.dev.log.Error("unreadable request", "dir", p.dev.dir, "err", err)
	}
	if size < outHeaderSize { // the handler had none, and every request over a ring needs one
		size = copy(w.outHeader[:], errorAnswer(status, w.entry.header.inOut[:]))
	}
	data := w.entry.payload[:size-outHeaderSize]
	w.large = w.large || len(data) > keptPayload
	p.dev.counters.note(op, time.Since(p.start)-began, w.outHeader[:], data)
	return size
}

// commit prepares the answer of size bytes for the next enter.
func (w *ringWorker) commit(size int) {
	copy(w.entry.header.inOut[:], w.outHeader[:])
	w.entry.header.payloadSize = uint32(size - outHeaderSize)
	w.ring.commit(w.entry, w.entry.queue.rings.pool.dev.fd)
}
