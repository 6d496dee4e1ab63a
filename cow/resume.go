package cow

import (
	"golang.org/x/sys/unix"

	"unio/unionfs/merge"
)

// A server that takes over from a dead one finds everything in the upper but
// this: which untouched lower nodes have lost their names. They leave no trace
// of their own, only whiteouts where their names were. So the lower's names
// are asked for when such a node is met by its number.

// showsName reports whether a name of the lower is one of the union, without a
// counterpart in the upper.
func (f *FS) showsName(l merge.Link) bool {
	if d := f.table.get(l.Dir); d != nil {
		if !d.isDir() {
			return false
		}
		d.dir.mu.RLock()
		hidden := d.dir.lower != l.Dir || d.dir.children[l.Name] != nil
		d.dir.mu.RUnlock()
		if hidden {
			return false
		}
	}
	return f.isPresent(l.Dir)
}

// isPresent reports whether lower folder ino is part of the union.
func (f *FS) isPresent(ino merge.Ino) bool {
	if ino == merge.RootIno {
		return true
	}
	if n := f.table.get(ino); n != nil {
		n.mu.RLock()
		known, gone := n.inUpper || n.gone, n.gone
		n.mu.RUnlock()
		if known {
			return !gone
		}
	}
	links, err := f.lower.Links(ino)
	if err != nil || len(links) == 0 {
		return true // a lower that cannot tell is believed
	}
	return f.showsName(links[0])
}

// namesLeft counts the lower names of an untouched node that the union shows,
// and all that there are.
func (f *FS) namesLeft(ino merge.Ino) (left, all int) {
	if ino == merge.RootIno {
		return 1, 1
	}
	links, err := f.lower.Links(ino)
	if err != nil {
		return 0, 0
	}
	for _, l := range links {
		if f.showsName(l) {
			left++
		}
	}
	return left, len(links)
}

// isHidden reports whether the number of an untouched lower node can only be
// known from before a takeover: it has no name any more.
func (f *FS) isHidden(ino merge.Ino) bool {
	if !f.resumed {
		return false
	}
	left, all := f.namesLeft(ino)
	return all > 0 && left == 0
}

// recall gives a node that has just been made for an untouched lower one what
// it had become before a takeover. Nobody else has it yet.
func (f *FS) recall(n *node) {
	if !f.resumed {
		return
	}
	left, all := f.namesLeft(n.lower)
	n.gone = all > 0 && left == 0
	switch {
	case n.gone && n.isDir():
		n.dir.removed, n.dir.lower = true, 0
	case f.allNames && n.typ != unix.S_IFDIR:
		n.lost = uint32(all - left)
	}
}

// recallName does so for what a name of folder d stands for.
func (f *FS) recallName(d *node, name string) error {
	if !f.resumed {
		return nil
	}
	d.dir.mu.RLock()
	n, ino, err := f.find(d.dir, name)
	d.dir.mu.RUnlock()
	if err != nil || n != nil || ino == 0 {
		return err
	}
	_, err = f.node(ino)
	return err
}
