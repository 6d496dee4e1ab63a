package source

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"unio/imagestore"
	"unio/unionfs/merge"
)

// OpenView shows an image, or what a stage has made so far, as a tree. The view
// stays the caller's, and must stay open as long as the tree is used.
func OpenView(v *imagestore.View) Tree { return OpenLower(v.View) }

// OpenLower is OpenView for any read-only tree.
func OpenLower(l merge.Lower) Tree { return &lower{l} }

// lower is a tree of an image.
type lower struct{ l merge.Lower }

// lookup finds the node of a name.
func (t *lower) lookup(op, name string) (merge.Ino, error) {
	ino := merge.RootIno
	if name == "" {
		return ino, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		var err error
		if ino, err = t.l.Lookup(ino, part); err != nil {
			if errorsIs(err, merge.ErrNotExist, unix.ENOTDIR, unix.ENOENT) {
				return 0, notExist(op, name)
			}
			return 0, pathError(op, name, err)
		}
	}
	return ino, nil
}

func (t *lower) Lstat(name string) (Entry, error) {
	ino, err := t.lookup("stat", name)
	if err != nil {
		return Entry{}, err
	}
	_, base := split(name)
	e, err := t.entry(ino, base)
	if err != nil {
		return Entry{}, pathError("stat", name, err)
	}
	return e, nil
}

// entry describes a node. Names are copied, as they lie in the view.
func (t *lower) entry(ino merge.Ino, name string) (Entry, error) {
	var a merge.Attr
	if err := t.l.Attr(ino, &a); err != nil {
		return Entry{}, err
	}
	e := Entry{
		Name: strings.Clone(name), Mode: a.Mode, UID: a.UID, GID: a.GID, Rdev: a.Rdev,
		ModTime: time.Unix(a.Sec, int64(a.Nsec)),
	}
	switch {
	case e.IsRegular():
		e.Size = int64(a.Size)
	case e.IsLink():
		target, err := t.l.Readlink(ino)
		if err != nil {
			return Entry{}, err
		}
		e.Target = strings.Clone(target)
	}
	if a.Nlink > 1 && !e.IsDir() {
		e.ID = FileID{Ino: uint64(ino)}
	}
	err := t.l.Xattrs(ino, func(key string, value []byte) bool {
		if e.Xattrs == nil {
			e.Xattrs = map[string]string{}
		}
		e.Xattrs[strings.Clone(key)] = string(value)
		return true
	})
	return e, err
}

func (t *lower) ReadDir(name string) ([]Entry, error) {
	dir, err := t.lookup("read", name)
	if err != nil {
		return nil, err
	}
	var list []Entry
	var failed error
	err = t.l.ReadDir(dir, 0, func(d merge.Entry) bool {
		var e Entry
		if e, failed = t.entry(d.Ino, d.Name); failed == nil {
			list = append(list, e)
		}
		return failed == nil
	})
	if err := errors.Join(err, failed); err != nil {
		return nil, pathError("read", name, err)
	}
	return list, nil
}

func (t *lower) Open(name string) (io.ReadCloser, error) {
	ino, err := t.lookup("open", name)
	if err != nil {
		return nil, err
	}
	var a merge.Attr
	if err := t.l.Attr(ino, &a); err != nil {
		return nil, pathError("open", name, err)
	}
	if !a.IsRegular() {
		return nil, pathError("open", name, fs.ErrInvalid)
	}
	r := &lowerReader{t.l, ino}
	return io.NopCloser(io.NewSectionReader(r, 0, int64(a.Size))), nil
}

// lowerReader reads a file of an image.
type lowerReader struct {
	l   merge.Lower
	ino merge.Ino
}

// ReadAt implements io.ReaderAt, which wants an error with fewer bytes.
func (r *lowerReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.l.ReadAt(r.ino, p, off)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}
