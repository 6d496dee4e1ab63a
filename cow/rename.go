package cow

import (
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"unio/cow/failpoint"
	"unio/cow/fsat"
	"unio/unionfs/merge"
)

// move is a rename under way: src, called oldName in od, becomes newName in
// nd, where dst stands now (nil: nothing).
type move struct {
	od, nd           *node
	oldName, newName string
	flags            uint
	src, dst         *node
	oldBelow         bool // the lower has something under the old name
	newBelow         bool // and under the new one
}

// errMoved says that a name changed between copy-up and lock.
var errMoved = errors.New("name changed")

// Rename is renameat2(2) with RENAME_NOREPLACE and RENAME_EXCHANGE. Folders of
// the lower move as others do: the upper's counterpart is renamed, and its
// origin says which lower folder shows through.
func (f *FS) Rename(oldDir merge.Ino, oldName string, newDir merge.Ino, newName string, flags uint) error {
	if flags&^(unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE) != 0 {
		return unix.EINVAL
	}
	if err := f.checkName(newName); err != nil {
		return err
	}
	m := &move{oldName: oldName, newName: newName, flags: flags}
	var err error
	if m.od, err = f.copyUpFolder(oldDir); err != nil {
		return err
	}
	if m.nd, err = f.copyUpFolder(newDir); err != nil {
		return err
	}
	for {
		if err := f.prepareMove(m); err != nil {
			return err
		}
		if err := f.moveNow(m); err != errMoved {
			if err == nil {
				f.tellReparented(m)
			}
			return err
		}
	}
}

// tellReparented has the kernel forget the listing of each folder that has got
// another parent.
func (f *FS) tellReparented(m *move) {
	if f.dropListing == nil || m.od == m.nd {
		return
	}
	for _, n := range []*node{m.src, m.dst} {
		if n != nil && n.isDir() && (n == m.src || m.flags&unix.RENAME_EXCHANGE != 0) {
			f.dropListing(n.ino)
		}
	}
}

// prepareMove copies up what is to be moved, before any lock is taken.
func (f *FS) prepareMove(m *move) error {
	if err := f.copyUpName(m.od, m.oldName); err != nil {
		return err
	}
	if err := f.detachMove(m); err != nil {
		return err
	}
	if m.flags&unix.RENAME_EXCHANGE != 0 {
		return f.copyUpName(m.nd, m.newName)
	}
	return f.countable(m.nd, m.newName)
}

// copyUpName copies up what has a name now. Without the folder's lock, which a
// copy must not hold, so the move looks again afterwards.
func (f *FS) copyUpName(d *node, name string) error {
	d.dir.mu.RLock()
	n, ino, err := f.find(d.dir, name)
	d.dir.mu.RUnlock()
	switch {
	case err != nil:
		return err
	case n == nil && ino == 0:
		return unix.ENOENT
	case n != nil:
		ino = n.ino
	}
	_, err = f.copyUp(ino)
	return err
}

// lockFolders locks the two folders of a move, an ancestor first.
func (f *FS) lockFolders(m *move) (unlock func()) {
	a, b := m.od, m.nd
	if a == b {
		a.dir.mu.Lock()
		return a.dir.mu.Unlock
	}
	if isAncestor(b, a) || !isAncestor(a, b) && b.ino < a.ino {
		a, b = b, a
	}
	a.dir.mu.Lock()
	b.dir.mu.Lock()
	return func() { b.dir.mu.Unlock(); a.dir.mu.Unlock() }
}

// isAncestor reports whether folder n lies somewhere below folder a.
func isAncestor(a, n *node) bool {
	for n != nil && n != a {
		n.mu.RLock()
		var up *node
		if len(n.places) > 0 {
			up = n.places[0].dir
		}
		n.mu.RUnlock()
		n = up
	}
	return n == a
}

// moveNow is the part of a move under locks, which waits for no data. errMoved: what
// was made ready before has changed meanwhile.
func (f *FS) moveNow(m *move) error {
	if m.od != m.nd {
		f.moving.Lock()
		defer f.moving.Unlock()
	}
	defer f.lockFolders(m)()
	if err := f.resolveMove(m); err != nil {
		return err
	}
	if m.src == m.dst {
		return nil // two names of one file: rename(2) leaves both
	}
	if err := m.intoItself(); err != nil {
		return err
	}
	if m.flags&unix.RENAME_EXCHANGE != 0 {
		return f.exchange(m)
	}
	if m.dst != nil && m.dst.isDir() {
		m.dst.dir.mu.Lock()
		defer m.dst.dir.mu.Unlock()
		if err := f.vacate(m.dst); err != nil {
			return err
		}
	}
	defer lockNodes(m.src, m.dst)()
	return f.replace(m)
}

