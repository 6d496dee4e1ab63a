package cow

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"unio/cow/fsat"
)

// ErrVolatile says that the upper was mounted volatile and that this mount
// never ended: whether what it wrote has reached the disk, nobody knows.
var ErrVolatile = errors.New("a volatile mount of this upper folder did not end cleanly, and its files may be damaged: " +
	"throw the upper folder away, or remove the folder named here to use it as it is")

// markPath is the mark of a volatile mount, below WORK. It is overlayfs's own
// (Documentation/filesystems/overlayfs.rst, "Volatile mount"), at its place, so
// that we refuse what the kernel left and the kernel what we left, and that
// who knows how to go on with the one knows it for the other:
// containers/storage removes the folder before it mounts.
func markPath() []string { return []string{"work", "incompat", "volatile"} }

// checkVolatile refuses an upper with the mark. A server that takes over from
// a dead one finds its own; it has that one's lock, so the machine has been
// running all the time, and nothing is lost.
func (f *FS) checkVolatile(o *Options) error {
	if o.Volatile && (o.Resume || o.WorkFD != 0) {
		return nil
	}
	return checkMark(f.lock, o.Work)
}

// CheckVolatile gives ErrVolatile for a work folder whose upper is or was
// mounted volatile and has not been synced since. Who reads an upper that is not
// mounted asks for it first.
func CheckVolatile(work string) error {
	fd, err := fsat.OpenRoot(work)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open work folder %s: %w", work, err)
	}
	defer fsat.Close(fd)
	return checkMark(fd, work)
}

func checkMark(dirfd int, work string) error {
	path := filepath.Join(append([]string{work}, markPath()...)...)
	there, err := exists(dirfd, markPath())
	if err != nil {
		return fmt.Errorf("look for %s: %w", path, err)
	}
	if there {
		return fmt.Errorf("%s: %w", path, ErrVolatile)
	}
	return nil
}

// exists reports whether the folders of path are there, each in the one
// before.
func exists(dirfd int, path []string) (bool, error) {
	fd, err := descend(dirfd, path, func(int, string) error { return nil })
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, fsat.Close(fd)
}

// descend opens the last folder of path, calling before with the place of each
// on the way.
func descend(dirfd int, path []string, before func(dirfd int, name string) error) (int, error) {
	at, err := fsat.OpenDir(dirfd, ".")
	for _, name := range path {
		if err != nil {
			return -1, err
		}
		up := at
		if err = before(up, name); err == nil {
			at, err = fsat.OpenDir(up, name)
		}
		fsat.Close(up)
	}
	return at, err
}

// markVolatile makes the mark. A new upper holds nothing that could be damaged
// without it; for others it must be on disk before anything changes.
func (f *FS) markVolatile(o *Options) error {
	names, err := fsat.Names(f.top.held.fd, ".")
	if err != nil {
		return fmt.Errorf("list upper folder %s: %w", o.Upper, err)
	}
	if err := f.mark(len(names) > 0); err != nil {
		return fmt.Errorf("mark %s as volatile: %w", o.Work, err)
	}
	f.marked = true
	return nil
}

func (f *FS) mark(durable bool) error {
	fd, err := descend(f.lock, markPath(), func(dirfd int, name string) error {
		err := fsat.Mkdir(dirfd, name, 0o700)
		if err == unix.EEXIST {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	defer fsat.Close(fd)
	if !durable {
		return nil
	}
	return unix.Fsync(fd)
}

// unmark ends a volatile mount: all that the upper's filesystem still holds in
// memory goes to its disk, and then the mark is taken away. The folders above
// it may hold other things, and then stay.
func (f *FS) unmark() error {
	if !f.marked {
		return nil
	}
	f.marked = false
	if err := unix.Syncfs(f.lock); err != nil {
		return fmt.Errorf("write the volatile upper folder to disk: %w", err)
	}
	path := markPath()
	if err := f.removeFolder(path); err != nil && err != unix.ENOENT {
		return fmt.Errorf("remove %s from the work folder: %w", filepath.Join(path...), err)
	}
	if f.removeFolder(path[:2]) == nil {
		_ = f.removeFolder(path[:1])
	}
	return nil
}

func (f *FS) removeFolder(path []string) error {
	last := len(path) - 1
	fd, err := descend(f.lock, path[:last], func(int, string) error { return nil })
	if err != nil {
		return err
	}
	defer fsat.Close(fd)
	return fsat.Rmdir(fd, path[last])
}
