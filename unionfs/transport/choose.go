package transport

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

// Offsets in the answer to INIT: struct fuse_init_out behind the header
// (include/uapi/linux/fuse.h).
const (
	answerFlagsAt    = outHeaderSize + 12
	answerMaxWriteAt = outHeaderSize + 20
	answerMaxPagesAt = outHeaderSize + 28
	answerFlags2At   = outHeaderSize + 32

	hasMaxPages   = 1 << 22 // FUSE_MAX_PAGES
	overIOUring   = 1 << 9  // FUSE_OVER_IO_URING, bit 41, in the second half
	defaultPages  = 32      // FUSE_DEFAULT_MAX_PAGES_PER_REQ (fs/fuse/fuse_i.h)
	leastPayload  = 8 << 10 // FUSE_MIN_READ_BUFFER
	leastMaxWrite = 4 << 10 // what fs/fuse/inode.c makes of a smaller one (process_init_reply)
)

// errNotOffered is why there is no ring although it could be used.
var errNotOffered = errors.New("the kernel did not offer it for this mount")

// chooseTransport decides, by what the kernel offers in INIT and what this
// process may do, how requests are to come, and prepares the rings.
func (p *pool) chooseTransport(init []byte) error {
	if p.dev.wanted == Dev {
		return nil
	}
	rs, err := p.tryRings(init)
	if err == nil {
		p.rings = rs
		return nil
	}
	return p.withoutRings(err)
}

func (p *pool) tryRings(init []byte) (*rings, error) {
	if len(init) < initFlags2At+4 || binary.NativeEndian.Uint32(init[initFlags2At:])&overIOUring == 0 {
		if err := parameterOn(); err != nil {
			return nil, err
		}
		return nil, errNotOffered
	}
	return openRings(p)
}

// withoutRings goes on by /dev/fuse, unless the ring was wished for. The one
// line in the log says why.
func (p *pool) withoutRings(why error) error {
	if p.dev.wanted == Uring {
		return noUring(why)
	}
	p.dev.log.Info("requests come by /dev/fuse, not over io_uring", "dir", p.dev.dir, "why", why)
	return nil
}

// preferRings says in the answer to INIT that requests are to come over
// io_uring, if that is prepared.
func (p *pool) preferRings(answer []byte) error {
	if p.rings == nil {
		return nil
	}
	err := errNotOffered
	if len(answer) >= answerFlags2At+4 && binary.NativeEndian.Uint32(answer[answerFlagsAt:])&initExt != 0 {
		err = p.rings.allocate(payloadOf(answer))
	}
	if err != nil {
		p.abandonRings()
		return p.withoutRings(err)
	}
	flags := answer[answerFlags2At:]
	binary.NativeEndian.PutUint32(flags, binary.NativeEndian.Uint32(flags)|overIOUring)
	return nil
}

// payloadOf computes from an answer to INIT how large the kernel wants buffers
// to be (fs/fuse/dev_uring.c, fuse_uring_create).
func payloadOf(answer []byte) int {
	pages := defaultPages
	if binary.NativeEndian.Uint32(answer[answerFlagsAt:])&hasMaxPages != 0 {
		pages = max(pages, int(binary.NativeEndian.Uint16(answer[answerMaxPagesAt:])))
	}
	return max(leastPayload, leastMaxWrite, maxWriteOf(answer), pages*unix.Getpagesize())
}

// beginRings lets the kernel send requests over the rings, once it has the
// answer to INIT.
func (p *pool) beginRings() error {
	if p.rings == nil {
		p.dev.setTransport(Dev)
		return nil
	}
	if err := p.rings.register(); err != nil {
		p.dev.setTransport(Dev)
		return p.withoutRings(err)
	}
	p.onRings = true
	p.dev.setTransport(Uring)
	return nil
}

// abandonRings ends what was prepared for a connection that does not begin.
func (p *pool) abandonRings() {
	if p.rings != nil {
		p.rings.abandon()
		p.rings = nil
	}
}
