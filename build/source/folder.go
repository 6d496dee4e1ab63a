package source

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"unio/cow/fsat"
)

// Options of the trees that are made from what a user hands over.
type Options struct {
	// Ignore are patterns in the form of .dockerignore, of what is not to be
	// seen; see [ReadIgnore].
	Ignore []string
	// KeepOwners shows the owners as they are. Otherwise all belongs to root,
	// as in a build context of docker.
	KeepOwners bool
	// Temp is where files are kept while the tree is open; "": os.TempDir.
	Temp string
}

// Folder is a tree on the host. It holds a descriptor until it is closed, and
// stays on that folder whatever becomes of its path.
type Folder struct {
	root int
	o    Options
	seen *ignorer // nil: all is seen
}

// OpenFolder opens a folder of the host as a tree. dir itself may be a link.
func OpenFolder(dir string, o Options) (*Folder, error) {
	seen, err := newIgnorer(o.Ignore)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, pathError("open", dir, err)
	}
	return &Folder{root: fd, o: o, seen: seen}, nil
}

// Close releases the descriptor.
func (f *Folder) Close() error { return fsat.Close(f.root) }

// open opens a name without following a link anywhere (openat2(2)); what a
// swapping process puts in the way gives an error, never another tree.
func (f *Folder) open(name string, flags uint64) (int, error) {
	how := unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	if name == "" {
		name = "."
	}
	for {
		fd, err := unix.Openat2(f.root, name, &how)
		// EAGAIN: a rename somewhere made the walk unsure.
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if err == unix.ENOTDIR {
			err = unix.ENOENT // as a name below a file is not there
		}
		return fd, err
	}
}

// Lstat describes one name.
func (f *Folder) Lstat(name string) (Entry, error) {
	visible, err := f.visible(name)
	if err != nil {
		return Entry{}, err
	}
	if !visible {
		return Entry{}, notExist("stat", name)
	}
	return f.lstat(name)
}

// lstat opens the folder above first: fstatat(2) on the whole name would
// follow a link that takes the place of a folder meanwhile.
func (f *Folder) lstat(name string) (Entry, error) {
	dir, base := split(name)
	fd, err := f.open(dir, unix.O_PATH|unix.O_DIRECTORY)
	if err == unix.ELOOP {
		err = unix.ENOENT // a link above: this tree has no such name
	}
	if err != nil {
		return Entry{}, pathError("stat", name, err)
	}
	defer fsat.Close(fd)
	e, err := f.entry(fd, base)
	if err != nil {
		return Entry{}, pathError("stat", name, err)
	}
	return e, nil
}

// visible reports whether the patterns leave a name in sight.
func (f *Folder) visible(name string) (bool, error) {
	if f.seen == nil || name == "" {
		return true, nil
	}
	return f.seen.visible(unfiltered{f}, name)
}

// unfiltered is a folder as it is, for those who filter it.
type unfiltered struct{ *Folder }

// Lstat shows what patterns hide, too.
func (u unfiltered) Lstat(name string) (Entry, error)     { return u.lstat(name) }
func (u unfiltered) ReadDir(name string) ([]Entry, error) { return u.readDir(name) }

// entry describes a name below an open folder; "" is the folder itself.
func (f *Folder) entry(fd int, name string) (Entry, error) {
	var st unix.Stat_t
	if err := fsat.Stat(fd, name, &st); err != nil {
		return Entry{}, err
	}
	e := Entry{
		Name: name, Mode: st.Mode, Rdev: uint64(st.Rdev),
		ModTime: time.Unix(st.Mtim.Sec, st.Mtim.Nsec), // widths differ by architecture elsewhere
	}
	if f.o.KeepOwners {
		e.UID, e.GID = st.Uid, st.Gid
	}
	switch {
	case e.IsRegular():
		e.Size = st.Size
	case e.IsLink():
		target, err := fsat.Readlink(fd, name)
		if err != nil {
			return Entry{}, err
		}
		e.Target = target
	}
	if st.Nlink > 1 && !e.IsDir() {
		e.ID = FileID{uint64(st.Dev), st.Ino}
	}
	var err error
	e.Xattrs, err = readXattrs(fd, name)
	return e, err
}

// keepXattr reports whether an extended attribute goes into an image. Those of
// this host (labels, overlay marks, access lists by local numbers) do not.
func keepXattr(name string) bool {
	return name == "security.capability" || strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.")
}

// readXattrs reads the attributes that an image takes along. A filesystem that
// has none, or that keeps them to itself, is no reason to fail.
func readXattrs(fd int, name string) (map[string]string, error) {
	list, err := fsat.ListXattr(fd, name)
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) || len(list) == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var found map[string]string
	for _, key := range list {
		if !keepXattr(key) {
			continue
		}
		value, err := fsat.XattrValue(fd, name, key)
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if found == nil {
			found = map[string]string{}
		}
		found[key] = string(value)
	}
	return found, nil
}

// ReadDir describes what is in a folder.
func (f *Folder) ReadDir(name string) ([]Entry, error) {
	list, err := f.readDir(name)
	if err != nil || f.seen == nil {
		return list, err
	}
	return f.seen.filter(unfiltered{f}, name, list)
}

// readDir lists a folder with one open and no path: names are looked up
// relative to the descriptor, whatever becomes of the folder.
func (f *Folder) readDir(name string) ([]Entry, error) {
	fd, err := f.open(name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, pathError("read", name, err)
	}
	defer fsat.Close(fd)
	names, err := fsat.Names(fd, ".")
	if err != nil {
		return nil, pathError("read", name, err)
	}
	slices.Sort(names)
	list := make([]Entry, 0, len(names))
	for _, n := range names {
		e, err := f.entry(fd, n)
		if errors.Is(err, unix.ENOENT) {
			continue // gone since it was listed
		}
		if err != nil {
			return nil, pathError("stat", join(name, n), err)
		}
		// A tar has no type for sockets; docker leaves them out too.
		if e.Mode&unix.S_IFMT != unix.S_IFSOCK {
			list = append(list, e)
		}
	}
	return list, nil
}

// Open opens a regular file. A fifo in its place does not block.
func (f *Folder) Open(name string) (io.ReadCloser, error) {
	visible, err := f.visible(name)
	if err != nil {
		return nil, err
	}
	if !visible {
		return nil, notExist("open", name)
	}
	fd, err := f.open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	file := os.NewFile(uintptr(fd), name)
	st, err := file.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%w: %s is not a regular file", ErrInvalid, name)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}
