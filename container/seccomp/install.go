package seccomp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// instructionSize is that of struct sock_filter, in bytes.
const instructionSize = 8

// Install puts the calling thread under the filter, or all threads of this
// process: nothing takes that back. It needs CAP_SYS_ADMIN or no_new_privs, and
// of the filters that are there already, that they allow seccomp(2).
func (f *Filter) Install(allThreads bool) error {
	program := make([]unix.SockFilter, 0, len(f.Code)/instructionSize)
	for b := f.Code; len(b) >= instructionSize; b = b[instructionSize:] {
		program = append(program, unix.SockFilter{
			Code: binary.NativeEndian.Uint16(b), Jt: b[2], Jf: b[3], K: binary.NativeEndian.Uint32(b[4:]),
		})
	}
	if len(program) == 0 {
		return errors.New("install the seccomp filter: it is empty")
	}
	flags := f.Flags
	if allThreads {
		flags |= unix.SECCOMP_FILTER_FLAG_TSYNC
	}
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(program)
	if errno != 0 {
		return fmt.Errorf("install the seccomp filter: %w", errno)
	}
	if thread != 0 {
		return fmt.Errorf("install the seccomp filter: thread %d has another one", thread)
	}
	return nil
}

// Supported reports whether the kernel has such filters and the system calls of
// this machine are known.
func Supported() bool {
	// With no program to read, a kernel that has filters says so (prctl(2)).
	err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, 0, 0, 0)
	return errors.Is(err, unix.EFAULT) && architectures(runtime.GOARCH) != nil
}
