package cow

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"unio/unionfs/merge"
)

// What fsync(2) promises of a file of the union depends on more of the upper
// than the file itself: on its copy-up, on that of the folders above it, on
// marks in attributes. On a filesystem that brings changes of names and
// attributes to its disk in the order they were made, all of that is there
// once the file's own last change is. Elsewhere the whole filesystem is synced.

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
		return f.syncFolder(h.fd)
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

// syncFolder syncs the names of a folder. A folder that was moved into it
// carries its redirect in an attribute of its own, so the order of changes
// matters.
func (f *FS) syncFolder(fd int) error {
	if !f.ordered {
		return syncfs(fd)
	}
	return unix.Fsync(fd)
}

func (f *FS) syncFile(n *node, fd int, dataOnly bool) error {
	switch {
	case n.settled.isSettled() && dataOnly:
		return unix.Fdatasync(fd)
	case n.settled.isSettled() || f.ordered:
		return n.settled.by(func() error { return unix.Fsync(fd) })
	}
	return n.settled.by(func() error { return syncfs(fd) })
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

// isOrdered reports whether the filesystem of fd brings changes of names and
// attributes to its disk in the order they were made, whichever of them is
// synced: ext4 and xfs have one journal for all; btrfs logs with a file the
// names and new folders it depends on, or else commits everything; tmpfs
// has no disk.
func isOrdered(fd int) bool {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return false
	}
	switch st.Type {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC:
		return true
	}
	return false
}
