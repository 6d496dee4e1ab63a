package cow

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"unio/cow/failpoint"
	"unio/cow/fsat"
	"unio/unionfs/merge"
)

// Unlink removes name, which is not a folder's, from folder dir.
func (f *FS) Unlink(dir merge.Ino, name string) error {
	d, err := f.copyUpFolder(dir)
	if err != nil {
		return err
	}
	if err := f.countable(d, name); err != nil {
		return err
	}
	d.dir.mu.Lock()
	defer d.dir.mu.Unlock()
	n, err := f.victim(d.dir, name)
	if err != nil {
		return err
	}
	if n.isDir() {
		return unix.EISDIR
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return f.unlink(d, name, n)
}

// countable sees to it that a lower file with several names is in the hub,
// where the names it keeps are counted, before one of them goes. A plain upper
// takes no copy for that: the count is kept until the mount ends.
func (f *FS) countable(d *node, name string) error {
	if f.allNames {
		return f.recallName(d, name)
	}
	d.dir.mu.RLock()
	n, ino, err := f.find(d.dir, name)
	d.dir.mu.RUnlock()
	if err != nil || n != nil && n.inUpperNow() || n == nil && ino == 0 {
		return err
	}
	if n != nil {
		ino = n.lower
	}
	var a merge.Attr
	if err := f.lower.Attr(ino, &a); err != nil || a.IsDir() || a.Nlink < 2 {
		return err
	}
	_, err = f.copyUp(ino)
	return err
}

// victim returns the node that name stands for, entering an untouched one.
// Preconditions: d.mu is held.
func (f *FS) victim(d *folder, name string) (*node, error) {
	n, ino, err := f.find(d, name)
	switch {
	case err != nil || n != nil:
		return n, err
	case ino == 0:
		return nil, unix.ENOENT
	}
	return f.enterLower(ino, true)
}

// unlink removes one name of n. Preconditions: d.dir.mu and n.mu are held for
// writing.
func (f *FS) unlink(d *node, name string, n *node) error {
	below, err := f.lowerName(d.dir, name)
	if err != nil {
		return err
	}
	last := f.isLast(n)
	keep := last && f.keeps(n)
	if err := f.unlinkAt(d, name, n, how{below: below != 0, keep: keep}); err != nil {
		return err
	}
	failpoint.Hit("unlink.removed")
	f.forgetPlace(d, name, n, below != 0)
	if keep {
		f.adoptedByOrphans(n)
	}
	err = f.lose(n, last)
	failpoint.Hit("unlink.counted")
	return err
}

// lose records that a name of n is gone. Preconditions: n.mu is held for
// writing.
func (f *FS) lose(n *node, last bool) error {
	n.gone = last
	if !n.inUpper {
		n.lost++
		n.lostAt = time.Now().UnixNano()
	}
	err := f.countNames(n, -1)
	if last && !f.wanted(n) {
		f.reap(n)
	}
	return err
}

// reap forgets a node that has neither a name nor the kernel's interest.
// Preconditions: n.mu is held for writing.
func (f *FS) reap(n *node) {
	f.table.remove(n)
	if n.hubbed {
		f.clearHub(n)
	}
	if f.isOrphan(n) {
		f.dropEntry(n.places[0].name)
		n.places = nil
	}
	if n.held != nil {
		n.held.release()
		n.held = nil
	}
	uncache(n)
}

// isLast reports whether n has one name left in the union. Preconditions: n.mu
// is held.
func (f *FS) isLast(n *node) bool {
	switch {
	case n.hubbed:
		return n.nlink <= 1
	case f.allNames && !n.inUpper:
		return f.lowerNames(n) <= n.lost+1
	}
	return len(n.places) <= 1
}

// lowerNames returns how many names an untouched node has in the lower.
func (f *FS) lowerNames(n *node) uint32 {
	var a merge.Attr
	if f.lower.Attr(n.lower, &a) != nil || a.IsDir() {
		return 1
	}
	return a.Nlink
}

// how says how a name goes.
type how struct {
	below bool // the lower has something under it, which must be hidden
	keep  bool // what it stands for is kept in WORK/orphan
}

// unlinkAt removes name, which stands for n, from the upper and hides what the
// lower has there.
func (f *FS) unlinkAt(d *node, name string, n *node, how how) error {
	h, err := f.handleOf(d)
	if err != nil {
		return err
	}
	defer h.release()
	inUpper := d.dir.children[name] != nil
	switch {
	case inUpper && how.keep:
		return f.orphanize(n, h.fd, name, how.below)
	case inUpper && how.below:
		return f.cover(h.fd, name)
	case inUpper:
		return fsat.Unlink(h.fd, name)
	}
	return f.hide(h.fd, name)
}

// forgetPlace records that name is gone from d. Preconditions: d.dir.mu and
// n.mu are held for writing.
func (f *FS) forgetPlace(d *node, name string, n *node, below bool) {
	n.places = slices.DeleteFunc(n.places, func(p place) bool { return p.dir == d && p.name == name })
	if below {
		d.dir.put(name, nil, true)
	} else {
		d.dir.drop(name)
	}
}

// Rmdir removes the empty folder name from folder dir.
func (f *FS) Rmdir(dir merge.Ino, name string) error {
	d, err := f.copyUpFolder(dir)
	if err != nil {
		return err
	}
	d.dir.mu.Lock()
	defer d.dir.mu.Unlock()
	n, err := f.victim(d.dir, name)
	if err != nil {
		return err
	}
	if !n.isDir() {
		return unix.ENOTDIR
	}
	n.dir.mu.Lock()
	defer n.dir.mu.Unlock()
	if err := f.vacate(n); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return f.rmdir(d, name, n)
}

// vacate checks that n is empty and clears its upper folder of whiteouts.
// Preconditions: n.dir.mu is held for writing.
func (f *FS) vacate(n *node) error {
	empty, white, err := f.empty(n)
	if err != nil {
		return err
	}
	if !empty {
		return unix.ENOTEMPTY
	}
	return f.clearWhiteouts(n, white)
}

// rmdir removes vacated folder n. Preconditions: d.dir.mu, n.dir.mu and n.mu
// are held for writing.
func (f *FS) rmdir(d *node, name string, n *node) error {
	below, err := f.lowerName(d.dir, name)
	if err != nil {
		return err
	}
	h, err := f.handleOf(d)
	if err != nil {
		return err
	}
	defer h.release()
	keep := f.keeps(n) || n.inUpper && below != 0 // an orphan that nobody wants goes at once
	switch {
	case keep:
		err = f.orphanize(n, h.fd, name, below != 0)
	case n.inUpper:
		err = fsat.Rmdir(h.fd, name)
	default:
		err = f.hide(h.fd, name)
	}
	if err != nil {
		return err
	}
	failpoint.Hit("rmdir.removed")
	f.forgetPlace(d, name, n, below != 0)
	if keep {
		f.adoptedByOrphans(n)
	}
	d.dir.subdirs--
	f.bury(n)
	return nil
}

// bury marks a folder that has lost its name. Preconditions: n.dir.mu and n.mu
// are held for writing.
func (f *FS) bury(n *node) {
	n.dir.removed, n.dir.lower = true, 0
	n.gone = true
	if !n.inUpper {
		n.lostAt = time.Now().UnixNano()
	}
	if !f.wanted(n) {
		f.reap(n)
	}
}
