package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A connection outlives its server as long as somebody holds its descriptor.
// A successor that inherits the descriptor brings its handler into the state
// of the dead one by the INIT request, which the kernel sends only once, and
// then tells the kernel to send again what is unanswered (FUSE_NOTIFY_RESEND,
// fs/fuse/dev.c, fuse_resend). Repeated requests are marked by a bit of their
// number. FORGET has no answer and is never repeated.

// Repeated is the bit of a request's unique number that marks a repeated one
// (FUSE_UNIQUE_RESEND in include/uapi/linux/fuse.h). The first server may have
// carried the request out, wholly or in part, before it died.
const Repeated = uint64(1) << 63

// Offsets in an INIT request: struct fuse_init_in behind the header, with the
// second half of its flags (include/uapi/linux/fuse.h).
const (
	initFlagsAt  = inHeaderSize + 12
	initFlags2At = inHeaderSize + 16
	initExt      = 1 << 30 // FUSE_INIT_EXT: there is a second half
	hasResend    = 1 << 7  // FUSE_HAS_RESEND, bit 39, in the second half
)

// CanResend reports whether the kernel that sent an INIT request repeats
// requests for a successor.
func CanResend(init []byte) bool {
	if len(init) < initFlags2At+4 {
		return false
	}
	return binary.NativeEndian.Uint32(init[initFlagsAt:])&initExt != 0 &&
		binary.NativeEndian.Uint32(init[initFlags2At:])&hasResend != 0
}

// Takeover returns the connection of a server that has ended, for Serve. fd is
// the descriptor that the dead server used, which now belongs to the Device;
// init is what [Device.InitRequest] gave there. Nobody else may read from the
// descriptor any more. Of the options Dir, MaxRead and Log count; MaxRead must
// be what the mount was made with. The mount itself is not touched. It is served
// over /dev/fuse; a connection that was served over io_uring cannot be taken
// over, because the kernel holds requests for entries that are gone.
//
// Errors: ErrNoResend.
func Takeover(o MountOptions, fd int, init []byte) (*Device, error) {
	o.normalise()
	if !CanResend(init) {
		return nil, fmt.Errorf("take over %s: %w", o.Dir, ErrNoResend)
	}
	unix.CloseOnExec(fd)
	d := newDevice(fd, &o)
	d.init, d.taken = append([]byte(nil), init...), true
	return d, nil
}

// replayInit gives the handler the INIT request of its predecessor, whose
// answer the kernel has, and asks for what is unanswered. No reader may be at
// work yet: what it had taken would be repeated, too.
func (p *pool) replayInit() error {
	r := newReader(initBuffer, initBuffer)
	defer r.free()
	n := copy(r.in, p.dev.init)
	if err := p.agree(r, p.handle(r, n)); err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	p.dev.setTransport(Dev)
	err := p.dev.notify(notifyResend, nil)
	switch {
	case errors.Is(err, unix.EINVAL): // it does not know the message
		return fmt.Errorf("%w: %w", ErrNoResend, err)
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.EPERM):
		return nil // unmounted or aborted meanwhile: the readers find out
	}
	return err
}

// Drain ends serving for a successor: no further request is handled, and those
// in work are waited for, at most for the given time. It reports whether all of
// them are answered; in any case the process may end then, and whoever has the
// descriptor take over.
func (d *Device) Drain(atMost time.Duration) bool {
	d.mu.Lock()
	p := d.pool
	d.mu.Unlock()
	if p == nil {
		return true
	}
	p.drained.Store(true)
	p.stopped.Store(true)
	for end := time.Now().Add(atMost); p.busy(); {
		if time.Now().After(end) {
			return false
		}
		time.Sleep(time.Millisecond)
	}
	return true
}

// File returns a copy of the descriptor for another process to inherit.
func (d *Device) File() (*os.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, os.ErrClosed
	}
	fd, err := unix.FcntlInt(uintptr(d.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	return os.NewFile(uintptr(fd), devicePath), nil
}

// Gone reports whether the connection behind a descriptor of /dev/fuse has
// ended: unmounted, or aborted (fs/fuse/dev.c, fuse_dev_poll).
func Gone(fd int) bool {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	err := ignoringEINTR(func() error { _, err := unix.Poll(poll, 0); return err })
	return err == nil && poll[0].Revents&(unix.POLLERR|unix.POLLNVAL) != 0
}
