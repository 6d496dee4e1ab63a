package cow

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"unio/cow/fsat"
	"unio/unionfs/merge"
	"unio/whiteout"
)

// load learns what the upper and the hub hold.
func (f *FS) load() error {
	f.void = make(map[uint64]string)
	f.linked = make(map[uint64]*node)
	defer func() { f.linked = nil }()
	for known := 0; ; known = len(f.void) {
		if err := f.loadUpper(); err != nil {
			return err
		}
		f.settleClaims()
		if len(f.void) == known {
			break
		}
		f.unload()
	}
	if err := f.rebuildHub(); err != nil {
		return fmt.Errorf("rebuild the link hub: %w", err)
	}
	if err := f.recountHub(); err != nil {
		return fmt.Errorf("count the names in the link hub: %w", err)
	}
	if !f.resumed {
		return nil
	}
	if err := f.loadOrphans(); err != nil {
		return fmt.Errorf("read the orphans' folder: %w", err)
	}
	return nil
}

// loadUpper walks the upper from its top. The hub comes first: the names that
// are found afterwards may be those of its files.
func (f *FS) loadUpper() error {
	f.table.add(f.top)
	s := spot{fd: f.top.held.fd}
	if opaque, err := f.isOpaque(s); err != nil {
		return fmt.Errorf("read the upper folder: %w", err)
	} else if opaque {
		f.top.dir.lower = 0
	}
	f.top.dir.subdirs = f.lowerSubdirs(f.top.dir.lower)
	if err := f.loadHub(); err != nil {
		return fmt.Errorf("read the link hub: %w", err)
	}
	return f.loadFolder(f.top, "/")
}

func (f *FS) lowerSubdirs(lower merge.Ino) int64 {
	var a merge.Attr
	if lower == 0 || f.lower.Attr(lower, &a) != nil {
		return 0
	}
	return subdirsOf(&a)
}

// found is what a walk of the upper sees of one entry.
type found struct {
	name   string
	st     unix.Stat_t
	attrs  []string // names of its extended attributes
	origin origin
}

func (e *found) has(attr string) bool { return slices.Contains(e.attrs, attr) }

// loadFolder enters everything below folder n. Preconditions: n is in the
// table and nobody else has the FS yet.
func (f *FS) loadFolder(n *node, path string) error {
	h, err := f.handleOf(n)
	if err != nil {
		return fmt.Errorf("open %s in the upper folder: %w", path, err)
	}
	defer h.release()
	names, err := fsat.Names(h.fd, ".")
	if err != nil {
		return fmt.Errorf("list %s in the upper folder: %w", path, err)
	}
	if names, err = f.loadNames(n, h.fd, names); err != nil {
		return fmt.Errorf("read %s in the upper folder: %w", path, err)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := f.loadEntry(n, h.fd, name, path); err != nil {
			return err
		}
	}
	return nil
}

// loadEntry takes one entry of an upper folder into the table, and what is below
// it. Link counts of folders are kept by how many subfolders each entry adds or
// hides.
func (f *FS) loadEntry(dir *node, dirfd int, name, path string) error {
	e, err := f.examine(dirfd, name)
	if err != nil {
		return fmt.Errorf("read %s%s in the upper folder: %w", path, name, err)
	}
	below, err := f.lowerName(dir.dir, name)
	if err == unix.EINVAL {
		f.log.Warn("the lower refuses a name that the upper folder has", "name", path+name)
		err = nil
	}
	if err != nil {
		return fmt.Errorf("look up %s%s below: %w", path, name, err)
	}
	hides := f.isSubdir(below)
	if f.isWhiteout(&e) {
		dir.dir.put(name, nil, below != 0)
		dir.dir.subdirs -= hides
		return nil
	}
	n, fresh := f.adopt(dir, &e, below, dirfd)
	n.places = append(n.places, place{dir, name})
	f.noteClaim(n, &e, below, path+name)
	dir.dir.put(name, n, below != 0)
	if !n.isDir() {
		dir.dir.subdirs -= hides
		return nil
	}
	dir.dir.subdirs += 1 - hides
	if !fresh {
		return nil
	}
	return f.loadFolder(n, path+name+"/")
}

