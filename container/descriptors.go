package container

import (
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// socketPair returns two connected stream sockets.
func socketPair() (a, b *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control"), nil
}

// closeOnExec marks every descriptor but the standard ones, also those that
// this process was started with: what a shell or a test left open must reach
// neither a server in the background nor a program in a container.
func closeOnExec() error {
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close_range: %w", err)
	}
	return nil
}

// roomFD is the highest descriptor that a server is started with, so that it
// has a table of 1,024 from the start. Whoever has several threads waits some
// milliseconds whenever the kernel lets a table grow (fs/file.c: expand_fdtable
// calls synchronize_rcu), and each layer takes one descriptor. A process between
// fork and exec does not wait, and exec leaves the table as it is.
const roomFD = 512

// withRoom returns the files that a server inherits from descriptor 3 on: the
// socket to it, and once more as roomFD where the limit allows that.
func withRoom(control *os.File) []*os.File {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil || limit.Cur < 2*roomFD {
		return []*os.File{control}
	}
	const first = 3
	files := make([]*os.File, roomFD-first+1)
	files[0], files[roomFD-first] = control, control
	return files
}

// closeRoom closes roomFD if this process was started with it.
func closeRoom(control *os.File) {
	var there, ours unix.Stat_t
	if unix.Fstat(roomFD, &there) == nil && unix.Fstat(int(control.Fd()), &ours) == nil && there.Ino == ours.Ino && there.Dev == ours.Dev {
		unix.Close(roomFD)
	}
}
