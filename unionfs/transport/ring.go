package transport

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rings carry the requests of a connection over io_uring. The kernel has one
// queue for each processor that the machine may ever have: a request goes into
// the queue of the processor on which its client runs, and there to the entry,
// out of those that wait, that answered last (fs/fuse/dev_uring.c,
// fuse_uring_queue_fuse_req, fuse_uring_ent_avail).
//
// An entry is room for one request. Who submits its command must be there
// to receive the request, so a thread that is held up in the handler must have no
// other entry waiting. Each [ringWorker] therefore has one. When all workers of a
// queue are busy the request goes to an entry of the reserve, which belongs
// to a thread that handles nothing: it gives request and entry to a new
// worker, who keeps the entry, and registers others when it has few left. So there are
// threads for the processors only that clients use, as many as requests were at
// work there at once, and some more.
//
// A request that no entry waits for stays in the kernel until some other one
// of the queue is answered; a new entry does not fetch it
// (fuse_uring_do_register). This is why the reserve is not one entry.
type rings struct {
	pool    *pool
	queues  []*queue
	ring    *uring            // of the reserve
	waiting []*entry          // the reserve's, by the number in their command
	free    []int             // numbers without an entry
	payload int               // bytes of a buffer
	todo    chan func() error // steps of the start, for the reserve's thread
	done    chan error
	refused error          // why the kernel did not take an entry
	ready   bool           // all steps done: the kernel sends requests
	threads sync.WaitGroup // the reserve's and the workers
}

// queue is what is known of one processor's queue.
type queue struct {
	rings   *rings
	cpu     int
	bound   int // of entries
	entries int // all that are registered; for the reserve's thread only
	reserve int // those of the reserve; likewise
	working atomic.Int32
	_       [64]byte // no other queue's counter in the same cache line
}

const (
	// reserveSize is how many requests of one processor may come at once before
	// the reserve's thread has had a chance to add entries.
	reserveSize = 16
	// reserveTotal bounds the reserve on machines with many processors.
	reserveTotal = 512
	// leastBound is how many requests of one processor may be at work on a
	// machine with so many that an even share would be less.
	leastBound = 16
)

// openRings starts the reserve's thread and sets up its ring, of which FUSE in
// the kernel knows nothing before register.
func openRings(p *pool) (*rings, error) {
	n, err := countPossible()
	if err != nil {
		return nil, err
	}
	rs := &rings{pool: p, todo: make(chan func() error), done: make(chan error)}
	bound := max(p.options.MaxReaders/n, min(p.options.MaxReaders, leastBound))
	for cpu := range n {
		rs.queues = append(rs.queues, &queue{rings: rs, cpu: cpu, bound: bound})
	}
	rs.threads.Go(rs.run)
	err = rs.do(func() error {
		var err error
		rs.ring, err = openRing(rs.perQueue() * n)
		return err
	})
	if err != nil {
		rs.abandon()
		return nil, err
	}
	return rs, nil
}

// perQueue is the size of the reserve of each queue.
func (rs *rings) perQueue() int {
	return min(rs.queues[0].bound, max(2, min(reserveSize, reserveTotal/len(rs.queues))))
}

// do lets the reserve's thread do something.
func (rs *rings) do(f func() error) error {
	rs.todo <- f
	return <-rs.done
}

// abandon ends rings that the kernel's FUSE does not know of.
func (rs *rings) abandon() {
	close(rs.todo)
	rs.threads.Wait()
}

// allocate makes the reserve's buffers for payloads of so many bytes. It comes
// before the answer to INIT, while there is a way back.
func (rs *rings) allocate(payload int) error {
	rs.payload = payload
	for _, q := range rs.queues {
		for range rs.perQueue() {
			e, err := newEntry(q, payload)
			if err != nil {
				return err
			}
			rs.waiting = append(rs.waiting, e)
			q.entries++
			q.reserve++
		}
	}
	return nil
}

// register offers the reserve to the kernel, whereupon it sends requests
// there. After an error it goes on by /dev/fuse instead (fs/fuse/dev_uring.c,
// fuse_uring_cmd). That is so as long as a queue has no entry at all; with too
// few it uses the rings nevertheless.
func (rs *rings) register() error {
	err := rs.do(func() error {
		for i, e := range rs.waiting {
			rs.ring.register(e, rs.pool.dev.fd, i)
		}
		if err := rs.ring.enter(0, 0); err != nil {
			return err
		}
		// A command that is taken has no completion before the first request.
		if err := rs.takeAll(); err != nil {
			return err
		}
		for _, q := range rs.queues {
			if q.entries == 0 {
				return rs.refused
			}
		}
		rs.ready = true
		return nil
	})
	close(rs.todo)
	return err
}

