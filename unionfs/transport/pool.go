package transport

import (
	"encoding/binary"
	"errors"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// shortageRest is how long a reader waits that could not take a request for want
// of memory, so that readers do not spin while the kernel looks for some.
const shortageRest = time.Millisecond

// errGone is how read says that the mount is no more.
var errGone = errors.New("unmounted")

// pool is the set of readers of one device.
type pool struct {
	dev      *Device
	handler  Handler
	options  ServeOptions
	maxWrite int    // bytes, known after INIT
	rings    *rings // nil: everything comes by /dev/fuse
	onRings  bool   // /dev/fuse brings nothing but FORGET and INTERRUPT

	// waiting counts the readers that wait in read(2) or are on the way
	// there. Who brings it to 0 must start another one, or stay.
	waiting  atomic.Int32
	total    atomic.Int32 // readers alive
	shortage atomic.Int64 // when waiting was 0 last, in ns since start
	start    time.Time

	stopped  atomic.Bool
	drained  atomic.Bool // what is read from now on is left to a successor
	answered atomic.Bool // the first answer is out
	once     sync.Once
	err      error         // why all readers must stop, set before done is closed
	done     chan struct{} // closed after a failure, or when no reader is left
}

func newPool(d *Device, h Handler, o ServeOptions) *pool {
	return &pool{dev: d, handler: h, options: o, start: time.Now(), done: make(chan struct{})}
}

// run starts the usual readers and waits for the end.
func (p *pool) run() error {
	n := p.options.Readers
	// Counted before the first one runs, so that none ends the pool early or
	// finds a shortage.
	p.total.Store(int32(n))
	p.waiting.Store(int32(n))
	for range n {
		p.startReader()
	}
	<-p.done
	// After a failure: all that do not wait in the kernel are in a handler.
	for p.busy() {
		time.Sleep(time.Millisecond)
	}
	if p.err == nil && p.rings != nil {
		p.rings.threads.Wait()
	}
	return p.err
}

// busy reports whether a handler is at work.
func (p *pool) busy() bool {
	return p.total.Load() > p.waiting.Load() || p.rings != nil && p.rings.busy()
}

// loop is the life of one reader, which is counted as waiting when it starts.
func (p *pool) loop(r *reader) {
	defer p.leave()
	defer r.free()
	if !p.onRings && p.total.Load() <= populated {
		populate(r.in)
	}
	for !p.stopped.Load() {
		n, err := p.read(r)
		if err != nil {
			p.waiting.Add(-1)
			p.stop(err)
			return
		}
		if p.drained.Load() {
			p.waiting.Add(-1)
			return
		}
		if p.waiting.Add(-1) == 0 {
			p.reinforce(binary.NativeEndian.Uint32(r.in[4:]))
		}
		size := p.handle(r, n)
		// Counted before the answer is out: whoever gets it may send the next
		// request at once, which is no shortage.
		spare := p.waiting.Add(1) > int32(p.options.Readers)
		if err := p.answer(r, size); err != nil {
			p.dev.log.Error("answer a request", "dir", p.dev.dir, "err", err)
		}
		p.sayAnswered(size)
		if spare && p.superfluous() {
			return
		}
		if p.onRings && size == 0 {
			time.Sleep(forgetPause)
		}
		r.turn.take(time.Since(p.start))
	}
	p.waiting.Add(-1)
}

// sayAnswered tells the owner of the device, once, that a request has got its
// answer.
func (p *pool) sayAnswered(size int) {
	if size > 0 && !p.answered.Load() && p.answered.CompareAndSwap(false, true) && p.options.Answered != nil {
		p.options.Answered()
	}
}

// leave signs a reader off. The last one ends the pool.
func (p *pool) leave() {
	p.dev.release()
	if p.total.Add(-1) == 0 {
		p.once.Do(func() { close(p.done) })
	}
}

// stop makes all readers end: after their request, or when the kernel lets
// them go. An unmount is no failure, and the kernel tells every reader.
func (p *pool) stop(err error) {
	p.stopped.Store(true)
	if !errors.Is(err, errGone) {
		p.once.Do(func() {
			p.err = err
			close(p.done)
		})
	}
}

// populated is how many readers have their buffer in memory from the start. A
// mount with more requests at work than that spares the memory instead.
const populated = 64

// forgetPause is how long a reader rests after what needs no answer when
// requests come over io_uring. What is forgotten meanwhile comes in one piece
// (fs/fuse/dev.c, fuse_read_batch_forget), and waking a reader for each unlinked
// file would cost as much as the unlinking.
const forgetPause = 2 * time.Millisecond

// forgetters bounds the readers for a burst of FORGET, which comes when the
// kernel is short of memory: no time to start all that there may be.
const forgetters = 8

// reinforce starts one more reader, because all others are at work, this one
// on a request of kind op.
func (p *pool) reinforce(op uint32) {
	p.shortage.Store(int64(time.Since(p.start)))
	bound := int32(p.options.MaxReaders)
	if op == opForget || op == opBatchForget {
		bound = min(bound, forgetters)
	}
	if p.total.Add(1) > bound {
		p.total.Add(-1)
		return
	}
	p.waiting.Add(1)
	p.startReader()
}

// superfluous reports whether a reader that is counted as waiting can leave:
// there are more than usual, and no shortage for some time. A reader that
// waits is never woken for this, so those of a burst leave one by one with the
// requests that follow.
func (p *pool) superfluous() bool {
	if time.Since(p.start)-time.Duration(p.shortage.Load()) < calm {
		return false
	}
	if p.waiting.Add(-1) > 0 {
		return true
	}
	// The others took requests meanwhile, and counted on this one.
	p.waiting.Add(1)
	return false
}

// startReader starts a reader that is counted already.
func (p *pool) startReader() {
	page := unix.Getpagesize()
	// The kernel wants room for its largest WRITE, and for 8 KiB at least
	// (FUSE_MIN_READ_BUFFER). READDIR may ask for as much as a WRITE has.
	r := newReader(max(p.maxWrite, 2*page), max(p.dev.maxRead, p.maxWrite)+page)
	p.dev.acquire()
	go p.loop(r)
}

// read waits for a request and returns its length.
func (p *pool) read(r *reader) (int, error) {
	for {
		n, err := unix.Read(p.dev.fd, r.in)
		switch {
		case err == nil && n >= inHeaderSize:
			return n, nil
		case err == nil:
			return 0, unix.EIO // 0 bytes or part of a header: not a FUSE device
		case errors.Is(err, unix.ENOMEM):
			p.dev.log.Warn("a request is lost for want of memory", "dir", p.dev.dir)
			time.Sleep(shortageRest)
		}
		if err := failedRead(err); err != nil {
			return 0, err
		}
	}
}

// failedRead tells what an error of read(2) on /dev/fuse means for its reader:
// nil that it reads again, errGone that the mount is no more.
func failedRead(err error) error {
	switch {
	// ECONNABORTED: the connection ended between taking and copying a
	// request (fs/fuse/dev.c, fuse_dev_do_read).
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ECONNABORTED):
		return errGone
	// ENOENT: the request was interrupted before it could be read.
	case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EAGAIN):
		return nil
	// There was no page for the request in the reader's buffer: its client has
	// got EIO (the same function), and the others need not suffer.
	case errors.Is(err, unix.ENOMEM):
		return nil
	}
	return err
}

