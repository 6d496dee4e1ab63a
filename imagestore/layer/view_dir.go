package layer

import (
	"encoding/binary"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"unio/unionfs/merge"
)

// direntRec is the record of a name in a folder.
type direntRec []byte

func (d direntRec) nameRef() heapRef {
	return heapRef{binary.LittleEndian.Uint32(d), uint32(binary.LittleEndian.Uint16(d[4:]))}
}
func (d direntRec) typ() uint32    { return uint32(binary.LittleEndian.Uint16(d[6:])) << 12 }
func (d direntRec) ino() merge.Ino { return merge.Ino(binary.LittleEndian.Uint32(d[8:])) }
func (d direntRec) dir() merge.Ino { return merge.Ino(binary.LittleEndian.Uint32(d[12:])) }

// dirent returns a name in a folder by its number in the table. The numbers it
// holds are checked here, so that what is handed out can be asked for.
func (v *View) dirent(i uint64) (d direntRec, name string, err error) {
	d = v.file.record(tabDirents, i)
	if d == nil {
		return nil, "", errDamaged
	}
	name, ok := v.file.str(d.nameRef())
	if !ok || uint64(d.ino())-1 >= v.Nodes() || uint64(d.dir())-1 >= v.Nodes() {
		return nil, "", errDamaged
	}
	return d, name, nil
}

// Lookup finds name in folder dir by binary search. Names are strings that lie
// in the mapping, so comparing them copies nothing.
func (v *View) Lookup(dir merge.Ino, name string) (ino merge.Ino, err error) {
	defer catchFault(debug.SetPanicOnFault(true), &err)
	n, err := v.nodeOf(dir, unix.S_IFDIR, unix.ENOTDIR)
	if err != nil {
		return 0, err
	}
	r := n.list()
	lo, hi := uint64(r.first), uint64(r.first)+uint64(r.count)
	for lo < hi {
		mid := (lo + hi) / 2
		d, at, err := v.dirent(mid)
		switch {
		case err != nil:
			return 0, err
		case at == name:
			return d.ino(), nil
		case at < name:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return 0, merge.ErrNotExist
}

// ReadDir calls yield for each entry of folder dir behind cookie after, in
// order of their bytes. The cookie of an entry is its position, from 1; as
// nothing ever changes, going on from any cookie is right at any time.
func (v *View) ReadDir(dir merge.Ino, after uint64, yield func(merge.Entry) bool) (err error) {
	defer catchFault(debug.SetPanicOnFault(true), &err)
	n, err := v.nodeOf(dir, unix.S_IFDIR, unix.ENOTDIR)
	if err != nil {
		return err
	}
	r := n.list()
	for i := after; i < uint64(r.count); i++ {
		d, name, err := v.dirent(uint64(r.first) + i)
		if err != nil {
			return err
		}
		if !yield(merge.Entry{Name: name, Ino: d.ino(), Type: d.typ(), Cookie: i + 1}) {
			break
		}
	}
	return nil
}

// Links returns every name of a node; a folder has one, the root none.
func (v *View) Links(ino merge.Ino) (links []merge.Link, err error) {
	defer catchFault(debug.SetPanicOnFault(true), &err)
	n, err := v.node(ino)
	if err != nil || ino == merge.RootIno {
		return nil, err
	}
	if n.is(unix.S_IFDIR) || n.nlink() == 1 {
		return v.appendLink(nil, uint64(n.name()), ino)
	}
	b, ok := v.file.records(tabLinks, n.name(), n.nlink())
	if !ok {
		return nil, errDamaged
	}
	for ; len(b) >= linkSize; b = b[linkSize:] {
		if links, err = v.appendLink(links, uint64(binary.LittleEndian.Uint32(b)), ino); err != nil {
			return nil, err
		}
	}
	return links, nil
}

// appendLink adds the name that a dirent gives node ino.
func (v *View) appendLink(links []merge.Link, dirent uint64, ino merge.Ino) ([]merge.Link, error) {
	d, name, err := v.dirent(dirent)
	if err != nil {
		return nil, err
	}
	if d.ino() != ino {
		return nil, errDamaged
	}
	return append(links, merge.Link{Dir: d.dir(), Name: name}), nil
}

// verifyFolder checks that the names in a folder are valid, sorted, and agree
// with their nodes, and that each subfolder has this one name.
func (v *View) verifyFolder(dir merge.Ino, r tableRange) error {
	prev := ""
	for i := range r.count {
		number := uint64(r.first) + uint64(i)
		d, name, err := v.dirent(number)
		if err != nil {
			return err
		}
		child, err := v.node(d.ino())
		if err != nil {
			return err
		}
		if name <= prev || !validName(name) || d.dir() != dir || !child.is(d.typ()) {
			return badIndex("name %q in folder %d", name, dir)
		}
		// Folders are numbered after the one that they are in.
		if child.is(unix.S_IFDIR) && (uint64(child.name()) != number || d.ino() <= dir) {
			return badIndex("folder %q in folder %d", name, dir)
		}
		prev = name
	}
	return nil
}
