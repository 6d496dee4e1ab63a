package dockerfile

import (
	"io"
	"io/fs"

	"golang.org/x/sys/unix"

	"unio/build/source"
)

// emptyFolder is a tree without anything in it.
type emptyFolder struct{}

func (emptyFolder) Lstat(name string) (source.Entry, error) {
	if name == "" {
		return source.Entry{Mode: unix.S_IFDIR | 0o755}, nil
	}
	return source.Entry{}, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
}

func (emptyFolder) ReadDir(string) ([]source.Entry, error) { return nil, nil }

func (emptyFolder) Open(name string) (io.ReadCloser, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}
