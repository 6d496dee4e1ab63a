package dirlower

import (
	"golang.org/x/sys/unix"

	"unio/unionfs/merge"
	"unio/whiteout"
)

// Lookup implements [merge.Lower].
func (t *Tree) Lookup(dir merge.Ino, name string) (merge.Ino, error) {
	up, err := t.get(dir)
	if err != nil {
		return 0, err
	}
	n, err := t.child(up, name)
	if err != nil {
		return 0, err
	}
	return n.ino, nil
}

// manyLayers is from where on a lookup is done in the folder's listing: one
// that is not there costs two system calls a layer otherwise.
const manyLayers = 8

// child returns the node called name in folder up. Names of whiteouts are never
// shown. Where the folder has been listed, that knows; where one or few layers
// have it, they are asked in turn.
func (t *Tree) child(up *node, name string) (*node, error) {
	if !up.isDir() {
		return nil, unix.ENOTDIR
	}
	if whiteout.IsReserved(name) {
		return nil, merge.ErrNotExist
	}
	f, err := t.folderOf(up)
	if err != nil {
		return nil, err
	}
	list := f.listing.Load()
	if list == nil && len(f.stack) > manyLayers {
		if list, err = t.list(up, f); err != nil {
			return nil, err
		}
	}
	if list != nil {
		return t.listedChild(up, list, name)
	}
	return t.searchChild(up, name, 0)
}

// listedChild is child where there is a listing. Of a folder the layers below
// its topmost have to be asked all the same.
func (t *Tree) listedChild(up *node, list *listing, name string) (*node, error) {
	i, ok := list.find(name)
	if !ok {
		return nil, merge.ErrNotExist
	}
	e := &list.entries[i]
	if e.typ == unix.S_IFDIR {
		return t.searchChild(up, name, int(e.layer))
	}
	return t.enter(up, name, born{ino: e.ino, layer: int(e.layer)}), nil
}

// searchChild looks for name from layer first on and enters what it finds.
func (t *Tree) searchChild(up *node, name string, first int) (*node, error) {
	w := &walk{t: t, up: up, name: name, want: name, bottom: len(t.layers) - 1}
	if err := w.run(first); err != nil {
		return nil, err
	}
	if len(w.stack) == 0 {
		return nil, merge.ErrNotExist
	}
	ino, err := t.number(w.st.Dev, w.st.Ino)
	if err != nil {
		return nil, err
	}
	b := born{ino: ino, layer: int(w.stack[0].layer), folder: w.folder}
	if w.folder {
		b.stack = w.stack
	}
	return t.enter(up, name, b), nil
}

// folderOf returns where the entries of a folder come from.
func (t *Tree) folderOf(n *node) (*folder, error) {
	if m := n.more.Load(); m != nil && m.folder != nil {
		return m.folder, nil
	}
	if !n.isDir() {
		return nil, unix.ENOTDIR
	}
	w := &walk{t: t, up: n.up, name: n.name, want: n.name, bottom: len(t.layers) - 1}
	if err := w.run(n.layer()); err != nil {
		return nil, err
	}
	if !w.folder || len(w.stack) == 0 {
		return nil, merge.ErrStale // somebody has changed a layer
	}
	s := t.table.shard(n.ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	n.setStack(w.stack)
	return n.more.Load().folder, nil
}
