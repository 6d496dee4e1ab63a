package dirlower

import (
	"golang.org/x/sys/unix"

	"unio/cow/fsat"
	"unio/unionfs/merge"
	"unio/whiteout"
)

// file says where the topmost file of a node is: a folder's descriptor and a
// name in it, empty for the root.
type file struct {
	fd    int
	name  string
	layer int
	dir   *handle
}

// release gives the folder back.
func (f *file) release() { f.dir.release() }

// fileOf finds the topmost file of a node; the caller releases it.
func (t *Tree) fileOf(n *node) (file, error) {
	if n.up == nil {
		return file{fd: t.layers[0].fd}, nil
	}
	dir, err := t.dirOf(n.up, n.layer())
	if err != nil {
		return file{}, err
	}
	return file{fd: dir.fd, name: n.name, layer: n.layer(), dir: dir}, nil
}

// Attr implements [merge.Lower]. The link count of a file is that of the host,
// which may count names outside the layers. That of a folder is exact and
// costs nothing where one layer alone has it and its filesystem counts
// subfolders; otherwise the folder is listed, once.
func (t *Tree) Attr(ino merge.Ino, a *merge.Attr) error {
	n, err := t.get(ino)
	if err != nil {
		return err
	}
	f, err := t.fileOf(n)
	if err != nil {
		return err
	}
	defer f.release()
	var st unix.Stat_t
	if err := fsat.Stat(f.fd, f.name, &st); err != nil {
		return staleIfGone(err)
	}
	*a = attrOf(&st)
	if err := t.applyOverride(f.fd, f.name, f.layer, a); err != nil {
		return err
	}
	if !a.IsDir() {
		return nil
	}
	a.Nlink, err = t.folderLinks(n, a.Nlink)
	return err
}

// staleIfGone says of a node that its layer has been changed.
func staleIfGone(err error) error {
	if err == unix.ENOENT {
		return merge.ErrStale
	}
	return err
}

// attrOf turns what the host says into attributes. Numbers of devices that are
// none are left out: some filesystems give them any value.
func attrOf(st *unix.Stat_t) merge.Attr {
	a := merge.Attr{
		Mode: st.Mode, UID: st.Uid, GID: st.Gid, Nlink: uint32(st.Nlink), Size: uint64(st.Size),
		Sec: st.Mtim.Sec, Nsec: uint32(st.Mtim.Nsec),
		Host: true, Blocks: uint64(st.Blocks), Access: st.Atim, Change: st.Ctim,
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR, unix.S_IFBLK:
		a.Rdev = st.Rdev
	}
	return a
}

// applyOverride replaces owner, mode and type by what the file's attribute
// says. Without privilege, what is ours shows as the root user's.
func (t *Tree) applyOverride(fd int, name string, layer int, a *merge.Attr) error {
	attr := t.layers[layer].override
	if attr == "" || a.IsSymlink() {
		t.mapOwner(a)
		return nil
	}
	text, err := fsat.XattrValue(fd, name, attr)
	switch err {
	case nil:
	case unix.ENODATA, unix.ENOTSUP, unix.EPERM, unix.EACCES:
		t.mapOwner(a)
		return nil
	default:
		return staleIfGone(err)
	}
	o, ok := whiteout.ParseOverride(string(text))
	if !ok {
		t.log.Warn("bad owner attribute", "name", name, "value", string(text))
		t.mapOwner(a)
		return nil
	}
	a.UID, a.GID = o.UID, o.GID
	a.Mode = a.Mode&unix.S_IFMT | o.Mode&0o7777
	if typ := o.Mode & unix.S_IFMT; typ != 0 && !a.IsDir() {
		a.Mode, a.Rdev, a.Size = typ|o.Mode&0o7777, o.Rdev, 0
	}
	return nil
}

// mapOwner makes what belongs to the user of a union without privilege the root
// user's: in it he may do what root may.
func (t *Tree) mapOwner(a *merge.Attr) {
	if t.root || t.host {
		return
	}
	if a.UID == t.uid {
		a.UID = 0
	}
	if a.GID == t.gid {
		a.GID = 0
	}
}

// folderLinks returns the link count of a folder: 2 and one for each
// subfolder, or 1 if nobody is to count. host is what its topmost layer says.
func (t *Tree) folderLinks(n *node, host uint32) (uint32, error) {
	f, err := t.folderOf(n)
	if err != nil {
		return 0, err
	}
	switch {
	case t.static:
		return 1, nil
	case len(f.stack) == 1 && host > 1: // btrfs always says 1
		return host, nil
	}
	if links := f.nlink.Load(); links != 0 {
		return links, nil
	}
	list, err := t.list(n, f)
	if err != nil {
		return 0, err
	}
	links := uint32(2)
	for i := range list.entries {
		if list.entries[i].typ == unix.S_IFDIR {
			links++
		}
	}
	f.nlink.Store(links)
	return links, nil
}

// Readlink implements [merge.Lower].
func (t *Tree) Readlink(ino merge.Ino) (string, error) {
	n, err := t.get(ino)
	if err != nil {
		return "", err
	}
	f, err := t.fileOf(n)
	if err != nil {
		return "", err
	}
	defer f.release()
	if f.name == "" {
		return "", unix.EINVAL
	}
	target, err := fsat.Readlink(f.fd, f.name)
	return target, staleIfGone(err)
}

// Links implements [merge.Lower]. Of a file only the names are known that
// somebody has asked for.
func (t *Tree) Links(ino merge.Ino) ([]merge.Link, error) {
	n, err := t.get(ino)
	if err != nil {
		return nil, err
	}
	if n.up == nil {
		return nil, nil
	}
	links := []merge.Link{{Dir: n.up.ino, Name: n.name}}
	if m := n.more.Load(); m != nil {
		for _, p := range m.places {
			links = append(links, merge.Link{Dir: p.up.ino, Name: p.name})
		}
	}
	return links, nil
}

// Statfs fills in how full the filesystem of the topmost layer is, which is
// what a mount of layers alone shows (ovl_statfs in the kernel).
func (t *Tree) Statfs(out *unix.Statfs_t) error { return unix.Fstatfs(t.layers[0].fd, out) }

// Nodes implements [merge.Lower]. How many there are nobody knows: it is the
// number of inodes in use on the filesystem of the topmost layer.
func (t *Tree) Nodes() uint64 {
	var st unix.Statfs_t
	if err := t.Statfs(&st); err != nil || st.Files < st.Ffree {
		return 0
	}
	return st.Files - st.Ffree
}

// DataSize implements [merge.Lower]: the bytes in use on the filesystem of the
// topmost layer.
func (t *Tree) DataSize() uint64 {
	var st unix.Statfs_t
	if err := t.Statfs(&st); err != nil || st.Blocks < st.Bfree {
		return 0
	}
	return (st.Blocks - st.Bfree) * uint64(st.Bsize)
}
