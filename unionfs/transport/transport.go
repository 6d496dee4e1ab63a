// Package transport carries FUSE requests between the kernel and a handler.
// It makes the mount, reads requests, hands them on, and writes the answers;
// it knows no filesystem and decodes no request beyond the header that every
// request starts with (include/uapi/linux/fuse.h, struct fuse_in_header).
//
// Life of a mount: [Mount] gives a [Device]; [Device.Serve] answers INIT,
// closes [Device.Ready] and serves until the mount is gone; [Unmount] ends it
// from any process. [State] and [Abort] are for the mounts of others, which
// may be dead or hung. [Takeover] goes on where another server has ended.
//
// A process must never touch the mount it serves, not even by stat: a thread
// that waits for an answer of its own process keeps that process from dying.
//
// # How requests are read
//
// A few readers wait in read(2) on /dev/fuse, and each handles what it read
// before it reads again. Because a handler may take long (copy-up, fsync), a
// reader that takes a request while no other one waits starts one more: as
// long as the bound is not reached, somebody always waits for the next
// request. The cost on the hot path are two atomic additions. Readers beyond
// the usual number leave again after a second without shortage.
//
// # io_uring
//
// Where the kernel offers it, requests come over io_uring instead, which
// answers one and waits for the next in one call: see [Kind]. What rings do
// not carry (INIT, FORGET, INTERRUPT, messages to the kernel) stays with
// /dev/fuse and its readers. Handler, counters and life are the same. How
// threads and rings belong together is said at the type rings.
//
// A connection over io_uring cannot be taken over: requests that its server
// had in hand when it died are never repeated, and those who wait for them
// wait until the connection is cut.
package transport

import (
	"errors"
	"log/slog"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Sentinels of the package, for errors.Is. What the kernel said is wrapped
// beside them.
var (
	// ErrNoFuse says that the kernel offers no /dev/fuse here.
	ErrNoFuse = errors.New("FUSE is not available: no usable /dev/fuse " +
		"(on a host: modprobe fuse; in a container: --device /dev/fuse --cap-add SYS_ADMIN)")
	// ErrNoFusermount says that an ordinary user cannot mount for want of the
	// setuid helper.
	ErrNoFusermount = errors.New("fusermount3 not found: mounting without root needs the package fuse3")
	// ErrMountPoint says that a folder cannot be mounted on: it is missing, no
	// folder, or something is mounted there already.
	ErrMountPoint = errors.New("unusable mount point")
	// ErrNotMounted says that no such mount is there to unmount or abort.
	ErrNotMounted = errors.New("not mounted")
	// ErrBusy says that files of the mount are in use. It is the errno EBUSY.
	ErrBusy error = unix.EBUSY
	// ErrServed says that Serve was called twice.
	ErrServed = errors.New("device is served already")
	// ErrNoResend says that the kernel cannot repeat what a dead server left
	// unanswered: that came with Linux 6.9.
	ErrNoResend = errors.New("the kernel cannot repeat unanswered requests (that needs Linux 6.9)")
)

// Handler answers requests. It is called from several goroutines at once.
// Both arguments are byte streams in pieces, valid only until it returns. It
// returns the length of the answer it left in out, 0 for none.
// *fuse.ProtocolServer is one.
type Handler interface {
	HandleRequest(in, out [][]byte) (int, fuse.Status)
}

var _ Handler = (*fuse.ProtocolServer)(nil)

// Device is one connection to the kernel, with the mount that belongs to it.
type Device struct {
	dir      string
	log      *slog.Logger
	maxRead  int
	counters Counters
	ready    chan struct{}
	wanted   Kind

	mu     sync.Mutex // guards what follows; never held in a system call that waits
	fd     int
	users  int // readers that use fd
	served bool
	closed bool
	init   []byte
	taken  bool // from another server, by Takeover
	inUse  Kind
	pool   *pool // once it is served
}

func newDevice(fd int, o *MountOptions) *Device {
	return &Device{dir: o.Dir, log: o.Log, maxRead: o.MaxRead, fd: fd, ready: make(chan struct{}), wanted: o.Transport}
}

// Dir returns the absolute path of the mount point.
func (d *Device) Dir() string { return d.dir }

// Ready returns a channel that is closed when the kernel has its answer to
// INIT, that is, when the mount answers. It stays open when Serve fails before.
func (d *Device) Ready() <-chan struct{} { return d.ready }

// Transport tells how requests come, Dev or Uring; Auto as long as that is not
// decided, that is, until Ready.
func (d *Device) Transport() Kind {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.inUse == "" {
		return Auto
	}
	return d.inUse
}

func (d *Device) setTransport(k Kind) {
	d.mu.Lock()
	d.inUse = k
	d.mu.Unlock()
}

// Counters returns the number of requests seen, by kind. It may be read at
// any time.
func (d *Device) Counters() *Counters { return &d.counters }

// InitRequest returns a copy of the INIT request as the kernel sent it, nil
// before it came. Another process that inherits the descriptor needs it to
// bring its handler into the same state.
func (d *Device) InitRequest() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]byte(nil), d.init...)
}

// Close gives the descriptor back; call it after Serve has returned. A mount
// that is still there is dead from then on (ENOTCONN). If a failed Serve left
// readers in the kernel, the last of them closes it. Close is idempotent.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	if d.users > 0 {
		return nil
	}
	return unix.Close(d.fd)
}

// acquire registers a reader of the descriptor.
func (d *Device) acquire() {
	d.mu.Lock()
	d.users++
	d.mu.Unlock()
}

// acquireOpen is acquire for those that may come after Close, when the number
// of the descriptor may be another file's.
func (d *Device) acquireOpen() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed && d.users == 0 {
		return false
	}
	d.users++
	return true
}

// release takes a reader's registration back; the last one closes a
// descriptor that Close had to leave.
func (d *Device) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.users--
	if d.users == 0 && d.closed {
		if err := unix.Close(d.fd); err != nil {
			d.log.Warn("close /dev/fuse", "dir", d.dir, "err", err)
		}
	}
}