// intoItself refuses to move a folder below itself, and to replace a folder by
// something that lies below it (vfs_rename in the kernel's fs/namei.c).
func (m *move) intoItself() error {
	switch {
	case m.od == m.nd:
		return nil
	case m.src.isDir() && isAncestor(m.src, m.nd):
		return unix.EINVAL
	case m.dst != nil && m.dst.isDir() && isAncestor(m.dst, m.od):
		if m.flags&unix.RENAME_EXCHANGE != 0 {
			return unix.EINVAL
		}
		return unix.ENOTEMPTY
	}
	return nil
}

// lockNodes locks the nodes of a move for writing, lower numbers first.
func lockNodes(a, b *node) (unlock func()) {
	if b == nil {
		a.mu.Lock()
		return a.mu.Unlock
	}
	if b.ino < a.ino {
		a, b = b, a
	}
	a.mu.Lock()
	b.mu.Lock()
	return func() { b.mu.Unlock(); a.mu.Unlock() }
}

// resolveMove finds out what the names stand for now and checks what rename(2)
// demands of them. Preconditions: both folders are locked.
func (f *FS) resolveMove(m *move) error {
	var err error
	if m.src, err = f.victim(m.od.dir, m.oldName); err != nil {
		return err
	}
	if !m.src.inUpperNow() || f.mustDetach(m.src) {
		return errMoved
	}
	m.dst, err = f.victim(m.nd.dir, m.newName)
	switch {
	case err == unix.ENOENT:
		err = m.targetMissing()
	case err == nil:
		err = m.targetExists()
	}
	if err == nil && m.flags&unix.RENAME_EXCHANGE != 0 && f.mustDetach(m.dst) {
		err = errMoved
	}
	if err != nil {
		return err
	}
	return f.resolveBelow(m)
}

func (m *move) targetMissing() error {
	if m.flags&unix.RENAME_EXCHANGE != 0 || m.nd.dir.removed {
		return unix.ENOENT
	}
	return nil
}

// targetExists says what rename(2) makes of a target that is there.
func (m *move) targetExists() error {
	switch {
	case m.flags&unix.RENAME_NOREPLACE != 0:
		return unix.EEXIST
	case m.flags&unix.RENAME_EXCHANGE != 0:
		if !m.dst.inUpperNow() {
			return errMoved
		}
	case m.src.isDir() && !m.dst.isDir():
		return unix.ENOTDIR
	case !m.src.isDir() && m.dst.isDir():
		return unix.EISDIR
	}
	return nil
}

func (f *FS) resolveBelow(m *move) error {
	old, err := f.lowerName(m.od.dir, m.oldName)
	if err != nil {
		return err
	}
	now, err := f.lowerName(m.nd.dir, m.newName)
	m.oldBelow, m.newBelow = old != 0, now != 0
	return err
}

// replace carries the move out. Preconditions: everything is locked, dst is
// vacated if it is a folder.
func (f *FS) replace(m *move) error {
	last := m.dst != nil && (m.dst.isDir() || f.isLast(m.dst))
	old, now, release, err := f.moveHandles(m)
	if err != nil {
		return err
	}
	defer release()
	if err := f.ready(m.src, m.od, m.oldName, m.newBelow); err != nil {
		return err
	}
	failpoint.Hit("rename.ready")
	keep := last && f.keeps(m.dst)
	if keep {
		if err := f.foster(m.dst, now, m.newName); err != nil {
			return err
		}
	}
	if err := f.renameUpper(m, old, now); err != nil {
		if keep {
			f.unfoster(m.dst, now, m.newName)
		}
		return err
	}
	failpoint.Hit("rename.renamed")
	if m.dst != nil {
		f.forgetPlace(m.nd, m.newName, m.dst, false)
	}
	m.settle()
	if keep {
		f.adoptedByOrphans(m.dst)
	}
	if m.dst == nil {
		return nil
	}
	if m.dst.isDir() {
		m.nd.dir.subdirs--
		f.bury(m.dst)
		return nil
	}
	return f.lose(m.dst, last)
}

// settle brings names and places in memory in line with the upper.
func (m *move) settle() {
	m.src.relocate(place{m.od, m.oldName}, place{m.nd, m.newName})
	if m.oldBelow {
		m.od.dir.put(m.oldName, nil, true)
	} else {
		m.od.dir.drop(m.oldName)
	}
	m.nd.dir.put(m.newName, m.src, m.newBelow)
	if m.src.isDir() {
		m.od.dir.subdirs--
		m.nd.dir.subdirs++
	}
}

// relocate replaces one of n's places. Preconditions: n.mu is held for
// writing.
func (n *node) relocate(from, to place) {
	n.moved.Store(true)
	if i := slices.Index(n.places, from); i >= 0 {
		n.places[i] = to
	}
}

