package dirlower

import (
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"unio/cow/fsat"
	"unio/unionfs/merge"
	"unio/whiteout"
)

// listing is a merged folder's content, sorted by name. As layers do not
// change, it is the same whenever it is made; an entry's cookie is its place.
type listing struct{ entries []listed }

type listed struct {
	name  string
	ino   merge.Ino // before it is known whether somebody else has that number
	typ   uint32    // S_IFMT bits
	layer uint16    // the topmost one that has it
}

// find returns the place of a name.
func (l *listing) find(name string) (int, bool) {
	return slices.BinarySearchFunc(l.entries, name, func(e listed, name string) int { return strings.Compare(e.name, name) })
}

// lists bounds the listings that are kept, by the entries they have.
type lists struct {
	mu    sync.Mutex
	kept  []*folder // oldest first
	total int
}

const maxListed = 1 << 18

// keep enters a folder that has a fresh listing, and drops the oldest beyond
// the bound.
func (l *lists) keep(f *folder, list *listing) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, f)
	l.total += len(list.entries) + 1
	for l.total > maxListed && len(l.kept) > 1 {
		l.dropAt(0)
	}
}

// drop forgets the listing of a folder that nobody knows any more.
func (l *lists) drop(f *folder) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.kept, f); i >= 0 && f.listing.Load() != nil {
		l.dropAt(i)
	}
}

// dropAt forgets one listing. Preconditions: l.mu is held.
func (l *lists) dropAt(i int) {
	f := l.kept[i]
	l.kept = slices.Delete(l.kept, i, i+1)
	if was := f.listing.Swap(nil); was != nil {
		l.total -= len(was.entries) + 1
	}
}

// list returns the listing of a folder.
func (t *Tree) list(n *node, f *folder) (*listing, error) {
	if have := f.listing.Load(); have != nil {
		return have, nil
	}
	f.building.Lock()
	defer f.building.Unlock()
	if have := f.listing.Load(); have != nil {
		return have, nil
	}
	m := merging{t: t, n: n, list: &listing{}}
	if len(f.stack) > 1 {
		m.seen = make(map[string]struct{})
	}
	for i := range f.stack {
		if err := m.add(i, int(f.stack[i].layer)); err != nil {
			return nil, err
		}
	}
	list := m.done()
	f.listing.Store(list)
	t.lists.keep(f, list)
	return list, nil
}

// merging is a listing in the making.
type merging struct {
	t    *Tree
	n    *node
	list *listing
	seen map[string]struct{} // names that layers further down cannot add; nil if there are none
	hide []string            // whiteouts of the layer being read: they act on those below only
}

// add merges the entries of one layer in.
func (m *merging) add(i, layer int) error {
	h, err := m.t.dirHandle(m.n, i)
	if err != nil {
		return err
	}
	defer h.release()
	fd, err := fsat.OpenDir(h.fd, ".")
	if err != nil {
		return err
	}
	defer fsat.Close(fd)
	r := layerReader{merging: m, fd: fd, layer: layer}
	if err := r.learnDevice(); err != nil {
		return err
	}
	if i < m.last() { // below the last nothing can be hidden
		marks, err := m.t.readMarks(fd, "")
		if err != nil {
			return err
		}
		r.whites = marks.whites
	}
	var failed error
	err = fsat.ReadDir(fd, func(d fsat.Dirent) bool { failed = r.entry(&d); return failed == nil })
	if err == nil {
		err = failed
	}
	for _, name := range m.hide {
		m.seen[name] = struct{}{}
	}
	m.hide = m.hide[:0]
	return err
}

// last is the place of the lowest layer that has the folder.
func (m *merging) last() int { return len(m.n.more.Load().folder.stack) - 1 }

// done sorts the entries: by that they have the same order, and so the same
// cookies, whenever the folder is listed.
func (m *merging) done() *listing {
	slices.SortFunc(m.list.entries, func(a, b listed) int { return strings.Compare(a.name, b.name) })
	m.list.entries = slices.Clip(m.list.entries)
	return m.list
}

