package layer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"unio/cow/fsat"
	"unio/unionfs/merge"
	"unio/whiteout"
)

// mergeWalk walks the tree that an upper and a lower make together.
type mergeWalk struct {
	sources
	reader upperReader
	hub    map[merge.Ino]*upperEntry // files of the hub by the lower node they were copied up from
	moved  map[merge.Ino]bool        // lower files with several names that were met outside their old folder
}

// folder is one folder of the merged tree.
type folder struct {
	dir  *upperDir // nil: it is not in the upper
	path string    // "" for the root
	low  merge.Ino // the lower folder whose entries show through, 0 = none
	base merge.Ino // the lower folder at this path, 0 = none
}

// unmoved reports whether the folder shows the lower's entries of its own
// path, so that what the upper does not name has not changed.
func (f folder) unmoved() bool { return f.base != 0 && f.low == f.base }

func (f folder) close() { f.dir.close() }

// child is one entry of a merged folder.
type child struct {
	name string
	up   *upperEntry // nil: it is in the lower only
	low  merge.Ino   // then its number
}

// newMergeWalk opens the upper, if there is one, and reads its link hub.
func newMergeWalk(up Upper, lower merge.Lower) (*mergeWalk, error) {
	w := &mergeWalk{
		reader: newUpperReader(up.Root),
		hub:    make(map[merge.Ino]*upperEntry), moved: make(map[merge.Ino]bool),
	}
	var err error
	if w.sources, err = openSources(up, lower); err != nil {
		return nil, err
	}
	if err := w.readHub(); err != nil {
		w.close()
		return nil, fmt.Errorf("read link hub of %s: %w", up.Work, err)
	}
	return w, nil
}

// readHub learns which lower files the hub stands for.
func (w *mergeWalk) readHub() error {
	if w.hubDir == nil {
		return nil
	}
	names, err := fsat.Names(w.hubDir.handle, ".")
	if err != nil {
		return err
	}
	for _, name := range names {
		e, err := w.reader.read(w.hubDir.handle, name)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if w.inHub(name, e) {
			w.hub[e.origin] = e
		}
	}
	return nil
}

// inHub reports whether an entry of the hub stands for a lower node, the one
// that its name says: not if it has no name left.
func (w *mergeWalk) inHub(name string, e *upperEntry) bool {
	if e.unnamed || e.whiteout || e.attr.IsDir() {
		return false
	}
	ino, err := w.sameType(parseIno(name), e)
	if err != nil || ino == 0 || hubName(ino) != name {
		return false
	}
	e.origin = ino
	return true
}

// root returns the root of the merged tree, as a folder and as a node.
func (w *mergeWalk) root() (folder, *changeNode, error) {
	f := folder{dir: w.top, low: merge.RootIno}
	if w.top == nil {
		n, err := w.lowerNode("", merge.RootIno)
		return f, n, f.wrap("", err)
	}
	e, err := w.reader.read(w.top.handle, ".")
	if err != nil {
		return f, nil, f.wrap("", err)
	}
	if e.opaque {
		f.low = 0
	}
	return f, w.upperNode("", e, f.low), nil
}

// enter opens the folder that n, an entry of f, is.
func (w *mergeWalk) enter(f folder, n *changeNode) (folder, error) {
	sub := folder{path: f.path + "/" + n.name, low: n.low}
	var a merge.Attr
	if n.base != 0 {
		if err := w.lower.Attr(n.base, &a); err != nil {
			return sub, sub.wrap("", err)
		}
	}
	if a.IsDir() {
		sub.base = n.base
	}
	if n.from == fromUpper {
		sub.dir = f.dir.sub(n.name)
		if _, err := sub.dir.fd(); err != nil {
			return sub, sub.wrap("", err)
		}
	}
	return sub, nil
}

// children returns the entries of a merged folder, sorted by name: those of
// the upper with its whiteouts and, unless f is unmoved, those of the lower
// that it does not name.
func (w *mergeWalk) children(ctx context.Context, f folder) ([]child, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	kids, err := w.upperChildren(f)
	if err != nil || f.low == 0 || f.unmoved() {
		return kids, err
	}
	own := len(kids)
	err = w.lower.ReadDir(f.low, 0, func(e merge.Entry) bool {
		if _, ok := findChild(kids[:own], e.Name); !ok {
			kids = append(kids, child{name: e.Name, low: e.Ino})
		}
		return true
	})
	slices.SortFunc(kids, func(a, b child) int { return cmp.Compare(a.name, b.name) })
	return kids, f.wrap("", err)
}

// findChild searches entries that are sorted by name.
func findChild(kids []child, name string) (int, bool) {
	return slices.BinarySearchFunc(kids, name, func(c child, s string) int { return cmp.Compare(c.name, s) })
}

// upperChildren returns what is in the upper folder itself, sorted by name:
// the order in which a filesystem lists it must not show.
func (w *mergeWalk) upperChildren(f folder) ([]child, error) {
	if f.dir == nil {
		return nil, nil
	}
	fd, err := f.dir.fd()
	if err != nil {
		return nil, f.wrap("", err)
	}
	names, err := fsat.Names(fd, ".")
	if err != nil {
		return nil, f.wrap("", err)
	}
	slices.Sort(names)
	kids := make([]child, 0, len(names))
	for _, name := range names {
		e, err := w.reader.read(fd, name)
		if errors.Is(err, unix.ENOENT) {
			continue // gone since it was listed
		}
		if err != nil {
			return nil, f.wrap(name, err)
		}
		kids = append(kids, child{name: name, up: e})
	}
	return kids, nil
}

