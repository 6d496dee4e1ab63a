package transport

import (
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	inHeaderSize    = 40 // struct fuse_in_header
	outHeaderSize   = 16 // struct fuse_out_header
	writeInSize     = 40 // struct fuse_write_in, between header and data of a WRITE
	defaultMaxWrite = 1 << 20
	defaultReaders  = 2
	defaultBound    = 64
	// calm is how long there must have been no shortage of readers before
	// those beyond the usual number leave. Shorter, and a load that comes in
	// bursts would start and end threads all the time.
	calm = time.Second
)

// ServeOptions says how to serve. The zero value works.
type ServeOptions struct {
	Readers    int // usual number of readers, default 2
	MaxReaders int // bound, with those started because all others are busy; default 64
	MaxWrite   int // largest WRITE in bytes that the handler agreed to in INIT, default 1 MiB

	lockThreads bool // for measurements
}

func (o *ServeOptions) normalise() {
	if o.Readers <= 0 {
		o.Readers = defaultReaders
	}
	if o.MaxReaders <= 0 {
		o.MaxReaders = defaultBound
	}
	o.MaxReaders = max(o.MaxReaders, o.Readers)
	if o.MaxWrite <= 0 {
		o.MaxWrite = defaultMaxWrite
	}
}

// Serve answers requests by h until the mount is gone, then returns nil, when
// all handlers have returned. INIT is answered first, by the calling
// goroutine, before [Device.Ready] is closed. It can be called once.
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
	r := p.newReader()
	err := p.answerInit(r)
	if err == nil {
		close(d.ready)
		err = p.run(r)
	}
	if err != nil {
		return fmt.Errorf("serve %s: %w", d.dir, err)
	}
	return nil
}

// answerInit handles the one request that must come first, and keeps it.
func (p *pool) answerInit(r *reader) error {
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
	if err := p.answer(r, p.handle(r, n)); err != nil {
		return fmt.Errorf("answer INIT: %w", err)
	}
	if code := int32(binary.NativeEndian.Uint32(r.out[4:])); code != 0 {
		return fmt.Errorf("INIT refused: %w", unix.Errno(-code))
	}
	return nil
}