// handle counts and handles the request of n bytes in r.in. It returns the
// length of the answer in r.out, 0 for none.
func (p *pool) handle(r *reader, n int) int {
	op := binary.NativeEndian.Uint32(r.in[4:])
	p.dev.counters.add(op)
	began := time.Since(p.start)
	r.inv[0], r.outv[0] = r.in[:n], r.out
	size, status := p.call(r.inv[:], r.outv[:])
	switch {
	case op == opForget || op == opBatchForget:
		size = 0
	case size == 0 && !status.Ok():
		size = copy(r.out, errorAnswer(status, r.in))
	}
	head := r.out[:min(size, outHeaderSize)]
	p.dev.counters.note(op, time.Since(p.start)-began, head, r.out[len(head):size])
	return size
}

// answer writes the answer, of size bytes, to the request in r.in.
func (p *pool) answer(r *reader, size int) error {
	if size == 0 { // INTERRUPT, for one
		return nil
	}
	err := p.send(r.out[:size])
	if err != nil {
		// Refused: too long, or of no valid form. Somebody waits nevertheless.
		err = errors.Join(err, p.send(errorAnswer(fuse.EIO, r.in)))
	}
	return err
}

// eio is the answer to a request for which the handler has none.
const eio = fuse.EIO

// errorAnswer makes an answer to a request that is only an error.
func errorAnswer(status fuse.Status, request []byte) []byte {
	unique := binary.NativeEndian.Uint64(request[8:])
	return appendHeader(nil, 0, uint32(-status), unique)
}

// call runs the handler. A panic there becomes EIO.
func (p *pool) call(in, out [][]byte) (size int, status fuse.Status) {
	defer func() {
		if v := recover(); v != nil {
			p.dev.log.Error("panic in the request handler", "dir", p.dev.dir, "panic", v, "stack", string(debug.Stack()))
			size, status = 0, eio
		}
	}()
	return p.handler.HandleRequest(in, out)
}

func (p *pool) send(message []byte) error {
	err := ignoringEINTR(func() error { return p.dev.write(message) })
	// ENOENT: the request was interrupted, or the connection is cut.
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}
