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

// marks are the folders below WORK that mark the upper of a volatile mount. The
// second is overlayfs's own (Documentation/filesystems/overlayfs.rst, "Volatile
// mount"; its work folder is WORK/work): so the kernel refuses what we left,
// and we refuse what the kernel left.
func marks() [][]string {
	return [][]string{{"incompat", "volatile"}, {"work", "incompat", "volatile"}}
}

// checkVolatile refuses an upper with a mark. A server that takes over from a
// dead one finds its own.
func (f *FS) checkVolatile(o *Options) error {
	if o.Volatile && o.Resume {
		return nil
	}
	for _, path := range marks() {
		there, err := exists(f.lock, path)
		if err != nil {
			return fmt.Errorf("look for %s in %s: %w", filepath.Join(path...), o.Work, err)
		}
		if there {
			return fmt.Errorf("%s: %w", filepath.Join(append([]string{o.Work}, path...)...), ErrVolatile)
		}
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

// markVolatile makes the marks. A new upper holds nothing that could be damaged
// without them; for others they must be on disk before anything changes.
func (f *FS) markVolatile(o *Options) error {
	names, err := fsat.Names(f.top.held.fd, ".")
	if err != nil {
		return fmt.Errorf("list upper folder %s: %w", o.Upper, err)
	}
	for _, path := range marks() {
		if err := f.mark(path, len(names) > 0); err != nil {
			return fmt.Errorf("make %s in %s: %w", filepath.Join(path...), o.Work, err)
		}
		f.marked = true
	}
	return nil
}

func (f *FS) mark(path []string, durable bool) error {
	fd, err := descend(f.lock, path, func(dirfd int, name string) error {
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
// memory goes to its disk, and then the marks are taken away.
func (f *FS) unmark() error {
	if !f.marked {
		return nil
	}
	f.marked = false
	if err := unix.Syncfs(f.lock); err != nil {
		return fmt.Errorf("write the volatile upper folder to disk: %w", err)
	}
	var failed error
	for _, path := range marks() {
		failed = firstError(failed, f.removeMark(path))
	}
	return failed
}

// removeMark removes the folders of path, the last first. Those above the mark
// itself may hold other things, and then stay.
func (f *FS) removeMark(path []string) error {
	for i := len(path); i > 0; i-- {
		err := f.removeFolder(path[:i])
		if err != nil && err != unix.ENOENT && i == len(path) {
			return fmt.Errorf("remove %s from the work folder: %w", filepath.Join(path...), err)
		}
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
