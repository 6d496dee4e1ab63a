package cow

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"unio/cow/fsat"
	"unio/unionfs/merge"
	"unio/whiteout"
)

// The hub holds, under their decimal number, the files copied up from lower
// nodes with several names. A lower name of such a node needs no counterpart
// in the upper: its number leads to the hub. How many names the union shows is
// kept in an attribute, since the inode's own count knows nothing of lower
// names.

func hubEntry(lower merge.Ino) string { return strconv.FormatUint(uint64(lower), 10) }

// loadHub enters the nodes of the hub. What has no name left in the union was
// only kept for the processes of an earlier mount, and is removed.
func (f *FS) loadHub() error {
	fd := f.hub.held.fd
	names, err := fsat.Names(fd, ".")
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := f.loadHubbed(fd, name); err != nil {
			return err
		}
	}
	return nil
}

// loadHubbed takes a file of the hub into the table. What we have not put there
// is set aside, not removed: it may be data that a user has nowhere else.
func (f *FS) loadHubbed(fd int, name string) error {
	e, err := f.examine(fd, name)
	if err != nil {
		return err
	}
	if typ := e.st.Mode & unix.S_IFMT; typ == unix.S_IFDIR || whiteout.IsDevice(e.st.Mode, e.st.Rdev) {
		return f.setAside(fd, name)
	}
	links, err := f.readNlink(fd, &e)
	if err != nil {
		return err
	}
	if links == 0 && !f.resumed && f.sparse() {
		return fsat.RemoveAll(fd, name)
	}
	if e.origin.ino == 0 || hubEntry(e.origin.ino) != name {
		e.origin = f.checkOrigin(name, e.st.Mode) // the name says so, too
	}
	if e.origin.ino == 0 || hubEntry(e.origin.ino) != name {
		return f.setAside(fd, name)
	}
	n, _ := f.adopt(f.hub, &e, 0, fd)
	n.hubbed, n.nlink, n.gone = true, links, links == 0
	n.places = []place{{f.hub, name}}
	return nil
}

// setAside keeps a file of the hub that nobody can find any more, but out of
// the way of those to come.
func (f *FS) setAside(fd int, name string) error {
	f.log.Warn("the link hub has a file that is not in the lower", "name", name)
	const prefix = "lost."
	if strings.HasPrefix(name, prefix) {
		return nil
	}
	return fsat.Rename(fd, name, fd, prefix+name, 0)
}

// readNlink returns how many names the union shows of a file in the hub. Where
// that is damaged, it is as many as the lower has: rather too many than none.
func (f *FS) readNlink(dirfd int, e *found) (uint32, error) {
	text, err := fsat.XattrValue(dirfd, e.name, f.names.Nlink)
	if err != nil && err != unix.ENODATA {
		return 0, err
	}
	if links, err := strconv.ParseUint(string(text), 10, 32); err == nil {
		return uint32(links), nil
	}
	f.log.Warn("bad count of names in the link hub", "name", e.name, "value", string(text))
	var a merge.Attr
	if e.origin.known && f.lower.Attr(e.origin.ino, &a) != nil {
		a.Nlink = 0
	}
	return max(a.Nlink, 2), nil
}

// writeNlink records the count of names of the file at s.
func (f *FS) writeNlink(s spot, links uint32) error {
	text := strconv.FormatUint(uint64(links), 10)
	return fsat.SetXattr(s.fd, s.name, f.names.Nlink, []byte(text), 0)
}

// countNames adds delta to the names of a hubbed node; others count
// themselves. Preconditions: n.mu is held for writing.
func (f *FS) countNames(n *node, delta int) error {
	if !n.hubbed {
		return nil
	}
	s, err := f.spotLocked(n)
	if err != nil {
		return err
	}
	defer s.release()
	links := uint32(int(n.nlink) + delta)
	if err := f.writeNlink(s, links); err != nil {
		return err
	}
	n.nlink = links
	return nil
}

// clearHub removes the hub's file of a node that is gone for good.
func (f *FS) clearHub(n *node) {
	if err := fsat.Unlink(f.hub.held.fd, hubEntry(n.lower)); err != nil && err != unix.ENOENT {
		f.log.Warn("cannot remove from the link hub", "ino", uint64(n.ino), "err", err)
	}
}
