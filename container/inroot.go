package container

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// openIn opens a path inside of a root folder as a process whose root that is
// would: links, "..", and absolute targets never lead out of it (openat2(2),
// RESOLVE_IN_ROOT). Links of /proc are refused.
func openIn(root int, path string, flags uint64) (int, error) {
	how := unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(root, path, &how)
		// EAGAIN: a rename somewhere made the walk unsure; it asks for another try.
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

// maxTable bounds the size, in bytes, of what is read from a file of an image.
const maxTable = 16 << 20

// readIn reads a regular file inside of a root. Anything else, such as a FIFO
// on which a reader would wait for ever, is an error, and so is a file larger
// than maxTable.
func readIn(root int, path string) ([]byte, error) {
	fd, err := openIn(root, path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("%s of the image is not a regular file", path)
	case st.Size() > maxTable:
		return nil, fmt.Errorf("%s of the image is larger than %d bytes", path, maxTable)
	}
	return io.ReadAll(io.LimitReader(f, maxTable))
}

// fdPath is a path by which the kernel finds an open descriptor of this
// process, for calls that take paths only.
func fdPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }
