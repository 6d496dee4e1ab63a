package cow

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"unio/cow/failpoint"
	"unio/cow/fsat"
	"unio/unionfs/merge"
	"unio/whiteout"
)

// What loses its last name while the kernel still refers to it, or never had
// one (O_TMPFILE), lives on in WORK/orphan under its decimal number, until the
// kernel forgets it. There a server that takes over finds it; an Open that
// starts afresh empties the folder.
//
// After a takeover nobody knows how often the kernel refers to a node: only of
// nodes made since then all references have been counted. Of the others an
// unlinked one is always kept, and any FORGET of it lets it go: the kernel
// sends one when it drops the inode.

const orphanName = "orphan"

func orphanEntry(ino merge.Ino) string { return strconv.FormatUint(uint64(ino), 10) }

// isOrphan reports whether n lies in WORK/orphan. Preconditions: n.mu is held.
func (f *FS) isOrphan(n *node) bool { return len(n.places) == 1 && n.places[0].dir == f.orphan }

// wanted reports whether the kernel may refer to n.
func (f *FS) wanted(n *node) bool { return f.uncounted(n) || f.references(n) > 0 }

// uncounted reports whether some references to n may date from before a
// takeover.
func (f *FS) uncounted(n *node) bool { return f.resumed && !n.counted }

// keeps reports whether n must be kept in WORK/orphan when its last name goes.
// A hubbed file stays in the hub, and what was never copied up in the lower.
// Preconditions: n.mu is held.
func (f *FS) keeps(n *node) bool { return n.inUpper && !n.hubbed && f.wanted(n) }

// orphanize moves n from its name in the upper folder open at fd to
// WORK/orphan, in one step; cover leaves a whiteout behind. Preconditions: n.mu
// and the folder's lock are held for writing.
func (f *FS) orphanize(n *node, fd int, name string, cover bool) error {
	if err := f.rememberOrigin(n); err != nil {
		return err
	}
	entry := orphanEntry(n.ino)
	if !cover {
		err := fsat.Rename(fd, name, f.orphan.held.fd, entry, 0)
		if err == unix.ENOSPC || err == unix.EDQUOT {
			return f.holdOpen(n, fd, name)
		}
		return err
	}
	if err := f.freshEntry(entry, func() error { return f.hide(f.orphan.held.fd, entry) }); err != nil {
		return err
	}
	failpoint.Hit("orphan.whiteout")
	if err := fsat.Rename(f.orphan.held.fd, entry, fd, name, unix.RENAME_EXCHANGE); err != nil {
		f.dropEntry(entry)
		return err
	}
	return nil
}

// holdOpen removes n's name, and keeps a descriptor of n until the kernel
// forgets it: on a full disk WORK/orphan cannot grow, and removing must make
// room. A server that takes over does not find it: ESTALE. Preconditions: those
// of orphanize.
func (f *FS) holdOpen(n *node, fd int, name string) error {
	h, err := f.handleLocked(n)
	if err != nil {
		return err
	}
	remove := fsat.Unlink
	if n.isDir() {
		remove = fsat.Rmdir
	}
	if err := remove(fd, name); err != nil {
		h.release()
		return err
	}
	n.held = h
	return nil
}

// freshEntry runs make, which makes entry in WORK/orphan, in place of one that
// somehow stayed there.
func (f *FS) freshEntry(entry string, make func() error) error {
	err := make()
	if err != unix.EEXIST {
		return err
	}
	if err := fsat.RemoveAll(f.orphan.held.fd, entry); err != nil {
		return err
	}
	return make()
}

// foster brings n, which is about to be replaced at its name in the folder open
// at fd, to WORK/orphan. A file is linked there. A folder, which is empty,
// changes places with another one of the same attributes, which is then the one
// to be replaced: its own inode must live on, or its number would be given to
// something new. Preconditions: n.mu is held for writing.
func (f *FS) foster(n *node, fd int, name string) error {
	if err := f.rememberOrigin(n); err != nil {
		return err
	}
	entry, to := orphanEntry(n.ino), f.orphan.held.fd
	if !n.isDir() {
		err := f.freshEntry(entry, func() error { return fsat.Link(fd, name, to, entry) })
		failpoint.Hit("orphan.linked")
		return err
	}
	err := f.freshEntry(entry, func() error { return fsat.Mkdir(to, entry, 0o700) })
	if err != nil {
		return err
	}
	err = f.likeFolder(spot{fd: fd, name: name}, spot{fd: to, name: entry})
	failpoint.Hit("orphan.folder")
	if err == nil {
		err = fsat.Rename(to, entry, fd, name, unix.RENAME_EXCHANGE)
	}
	failpoint.Hit("orphan.exchanged")
	if err != nil {
		f.dropEntry(entry)
	}
	return err
}

// unfoster takes back what foster did: n is not replaced after all.
func (f *FS) unfoster(n *node, fd int, name string) {
	entry := orphanEntry(n.ino)
	if n.isDir() {
		if err := fsat.Rename(f.orphan.held.fd, entry, fd, name, unix.RENAME_EXCHANGE); err != nil {
			f.log.Warn("cannot bring a folder back to its name", "name", name, "err", err)
			return
		}
	}
	f.dropEntry(entry)
}

// likeFolder gives the folder at to the attributes of the one at from.
func (f *FS) likeFolder(from, to spot) error {
	names, err := fsat.ListXattr(from.fd, from.name)
	if err != nil && err != unix.ENOTSUP {
		return err
	}
	for _, name := range names {
		value, err := fsat.XattrValue(from.fd, from.name, name)
		if err == nil {
			err = fsat.SetXattr(to.fd, to.name, name, value, 0)
		}
		if err != nil && !isRefusal(err) {
			return err
		}
	}
	var st unix.Stat_t
	if err := fsat.Stat(from.fd, from.name, &st); err != nil {
		return err
	}
	if err := fsat.Chown(to.fd, to.name, int(st.Uid), int(st.Gid)); err != nil && f.root {
		return err
	}
	if err := fsat.Chmod(to.fd, to.name, st.Mode); err != nil {
		return err
	}
	return fsat.Utimes(to.fd, to.name, st.Atim, st.Mtim)
}

// rememberOrigin makes sure that a file whose data is the lower's says which:
// in an upper made by others it may have been known by its name alone.
// Preconditions: n.mu is held.
func (f *FS) rememberOrigin(n *node) error {
	if n.typ != unix.S_IFREG || n.lower == 0 || n.data.get() == dataWhole {
		return nil
	}
	if f.sparse() {
		return f.rememberPathOf(n)
	}
	s, err := f.spotLocked(n)
	if err != nil {
		return err
	}
	defer s.h.release()
	return f.setOwn(n, s, f.names.Origin, strconv.FormatUint(uint64(n.lower), 10))
}

// adoptedByOrphans records that n lies in WORK/orphan now, unless a descriptor
// is all that is left of it. Preconditions: n.mu is held for writing.
func (f *FS) adoptedByOrphans(n *node) {
	if n.held != nil {
		return
	}
	n.places = []place{{f.orphan, orphanEntry(n.ino)}}
}

// dropEntry removes something from WORK/orphan.
func (f *FS) dropEntry(entry string) {
	if err := fsat.RemoveAll(f.orphan.held.fd, entry); err != nil {
		f.log.Warn("cannot remove from the orphans' folder", "entry", entry, "err", err)
	}
}

// openOrphans opens WORK/orphan, empty unless a takeover needs what is in it.
func (f *FS) openOrphans(work int, path string) error {
	if !f.resumed {
		if err := fsat.RemoveAll(work, orphanName); err != nil {
			return fmt.Errorf("clear %s/%s: %w", path, orphanName, err)
		}
	}
	fd, err := makeDir(work, orphanName)
	if err != nil {
		return fmt.Errorf("make %s/%s: %w", path, orphanName, err)
	}
	f.orphan = f.newFolder(0, 0)
	f.orphan.held = newHandle(fd)
	f.orphan.inUpper = true
	return nil
}

// loadOrphans enters what a dead server left in WORK/orphan. Preconditions: all
// that has a name is in the table.
func (f *FS) loadOrphans() error {
	fd := f.orphan.held.fd
	names, err := fsat.Names(fd, ".")
	if err != nil {
		return err
	}
	for _, name := range names {
		n, err := f.orphanOf(fd, name)
		if err != nil {
			return err
		}
		// What has its name still, or is a whiteout, was left by a step that
		// was not finished.
		if n == nil || f.table.get(n.ino) != nil {
			f.dropEntry(name)
			continue
		}
		f.table.add(n)
	}
	return nil
}

// orphanOf makes the node of an entry of WORK/orphan, nil for what is none.
func (f *FS) orphanOf(fd int, name string) (*node, error) {
	ino, err := strconv.ParseUint(name, 10, 63)
	if err != nil {
		return nil, nil
	}
	e, err := f.examine(fd, name)
	if err != nil {
		return nil, err
	}
	if whiteout.IsDevice(e.st.Mode, e.st.Rdev) {
		return nil, nil
	}
	n := &node{ino: merge.Ino(ino), lower: e.origin.ino, typ: e.st.Mode & unix.S_IFMT}
	if n.typ == unix.S_IFDIR {
		n = f.newFolder(n.ino, 0)
		n.dir.removed = true
	} else {
		if e.has(f.names.Metacopy) || e.has(f.names.Partial) {
			n.lower = f.lowerFile(f.orphan, &e, 0, fd)
		}
		f.adoptData(n, &e, fd)
	}
	n.inUpper, n.gone = true, true
	// Whether it may get a name is for the kernel to say (vfs_link looks at
	// I_LINKABLE, which it sets for an O_TMPFILE).
	n.fresh = n.typ == unix.S_IFREG
	f.adoptedByOrphans(n)
	return n, nil
}

// clearOrphans empties WORK/orphan when the mount is gone. Where Open has
// failed they may still be another one's to take over.
func (f *FS) clearOrphans() {
	if !f.opened || f.lock < 0 {
		return
	}
	if err := fsat.RemoveAll(f.lock, orphanName); err != nil {
		f.log.Warn("cannot clear the orphans' folder", "err", err)
	}
}
