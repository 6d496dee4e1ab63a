package cow

import (
	"golang.org/x/sys/unix"

	"unio/cow/failpoint"
	"unio/cow/fsat"
	"unio/unionfs/merge"
)

// Link makes name in folder dir another name of node ino, and fills in its
// attributes.
func (f *FS) Link(ino, dir merge.Ino, name string, st *Stat) error {
	if err := f.checkName(name); err != nil {
		return err
	}
	n, err := f.copyUp(ino)
	if err != nil {
		return err
	}
	if n.isDir() {
		return unix.EPERM
	}
	d, err := f.copyUpFolder(dir)
	if err != nil {
		return err
	}
	if err := f.link(n, d, name); err != nil {
		return err
	}
	return f.statNode(n, st)
}

// link gives n one more name. The count on disk goes up first: a crash in between
// leaves one too many, which the next mount puts right, while one too few would
// let the file go with a name left.
func (f *FS) link(n, d *node, name string) error {
	d.dir.mu.Lock()
	defer d.dir.mu.Unlock()
	at, err := f.freeSlot(d, name)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gone && !n.fresh {
		return unix.ENOENT
	}
	if err := f.rememberPathOf(n); err != nil {
		return err
	}
	if err := f.countNames(n, +1); err != nil {
		return err
	}
	failpoint.Hit("link.counted")
	if err := f.linkAt(n, d, at); err != nil {
		return firstError(err, f.countNames(n, -1))
	}
	failpoint.Hit("link.placed")
	if n.fresh {
		n.gone, n.fresh, n.places = false, false, nil
	}
	n.moved.Store(true)
	n.places = append(n.places, place{d, name})
	d.dir.put(name, n, at.below)
	return nil
}

// linkAt makes the link in the upper, through WORK/tmp if it has to take a
// whiteout's place. Preconditions: n.mu and d.dir.mu are held.
func (f *FS) linkAt(n, d *node, at slot) error {
	dst, err := f.handleOf(d)
	if err != nil {
		return err
	}
	defer dst.release()
	if n.fresh {
		return f.moveIn(n, dst.fd, at)
	}
	if !at.white {
		return f.linkTo(n, dst.fd, at.name)
	}
	temp := f.tempName()
	if err := f.linkTo(n, f.tmp, temp); err != nil {
		return err
	}
	failpoint.Hit("link.linked")
	if err := fsat.Rename(f.tmp, temp, dst.fd, at.name, 0); err != nil {
		f.discard(temp)
		return err
	}
	return nil
}

// linkTo links n to a name in the upper. Preconditions: n.mu is held.
func (f *FS) linkTo(n *node, dirfd int, name string) error {
	if len(n.places) == 0 {
		return unix.ENOENT
	}
	from := n.places[0]
	src, err := f.handleOf(from.dir)
	if err != nil {
		return err
	}
	defer src.release()
	return fsat.Link(src.fd, from.name, dirfd, name)
}

// moveIn gives an orphan, which has no name yet, its first one. Preconditions:
// as for linkAt.
func (f *FS) moveIn(n *node, dirfd int, at slot) error {
	var flags uint = unix.RENAME_NOREPLACE
	if at.white {
		flags = 0
	}
	return fsat.Rename(f.orphan.held.fd, n.places[0].name, dirfd, at.name, flags)
}
