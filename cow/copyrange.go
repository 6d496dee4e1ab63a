package cow

import (
	"golang.org/x/sys/unix"

	"unio/unionfs/merge"
)

// Most bytes that one call copies: a request cannot be interrupted, and the
// caller asks for the rest.
const (
	copyMost   = 64 << 20 // inside the kernel
	bounceMost = 8 << 20  // through a buffer
)

// CopyRange is copy_file_range(2): it copies inside the kernel where it can,
// and returns how many bytes it did.
func (f *FS) CopyRange(from merge.Ino, fromOff int64, to merge.Ino, toOff int64, length int) (int, error) {
	if !inFile(fromOff, int64(length)) || !inFile(toOff, int64(length)) {
		return 0, unix.EINVAL
	}
	var st Stat
	if err := f.Getattr(from, &st); err != nil {
		return 0, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return 0, unix.EINVAL
	}
	length = int(min(int64(length), int64(st.Size)-fromOff))
	if length <= 0 {
		return 0, nil
	}
	dst, err := f.copyUpData(to, want{formPartial, everything})
	if err != nil {
		return 0, err
	}
	if dst.data.get() == dataWhole {
		n, err := f.copyInKernel(from, fromOff, dst, toOff, length)
		if n > 0 || err != unix.ENOTSUP {
			return n, err
		}
	}
	return f.bounce(from, fromOff, to, toOff, min(length, bounceMost))
}

// copyInKernel copies to a whole file from another or from the lower. ENOTSUP:
// it cannot.
func (f *FS) copyInKernel(from merge.Ino, fromOff int64, dst *node, toOff int64, length int) (int, error) {
	b, err := f.handleOf(dst)
	if err != nil {
		return 0, err
	}
	defer b.release()
	src := f.table.get(from)
	if src == nil || src.data.get() == dataLower {
		if src != nil {
			from = src.lower
		}
		return f.copyLower(from, b.fd, fromOff, toOff, min(length, copyMost))
	}
	if src.data.get() == dataPartial {
		return 0, unix.ENOTSUP
	}
	a, err := f.handleOf(src)
	if err != nil {
		return 0, err
	}
	defer a.release()
	return unix.CopyFileRange(a.fd, &fromOff, b.fd, &toOff, length, 0)
}

// copyLower copies a stretch of a lower file that holds nothing but data to
// the same place of another.
func (f *FS) copyLower(from merge.Ino, fd int, fromOff, toOff int64, length int) (int, error) {
	c, ok := f.lower.(merge.Cloner)
	if !ok || fromOff != toOff {
		return 0, unix.ENOTSUP
	}
	segments, err := f.lower.Segments(from)
	if err != nil {
		return 0, err
	}
	for _, s := range segments {
		if s.Off <= fromOff && fromOff < s.Off+s.Len {
			length = int(min(int64(length), s.Off+s.Len-fromOff))
			n, err := c.CopyTo(from, fd, merge.Segment{Off: fromOff, Len: int64(length)})
			return int(n), err
		}
	}
	return 0, unix.ENOTSUP
}

// bounce reads and writes.
func (f *FS) bounce(from merge.Ino, fromOff int64, to merge.Ino, toOff int64, length int) (int, error) {
	buf := make([]byte, min(length, copyChunk))
	done := 0
	for done < length {
		n, err := f.Read(from, buf[:min(len(buf), length-done)], fromOff+int64(done))
		if err == nil && n > 0 {
			n, err = f.Write(to, buf[:n], toOff+int64(done), How{})
		}
		if err != nil && done > 0 {
			break // what was copied counts; the error comes again
		}
		if err != nil || n == 0 {
			return done, err
		}
		done += n
	}
	return done, nil
}
