package runner

import (
	"errors"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Identities and capabilities belong to threads. Before exec it is enough to
// change the thread that Main has locked, since the others do not outlive that; a
// process that stays has to change all.

// call makes a system call in the threads that matter. Arguments that are
// pointers must be kept alive by the caller.
func (c *child) call(trap, a1, a2, a3 uintptr) error {
	var errno syscall.Errno
	if c.stays() {
		_, _, errno = syscall.AllThreadsSyscall6(trap, a1, a2, a3, 0, 0, 0)
		// A build with cgo, as for the race detector, cannot do that. Its other
		// threads stay as they are, out of reach unless the container may trace.
		if !errors.Is(errno, unix.ENOTSUP) {
			return errnoError(errno)
		}
	}
	_, _, errno = unix.RawSyscall6(trap, a1, a2, a3, 0, 0, 0)
	return errnoError(errno)
}

// rawWrite writes to a descriptor without telling Go's scheduler of it, which may
// start a thread in place of one that is in a system call.
func rawWrite(fd int, text string) error {
	data := []byte(text)
	_, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&data[0])), uintptr(len(data)))
	return errnoError(errno)
}

// errnoError keeps zero from becoming an error.
func errnoError(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}

// prctl is prctl(2).
func (c *child) prctl(option int, a2, a3 uintptr) error {
	return c.call(unix.SYS_PRCTL, uintptr(option), a2, a3)
}

// setgroups sets the supplementary groups.
func (c *child) setgroups(groups []uint32) error {
	var first unsafe.Pointer
	if len(groups) > 0 {
		first = unsafe.Pointer(&groups[0])
	}
	return c.call(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(first), 0)
}

// capset sets effective, permitted and inheritable capabilities.
func (c *child) capset(effective, permitted, inheritable uint64) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	for i := range data {
		data[i].Effective = uint32(effective >> (32 * i))
		data[i].Permitted = uint32(permitted >> (32 * i))
		data[i].Inheritable = uint32(inheritable >> (32 * i))
	}
	return c.call(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0)
}
