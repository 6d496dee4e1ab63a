package layer

import (
	"errors"
	"runtime/debug"
	"syscall"

	"golang.org/x/sys/unix"

	"unio/unionfs/merge"
)

var _ merge.Cloner = (*View)(nil)

// CopyTo copies a stretch of a regular file from its tar to the same place of
// the file open at fd, inside the kernel. copy_file_range(2) shares the blocks
// where both filesystems and the alignment in the tar allow it. It implements
// [merge.Cloner] for layers that are kept in files.
func (v *View) CopyTo(ino merge.Ino, fd int, seg merge.Segment) (n int64, err error) {
	defer catchFault(debug.SetPanicOnFault(true), &err)
	node, err := v.regular(ino)
	if err != nil {
		return 0, err
	}
	i, err := v.searchExtent(node, seg.Off)
	if err != nil || i >= uint64(node.list().count) {
		return 0, firstError(err, unix.ENOTSUP)
	}
	x, layer, err := v.extent(node.list(), i, node.size())
	if err != nil || x.Off > seg.Off {
		return 0, firstError(err, unix.ENOTSUP)
	}
	skip := seg.Off - x.Off
	seg.Len = min(seg.Len, x.Len-skip)
	n, err = copyFrom(v.contents[layer], x.At+skip, fd, seg)
	if err == nil && n == 0 && seg.Len > 0 {
		err = shortRead(layer, nil)
	}
	return n, err
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// copyFrom copies from offset at of content to a file.
func copyFrom(content any, at int64, fd int, seg merge.Segment) (n int64, err error) {
	file, ok := content.(syscall.Conn)
	if !ok {
		return 0, unix.ENOTSUP
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return 0, unix.ENOTSUP
	}
	failed := raw.Control(func(src uintptr) { n, err = copyRange(int(src), at, fd, seg) })
	if failed != nil {
		return 0, failed
	}
	return n, err
}

// copyRange copies until all is done or the kernel does no more.
func copyRange(src int, at int64, fd int, seg merge.Segment) (done int64, err error) {
	const most = 1 << 30 // the call takes a length of 31 bits on some systems
	off := seg.Off
	for done < seg.Len {
		n, err := unix.CopyFileRange(src, &at, fd, &off, int(min(seg.Len-done, most)), 0)
		if err == unix.EINTR {
			continue
		}
		if isUnsupported(err) {
			err = unix.ENOTSUP
		}
		if err != nil && done == 0 {
			return 0, err
		}
		if err != nil || n <= 0 {
			break
		}
		done += int64(n)
	}
	return done, nil
}

// isUnsupported reports whether an error says that these two files cannot be
// copied so, not that something went wrong (copy_file_range(2)).
func isUnsupported(err error) bool {
	for _, e := range [...]error{unix.EXDEV, unix.ENOSYS, unix.EOPNOTSUPP, unix.EINVAL, unix.EPERM, unix.EBADF} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
