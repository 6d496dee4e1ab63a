package output

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"unio/build/source"
	"unio/cow/fsat"
)

// WriteFolder writes a tree into a folder of the host, which is made if it is
// missing. What has the name of something new is replaced; folders are merged.
func WriteFolder(ctx context.Context, t source.Tree, dir string, log *slog.Logger) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	fd, err := fsat.OpenRoot(dir)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer fsat.Close(fd)
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	f := &folder{ctx: ctx, t: t, log: log, root: fd, first: map[source.FileID]string{}}
	return f.kids(fd, "")
}

// folder writes a tree below a descriptor. Each step looks at one name of an
// open folder and follows no link, so that none leads out.
type folder struct {
	ctx   context.Context
	t     source.Tree
	log   *slog.Logger
	root  int
	first map[source.FileID]string // where a file with several names was written
}

// kids writes what is in a folder of the tree into the open folder fd.
func (f *folder) kids(fd int, name string) error {
	list, err := f.t.ReadDir(name)
	if err != nil {
		return err
	}
	for i := range list {
		if err := f.ctx.Err(); err != nil {
			return err
		}
		at := path.Join(name, list[i].Name)
		if err := f.entry(fd, at, &list[i]); err != nil {
			return fmt.Errorf("write %s: %w", at, err)
		}
	}
	return nil
}

// entry writes one entry. What has its name is removed first, except for
// folders: writing into a file that is there would change its other names, and
// follow it, were it a link.
func (f *folder) entry(fd int, at string, e *source.Entry) error {
	if e.IsDir() {
		return f.dir(fd, at, e)
	}
	if t := e.Mode & unix.S_IFMT; t == unix.S_IFCHR || t == unix.S_IFBLK {
		f.log.Warn("device left out", "path", at)
		return nil
	}
	if err := fsat.RemoveAll(fd, e.Name); err != nil {
		return err
	}
	if linked, err := f.link(fd, at, e); linked || err != nil {
		return err
	}
	switch e.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		if err := fsat.Symlink(e.Target, fd, e.Name); err != nil {
			return err
		}
	case unix.S_IFIFO:
		if err := fsat.Mknod(fd, e.Name, unix.S_IFIFO|0o600, 0); err != nil {
			return err
		}
	default:
		if err := f.file(fd, at, e); err != nil {
			return err
		}
	}
	return finish(fd, e)
}

// link makes another name of a file that was written before.
func (f *folder) link(fd int, at string, e *source.Entry) (linked bool, err error) {
	if e.ID == (source.FileID{}) {
		return false, nil
	}
	first, ok := f.first[e.ID]
	if !ok {
		f.first[e.ID] = at
		return false, nil
	}
	dir, err := f.openDir(path.Dir(first))
	if err != nil {
		return false, err
	}
	defer fsat.Close(dir)
	return true, fsat.Link(dir, path.Base(first), fd, e.Name)
}

// openDir opens a folder that was written before, without following a link.
func (f *folder) openDir(name string) (int, error) {
	fd, err := fsat.OpenDir(f.root, ".")
	if err != nil || name == "." {
		return fd, err
	}
	for part := range strings.SplitSeq(name, "/") {
		next, err := fsat.OpenDir(fd, part)
		fsat.Close(fd)
		if err != nil {
			return -1, err
		}
		fd = next
	}
	return fd, nil
}

// dir merges a folder with the one that is there.
func (f *folder) dir(fd int, at string, e *source.Entry) error {
	var st unix.Stat_t
	err := fsat.Stat(fd, e.Name, &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		if err := fsat.Unlink(fd, e.Name); err != nil {
			return err
		}
		err = unix.ENOENT
	}
	if errors.Is(err, unix.ENOENT) {
		err = fsat.Mkdir(fd, e.Name, 0o700)
	}
	if err != nil {
		return err
	}
	sub, err := fsat.OpenDir(fd, e.Name)
	if err != nil {
		return err
	}
	defer fsat.Close(sub)
	if err := f.kids(sub, at); err != nil {
		return err
	}
	return finish(fd, e)
}

// file writes a new regular file.
func (f *folder) file(fd int, at string, e *source.Entry) error {
	r, err := f.t.Open(at)
	if err != nil {
		return err
	}
	defer r.Close()
	out, err := fsat.Open(fd, e.Name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(out), at)
	_, err = io.Copy(file, r)
	for key, value := range e.Xattrs {
		if err == nil && strings.HasPrefix(key, "user.") {
			if serr := fsat.SetXattr(out, "", key, []byte(value), 0); !errors.Is(serr, unix.ENOTSUP) {
				err = serr
			}
		}
	}
	return errors.Join(err, file.Close())
}

// finish gives an entry its permissions, without set-id bits, and its time.
func finish(fd int, e *source.Entry) error {
	if !e.IsLink() {
		if err := fsat.Chmod(fd, e.Name, e.Mode&0o1777); err != nil {
			return err
		}
	}
	when := unix.NsecToTimespec(e.ModTime.UnixNano())
	return fsat.Utimes(fd, e.Name, when, when)
}
