package transport

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Remount changes the flags of a mount that is there: those that the words
// name, in the terms of mount(8) (ro, nosuid, noexec…), the others stay. Words
// that are no flags are passed over: of a FUSE mount that exists, nothing else
// can be changed (fuse_parse_param in the kernel's fs/fuse/inode.c).
func Remount(dir string, words []string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("remount %s: %w", dir, err)
	}
	flags := mountFlags(st.Flags)
	for _, word := range words {
		if set, clear, ok := mountFlag(word); ok {
			flags = flags&^clear | set
		}
	}
	if err := unix.Mount("", dir, "", flags|unix.MS_REMOUNT, ""); err != nil {
		return fmt.Errorf("remount %s: %w", dir, err)
	}
	return nil
}

// mountFlags turns the flags of statfs(2) into those of mount(2).
func mountFlags(st int64) uintptr {
	var flags uintptr
	for _, pair := range [][2]uintptr{
		{unix.ST_RDONLY, unix.MS_RDONLY},
		{unix.ST_NOSUID, unix.MS_NOSUID},
		{unix.ST_NODEV, unix.MS_NODEV},
		{unix.ST_NOEXEC, unix.MS_NOEXEC},
		{unix.ST_SYNCHRONOUS, unix.MS_SYNCHRONOUS},
		{unix.ST_NOATIME, unix.MS_NOATIME},
		{unix.ST_NODIRATIME, unix.MS_NODIRATIME},
		{unix.ST_RELATIME, unix.MS_RELATIME},
	} {
		if uintptr(st)&pair[0] != 0 {
			flags |= pair[1]
		}
	}
	return flags
}
