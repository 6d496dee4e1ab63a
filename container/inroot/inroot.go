// Package inroot reaches into the root folder of a container from outside
// without ever leaving it: each path is resolved by the kernel as a process
// would resolve it whose root that folder is (openat2(2), RESOLVE_IN_ROOT), so
// neither "..", nor links, nor a program that swaps them meanwhile leads out.
//
// What is opened once is used by its descriptor from then on, for mounts too
// ([FDPath]). The package knows nothing of images, mounts or processes.
package inroot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Dir opens a folder as a root, to be given to the other functions.
func Dir(dir string) (int, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return fd, nil
}

// Open opens a path inside of a root folder. Links of /proc that are not what
// they look like are refused. The error is a bare errno.
func Open(root int, name string, flags uint64) (int, error) {
	how := unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(root, name, &how)
		// EAGAIN: a rename somewhere made the walk unsure; it asks for another try.
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

// maxTable bounds the size, in bytes, of what is read from a file of an image.
const maxTable = 16 << 20

// Read reads a regular file inside of a root. Anything else, such as a FIFO
// on which a reader would wait for ever, is an error, and so is a file larger
// than 16 MiB.
func Read(root int, name string) ([]byte, error) {
	fd, err := Open(root, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("%s of the image is not a regular file", name)
	case st.Size() > maxTable:
		return nil, fmt.Errorf("%s of the image is larger than %d bytes", name, maxTable)
	}
	return io.ReadAll(io.LimitReader(f, maxTable))
}

// FDPath is a path by which the kernel finds an open descriptor of this
// process, for calls that take paths only.
func FDPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// KeepTime lets do change what a folder holds and puts back the folder's
// modification time; where it cannot, the folder shows as changed, which is no
// harm.
func KeepTime(dir int, do func() error) error {
	var before unix.Stat_t
	if err := unix.Fstat(dir, &before); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	_ = unix.UtimesNanoAt(dir, ".", []unix.Timespec{{Nsec: unix.UTIME_OMIT}, before.Mtim}, 0)
	return nil
}

// MkdirAll opens a folder inside of a root; what is missing of it is made,
// with mode 0755, without a change of the times above. It returns the paths of
// what it made, outermost first, also with an error.
func MkdirAll(root int, name string) (fd int, made []string, err error) {
	const flags = unix.O_PATH | unix.O_DIRECTORY
	name = path.Clean("/" + name)
	fd, err = Open(root, name, flags)
	if !errors.Is(err, unix.ENOENT) || name == "/" {
		return fd, nil, err
	}
	parent, made, err := MkdirAll(root, path.Dir(name))
	if err != nil {
		return -1, made, err
	}
	defer unix.Close(parent)
	err = KeepTime(parent, func() error { return unix.Mkdirat(parent, path.Base(name), 0o755) })
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return -1, made, err
	}
	if err == nil {
		made = append(made, name)
	}
	// EEXIST: a link that leads nowhere, which this then says, or another's work.
	fd, err = Open(root, name, flags)
	return fd, made, err
}

// Parent opens the folder that holds a path, and returns the path's last name.
func Parent(root int, name string) (dir int, base string, err error) {
	name = strings.TrimRight(name, "/")
	dir, err = Open(root, path.Dir(name), unix.O_PATH|unix.O_DIRECTORY)
	return dir, path.Base(name), err
}
