package cow

import (
	"slices"

	"golang.org/x/sys/unix"

	"unio/cow/failpoint"
	"unio/cow/fsat"
	"unio/unionfs/merge"
)

// A plain upper can be read at every moment by those who know overlayfs's
// oldest forms only: whiteouts and opaque folders. So files are copied up
// whole, under each of their lower names that is known, and a folder that
// shows lower entries is copied up with all of them before it is renamed.

// nameAll gives the copy of a node, which is in the hub, the names that its
// original has in the lower and that still show. Preconditions: n.copying is
// held.
func (f *FS) nameAll(n *node, links []merge.Link) error {
	for _, l := range links {
		if shown, err := f.shows(l.Dir); err != nil || !shown {
			if err != nil {
				return err
			}
			continue
		}
		d, err := f.copyUpFolder(l.Dir)
		if err != nil {
			return err
		}
		if err := f.nameOne(n, d, l); err != nil {
			return err
		}
	}
	return nil
}

// nameOne gives n, which is in the hub, its name in the upper's folder d,
// unless that name has been taken or has gone.
func (f *FS) nameOne(n, d *node, l merge.Link) error {
	d.dir.mu.Lock()
	defer d.dir.mu.Unlock()
	if d.dir.removed || d.dir.lower != l.Dir || d.dir.children[l.Name] != nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gone || !n.hubbed {
		return nil
	}
	return f.materialize(n, d, l.Name)
}

// shows reports whether a lower folder still shows in the union: neither it
// nor one above it is hidden.
func (f *FS) shows(ino merge.Ino) (bool, error) {
	for ino != merge.RootIno {
		if n := f.table.get(ino); n != nil && n.inUpperNow() {
			return n.dir.showsLower(ino), nil
		}
		links, err := f.lower.Links(ino)
		if err != nil || len(links) == 0 {
			return false, err
		}
		if p := f.table.get(links[0].Dir); p != nil && !p.dir.showsEntry(links[0]) {
			return false, nil
		}
		ino = links[0].Dir
	}
	return f.top.dir.showsLower(ino), nil
}

func (d *folder) showsLower(ino merge.Ino) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return !d.removed && d.lower == ino
}

func (d *folder) showsEntry(l merge.Link) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return !d.removed && d.lower == l.Dir && d.children[l.Name] == nil
}

// Detach makes the folder called name in folder dir independent of the lower,
// as a rename needs it in an upper without redirects: all that shows in it is
// copied up, and it becomes opaque. EINTR: cancel was closed; what has been
// copied stays and shows the same. It does nothing where redirects are
// allowed, and where name is no folder.
func (f *FS) Detach(dir merge.Ino, name string, cancel <-chan struct{}) error {
	if !f.noRedirect {
		return nil
	}
	var st Stat
	if err := f.Lookup(dir, name, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return err
	}
	return f.detach(st.Ino, cancel)
}

// detach goes over a folder until nothing of the lower shows in it: others may
// make it anew while this one copies.
func (f *FS) detach(ino merge.Ino, cancel <-chan struct{}) error {
	n, err := f.copyUpFolder(ino)
	if err != nil {
		return err
	}
	for n.dir.showsAny() {
		if err := f.copyUpEntries(n, cancel); err != nil {
			return err
		}
		sealed, err := f.seal(n)
		if err != nil || sealed {
			return err
		}
	}
	return nil
}

func (d *folder) showsAny() bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.lower != 0
}

// copyUpEntries copies up everything below folder n. What goes away meanwhile
// is not missed.
func (f *FS) copyUpEntries(n *node, cancel <-chan struct{}) error {
	var names []string
	err := f.ReadDir(n.ino, cookieDots, func(e Dirent) bool { names = append(names, e.Name); return true })
	if err != nil {
		return err
	}
	for _, name := range names {
		select {
		case <-cancel:
			return unix.EINTR
		default:
		}
		err := f.copyUpEntry(n, name, cancel)
		if err != nil && err != unix.ENOENT && err != merge.ErrStale {
			return err
		}
	}
	return nil
}

// copyUpEntry copies up one entry, with all that is in it, and gives it its name
// in the upper, where other tools look for it.
func (f *FS) copyUpEntry(d *node, name string, cancel <-chan struct{}) error {
	d.dir.mu.RLock()
	lower := d.dir.lower
	n, ino, err := f.find(d.dir, name)
	d.dir.mu.RUnlock()
	if err != nil || n == nil && ino == 0 {
		return err
	}
	if n == nil {
		if n, err = f.node(ino); err != nil {
			return err
		}
	}
	switch {
	case n.isDir():
		return f.detach(n.ino, cancel)
	case n.typ == unix.S_IFREG && f.noMetacopy:
		if _, err := f.copyUpData(n.ino, want{formWhole, everything}); err != nil {
			return err
		}
	}
	if _, err := f.copyUp(n.ino); err != nil {
		return err
	}
	return f.nameOne(n, d, merge.Link{Dir: lower, Name: name})
}

// seal makes folder n opaque if everything in it is the upper's own, and
// removes its whiteouts, which hide nothing then. It reports whether it did.
func (f *FS) seal(n *node) (bool, error) {
	d := n.dir
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lower == 0 {
		return true, nil
	}
	missing := false
	err := f.lower.ReadDir(d.lower, 0, func(e merge.Entry) bool {
		c := d.children[e.Name]
		missing = c == nil || c.node != nil && c.node.isDir() && c.node.dir.showsAny()
		return !missing
	})
	if err != nil || missing {
		return false, err
	}
	h, err := f.handleOf(n)
	if err != nil {
		return false, err
	}
	defer h.release()
	if err := f.setOpaque(spot{fd: h.fd}); err != nil {
		return false, err
	}
	failpoint.Hit("detach.opaque")
	d.lower = 0
	return true, f.keepTimes(h.fd, func() error { return f.own(d, h.fd) })
}

// own removes the whiteouts of an opaque folder and lists what is left as the
// upper's own. Preconditions: d.mu is held for writing.
func (f *FS) own(d *folder, fd int) error {
	names := make([]string, 0, len(d.children))
	for name := range d.children {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		c := d.children[name]
		if c.node != nil {
			d.put(name, c.node, false)
			continue
		}
		if err := fsat.Unlink(fd, name); err != nil {
			return err
		}
		d.drop(name)
	}
	return nil
}

// detachMove is Detach of what a move takes along, for those who did not call
// it before.
func (f *FS) detachMove(m *move) error {
	if !f.noRedirect {
		return nil
	}
	err := f.Detach(m.od.ino, m.oldName, nil)
	if err == nil && m.flags&unix.RENAME_EXCHANGE != 0 {
		err = f.Detach(m.nd.ino, m.newName, nil)
	}
	return err
}

// mustDetach reports whether n has to be detached before it is moved.
func (f *FS) mustDetach(n *node) bool {
	return f.noRedirect && n.isDir() && n.dir.showsAny()
}
