package runner

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// openProgram opens the program that the child is started from, such that
// nobody in the container can write to it: a container may name /proc/self/exe
// as its own program, be our program then, and later, when nobody runs it any
// more, open it for writing (CVE-2019-5736). The path of a mount that is
// attached nowhere and read-only helps; who may not make one gets a sealed copy
// in memory, unless the program is another's and cannot be written to anyway.
func openProgram(path string) (*os.File, error) {
	if f, err := readOnlyMount(path); err == nil {
		return f, nil
	}
	if f, err := anothers(path); err == nil {
		return f, nil
	}
	return sealedCopy(path)
}

// anothers opens a program that the caller, whom the root of a container without
// privilege is, neither may write to nor may make writable.
func anothers(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &st)
	if err == nil && (int(st.Uid) == os.Geteuid() || os.Geteuid() == 0 || unix.Access(path, unix.W_OK) == nil) {
		err = unix.EPERM
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func readOnlyMount(path string) (*os.File, error) {
	if path == "/proc/self/exe" { // a bind mount of a magic link is none of its target everywhere
		var err error
		if path, err = os.Readlink(path); err != nil {
			return nil, err
		}
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, err
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// sealedCopy copies a program into memory that cannot be changed afterwards.
func sealedCopy(path string) (*os.File, error) {
	from, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the runner: %w", err)
	}
	defer from.Close()
	fd, err := unix.MemfdCreate("unio", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("copy the runner: %w", err)
	}
	to := os.NewFile(uintptr(fd), "unio")
	if _, err := io.Copy(to, from); err != nil {
		to.Close()
		return nil, fmt.Errorf("copy the runner: %w", err)
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(to.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		to.Close()
		return nil, fmt.Errorf("seal the copy of the runner: %w", err)
	}
	return to, nil
}