func (f *FS) isSubdir(ino merge.Ino) int64 {
	var a merge.Attr
	if ino != 0 && f.lower.Attr(ino, &a) == nil && a.IsDir() {
		return 1
	}
	return 0
}

// examine reads what an upper entry says about itself.
func (f *FS) examine(dirfd int, name string) (found, error) {
	e := found{name: name}
	if err := fsat.Stat(dirfd, name, &e.st); err != nil {
		return e, err
	}
	if whiteout.IsDevice(e.st.Mode, e.st.Rdev) {
		return e, nil
	}
	attrs, err := fsat.ListXattr(dirfd, name)
	if err != nil && err != unix.ENOTSUP {
		return e, err
	}
	e.attrs = attrs
	if !f.root && e.has(whiteout.OverrideStat) {
		if err := f.retype(&e, dirfd); err != nil {
			return e, err
		}
	}
	if e.has(f.names.Origin) {
		e.origin, err = f.readOrigin(dirfd, name, e.st.Mode)
	}
	return e, err
}

// retype gives an entry the type that its override attribute says it has.
func (f *FS) retype(e *found, dirfd int) error {
	var st Stat
	st.fromUpper(&e.st)
	if err := f.override(spot{fd: dirfd, name: e.name}, &st); err != nil {
		return err
	}
	e.st.Mode, e.st.Rdev = st.Mode, st.Rdev
	return nil
}

func (f *FS) isWhiteout(e *found) bool {
	if whiteout.IsDevice(e.st.Mode, e.st.Rdev) {
		return true
	}
	return e.st.Mode&unix.S_IFMT == unix.S_IFREG && e.st.Size == 0 && e.has(f.names.Whiteout)
}

// adopt makes or finds the node of an upper entry of dir. below is what the
// lower has under its name. fresh: nothing has been loaded below it yet.
func (f *FS) adopt(dir *node, e *found, below merge.Ino, dirfd int) (n *node, fresh bool) {
	typ := e.st.Mode & unix.S_IFMT
	own := upperBit | merge.Ino(e.st.Ino)
	if typ == unix.S_IFDIR {
		return f.adoptFolder(dir, e, below, dirfd), true
	}
	if n := f.linked[e.st.Ino]; n != nil {
		return n, false
	}
	n = &node{ino: own, lower: e.origin.ino, typ: typ, inUpper: true}
	if e.origin.ino != 0 {
		n.ino = e.origin.ino
	}
	if typ == unix.S_IFREG && (e.has(f.names.Metacopy) || e.has(f.names.Partial)) {
		n.lower = f.lowerFile(dir, e, below, dirfd)
	}
	f.adoptData(n, e, dirfd)
	if f.table.add(n) != n { // two files claim one origin: the second gets a number of its own
		n.ino = own
		f.table.add(n)
	}
	if e.st.Nlink > 1 {
		f.linked[e.st.Ino] = n
	}
	return n, true
}

// adoptFolder makes the node of an upper folder. Where two claim one lower folder,
// or a mark makes no sense, the folder shows its own entries only: nobody is to
// see by it what its maker could not name.
func (f *FS) adoptFolder(dir *node, e *found, below merge.Ino, dirfd int) *node {
	shows := f.lowerFolder(dir, e, below, dirfd)
	ino := shows
	if opaque, err := f.isOpaque(spot{fd: dirfd, name: e.name}); err != nil || opaque {
		ino, shows = 0, 0
	}
	if ino == 0 {
		ino = e.origin.ino
	}
	if path, void := f.void[e.st.Ino]; void && (shows != 0 || ino != 0) {
		f.disown(spot{fd: dirfd, name: e.name}, path)
		ino, shows = 0, 0
	}
	if have := f.table.get(ino); have != nil && shows != 0 {
		f.log.Warn("two folders of the upper folder show the same lower one: the second shows none", "name", e.name)
		f.contest(have, e, shows == below)
		shows = 0
	}
	if ino == 0 {
		ino = upperBit | merge.Ino(e.st.Ino)
	}
	n := f.newFolder(ino, shows)
	n.inUpper = true
	n.dir.subdirs = f.lowerSubdirs(shows)
	if f.table.add(n) != n {
		n.ino = upperBit | merge.Ino(e.st.Ino)
		f.table.add(n)
	}
	return n
}
