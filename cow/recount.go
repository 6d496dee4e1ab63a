package cow

import "unio/unionfs/merge"

// recountHub puts right how many names the files of the hub have. The count is
// written before a name comes and after one goes, so that a crash in between
// leaves it too high and no name is ever without its file. It does nothing for
// a lower that does not know all names of its files.
func (f *FS) recountHub() error {
	var list []*node
	f.table.each(func(n *node) {
		if n.hubbed {
			list = append(list, n)
		}
	})
	for _, n := range list {
		names, ok := f.namesOf(n)
		if !ok || names == n.nlink && names > 0 {
			continue
		}
		if names != n.nlink {
			f.log.Info("a crash has left a wrong count of names", "ino", uint64(n.ino), "count", n.nlink, "names", names)
		}
		if err := f.countNames(n, int(names)-int(n.nlink)); err != nil {
			return err
		}
		n.gone = names == 0
		if n.gone && !f.resumed {
			f.table.remove(n)
			f.clearHub(n)
			f.dropHandles(n)
		}
	}
	return nil
}

// rebuildHub puts files back into the hub that were copied up from lower files
// of several names and have lost their place there: for their lower names it
// is the only way to them. Where every name is copied up there is no hub.
func (f *FS) rebuildHub() error {
	if f.allNames || f.sparse() {
		return nil
	}
	var list []*node
	f.table.each(func(n *node) {
		if n.inUpper && !n.hubbed && !n.isDir() && n.ino == n.lower && len(n.places) > 0 {
			list = append(list, n)
		}
	})
	for _, n := range list {
		var a merge.Attr
		if err := f.lower.Attr(n.lower, &a); err != nil || a.Nlink < 2 {
			continue
		}
		f.log.Warn("a file of several names is missing from the link hub", "ino", uint64(n.ino), "name", n.places[0].name)
		name := hubEntry(n.lower)
		if err := f.linkTo(n, f.hub.held.fd, name); err != nil {
			return err
		}
		n.places = append(n.places, place{f.hub, name})
		n.hubbed = true
	}
	return nil
}

// namesOf counts the names of a hubbed node in the union; false: it cannot be
// told.
func (f *FS) namesOf(n *node) (uint32, bool) {
	var a merge.Attr
	links, err := f.lower.Links(n.lower)
	if err != nil || f.lower.Attr(n.lower, &a) != nil || uint32(len(links)) != a.Nlink {
		return 0, false
	}
	names := uint32(len(n.places) - 1) // one place is the hub
	for _, l := range links {
		if f.shown(l) {
			names++
		}
	}
	return names, true
}

// shown reports whether the union shows a lower name. Preconditions: the upper
// has been read and nobody else has the FS yet.
func (f *FS) shown(l merge.Link) bool {
	for {
		if d := f.table.get(l.Dir); d != nil {
			return d.isDir() && d.dir.lower == l.Dir && d.dir.children[l.Name] == nil
		}
		up, err := f.lower.Links(l.Dir)
		if err != nil || len(up) == 0 {
			return false
		}
		l = up[0]
	}
}