// node describes one entry of f that is no whiteout.
func (w *mergeWalk) node(f folder, c child) (*changeNode, error) {
	if c.up == nil {
		return w.lowerNode(c.name, c.low)
	}
	if !c.up.attr.IsDir() && !c.up.metacopy && !c.up.partial {
		return w.upperNode(c.name, c.up, 0), nil
	}
	low, err := w.continues(f.low, c.name, c.up)
	if err != nil {
		return nil, err
	}
	if err := completes(low, c.up); err != nil {
		return nil, err
	}
	return w.upperNode(c.name, c.up, low), nil
}

// completes checks that there is a lower file for the data that e has not.
func completes(low merge.Ino, e *upperEntry) error {
	if !e.attr.IsDir() && low == 0 || e.limit < 0 {
		return fmt.Errorf("the lower file that holds the data is missing: %w", merge.ErrCorrupt)
	}
	return nil
}

// upperNode describes an entry of the upper. Several names make it a link
// group even if some of them are not in the tree (the hub has one).
func (w *mergeWalk) upperNode(name string, e *upperEntry, low merge.Ino) *changeNode {
	n := &changeNode{name: name, attr: e.attr, xattrs: e.xattrs, target: e.target, low: low, file: e.file}
	if e.partial {
		n.limit = e.limit
	}
	if e.attr.Nlink > 1 && !e.attr.IsDir() {
		n.id = linkID{fileID: e.file}
	}
	return n
}

// lowerNode describes a node of the lower, or the file of the hub that has
// taken its place.
func (w *mergeWalk) lowerNode(name string, ino merge.Ino) (*changeNode, error) {
	if e := w.hub[ino]; e != nil {
		return w.hubNode(name, ino, e)
	}
	n := &changeNode{name: name, from: fromLower, low: ino}
	if err := w.lower.Attr(ino, &n.attr); err != nil {
		return nil, err
	}
	if n.attr.Nlink > 1 && !n.attr.IsDir() {
		n.id = linkID{fileID{ino: uint64(ino)}, true}
		w.moved[ino] = true
	}
	var err error
	if n.attr.IsSymlink() {
		n.target, err = w.lower.Readlink(ino)
		n.attr.Size = uint64(len(n.target))
	}
	if err != nil {
		return nil, err
	}
	n.xattrs, err = w.lowerXattrs(ino)
	return n, err
}

// hubNode describes the file that the hub holds for lower node ino.
func (w *mergeWalk) hubNode(name string, ino merge.Ino, e *upperEntry) (*changeNode, error) {
	n := w.upperNode(name, e, 0)
	n.from, n.hubFile = fromHub, ino
	n.id = linkID{fileID: e.file}
	if !e.metacopy && !e.partial {
		return n, nil
	}
	n.low = ino
	return n, completes(ino, e)
}

// lowerXattrs returns the attributes that count of a lower node, sorted.
func (w *mergeWalk) lowerXattrs(ino merge.Ino) (list []xattrPair, err error) {
	err = w.lower.Xattrs(ino, func(name string, value []byte) bool {
		if !hostXattr(name) {
			list = append(list, xattrPair{name, string(value)})
		}
		return true
	})
	return list, err
}

// continues finds the lower node that an upper folder merges with, or where
// the data of a metadata-only file is; 0 if there is none. parent is the lower
// folder that shows through where the entry is.
func (w *mergeWalk) continues(parent merge.Ino, name string, e *upperEntry) (low merge.Ino, err error) {
	if e.opaque {
		return 0, nil
	}
	// What names no node, or one of another type, says nothing: as if it
	// were not there.
	if low, err = w.sameType(e.origin, e); low != 0 || err != nil {
		return low, err
	}
	if e.redirect != nil {
		low, err = w.redirected(parent, *e.redirect)
	} else {
		low, err = w.lookup(parent, name)
	}
	if err != nil {
		return 0, err
	}
	return w.sameType(low, e)
}

// sameType returns ino if it is a node of e's type, else 0.
func (w *mergeWalk) sameType(ino merge.Ino, e *upperEntry) (merge.Ino, error) {
	if ino == 0 {
		return 0, nil
	}
	var a merge.Attr
	err := w.lower.Attr(ino, &a)
	if errors.Is(err, merge.ErrStale) {
		return 0, nil
	}
	if err != nil || a.Mode&unix.S_IFMT != e.attr.Mode&unix.S_IFMT {
		return 0, err
	}
	return ino, nil
}

// lookup finds a name in a lower folder, 0 if it or the folder is not there.
func (w *mergeWalk) lookup(dir merge.Ino, name string) (merge.Ino, error) {
	if dir == 0 {
		return 0, nil
	}
	ino, err := w.lower.Lookup(dir, name)
	if errnoIs(err, unix.ENOENT, unix.ENOTDIR, unix.ENAMETOOLONG) {
		return 0, nil
	}
	return ino, err
}

// redirected follows a redirect, but no link in the lower; 0 if it leads
// nowhere.
func (w *mergeWalk) redirected(parent merge.Ino, value string) (merge.Ino, error) {
	names, absolute, ok := whiteout.ParseRedirect(value)
	if !ok {
		return 0, nil
	}
	ino := parent
	if absolute {
		ino = merge.RootIno
	}
	for _, name := range names {
		var err error
		if ino, err = w.lookup(ino, name); err != nil || ino == 0 {
			return 0, err
		}
	}
	return ino, nil
}

// hubName is the name of a lower node's file in the hub.
func hubName(ino merge.Ino) string { return strconv.FormatUint(uint64(ino), 10) }
