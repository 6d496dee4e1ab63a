package cow

import (
	"golang.org/x/sys/unix"

	"unio/cow/fsat"
	"unio/unionfs/merge"
)

// A number belongs to one node, and a lower folder shows in one place. An upper
// that a program has copied parts of, attributes and all, or that is damaged
// claims more: that a lower file is in two places, or is elsewhere although the
// lower's own name of it is in sight. What stands at the lower's own name is in
// the right then, else the first; the other one is a file or folder of the
// upper alone. A folder is marked so on disk, since whoever reads the upper
// without a mount must come to the same result.

// claim is an upper entry that says it is a lower node of another name.
type claim struct {
	n     *node
	host  uint64 // the inode number in the upper's filesystem
	lower merge.Ino
	path  string
}

// noteClaim remembers what [FS.settleClaims] has to look at.
func (f *FS) noteClaim(n *node, e *found, below merge.Ino, path string) {
	lower := n.lower
	if n.isDir() && n.dir.lower != 0 {
		lower = n.dir.lower
	}
	if lower == 0 && n.ino&upperBit == 0 {
		lower = n.ino
	}
	if lower != 0 && lower != below && !n.hubbed && !f.sparse() {
		f.claims = append(f.claims, claim{n: n, host: e.st.Ino, lower: lower, path: path})
	}
}

// contest settles that folder e and the one that was read before, have, show
// the same lower folder. Preconditions: as for adopt.
func (f *FS) contest(have *node, e *found, natural bool) {
	if f.sparse() {
		return
	}
	if !natural {
		f.void[e.st.Ino] = e.name
		return
	}
	for _, c := range f.claims {
		if c.n == have {
			f.void[c.host] = c.path
		}
	}
}

// settleClaims finds the claims that do not hold, once the upper is read. Those
// of folders are then void, and the upper has to be read again without them.
func (f *FS) settleClaims() {
	for _, c := range f.claims {
		switch {
		case !f.atHome(c):
		case c.n.isDir():
			f.void[c.host] = c.path
		default:
			f.log.Warn("a file of the upper folder says it is a lower file that is elsewhere", "path", c.path)
			f.renumber(c)
		}
	}
	f.claims = nil
}

// atHome reports whether what c claims is in sight under the lower's own name.
func (f *FS) atHome(c claim) bool {
	if c.lower == merge.RootIno {
		return true
	}
	links, err := f.lower.Links(c.lower)
	return err == nil && len(links) == 1 && f.shown(links[0])
}

// renumber gives a file the number that it has as one of the upper alone. Data
// that it has not copied up stays where it is.
func (f *FS) renumber(c claim) {
	f.table.remove(c.n)
	c.n.ino = upperBit | merge.Ino(c.host)
	if c.n.data.get() == dataWhole || c.n.typ != unix.S_IFREG {
		c.n.lower = 0
	}
	f.table.add(c.n)
}

// disown marks the folder at s as one of the upper alone.
func (f *FS) disown(s spot, path string) {
	f.log.Warn("a folder of the upper folder says it is a lower folder that is elsewhere: it shows none", "path", path)
	err := f.setOpaque(s)
	for _, name := range [...]string{f.names.Redirect, f.names.Origin} {
		if e := fsat.RemoveXattr(s.fd, s.name, name); e != nil && e != unix.ENODATA {
			err = firstError(err, e)
		}
	}
	if err != nil {
		f.log.Warn("cannot mark it so", "path", path, "err", err)
	}
}

// unload forgets what has been read of the upper.
func (f *FS) unload() {
	f.table.each(func(n *node) {
		if n != f.top {
			f.dropHandles(n)
		}
	})
	f.table.init()
	clear(f.linked)
	f.top.dir = f.newFolder(merge.RootIno, merge.RootIno).dir
}
