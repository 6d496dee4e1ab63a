package runner

import (
	"errors"
	"fmt"
	"os"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"unio/container/inroot"
)

// OpenTerminal makes a terminal for a program that is to run beside a process of a
// container: one of the container's own /dev/pts, where programs find it by its
// name, or else one of the host's.
func OpenTerminal(pid int) (master, slave *os.File, err error) {
	master, slave, err = openTerminalIn(fmt.Sprintf("/proc/%d/root", pid))
	if err != nil {
		return pty.Open()
	}
	return master, slave, nil
}

// Numbers of the kernel: include/uapi/linux/magic.h, and
// Documentation/admin-guide/devices.txt.
const (
	devptsMagic = 0x1cd1
	ptmxMajor   = 5
	ptmxMinor   = 2
)

// openTerminalIn opens the multiplexer of a root's /dev/pts. What lies there is
// the container's to decide, so it is looked at before it is opened.
func openTerminalIn(root string) (master, slave *os.File, err error) {
	dir, err := inroot.Dir(root)
	if err != nil {
		return nil, nil, err
	}
	defer unix.Close(dir)
	found, err := inroot.Open(dir, "/dev/pts/ptmx", unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return nil, nil, err
	}
	defer unix.Close(found)
	var st unix.Stat_t
	var in unix.Statfs_t
	if err := errors.Join(unix.Fstat(found, &st), unix.Fstatfs(found, &in)); err != nil {
		return nil, nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(ptmxMajor, ptmxMinor) || in.Type != devptsMagic {
		return nil, nil, errors.New("not a multiplexer of terminals")
	}
	fd, err := unix.Open(inroot.FDPath(found), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	master = os.NewFile(uintptr(fd), "ptmx")
	if slave, err = peerOf(fd); err != nil {
		return nil, nil, errors.Join(err, master.Close())
	}
	return master, slave, nil
}

// peerOf opens the other side of a terminal without its name (ioctl_tty(2),
// TIOCGPTPEER).
func peerOf(master int) (*os.File, error) {
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return nil, os.NewSyscallError("unlock the terminal", err)
	}
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return nil, os.NewSyscallError("open the terminal", errno)
	}
	return os.NewFile(fd, "pts"), nil
}
