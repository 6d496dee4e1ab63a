// Command calls makes system calls that a filter may forbid, and says what the
// kernel answers. Where it is let, the arguments make the kernel answer
// something else than a filter, and nothing happens.
package main

import (
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// calls are in the order in which they are made.
func calls() []struct {
	name   string
	number uintptr
	args   [3]uintptr
} {
	const none = ^uintptr(0)
	return []struct {
		name   string
		number uintptr
		args   [3]uintptr
	}{
		{"add_key", unix.SYS_ADD_KEY, [3]uintptr{}},
		{"bpf", unix.SYS_BPF, [3]uintptr{none}},
		{"clone3", unix.SYS_CLONE3, [3]uintptr{}},
		{"fsopen", unix.SYS_FSOPEN, [3]uintptr{}},
		{"getpid", unix.SYS_GETPID, [3]uintptr{}},
		{"io_uring_setup", unix.SYS_IO_URING_SETUP, [3]uintptr{}},
		{"kcmp", unix.SYS_KCMP, [3]uintptr{none, none}},
		{"keyctl", unix.SYS_KEYCTL, [3]uintptr{none}},
		{"mount", unix.SYS_MOUNT, [3]uintptr{}},
		{"mkdirat", unix.SYS_MKDIRAT, [3]uintptr{none, 0, 0}},
		{"open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT, [3]uintptr{none}},
		{"perf_event_open", unix.SYS_PERF_EVENT_OPEN, [3]uintptr{}},
		{"personality 0", unix.SYS_PERSONALITY, [3]uintptr{}},
		{"personality odd", unix.SYS_PERSONALITY, [3]uintptr{0x2000000}},
		{"pidfd_getfd", unix.SYS_PIDFD_GETFD, [3]uintptr{none, none}},
		{"ptrace", unix.SYS_PTRACE, [3]uintptr{none, none}},
		{"quotactl", unix.SYS_QUOTACTL, [3]uintptr{none}},
		{"reboot", unix.SYS_REBOOT, [3]uintptr{}},
		{"setns", unix.SYS_SETNS, [3]uintptr{none}},
		{"settimeofday", unix.SYS_SETTIMEOFDAY, [3]uintptr{1}},
		{"socket alg", unix.SYS_SOCKET, [3]uintptr{unix.AF_ALG, none}},
		{"socket inet", unix.SYS_SOCKET, [3]uintptr{unix.AF_INET, none}},
		{"socket vsock", unix.SYS_SOCKET, [3]uintptr{unix.AF_VSOCK, none}},
		{"swapon", unix.SYS_SWAPON, [3]uintptr{}},
		{"syslog", unix.SYS_SYSLOG, [3]uintptr{none}},
		{"to come", 700, [3]uintptr{}},
		{"umount2", unix.SYS_UMOUNT2, [3]uintptr{0, none}},
		{"unshare", unix.SYS_UNSHARE, [3]uintptr{1}},
		{"userfaultfd", unix.SYS_USERFAULTFD, [3]uintptr{none}},
	}
}

func main() {
	runtime.LockOSThread()
	for _, c := range slices.All(calls()) {
		_, _, errno := unix.RawSyscall(c.number, c.args[0], c.args[1], c.args[2])
		fmt.Printf("%s: %d\n", c.name, int(errno))
	}
}
