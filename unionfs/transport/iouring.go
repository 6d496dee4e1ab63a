package transport

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What is used of io_uring (include/uapi/linux/io_uring.h).
const (
	setupClamp        = 1 << 4
	setupSQE128       = 1 << 10 // the FUSE command lies in the second half of an entry
	setupSingleIssuer = 1 << 12
	// setupDeferTaskrun: the kernel writes into our buffers while the thread is
	// inside of io_uring_enter, and at no other time. Idle buffers may be given
	// back for that reason.
	setupDeferTaskrun = 1 << 13
	setupNoSQArray    = 1 << 16
	ringFlags         = setupClamp | setupSQE128 | setupSingleIssuer | setupDeferTaskrun | setupNoSQArray

	enterGetEvents = 1 << 0
	enterExtArg    = 1 << 3

	offSQRing = 0
	offSQEs   = 0x10000000

	opURingCmd = 46
)

// Commands of FUSE over io_uring (include/uapi/linux/fuse.h, enum
// fuse_uring_cmd).
const (
	cmdRegister       = 1
	cmdCommitAndFetch = 2
)

// ringParams is struct io_uring_params.
type ringParams struct {
	sqEntries, cqEntries, flags, cpu, idle, features, wq uint32
	_                                                    [3]uint32
	sq                                                   struct {
		head, tail, mask, entries, flags, dropped, array, _ uint32
		_                                                   uint64
	}
	cq struct {
		head, tail, mask, entries, overflow, cqes, flags, _ uint32
		_                                                   uint64
	}
}

// submission is struct io_uring_sqe with 128 bytes, as a command of FUSE:
// struct fuse_uring_cmd_req (include/uapi/linux/fuse.h) begins at byte 48.
type submission struct {
	opcode, flags uint8
	_             uint16
	fd            int32
	cmd           uint32
	_             uint32
	addr          uint64
	len           uint32
	_             uint32
	userData      uint64
	_             uint64

	cmdFlags uint64
	commitID uint64
	queue    uint16
	_        [62]byte
}

// completion is struct io_uring_cqe.
type completion struct {
	userData uint64
	res      int32
	flags    uint32
}

// getEventsArg is struct io_uring_getevents_arg.
type getEventsArg struct {
	sigmask   uint64
	sigmaskSz uint32
	minWait   uint32
	timeout   uint64
}

// uring is an io_uring. It belongs to the thread that opened it.
type uring struct {
	fd             int
	rings, entries []byte // mappings
	sqTail         *uint32
	cqHead, cqTail *uint32
	sqMask, cqMask uint32
	cqes           unsafe.Pointer
	sqes           unsafe.Pointer
	pending        uintptr // commands that are filled in and not submitted

	// Here, and not on a stack that may move, because one points to the other.
	timed   getEventsArg
	timeout unix.Timespec
}

// openRing sets up a ring for so many commands, for the calling thread.
func openRing(entries int) (*uring, error) {
	p := ringParams{flags: ringFlags}
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, uintptr(entries), uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return nil, setupError(errno)
	}
	r := &uring{fd: int(fd)}
	if err := r.mapRings(&p); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

// setupError explains what io_uring_setup(2) said.
func setupError(errno unix.Errno) error {
	err := os.NewSyscallError("io_uring_setup", errno)
	switch errno {
	case unix.ENOSYS:
		return fmt.Errorf("the kernel or a seccomp filter has no io_uring: %w", err)
	case unix.EPERM, unix.EACCES:
		return fmt.Errorf("io_uring is forbidden here (sysctl kernel.io_uring_disabled, or a seccomp filter as of a container): %w", err)
	case unix.ENOMEM:
		return fmt.Errorf("not enough memory that may be locked (ulimit -l): %w", err)
	}
	return err
}

// mapRings maps what is shared with the kernel. Submission and completion
// queue lie in one mapping since Linux 5.4 (IORING_FEAT_SINGLE_MMAP).
func (r *uring) mapRings(p *ringParams) error {
	size := max(p.sq.array, p.cq.cqes+p.cqEntries*uint32(unsafe.Sizeof(completion{})))
	var err error
	if r.rings, err = r.mmap(offSQRing, int(size)); err != nil {
		return err
	}
	if r.entries, err = r.mmap(offSQEs, int(p.sqEntries)*int(unsafe.Sizeof(submission{}))); err != nil {
		return err
	}
	word := func(at uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.rings[at])) }
	r.sqTail, r.cqHead, r.cqTail = word(p.sq.tail), word(p.cq.head), word(p.cq.tail)
	r.sqMask, r.cqMask = *word(p.sq.mask), *word(p.cq.mask)
	r.cqes, r.sqes = unsafe.Pointer(&r.rings[p.cq.cqes]), unsafe.Pointer(&r.entries[0])
	return nil
}

