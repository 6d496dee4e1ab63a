package cow

import (
	"golang.org/x/sys/unix"

	"unio/unionfs/merge"
)

// A request that a server did not answer before it died comes again. These are
// for the ones that would fail on what the first try has left. The kernel keeps
// the folders of such a request locked from its first sending to its answer, so
// nobody else has changed the names meanwhile.

// Recreate is [FS.Create] of what is there already, because the first try made
// it, though perhaps not its owner and mode. EEXIST: it is something else.
func (f *FS) Recreate(dir merge.Ino, name string, what New, st *Stat) error {
	d, err := f.copyUpFolder(dir)
	if err != nil {
		return err
	}
	d.dir.mu.Lock()
	defer d.dir.mu.Unlock()
	c := d.dir.children[name]
	if c == nil || c.node == nil || !f.couldBe(c.node, what.Mode) {
		return unix.EEXIST
	}
	h, err := f.handleOf(d)
	if err != nil {
		return err
	}
	defer h.release()
	what.UID, what.GID = f.mapOwner(what.UID, what.GID)
	if err := f.inherit(h.fd, &what); err != nil {
		return err
	}
	s, err := f.spotOf(c.node)
	if err != nil {
		return err
	}
	defer s.release()
	if err := f.finish(s, slot{name: name}, what, st); err != nil {
		return err
	}
	st.Ino = c.node.ino
	if c.node.isDir() {
		st.Nlink = 2
	}
	return nil
}

// couldBe reports whether n, which was born in the upper, can have been made
// with that mode. Without privilege a device begins as an ordinary file.
func (f *FS) couldBe(n *node, mode uint32) bool {
	if n.ino&upperBit == 0 {
		return false
	}
	if typ := mode & unix.S_IFMT; n.typ != typ {
		if f.root || n.typ != unix.S_IFREG || typ == unix.S_IFDIR || typ == unix.S_IFLNK {
			return false
		}
		n.typ = typ
	}
	return true
}

// Renamed reports whether a rename that is asked for again has been carried
// out: its source is gone, and its target there.
func (f *FS) Renamed(oldDir merge.Ino, oldName string, newDir merge.Ino, newName string) bool {
	var st Stat
	if f.Lookup(oldDir, oldName, &st) != merge.ErrNotExist || f.Lookup(newDir, newName, &st) != nil {
		return false
	}
	if f.dropListing != nil && oldDir != newDir && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		f.dropListing(st.Ino)
	}
	return true
}
