package transport

import (
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	inHeaderSize   = 40 // struct fuse_in_header
	outHeaderSize  = 16 // struct fuse_out_header
	writeInSize    = 40 // struct fuse_write_in, between header and data of a WRITE
	initBuffer     = 64 << 10
	defaultReaders = 2
	// defaultBound is as many requests as may wait for something slow (a
	// copy-up, a disk) before others must wait for them.
	defaultBound = 1000
	// calm is how long there must have been no shortage of readers before
	// those beyond the usual number leave. Shorter, and a load that comes in
	// bursts would start and end threads all the time.
	calm = time.Second
)

// ServeOptions says how to serve. The zero value works.
//
// Two readers, not locked to threads, are a measured choice: 2 cores, Linux
// 6.18, a loopback filesystem on tmpfs, medians of 24 runs in turns on a busy
// machine, µs per call of one client, and of four at once:
//
//	readers  threads  GOMAXPROCS  statfs  create+write  unlink  four: create+write  unlink
//	1        free     2              7.2          93.7    54.1                66.5    52.6
//	2        free     2             11.8          90.0    46.4                69.6    50.5
//	3        free     2             11.6         111.7    57.8                58.1    39.5
//	2        locked   2             14.4         102.6    52.2                75.5   194.7
//	2        free     4             10.6          79.1    48.2                62.9    37.8
//	2        locked   4              9.0          82.0    50.8                70.5    75.0
//	go-fuse's own loop, 2           11.9         109.0    48.6                75.4    45.9
//
// Most of these differences are noise: whether the kernel runs client and
// server on one processor (7 µs for a statfs, pinned so) or on two (20 and
// more) decides more than the number of readers, and go-fuse's loop is no
// slower at the same GOMAXPROCS. What stands out is that locked threads, which
// must wait for the scheduler of Go, lose under load. Twice as many GOMAXPROCS
// as processors seem to help; they also keep handlers that wait in a page
// fault, which Go does not notice, from stopping all others.
type ServeOptions struct {
	Readers    int // usual number of readers, default 2
	MaxReaders int // bound, with those started because all others are busy; default 1000
	// Answered is called once, when the first answer behind INIT is out.
	Answered func()
}

func (o *ServeOptions) normalise() {
	if o.Readers <= 0 {
		o.Readers = defaultReaders
	}
	if o.MaxReaders <= 0 {
		o.MaxReaders = defaultBound
	}
	o.MaxReaders = max(o.MaxReaders, o.Readers)
}

// Serve answers requests by h until the mount is gone or its connection cut
// ([Abort]), then returns nil, when all handlers have returned. INIT is
// answered first, by the calling goroutine, before [Device.Ready] is closed.
// It can be called once.
//
// If the device fails, Serve returns that error when the handlers at work
// have returned; readers inside the kernel end with the mount or the process.
func (d *Device) Serve(h Handler, o ServeOptions) error {
	o.normalise()
	d.mu.Lock()
	again := d.served || d.closed
	d.served = true
	d.mu.Unlock()
	if again {
		return ErrServed
	}
	p := newPool(d, h, o)
	d.mu.Lock()
	d.pool = p
	d.mu.Unlock()
	begin := p.answerInit
	if d.taken {
		begin = p.replayInit
	}
	err := begin()
	if err == nil {
		close(d.ready)
		err = p.run()
	}
	if err != nil {
		return fmt.Errorf("serve %s: %w", d.dir, err)
	}
	return nil
}

// answerInit handles the one request that must come first, keeps it, and
// learns from the answer how long a WRITE can be.
func (p *pool) answerInit() error {
	r := newReader(initBuffer, initBuffer)
	defer r.free()
	n, err := p.read(r)
	if err != nil {
		return fmt.Errorf("read INIT: %w", err)
	}
	if op := binary.NativeEndian.Uint32(r.in[4:]); op != opInit {
		return fmt.Errorf("first request is %s, not INIT", opcodeName(int(op%opcodes)))
	}
	p.dev.mu.Lock()
	p.dev.init = append([]byte(nil), r.in[:n]...)
	p.dev.mu.Unlock()
	if err := p.chooseTransport(r.in[:n]); err != nil {
		return err
	}
	size := p.handle(r, n)
	err = p.preferRings(r.out[:size])
	if err == nil {
		if err = p.answer(r, size); err != nil {
			err = fmt.Errorf("answer INIT: %w", err)
		}
	}
	if err == nil {
		err = p.agree(r, size)
	}
	if err != nil {
		p.abandonRings()
		return err
	}
	return p.beginRings()
}

// agree takes from the answer to INIT, of size bytes in r.out, what readers
// must know.
func (p *pool) agree(r *reader, size int) error {
	if code := int32(binary.NativeEndian.Uint32(r.out[4:])); code != 0 {
		return fmt.Errorf("INIT refused: %w", unix.Errno(-code))
	}
	p.maxWrite = maxWriteOf(r.out[:size])
	return nil
}

// maxWriteOf finds max_write in an answer to INIT (struct fuse_init_out: major,
// minor, max_readahead, flags, two halves, max_write).
func maxWriteOf(answer []byte) int {
	const at = answerMaxWriteAt
	if len(answer) < at+4 {
		return 0
	}
	return int(binary.NativeEndian.Uint32(answer[at:]))
}
