package cow

import (
	"golang.org/x/sys/unix"

	"unio/cow/fsat"
	"unio/unionfs/merge"
)

// Tmpfile makes a regular file without a name (O_TMPFILE), as if in folder
// dir, and fills in its attributes. [FS.Link] may give it a name; until then it
// is one of the orphans.
func (f *FS) Tmpfile(dir merge.Ino, what New, st *Stat) error {
	if err := f.Getattr(dir, st); err != nil {
		return err
	}
	if st.Mode&unix.S_ISGID != 0 {
		what.GID = st.GID
	}
	if err := f.inheritACL(&what, func() ([]byte, error) { return f.Getxattr(dir, DefaultACL) }); err != nil {
		return err
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
		ino: upperBit | st.Ino, typ: unix.S_IFREG, counted: true,
		inUpper: true, gone: true, fresh: true,
	}
	entry := orphanEntry(n.ino)
	err = f.freshEntry(entry, func() error { return fsat.LinkOpen(fd, f.orphan.held.fd, entry) })
	if err != nil {
		fsat.Close(fd)
		return err
	}
	n.data.set(dataWhole)
	f.adoptedByOrphans(n)
	f.table.fresh(n)
	f.cache(n, fd).release()
	st.Ino, st.Nlink = n.ino, 0
	return nil
}