// busy reports whether a request is at work.
func (rs *rings) busy() bool {
	for _, q := range rs.queues {
		if q.working.Load() > 0 {
			return true
		}
	}
	return false
}

// run is the life of the reserve's thread. Its goroutine is locked to it
// because a ring belongs to the thread that made it.
func (rs *rings) run() {
	runtime.LockOSThread()
	dev := rs.pool.dev
	dev.acquire()
	defer dev.release()
	defer rs.closeReserve()
	for f := range rs.todo {
		rs.done <- f()
	}
	if !rs.ready {
		return
	}
	var err error
	for err == nil {
		if err = rs.ring.enter(1, 0); err == nil {
			err = rs.takeAll()
		}
	}
	rs.pool.stop(err)
}

// closeReserve gives back the ring and the entries that nobody took.
func (rs *rings) closeReserve() {
	if rs.ring != nil {
		if err := rs.ring.close(); err != nil {
			rs.pool.dev.log.Error("end a thread", "dir", rs.pool.dev.dir, "err", err)
		}
	}
	for _, e := range rs.waiting {
		e.free()
	}
}

// takeAll gives the requests that have come to new workers.
func (rs *rings) takeAll() error {
	for {
		i, err, ok := rs.ring.next()
		if !ok || errors.Is(err, errGone) {
			return err
		}
		e := rs.waiting[i]
		rs.waiting[i] = nil
		rs.free = append(rs.free, i)
		e.queue.reserve--
		if err != nil { // the kernel does not take it
			e.queue.entries--
			e.free()
			rs.refused = err
			rs.pool.dev.log.Warn("less room for requests", "dir", rs.pool.dev.dir, "cpu", e.queue.cpu, "err", err)
			continue
		}
		e.queue.working.Add(1)
		if err := rs.refill(e.queue); err != nil {
			rs.pool.dev.log.Error("no further room for requests", "dir", rs.pool.dev.dir, "cpu", e.queue.cpu, "err", err)
		}
		rs.threads.Go(newRingWorker(e).run)
	}
}

// refill registers new entries when half of a queue's reserve is used up, as
// long as the queue may have more. It is not done for each one: the kernel
// turns to the entry that came last, so the next request would go to the
// reserve although workers wait, and make one worker more.
func (rs *rings) refill(q *queue) error {
	if q.reserve > rs.perQueue()/2 {
		return nil
	}
	for q.reserve < rs.perQueue() && q.entries < q.bound {
		e, err := newEntry(q, rs.payload)
		if err != nil {
			return err
		}
		last := len(rs.free) - 1
		number := rs.free[last]
		rs.free = rs.free[:last]
		rs.waiting[number] = e
		rs.ring.register(e, rs.pool.dev.fd, number)
		q.reserve++
		q.entries++
	}
	return rs.ring.enter(0, 0)
}

// ringHeader is struct fuse_uring_req_header: the headers of a request, in
// whose place those of the answer go (include/uapi/linux/fuse.h).
type ringHeader struct {
	inOut       [128]byte // struct fuse_in_header, then struct fuse_out_header
	opIn        [128]byte // the fixed part of the request, as struct fuse_read_in
	flags       uint64
	commitID    uint64
	payloadSize uint32
	_           uint32
	_           uint64
}

// entry is room for one request and its answer.
type entry struct {
	queue   *queue
	mapped  []byte // what follows lies in it
	header  *ringHeader
	buffers *[2]unix.Iovec // as the kernel is told them
	names   []byte         // see ringWorker.request
	payload []byte         // what is too long for the header, of the request and then of the answer
}

// namesSize holds the largest input beside which an answer is built: two
// names, or the name and the target of a symbolic link.
const namesSize = 8 << 10

// newEntry maps the buffers of an entry. Their pages come with their use.
func newEntry(q *queue, payload int) (*entry, error) {
	page := unix.Getpagesize()
	size := page + namesSize + payload
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("map buffers: %w", err)
	}
	_ = unix.Madvise(mem, unix.MADV_NOHUGEPAGE) // as for newReader
	e := &entry{
		queue: q, mapped: mem,
		header:  (*ringHeader)(unsafe.Pointer(&mem[0])),
		buffers: new([2]unix.Iovec),
		names:   mem[page : page+namesSize],
		payload: mem[page+namesSize:],
	}
	e.buffers[0].Base = &mem[0]
	e.buffers[0].SetLen(int(unsafe.Sizeof(ringHeader{})))
	e.buffers[1].Base = &e.payload[0]
	e.buffers[1].SetLen(len(e.payload))
	return e, nil
}

// free gives the buffers back. The kernel must have let go of them, or the
// connection be at its end.
func (e *entry) free() {
	if e != nil {
		_ = unix.Munmap(e.mapped)
	}
}