// layerReader reads one layer's folder.
type layerReader struct {
	*merging
	fd     int
	layer  int
	dev    uint64
	exact  bool // getdents gives the numbers that stat gives
	whites bool // whiteouts may be attributes
}

// entry adds one entry, unless it is hidden or a whiteout.
func (r *layerReader) entry(d *fsat.Dirent) error {
	if whiteout.IsReserved(d.Name) {
		if kind, hides, err := whiteout.Parse(d.Name); err == nil && kind == whiteout.File {
			r.whiteout(hides)
		}
		return nil
	}
	if _, hidden := r.seen[d.Name]; hidden {
		return nil
	}
	e := listed{name: d.Name, typ: d.Type, layer: uint16(r.layer)}
	white, err := r.examine(d, &e)
	if err != nil || white {
		r.whiteout(d.Name)
		return err
	}
	if r.seen != nil {
		r.seen[d.Name] = struct{}{}
	}
	r.list.entries = append(r.list.entries, e)
	return nil
}

// whiteout hides a name of the layers below, if there are any.
func (r *layerReader) whiteout(name string) {
	if r.seen != nil {
		r.hide = append(r.hide, name)
	}
}

// examine finds out the number and type of an entry, asking for no more than
// it must, and whether it is a whiteout.
func (r *layerReader) examine(d *fsat.Dirent, e *listed) (white bool, err error) {
	override := r.t.layers[r.layer].override != "" && d.Type == unix.S_IFREG
	doubtful := d.Type == 0 || d.Type == unix.S_IFCHR || d.Type == unix.S_IFDIR
	if r.exact && !doubtful && !override && !r.whites {
		e.ino, err = r.t.number(r.dev, d.Ino)
		return false, err
	}
	var st unix.Stat_t
	switch err := fsat.Stat(r.fd, d.Name, &st); err {
	case nil:
	case unix.ENOENT: // somebody has changed the layer
		return true, nil
	default:
		return false, err
	}
	if whiteout.IsDevice(st.Mode, st.Rdev) || r.whites && r.isWhite(d.Name, &st) {
		return true, nil
	}
	e.typ = st.Mode & unix.S_IFMT
	if override {
		if err := r.retype(d.Name, &st, e); err != nil {
			return false, err
		}
	}
	e.ino, err = r.t.number(st.Dev, st.Ino)
	return false, err
}

// learnDevice asks for the folder's device, which need not be its layer's.
func (r *layerReader) learnDevice() error {
	var st unix.Stat_t
	if err := fsat.Fstat(r.fd, &st); err != nil {
		return err
	}
	l := r.t.layers[r.layer]
	r.dev, r.exact = st.Dev, l.exact && st.Dev == l.dev
	return nil
}

// isWhite reports whether an empty file is a whiteout by its attribute.
func (r *layerReader) isWhite(name string, st *unix.Stat_t) bool {
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != 0 {
		return false
	}
	m, err := r.t.readMarks(r.fd, name)
	return err == nil && m.white
}

// retype gives an entry the type that its override attribute says.
func (r *layerReader) retype(name string, st *unix.Stat_t, e *listed) error {
	a := attrOf(st)
	if err := r.t.applyOverride(r.fd, name, r.layer, &a); err != nil {
		return err
	}
	e.typ = a.Mode & unix.S_IFMT
	return nil
}

// ReadDir implements [merge.Lower]. The numbers it gives are known until
// others have been asked for; who needs them longer calls Remember.
func (t *Tree) ReadDir(dir merge.Ino, after uint64, yield func(merge.Entry) bool) error {
	n, err := t.get(dir)
	if err != nil {
		return err
	}
	f, err := t.folderOf(n)
	if err != nil {
		return err
	}
	list, err := t.list(n, f)
	if err != nil {
		return err
	}
	for i := min(after, uint64(len(list.entries))); i < uint64(len(list.entries)); i++ {
		e := &list.entries[i]
		child := t.enter(n, e.name, born{ino: e.ino, layer: int(e.layer), folder: e.typ == unix.S_IFDIR})
		if !yield(merge.Entry{Name: e.name, Ino: child.ino, Type: e.typ, Cookie: i + 1}) {
			break
		}
	}
	return nil
}
