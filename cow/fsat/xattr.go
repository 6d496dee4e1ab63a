package fsat

import (
	"bytes"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// System calls of Linux 6.13 for attributes of a name below a descriptor; the
// numbers are the same on every architecture (include/uapi/asm-generic/unistd.h).
const (
	sysSetxattrat    = 463
	sysGetxattrat    = 464
	sysListxattrat   = 465
	sysRemovexattrat = 466
)

// xattrArgs is struct xattr_args (include/uapi/linux/xattr.h).
type xattrArgs struct {
	value uint64
	size  uint32
	flags uint32
}

// procPath names an entry for the path-taking calls of older kernels. The
// magic link of the descriptor is followed, name is not.
func procPath(dirfd int, name string) string {
	return magicLink(dirfd) + "/" + name
}

func ptr(b []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) }

func xattrCall(trap uintptr, dirfd int, name, attr string, args *xattrArgs) (int, error) {
	path, err := unix.BytePtrFromString(name)
	if err != nil {
		return 0, err
	}
	key, err := unix.BytePtrFromString(attr)
	if err != nil {
		return 0, err
	}
	n, _, errno := unix.Syscall6(trap, uintptr(dirfd), uintptr(unsafe.Pointer(path)), unix.AT_SYMLINK_NOFOLLOW,
		uintptr(unsafe.Pointer(key)), uintptr(unsafe.Pointer(args)), unsafe.Sizeof(*args))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// GetXattr reads an attribute of name itself into buf and returns its length;
// an empty buf asks for the length. ENODATA: there is none.
func GetXattr(dirfd int, name, attr string, buf []byte) (int, error) {
	if name == "" {
		n, err := unix.Fgetxattr(dirfd, attr, buf)
		if err == unix.EBADF {
			n, err = unix.Getxattr(magicLink(dirfd), attr, buf)
		}
		return n, err
	}
	var pin runtime.Pinner
	defer pin.Unpin()
	args := &xattrArgs{size: uint32(len(buf))}
	if len(buf) > 0 {
		pin.Pin(&buf[0])
		args.value = uint64(uintptr(ptr(buf)))
	}
	n, err := xattrCall(sysGetxattrat, dirfd, name, attr, args)
	if err == unix.ENOSYS {
		return unix.Lgetxattr(procPath(dirfd, name), attr, buf)
	}
	return n, err
}

// XattrValue returns the whole value of an attribute.
func XattrValue(dirfd int, name, attr string) ([]byte, error) {
	buf := make([]byte, 128)
	for {
		n, err := GetXattr(dirfd, name, attr, buf)
		if err == nil {
			return buf[:n], nil
		}
		if err != unix.ERANGE {
			return nil, err
		}
		if n, err = GetXattr(dirfd, name, attr, nil); err != nil {
			return nil, err
		}
		buf = make([]byte, n+64)
	}
}

// ListXattr returns the names of all attributes of name itself.
func ListXattr(dirfd int, name string) ([]string, error) {
	buf := make([]byte, 512)
	for {
		n, err := listXattr(dirfd, name, buf)
		if err == nil {
			return splitNames(buf[:n]), nil
		}
		if err != unix.ERANGE {
			return nil, err
		}
		if n, err = listXattr(dirfd, name, nil); err != nil {
			return nil, err
		}
		buf = make([]byte, n+256)
	}
}

func listXattr(dirfd int, name string, buf []byte) (int, error) {
	if name == "" {
		n, err := unix.Flistxattr(dirfd, buf)
		if err == unix.EBADF {
			n, err = unix.Listxattr(magicLink(dirfd), buf)
		}
		return n, err
	}
	path, err := unix.BytePtrFromString(name)
	if err != nil {
		return 0, err
	}
	n, _, errno := unix.Syscall6(sysListxattrat, uintptr(dirfd), uintptr(unsafe.Pointer(path)),
		unix.AT_SYMLINK_NOFOLLOW, uintptr(ptr(buf)), uintptr(len(buf)), 0)
	switch errno {
	case 0:
		return int(n), nil
	case unix.ENOSYS:
		return unix.Llistxattr(procPath(dirfd, name), buf)
	}
	return 0, errno
}

func splitNames(buf []byte) []string {
	var names []string
	for len(buf) > 0 {
		n := bytes.IndexByte(buf, 0)
		if n < 0 {
			n = len(buf)
		}
		names = append(names, string(buf[:n]))
		buf = buf[min(n+1, len(buf)):]
	}
	return names
}

// SetXattr sets an attribute of name itself; flags are XATTR_CREATE and
// XATTR_REPLACE.
func SetXattr(dirfd int, name, attr string, value []byte, flags int) error {
	if name == "" {
		err := unix.Fsetxattr(dirfd, attr, value, flags)
		if err == unix.EBADF {
			err = unix.Setxattr(magicLink(dirfd), attr, value, flags)
		}
		return err
	}
	var pin runtime.Pinner
	defer pin.Unpin()
	args := &xattrArgs{size: uint32(len(value)), flags: uint32(flags)}
	if len(value) > 0 {
		pin.Pin(&value[0])
		args.value = uint64(uintptr(ptr(value)))
	}
	_, err := xattrCall(sysSetxattrat, dirfd, name, attr, args)
	if err == unix.ENOSYS {
		return unix.Lsetxattr(procPath(dirfd, name), attr, value, flags)
	}
	return err
}

// RemoveXattr removes an attribute of name itself.
func RemoveXattr(dirfd int, name, attr string) error {
	if name == "" {
		err := unix.Fremovexattr(dirfd, attr)
		if err == unix.EBADF {
			err = unix.Removexattr(magicLink(dirfd), attr)
		}
		return err
	}
	path, err := unix.BytePtrFromString(name)
	if err != nil {
		return err
	}
	key, err := unix.BytePtrFromString(attr)
	if err != nil {
		return err
	}
	_, _, errno := unix.Syscall6(sysRemovexattrat, uintptr(dirfd), uintptr(unsafe.Pointer(path)),
		unix.AT_SYMLINK_NOFOLLOW, uintptr(unsafe.Pointer(key)), 0, 0)
	switch errno {
	case 0:
		return nil
	case unix.ENOSYS:
		return unix.Lremovexattr(procPath(dirfd, name), attr)
	}
	return errno
}
