package cow

import (
	"sync"

	"golang.org/x/sys/unix"

	"unio/unionfs/merge"
)

// folder is what a folder node knows of its entries: those of the upper by
// name, and which lower folder shows through behind them.
type folder struct {
	mu       sync.RWMutex // guards the rest, and the names in the upper folder
	lower    merge.Ino    // the lower folder that shows through; 0: none, or opaque
	children map[string]*child
	order    []*child // children no lower name stands behind: by cookie, then those that came last
	sorted   int      // how many of them are in order
	dead     int      // how many of them are gone
	subdirs  int64    // folders among the visible entries
	removed  bool     // by rmdir: nothing can be made here any more
	changes  uint32   // how often what a listing shows has changed, from 1
	listed   listed   // who is listing it; has a lock of its own, taken last
}

// child is one name in the upper: a node, or a whiteout.
type child struct {
	name   string
	node   *node  // nil: a whiteout
	cookie uint64 // place in the listing, if no lower name gives it one
}

// lowerName finds name in the lower folder that shows through, whited out or
// not; 0 if there is none. Preconditions: d.mu is held.
func (f *FS) lowerName(d *folder, name string) (merge.Ino, error) {
	if d.lower == 0 {
		return 0, nil
	}
	ino, err := f.lower.Lookup(d.lower, name)
	if err == merge.ErrNotExist {
		return 0, nil
	}
	return ino, err
}

// find returns what name is in the union: a node of the upper or, if that is
// nil, the number of an untouched lower node. Both zero: there is nothing.
// Preconditions: d.mu is held.
func (f *FS) find(d *folder, name string) (*node, merge.Ino, error) {
	if c := d.children[name]; c != nil {
		return c.node, 0, nil
	}
	ino, err := f.lowerName(d, name)
	if ino == 0 || err != nil {
		return nil, 0, err
	}
	n := f.table.get(ino) // a hubbed file has no upper name, yet a node
	if n != nil && f.strange(n) {
		f.log.Error("a lower file has the number of another that was copied up: the lower has been changed", "name", name, "ino", uint64(ino))
		return nil, 0, unix.ESTALE
	}
	return n, ino, nil
}

// strange reports whether n, which a lower name led to, is a file of the upper
// that cannot have a lower name any more. It is another file then, made since
// with the same inode number, which only an outsider can do to the lower.
func (f *FS) strange(n *node) bool {
	if !f.sparse() || n.isDir() {
		return false
	}
	n.mu.RLock()
	taken := n.inUpper && !n.hubbed && !n.gone
	n.mu.RUnlock()
	var a merge.Attr
	return taken && f.lower.Attr(n.ino, &a) == nil && a.Nlink < 2
}

// put makes name stand for n (nil: a whiteout), where hasLower tells whether
// a lower name stands behind it. Preconditions: d.mu is held for writing.
func (d *folder) put(name string, n *node, hasLower bool) {
	if n == nil || !hasLower { // but for a copy-up, which shows what was there
		d.changes++
	}
	d.drop(name)
	c := &child{name: name, node: n}
	if !hasLower {
		c.cookie = cookieOf(name)
		d.order = append(d.order, c)
	}
	d.children[name] = c
}

// Dirent is one entry of a listing.
type Dirent struct {
	Name   string
	Ino    merge.Ino
	Type   uint32 // S_IFMT bits
	Cookie uint64 // reading goes on behind this entry
}

// ReadDir calls yield for the entries of folder ino behind cookie after, "."
// and ".." first, until yield returns false. Entries that stay are listed
// once, whatever comes and goes meanwhile.
func (f *FS) ReadDir(ino merge.Ino, after uint64, yield func(Dirent) bool) error {
	end := true
	noting := func(e Dirent) bool { end = false; return yield(e) }
	if after < cookieDots && !f.dots(ino, after, noting) {
		noting = func(Dirent) bool { return false }
	}
	n := f.table.get(ino)
	if n == nil {
		err := f.listLower(nil, ino, after, noting)
		f.untouched.note(ino, after, end)
		return err
	}
	if !n.isDir() {
		return unix.ENOTDIR
	}
	changes, err := f.listBoth(n, after, noting)
	if n.dir.listed.note(after, end, changes) && f.dropListing != nil {
		f.dropListing(ino)
	}
	return err
}

