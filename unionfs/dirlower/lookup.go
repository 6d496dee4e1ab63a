package dirlower

import (
	"strings"

	"golang.org/x/sys/unix"

	"unio/cow/fsat"
	"unio/unionfs/merge"
	"unio/whiteout"
)

// walk is the search for one name through the layers of a folder, as
// ovl_lookup does it.
type walk struct {
	t        *Tree
	up       *node
	name     string // as asked for
	want     string // as the next layer calls it; absolute behind an absolute redirect
	redirect string // what was looked at last is called this in the layers below
	bottom   int    // the last layer, below which nothing is hidden
	data     bool   // every layer of a file is wanted, not only the first
	stop     bool   // layers further down have no say
	folder   bool   // what was found first is a folder
	below    bool   // the file found last has data in the layers below
	st       unix.Stat_t
	stack    []elem // the layers that have a part in it, topmost first
}

// run looks from layer first on.
func (w *walk) run(first int) error {
	f, err := w.t.folderOf(w.up)
	if err != nil {
		return err
	}
	for i := range f.stack {
		e := &f.stack[i]
		if int(e.layer) < first {
			continue
		}
		if err := w.inFolder(i, int(e.layer)); err != nil {
			return err
		}
		if w.stop || len(w.stack) > 0 && !w.folder && !w.data {
			return nil
		}
		if w.want[0] == '/' {
			return w.fromRoots(int(e.layer) + 1)
		}
	}
	return nil
}

// fromRoots goes on in all layers: an absolute redirect does not ask which of
// them have the parent.
func (w *walk) fromRoots(first int) error {
	for layer := first; layer <= w.bottom && !w.stop; layer++ {
		if err := w.inLayer(layer); err != nil {
			return err
		}
	}
	return nil
}

// inFolder looks into the parent's folder of one layer.
func (w *walk) inFolder(i, layer int) error {
	dir, err := w.t.dirHandle(w.up, i)
	if err != nil {
		return err
	}
	defer dir.release()
	at := elem{layer: uint16(layer)}
	if w.want != w.name {
		path, err := w.t.pathIn(w.up, i)
		if err != nil {
			return err
		}
		at.path = join(path, w.want)
	}
	found, err := w.look(dir.fd, w.want, layer, true)
	if err != nil || !found {
		return err
	}
	w.stack = append(w.stack, at)
	if w.redirect != "" {
		w.want = w.redirect
	}
	return nil
}

// inLayer walks an absolute path from a layer's root. Folders on the way can
// be redirects themselves, which count for the layers further down.
func (w *walk) inLayer(layer int) error {
	path := w.want
	fd, opened := w.t.layers[layer].fd, -1
	defer func() { closeOpened(opened) }()
	rest := path[1:]
	for {
		name, next, more := strings.Cut(rest, "/")
		found, err := w.step(fd, name, layer, next, more)
		if err != nil || !found {
			return err
		}
		if !more {
			w.stack = append(w.stack, elem{layer: uint16(layer), path: path[1:]})
			return nil
		}
		sub, err := openFolder(fd, name)
		if err != nil {
			return err
		}
		closeOpened(opened)
		fd, opened, rest = sub, sub, next
	}
}

func closeOpened(fd int) {
	if fd >= 0 {
		fsat.Close(fd)
	}
}

// step looks at one component of an absolute path; next are those behind it.
func (w *walk) step(fd int, name string, layer int, next string, more bool) (bool, error) {
	found, err := w.look(fd, name, layer, !more)
	if err != nil || !found || w.redirect == "" {
		return found, err
	}
	tail := ""
	if more {
		tail = "/" + next
	}
	to := w.redirect
	if to[0] != '/' { // a sibling: only this component is replaced
		to = parentOf(strings.TrimSuffix(w.want, tail)) + "/" + to
	}
	w.want = to + tail
	return true, nil
}

// look examines name in one folder of one layer. last: it is what is looked
// for, and not a folder on the way.
func (w *walk) look(fd int, name string, layer int, last bool) (found bool, err error) {
	w.redirect = ""
	var st unix.Stat_t
	switch err := fsat.Stat(fd, name, &st); err {
	case nil:
	case unix.ENOENT, unix.ENAMETOOLONG:
		w.stop = w.stop || layer < w.bottom && exists(fd, whiteout.Name(name))
		return false, nil
	default:
		return false, err
	}
	if whiteout.IsDevice(st.Mode, st.Rdev) {
		w.stop = true
		return false, nil
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return w.lookFolder(fd, name, layer, last, &st)
	}
	return w.lookFile(fd, name, layer, last, &st)
}

func (w *walk) lookFolder(fd int, name string, layer int, last bool, st *unix.Stat_t) (bool, error) {
	if w.below && last { // data of a file is looked for
		w.stop = true
		return false, nil
	}
	if last && len(w.stack) == 0 {
		w.st, w.folder = *st, true
	}
	if layer == w.bottom {
		return true, nil
	}
	m, err := w.t.readMarks(fd, name)
	if err != nil {
		return false, err
	}
	if m.opaque || exists(fd, whiteout.Name(name)) || w.hasOpaqueFile(fd, name) {
		w.stop = true
		return true, nil
	}
	return true, w.follow(m.redirect)
}

// hasOpaqueFile reports whether a folder holds .wh..wh..opq.
func (w *walk) hasOpaqueFile(fd int, name string) bool {
	dir, err := openFolder(fd, name)
	if err != nil {
		return false
	}
	defer fsat.Close(dir)
	return exists(dir, whiteout.OpaqueName)
}

func (w *walk) lookFile(fd int, name string, layer int, last bool, st *unix.Stat_t) (bool, error) {
	if w.folder || !last || w.below && st.Mode&unix.S_IFMT != unix.S_IFREG {
		w.stop = true
		return false, nil
	}
	var m marked
	if st.Mode&unix.S_IFMT == unix.S_IFREG && (st.Size == 0 || w.data) {
		var err error
		if m, err = w.t.readMarks(fd, name); err != nil {
			return false, err
		}
	}
	if m.white && st.Size == 0 {
		w.stop = true
		return false, nil
	}
	if len(w.stack) == 0 {
		w.st = *st
	}
	if w.below = m.below; !m.below || layer == w.bottom {
		w.stop = true
		return true, nil
	}
	return true, w.follow(m.redirect)
}

// follow takes a redirect over: an absolute path or the name of a sibling.
// Anything else is an error, as for the kernel (ovl_get_redirect_xattr).
func (w *walk) follow(redirect string) error {
	if redirect == "" {
		return nil
	}
	path, absolute := strings.CutPrefix(redirect, "/")
	if !cleanPath(path) || !absolute && strings.Contains(path, "/") {
		return w.refuse(redirect)
	}
	if absolute {
		w.stop = false // whatever was opaque on the way here
	}
	w.redirect = redirect
	return nil
}

func (w *walk) refuse(redirect string) error {
	w.t.log.Warn("bad redirect in a lower folder", "name", w.name, "redirect", redirect)
	return unix.EINVAL
}

// cleanPath reports whether every component of a relative path is a name.
func cleanPath(path string) bool {
	for name := range strings.SplitSeq(path, "/") {
		if name == "" || name == "." || name == ".." {
			return false
		}
	}
	return true
}

func parentOf(path string) string {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i]
	}
	return ""
}

// join appends a name to the path of a folder in a layer ("" is its root).
func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

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
