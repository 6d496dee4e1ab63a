package cow

import (
	"golang.org/x/sys/unix"

	"unio/cow/fsat"
	"unio/unionfs/merge"
)

// Tmpfile makes a regular file without a name (O_TMPFILE), as if in folder
// dir, and fills in its attributes. [FS.Link] may give it a name; otherwise it
// ends with the kernel's last reference.
func (f *FS) Tmpfile(dir merge.Ino, what New, st *Stat) error {
	if err := f.Getattr(dir, st); err != nil {
		return err
	}
	if st.Mode&unix.S_ISGID != 0 {
		what.GID = st.GID
	}
	what.UID, what.GID = f.mapOwner(what.UID, what.GID)
	fd, err := fsat.Tmpfile(f.tmp, f.realMode(owner{mode: what.Mode})&0o777)
	if err != nil {
		return err
	}
	if err := f.finish(spot{fd: fd}, slot{}, what, st); err != nil {
		fsat.Close(fd)
		return err
	}
	n := &node{
		ino: upperBit | st.Ino, typ: unix.S_IFREG,
		inUpper: true, gone: true, fresh: true, held: newHandle(fd),
	}
	n.data.set(dataWhole)
	f.table.add(n)
	st.Ino, st.Nlink = n.ino, 0
	return nil
}

// born records that a file made without a name has got one: like any other it
// keeps its descriptor only as long as the cache does. Preconditions: n.mu is
// held for writing.
func (f *FS) born(n *node) {
	n.gone, n.fresh = false, false
	h := n.held
	n.held = nil
	if n.cached.CompareAndSwap(nil, h) {
		f.handles.keep(n)
	} else {
		h.release()
	}
}