func (r *uring) mmap(offset int64, size int) ([]byte, error) {
	b, err := unix.Mmap(r.fd, offset, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("map an io_uring: %w", err)
	}
	return b, nil
}

// register adds the command that offers an entry to the kernel.
func (r *uring) register(e *entry, fd, number int) {
	r.add(submission{
		opcode:   opURingCmd,
		fd:       int32(fd),
		cmd:      cmdRegister,
		addr:     uint64(uintptr(unsafe.Pointer(e.buffers))),
		len:      uint32(len(e.buffers)),
		userData: uint64(number),
		queue:    uint16(e.queue.cpu),
	})
}

// commit adds the command that answers the request in an entry and waits for
// the next one there.
func (r *uring) commit(e *entry, fd int) {
	r.add(submission{
		opcode:   opURingCmd,
		fd:       int32(fd),
		cmd:      cmdCommitAndFetch,
		commitID: e.header.commitID,
		queue:    uint16(e.queue.cpu),
	})
}

// add puts a command in line for the next enter.
func (r *uring) add(s submission) {
	tail := *r.sqTail // written by this thread only
	*(*submission)(unsafe.Add(r.sqes, uintptr(tail&r.sqMask)*unsafe.Sizeof(s))) = s
	atomic.StoreUint32(r.sqTail, tail+1)
	r.pending++
}

// retrySubmit is how long a thread rests after a command that the kernel had no
// memory for (io_uring/io_uring.c, io_submit_sqes).
const retrySubmit = time.Millisecond

// enter submits what is pending and waits for so many completions, at most for
// the given time, 0: for ever. It may return early, with or without an error.
//
// It is a call that the scheduler of Go knows of, so a thread that waits here
// holds up neither other goroutines nor the collector.
func (r *uring) enter(wait uintptr, atMost time.Duration) error {
	var arg unsafe.Pointer
	flags, size := uintptr(enterGetEvents), uintptr(0)
	if atMost > 0 {
		r.timeout = unix.NsecToTimespec(int64(atMost))
		r.timed.timeout = uint64(uintptr(unsafe.Pointer(&r.timeout)))
		arg, flags, size = unsafe.Pointer(&r.timed), flags|enterExtArg, unsafe.Sizeof(r.timed)
	}
	n, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), r.pending, wait, flags, uintptr(arg), size)
	switch errno {
	case 0:
		r.pending -= min(n, r.pending)
		return nil
	case unix.EINTR, unix.ETIME:
		return nil
	case unix.EAGAIN: // no memory for the command: it stays pending
		time.Sleep(retrySubmit)
		return nil
	}
	return os.NewSyscallError("io_uring_enter", errno)
}

// next takes a completion out of the queue, if there is one: the number of the
// command, and what its result means.
func (r *uring) next() (number int, err error, ok bool) {
	head := *r.cqHead // written by this thread only
	if head == atomic.LoadUint32(r.cqTail) {
		return 0, nil, false
	}
	c := (*completion)(unsafe.Add(r.cqes, uintptr(head&r.cqMask)*unsafe.Sizeof(completion{})))
	number, err = int(c.userData), endOf(c.res)
	atomic.StoreUint32(r.cqHead, head+1)
	return number, err, true
}

// endOf tells what the result of a command means: nil that there is a request.
func endOf(res int32) error {
	switch errno := unix.Errno(-res); {
	case res >= 0:
		return nil
	// The entries of a connection that has ended (fs/fuse/dev_uring.c,
	// fuse_uring_entry_teardown, fuse_uring_commit_fetch).
	case errno == unix.ENOTCONN, errno == unix.ECONNABORTED, errno == unix.ENODEV, errno == unix.ECANCELED:
		return errGone
	default:
		return fmt.Errorf("io_uring command of FUSE: %w", errno)
	}
}

// close gives the ring back. What it had in flight is cancelled.
func (r *uring) close() error {
	for _, m := range [][]byte{r.rings, r.entries} {
		if m != nil {
			_ = unix.Munmap(m)
		}
	}
	return os.NewSyscallError("close an io_uring", unix.Close(r.fd))
}