// listBoth lists a folder that the upper has something of, and tells which
// state of it was listed.
func (f *FS) listBoth(n *node, after uint64, yield func(Dirent) bool) (changes uint32, err error) {
	n.dir.lockListed()
	defer n.dir.mu.RUnlock()
	changes = n.dir.changes
	more := true
	if n.dir.lower != 0 && after < cookieUpper {
		err := f.listLower(n.dir, n.dir.lower, after, func(e Dirent) bool { more = yield(e); return more })
		if err != nil {
			return changes, err
		}
	}
	if more {
		n.dir.listUpper(after, yield)
	}
	return changes, nil
}

func (f *FS) dots(ino merge.Ino, after uint64, yield func(Dirent) bool) bool {
	if after < 1 && !yield(Dirent{Name: ".", Ino: ino, Type: unix.S_IFDIR, Cookie: 1}) {
		return false
	}
	return yield(Dirent{Name: "..", Ino: f.parent(ino), Type: unix.S_IFDIR, Cookie: cookieDots})
}

// parent returns the number of the folder that holds folder ino; what cannot
// be told is given as the folder's own.
func (f *FS) parent(ino merge.Ino) merge.Ino {
	if n := f.table.get(ino); n != nil && (n.inUpperNow() || n.dir == nil) {
		n.mu.RLock()
		defer n.mu.RUnlock()
		if len(n.places) > 0 && !n.gone {
			return n.places[0].dir.ino
		}
		return ino
	}
	links, err := f.lower.Links(ino)
	if err != nil || len(links) == 0 {
		return ino
	}
	return links[0].Dir
}

// listLower yields what shows through of lower folder ino; d is nil if the
// upper has nothing there. Preconditions: d.mu is held.
func (f *FS) listLower(d *folder, ino merge.Ino, after uint64, yield func(Dirent) bool) error {
	return f.lower.ReadDir(ino, max(after, cookieDots)-cookieDots, func(e merge.Entry) bool {
		out := Dirent{Name: e.Name, Ino: e.Ino, Type: e.Type, Cookie: e.Cookie + cookieDots}
		if d != nil {
			if c := d.children[e.Name]; c != nil {
				if c.node == nil {
					return true
				}
				out.Ino, out.Type = c.node.ino, c.node.typ
			}
		}
		return yield(out)
	})
}

// empty reports whether the union shows nothing in n, and which whiteouts its
// upper folder holds. Preconditions: n.dir.mu is held.
func (f *FS) empty(n *node) (bool, []string, error) {
	var white []string
	for name, c := range n.dir.children {
		if c.node != nil {
			return false, nil, nil
		}
		white = append(white, name)
	}
	if n.dir.lower == 0 {
		return true, white, nil
	}
	empty := true
	err := f.listLower(n.dir, n.dir.lower, 0, func(Dirent) bool { empty = false; return false })
	return empty, white, err
}

// Lookup finds name in folder dir and fills in its attributes. ErrNotExist:
// there is none.
func (f *FS) Lookup(dir merge.Ino, name string, st *Stat) error {
	d := f.table.get(dir)
	if d == nil {
		ino, err := f.lower.Lookup(dir, name)
		if err != nil {
			return err
		}
		return f.Getattr(ino, st)
	}
	if !d.isDir() {
		return unix.ENOTDIR
	}
	d.dir.mu.RLock()
	n, ino, err := f.find(d.dir, name)
	d.dir.mu.RUnlock()
	switch {
	case err != nil:
		return err
	case n != nil:
		return f.statNode(n, st)
	case ino != 0:
		return f.statLower(ino, st)
	}
	return merge.ErrNotExist
}
