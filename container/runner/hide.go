package runner

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"unio/container/inroot"
)

// hide masks what a container shall not see and makes read-only what it shall
// not change, inside of its root (runtime-spec, config-linux.md, "Masked Paths"
// and "Readonly Paths"). What is not there is skipped. These paths lie on /proc
// and /sys, which no image and no other container can change.
func (c *child) hide() error {
	for _, name := range c.Spec.Linux.ReadonlyPaths {
		if err := onPath(name, makeReadonly); err != nil {
			return fmt.Errorf("make %s read-only: %w", name, err)
		}
	}
	for _, name := range c.Spec.Linux.MaskedPaths {
		if err := onPath(name, mask); err != nil {
			return fmt.Errorf("mask %s: %w", name, err)
		}
	}
	return nil
}

// onPath opens a path for do, if it is there.
func onPath(name string, do func(fd int, st *unix.Stat_t) error) error {
	fd, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	return do(fd, &st)
}

func makeReadonly(fd int, _ *unix.Stat_t) error {
	return bind(inroot.FDPath(fd), fd, mountOptions{flags: unix.MS_BIND | unix.MS_REC | unix.MS_RDONLY})
}

// mask lays nothing over a file, and an empty folder over a folder.
func mask(fd int, st *unix.Stat_t) error {
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return bind("/dev/null", fd, mountOptions{flags: unix.MS_BIND})
	}
	const flags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	return unix.Mount("tmpfs", inroot.FDPath(fd), "tmpfs", flags, "size=0k,nr_blocks=1")
}
