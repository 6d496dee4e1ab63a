package cow

import (
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"unio/unionfs/merge"
)

// What fsync(2) promises of a file of the union depends on more of the upper
// than the file itself: on its copy-up, on that of the folders above it, on
// marks in attributes. On a filesystem that brings changes of names and
// attributes to its disk in the order they were made, all of that is there
// once the file's own last change is. Elsewhere the whole filesystem is synced,
// on btrfs only where moves are involved.

// settled tells whether what a node depends on has reached the disk since it
// last changed: its place after a copy-up, and the attributes that say where
// its data is.
type settled struct {
	changes atomic.Uint32
	synced  atomic.Uint32 // one more than changes was when a full sync began
}

// unsettle records such a change.
func (s *settled) unsettle() { s.changes.Add(1) }

func (s *settled) isSettled() bool { return s.synced.Load() == s.changes.Load()+1 }

// by runs a full sync.
func (s *settled) by(sync func() error) error {
	at := s.changes.Load() + 1
	if err := sync(); err != nil {
		return err
	}
	s.synced.Store(at)
	return nil
}

// Fsync waits until a file or folder is on the disk, and what the union needs
// to show it after a power cut. What has not been copied up has nothing to
// wait for. dataOnly is fdatasync(2); the first one after a copy-up waits for
// the copy's name as well, for without it the lower file would be seen.
func (f *FS) Fsync(ino merge.Ino, dataOnly bool) error {
	n := f.table.get(ino)
	if f.volatile || n == nil || !n.inUpperNow() {
		return nil
	}
	if n.typ != unix.S_IFREG && n.typ != unix.S_IFDIR {
		return nil
	}
	h, err := f.handleOf(n)
	if err != nil {
		return err
	}
	defer h.release()
	if n.isDir() {
		return f.syncFolder(n, h.fd)
	}
	full := f.filled(n, h.fd)
	err = f.syncFile(n, h.fd, dataOnly)
	if err == nil && full {
		err = f.finishPartial(n, h.fd)
	}
	return err
}

// Volatile reports whether nothing ever waits for the disk.
func (f *FS) Volatile() bool { return f.volatile }

// syncFolder syncs the names of a folder.
func (f *FS) syncFolder(n *node, fd int) error {
	if f.needsAll(n) {
		return f.syncAll(n, fd)
	}
	return unix.Fsync(fd)
}

func (f *FS) syncFile(n *node, fd int, dataOnly bool) error {
	switch {
	case n.settled.isSettled() && dataOnly:
		return unix.Fdatasync(fd)
	case f.needsAll(n):
		return n.settled.by(func() error { return f.syncAll(n, fd) })
	}
	return n.settled.by(func() error { return unix.Fsync(fd) })
}

// needsAll reports whether an fsync of n alone would leave out what it depends
// on. A filesystem that logs single files does not log the whiteout or the
// redirect of a name that one of them, or a folder above it, has left.
func (f *FS) needsAll(n *node) bool {
	switch f.order {
	case orderAll:
		return false
	case orderLogged:
		return !f.pastSynced.Load() || len(n.movedAbove(nil)) > 0
	}
	return true
}

// movedAbove appends to list what of n and the folders above its names has got
// a name that is not known to be on the disk.
func (n *node) movedAbove(list []*node) []*node {
	if n.moved.Load() {
		list = append(list, n)
	}
	n.mu.RLock()
	places := slices.Clone(n.places)
	n.mu.RUnlock()
	for _, p := range places {
		list = p.dir.movedAbove(list)
	}
	return list
}

// syncAll syncs the whole filesystem. The marks of moves go before: what is
// moved meanwhile waits for the next time.
func (f *FS) syncAll(n *node, fd int) error {
	moved := n.movedAbove(nil)
	for _, m := range moved {
		m.moved.Store(false)
	}
	err := syncfs(fd)
	for _, m := range moved {
		if err != nil {
			m.moved.Store(true)
		}
	}
	if err == nil {
		f.pastSynced.Store(true)
	}
	return err
}

// syncfs writes back a filesystem. fsync(2) is what reports that writing a
// file failed.
func syncfs(fd int) error {
	if err := unix.Syncfs(fd); err != nil {
		return err
	}
	return unix.Fsync(fd)
}

// syncData waits until the data of a file is on the disk, before a name or a
// mark makes readers rely on it.
func (f *FS) syncData(fd int) error {
	if f.volatile {
		return nil
	}
	return unix.Fdatasync(fd)
}

// order is what a filesystem promises about its disk.
type order int

const (
	orderNone   order = iota // nothing
	orderLogged              // with a synced file its names, and the new folders above them
	orderAll                 // changes of names and attributes in the order they were made
)

// orderOf tells what the filesystem of fd promises: ext4 and xfs have one
// journal for all changes, tmpfs has no disk; btrfs logs single files.
func orderOf(fd int) order {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return orderNone
	}
	switch st.Type {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.TMPFS_MAGIC:
		return orderAll
	case unix.BTRFS_SUPER_MAGIC:
		return orderLogged
	}
	return orderNone
}
