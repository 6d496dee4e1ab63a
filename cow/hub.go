package cow

import (
	"strconv"

	"golang.org/x/sys/unix"

	"unio/cow/fsat"
	"unio/unionfs/merge"
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
		e, err := f.examine(fd, name)
		if err != nil {
			return err
		}
		links, err := f.readNlink(fd, name)
		if err != nil {
			return err
		}
		if links == 0 || e.origin == 0 || hubEntry(e.origin) != name {
			if err := fsat.RemoveAll(fd, name); err != nil {
				return err
			}
			continue
		}
		n, _ := f.adopt(&e, 0, fd)
		n.hubbed, n.nlink = true, links
		n.places = []place{{f.hub, name}}
	}
	return nil
}

func (f *FS) readNlink(dirfd int, name string) (uint32, error) {
	text, err := fsat.XattrValue(dirfd, name, f.names.Nlink)
	if err == unix.ENODATA {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	links, err := strconv.ParseUint(string(text), 10, 32)
	if err != nil {
		return 0, nil
	}
	return uint32(links), nil
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
