// Package source gives the files that a build reads as trees: a folder, a tar,
// a git repository, the view of an image or of a stage, a file from a URL, and
// text that stands in the Dockerfile itself.
//
// A tree is read by names. No implementation follows a symbolic link, so no
// name leads out of a tree, whatever is in it and whoever changes it
// meanwhile; links are followed by [Resolve] alone, which does it by name and
// takes the tree for the root, as a process in a container would see it.
//
// Trees may be used from several goroutines. What this package does not do:
// decide where files go, which is the business of package build/place.
package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Sentinels, for errors.Is, beside fs.ErrNotExist.
var (
	// ErrInvalid says that a name, a pattern, an archive or a URL is malformed.
	ErrInvalid = errors.New("invalid")
	// ErrChecksum says that what came does not have the digest asked for.
	ErrChecksum = errors.New("checksum mismatch")
)

// Entry describes one name of a tree.
type Entry struct {
	Name     string // the last component; "" for the root
	Mode     uint32 // type and permission bits as in stat(2)
	UID, GID uint32
	Rdev     uint64 // of a device
	Size     int64  // bytes of a regular file
	ModTime  time.Time
	Target   string            // of a symbolic link, as written
	Xattrs   map[string]string // nil: none
	ID       FileID            // zero: the file has no other name
}

// FileID tells which names of one tree stand for the same file.
type FileID struct{ Dev, Ino uint64 }

// IsDir reports whether e is a folder.
func (e *Entry) IsDir() bool { return e.Mode&unix.S_IFMT == unix.S_IFDIR }

// IsRegular reports whether e is a regular file.
func (e *Entry) IsRegular() bool { return e.Mode&unix.S_IFMT == unix.S_IFREG }

// IsLink reports whether e is a symbolic link.
func (e *Entry) IsLink() bool { return e.Mode&unix.S_IFMT == unix.S_IFLNK }

// Tree is a tree of files. Names are relative, clean and separated by slashes;
// "" is the root. No component of a name is followed if it is a symbolic link.
// What is not there gives an error that wraps fs.ErrNotExist.
type Tree interface {
	// Lstat describes one name.
	Lstat(name string) (Entry, error)
	// ReadDir describes what is in a folder, in order of the names' bytes.
	ReadDir(name string) ([]Entry, error)
	// Open opens a regular file for reading.
	Open(name string) (io.ReadCloser, error)
}

// Clean brings a name to the form that trees take. A name that leads above the
// root stays at the root.
func Clean(name string) string { return path.Clean("/" + name)[1:] }

// ReadFile reads a regular file of at most limit bytes, following links inside
// of the tree.
func ReadFile(t Tree, name string, limit int64) ([]byte, error) {
	at, err := Resolve(t, name)
	if err != nil {
		return nil, err
	}
	f, err := t.Open(at)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%w: %s is larger than %d bytes", ErrInvalid, name, limit)
	}
	return data, err
}

// pathError names the file that a call failed on.
func pathError(op, name string, err error) error {
	if name == "" {
		name = "."
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

func notExist(op, name string) error { return pathError(op, name, fs.ErrNotExist) }

// join is path.Join for names that are clean already.
func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// split takes the last component off a name.
func split(name string) (dir, base string) {
	i := strings.LastIndexByte(name, '/')
	return name[:max(i, 0)], name[i+1:]
}
