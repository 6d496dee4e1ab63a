// Package fsat wraps the system calls that act on a name below a folder
// descriptor. It is the one place of unio where files are touched by raw
// system call. Every call takes a descriptor and a single path component, so
// no path is walked twice and no symbolic link is ever followed; every
// descriptor that it opens is close-on-exec. Errors are plain errnos.
//
// Calls on attributes also take the empty name: it means the file that the
// descriptor itself stands for, be it open or a mere handle (O_PATH), with or
// without a name left.
package fsat

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Stat_t is the kernel's struct stat.
type Stat_t = unix.Stat_t

const noFollow = unix.O_NOFOLLOW | unix.O_CLOEXEC

// retry repeats a call that a signal interrupted (the Go runtime preempts
// with signals).
func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// component refuses what is not a single path component.
func component(name string) error {
	if name == "" || name == ".." || strings.IndexByte(name, '/') >= 0 || strings.IndexByte(name, 0) >= 0 {
		return unix.EINVAL
	}
	if len(name) > unix.NAME_MAX {
		return unix.ENAMETOOLONG
	}
	return nil
}

// OpenRoot opens the folder at path for use as the first descriptor. It is the
// only call that takes a whole path, and follows it.
func OpenRoot(path string) (int, error) {
	return open(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

func open(dirfd int, name string, flags int, mode uint32) (fd int, err error) {
	err = retry(func() error { fd, err = unix.Openat(dirfd, name, flags|unix.O_LARGEFILE, mode); return err })
	return fd, err
}

// Open opens name. O_NOFOLLOW and O_CLOEXEC are added to flags.
func Open(dirfd int, name string, flags int, mode uint32) (int, error) {
	if err := component(name); err != nil {
		return -1, err
	}
	return open(dirfd, name, flags|noFollow, mode)
}

// OpenDir opens the folder name for reading; "." opens dirfd again.
func OpenDir(dirfd int, name string) (int, error) {
	return Open(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
}

// Close closes a descriptor. On Linux it must not be repeated after EINTR.
func Close(fd int) error {
	if err := unix.Close(fd); err != unix.EINTR {
		return err
	}
	return nil
}

// Stat fills in the attributes of name itself.
func Stat(dirfd int, name string, st *unix.Stat_t) error {
	if name == "" {
		return Fstat(dirfd, st)
	}
	return retry(func() error { return unix.Fstatat(dirfd, name, st, unix.AT_SYMLINK_NOFOLLOW) })
}

// Fstat fills in the attributes of an open file, O_PATH included.
func Fstat(fd int, st *unix.Stat_t) error {
	return retry(func() error { return unix.Fstat(fd, st) })
}

// Mkdir makes a folder.
func Mkdir(dirfd int, name string, mode uint32) error {
	if err := component(name); err != nil {
		return err
	}
	return unix.Mkdirat(dirfd, name, mode)
}

// Mknod makes a device, fifo, socket or empty regular file.
func Mknod(dirfd int, name string, mode uint32, rdev uint64) error {
	if err := component(name); err != nil {
		return err
	}
	return unix.Mknodat(dirfd, name, mode, int(rdev))
}

// Symlink makes a symbolic link to target.
func Symlink(target string, dirfd int, name string) error {
	if err := component(name); err != nil {
		return err
	}
	return unix.Symlinkat(target, dirfd, name)
}

// Readlink returns the target of a symbolic link.
func Readlink(dirfd int, name string) (string, error) {
	buf := make([]byte, 256)
	for {
		n, err := unix.Readlinkat(dirfd, name, buf)
		if err != nil {
			return "", err
		}
		if n < len(buf) {
			return string(buf[:n]), nil
		}
		buf = make([]byte, 2*len(buf))
	}
}

// Link makes newName another name of oldName, which is not followed.
func Link(oldDir int, oldName string, newDir int, newName string) error {
	if err := component(newName); err != nil {
		return err
	}
	return unix.Linkat(oldDir, oldName, newDir, newName, 0)
}

// Tmpfile makes a regular file without a name on the filesystem of dirfd, open
// for reading and writing. EOPNOTSUPP: that filesystem has none.
func Tmpfile(dirfd int, mode uint32) (int, error) {
	return open(dirfd, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, mode)
}

// LinkOpen gives a file of [Tmpfile] a name.
func LinkOpen(fd, newDir int, newName string) error {
	if err := component(newName); err != nil {
		return err
	}
	return unix.Linkat(unix.AT_FDCWD, magicLink(fd), newDir, newName, unix.AT_SYMLINK_FOLLOW)
}

// Unlink removes a name that is not a folder's.
func Unlink(dirfd int, name string) error {
	if err := component(name); err != nil {
		return err
	}
	return unix.Unlinkat(dirfd, name, 0)
}

// Rmdir removes an empty folder.
func Rmdir(dirfd int, name string) error {
	if err := component(name); err != nil {
		return err
	}
	return unix.Unlinkat(dirfd, name, unix.AT_REMOVEDIR)
}

// Rename is renameat2(2) with RENAME_* flags.
func Rename(oldDir int, oldName string, newDir int, newName string, flags uint) error {
	if err := component(oldName); err != nil {
		return err
	}
	if err := component(newName); err != nil {
		return err
	}
	return unix.Renameat2(oldDir, oldName, newDir, newName, flags)
}

// Chown sets the owner of name itself; -1 leaves a number as it is.
func Chown(dirfd int, name string, uid, gid int) error {
	return unix.Fchownat(dirfd, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH)
}

// Chmod sets the permission bits of name. It must not be a symbolic link,
// which the call would follow: the caller knows the type.
func Chmod(dirfd int, name string, mode uint32) error {
	if name != "" {
		return unix.Fchmodat(dirfd, name, mode&0o7777, 0)
	}
	err := unix.Fchmod(dirfd, mode&0o7777)
	if err == unix.EBADF { // a mere handle
		err = unix.Chmod(magicLink(dirfd), mode&0o7777)
	}
	return err
}

// Utimes sets access and modification time of name itself; a Nsec of
// UTIME_OMIT leaves one as it is, UTIME_NOW takes the clock's.
func Utimes(dirfd int, name string, atime, mtime unix.Timespec) error {
	flags := unix.AT_SYMLINK_NOFOLLOW
	if name == "" {
		dirfd, name, flags = unix.AT_FDCWD, magicLink(dirfd), 0
	}
	return unix.UtimesNanoAt(dirfd, name, []unix.Timespec{atime, mtime}, flags)
}

// magicLink is the path of a descriptor's own file. Following it leads to that
// file, also when it is a symbolic link or has no name any more (proc(5)).
func magicLink(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
