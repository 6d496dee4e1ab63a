package runner

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// bind mounts a file or folder of the host on an open place. The mount is made
// apart, gets its flags there and is then put into its place in one step, so
// that nobody sees it without them, and no path is looked up twice
// (open_tree(2), mount_setattr(2), move_mount(2)).
func bind(source string, target int, o mountOptions) error {
	how := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if o.flags&unix.MS_REC != 0 {
		how |= unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, source, how)
	if err != nil {
		return fmt.Errorf("bind %s: %w", source, err)
	}
	defer unix.Close(fd)
	if err := restrict(fd, o); err != nil {
		return err
	}
	err = unix.MoveMount(fd, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("bind %s: %w", source, err)
	}
	return nil
}

// restrict sets flags on a mount and, for a recursive bind, on those below.
func restrict(fd int, o mountOptions) error {
	attr := unix.MountAttr{Propagation: o.propagation}
	for _, f := range []struct {
		flag uintptr
		attr uint64
	}{
		{unix.MS_RDONLY, unix.MOUNT_ATTR_RDONLY},
		{unix.MS_NOSUID, unix.MOUNT_ATTR_NOSUID},
		{unix.MS_NODEV, unix.MOUNT_ATTR_NODEV},
		{unix.MS_NOEXEC, unix.MOUNT_ATTR_NOEXEC},
	} {
		if o.flags&f.flag != 0 {
			attr.Attr_set |= f.attr
		}
	}
	if attr.Attr_set == 0 && attr.Propagation == 0 {
		return nil
	}
	at := uint(unix.AT_EMPTY_PATH)
	if o.flags&unix.MS_REC != 0 {
		at |= unix.AT_RECURSIVE
	}
	if err := unix.MountSetattr(fd, "", at, &attr); err != nil {
		return fmt.Errorf("set the flags of a mount: %w", err)
	}
	return nil
}