// moveHandles opens the two folders of a move in the upper.
func (f *FS) moveHandles(m *move) (old, now int, release func(), err error) {
	a, err := f.handleOf(m.od)
	if err != nil {
		return 0, 0, nil, err
	}
	b, err := f.handleOf(m.nd)
	if err != nil {
		a.release()
		return 0, 0, nil, err
	}
	return a.fd, b.fd, func() { a.release(); b.release() }, nil
}

// ready makes n fit to be moved: a hubbed file gets a name in the upper, and a
// folder says what shows through wherever it goes. Preconditions: n.mu and
// d.dir.mu are held for writing.
func (f *FS) ready(n, d *node, name string, below bool) error {
	if d.dir.children[name] == nil {
		return f.materialize(n, d, name)
	}
	if !n.isDir() {
		return f.rememberPathOf(n)
	}
	s, err := f.spotLocked(n)
	if err != nil {
		return err
	}
	defer s.h.release()
	if n.dir.lower == 0 {
		if below {
			return f.setOpaque(s)
		}
		return nil
	}
	path, err := f.lowerPath(n.dir.lower)
	if err != nil {
		return err
	}
	if err := fsat.SetXattr(s.fd, s.name, f.names.Redirect, []byte(path), 0); err != nil {
		return err
	}
	f.counts.redirects.Add(1)
	return nil
}

// lowerPath returns the absolute path of a lower folder.
func (f *FS) lowerPath(ino merge.Ino) (string, error) {
	var names []string
	for ino != merge.RootIno {
		links, err := f.lower.Links(ino)
		if err != nil {
			return "", err
		}
		if len(links) == 0 {
			return "", merge.ErrStale
		}
		names = append(names, links[0].Name)
		ino = links[0].Dir
	}
	slices.Reverse(names)
	return "/" + strings.Join(names, "/"), nil
}

// materialize gives a hubbed file an upper entry under its lower name.
// Preconditions: as for ready.
func (f *FS) materialize(n, d *node, name string) error {
	h, err := f.handleOf(d)
	if err != nil {
		return err
	}
	defer h.release()
	err = f.keepTimes(h.fd, func() error { return f.linkAt(n, d, slot{name: name}) })
	if err != nil {
		return err
	}
	n.places = append(n.places, place{d, name})
	d.dir.put(name, n, true)
	return nil
}

// renameUpper renames in the upper and leaves a whiteout behind where the
// lower has something. A folder cannot replace a whiteout: the two change
// places.
func (f *FS) renameUpper(m *move, old, now int) error {
	c := m.nd.dir.children[m.newName]
	if m.src.isDir() && c != nil && c.node == nil {
		if err := fsat.Rename(old, m.oldName, now, m.newName, unix.RENAME_EXCHANGE); err != nil {
			return err
		}
		failpoint.Hit("rename.overwhiteout")
		if m.oldBelow {
			return nil
		}
		return fsat.Unlink(old, m.oldName)
	}
	if !m.oldBelow {
		return fsat.Rename(old, m.oldName, now, m.newName, 0)
	}
	err := fsat.Rename(old, m.oldName, now, m.newName, unix.RENAME_WHITEOUT)
	failpoint.Hit("rename.whiteout")
	if err == nil {
		f.counts.whiteouts.Add(1)
	}
	if err != unix.EINVAL && err != unix.EPERM {
		return err
	}
	if err := fsat.Rename(old, m.oldName, now, m.newName, 0); err != nil {
		return err
	}
	return f.hide(old, m.oldName)
}

// exchange swaps two names. Preconditions: both folders are locked.
func (f *FS) exchange(m *move) error {
	defer lockNodes(m.src, m.dst)()
	if err := f.ready(m.src, m.od, m.oldName, m.newBelow); err != nil {
		return err
	}
	if err := f.ready(m.dst, m.nd, m.newName, m.oldBelow); err != nil {
		return err
	}
	old, now, release, err := f.moveHandles(m)
	if err != nil {
		return err
	}
	defer release()
	if err := fsat.Rename(old, m.oldName, now, m.newName, unix.RENAME_EXCHANGE); err != nil {
		return err
	}
	failpoint.Hit("rename.exchanged")
	m.src.relocate(place{m.od, m.oldName}, place{m.nd, m.newName})
	m.dst.relocate(place{m.nd, m.newName}, place{m.od, m.oldName})
	m.od.dir.put(m.oldName, m.dst, m.oldBelow)
	m.nd.dir.put(m.newName, m.src, m.newBelow)
	for _, n := range []*node{m.src, m.dst} {
		if n.isDir() {
			delta := int64(1)
			if n == m.dst {
				delta = -1
			}
			m.nd.dir.subdirs += delta
			m.od.dir.subdirs -= delta
		}
	}
	return nil
}
