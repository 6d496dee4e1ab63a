package cow

import (
	"golang.org/x/sys/unix"

	"unio/cow/failpoint"
	"unio/cow/fsat"
	"unio/unionfs/merge"
	"unio/whiteout"
)

// New says what is to be made: type and permissions, owner, device number, and
// the target of a symbolic link.
type New struct {
	Mode   uint32
	UID    uint32
	GID    uint32
	Rdev   uint64
	Target string
	// Umask is that of who makes it, if Options.ACL leaves it to the union: a
	// folder's default list takes its place.
	Umask uint32

	access, defaults []byte // access control lists that it inherits
}

// Create makes a file, folder, device, fifo, socket or symbolic link called
// name in folder dir, and fills in its attributes.
func (f *FS) Create(dir merge.Ino, name string, what New, st *Stat) error {
	if err := f.checkName(name); err != nil {
		return err
	}
	if whiteout.IsDevice(what.Mode, what.Rdev) {
		return unix.EPERM // as overlayfs refuses it (ovl_mknod): it would hide its own name
	}
	d, err := f.copyUpFolder(dir)
	if err != nil {
		return err
	}
	d.dir.mu.Lock()
	defer d.dir.mu.Unlock()
	slot, err := f.freeSlot(d, name)
	if err != nil {
		return err
	}
	h, err := f.handleOf(d)
	if err != nil {
		return err
	}
	defer h.release()
	what.UID, what.GID = f.mapOwner(what.UID, what.GID)
	if err := f.inherit(h.fd, &what); err != nil {
		return err
	}
	n, err := f.make(d, h.fd, slot, what, st)
	if err != nil {
		return err
	}
	d.dir.put(name, n, slot.below)
	if n.isDir() {
		d.dir.subdirs++
	}
	return nil
}

// slot is a free name in an upper folder.
type slot struct {
	name  string
	white bool // there is a whiteout in the way
	below bool // the lower has something of that name
}

// freeSlot checks that something can be called name in folder d.
// Preconditions: d.dir.mu is held for writing.
func (f *FS) freeSlot(d *node, name string) (slot, error) {
	if d.dir.removed {
		return slot{}, unix.ENOENT
	}
	below, err := f.lowerName(d.dir, name)
	if err != nil {
		return slot{}, err
	}
	c := d.dir.children[name]
	if c != nil && c.node != nil || c == nil && below != 0 {
		return slot{}, unix.EEXIST
	}
	return slot{name: name, white: c != nil, below: below != 0}, nil
}

// inherit gives what is to be made all that it has from its folder.
func (f *FS) inherit(dirfd int, what *New) error {
	if err := f.inheritGroup(dirfd, what); err != nil {
		return err
	}
	return f.inheritACL(what, func() ([]byte, error) { return fsat.XattrValue(dirfd, "", DefaultACL) })
}

// inheritGroup applies the rule of setgid folders (inode_init_owner in the
// kernel's fs/inode.c).
func (f *FS) inheritGroup(dirfd int, what *New) error {
	var st Stat
	if err := f.statSpot(spot{fd: dirfd}, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_ISGID == 0 {
		return nil
	}
	what.GID = st.GID
	if what.Mode&unix.S_IFMT == unix.S_IFDIR {
		what.Mode |= unix.S_ISGID
	}
	return nil
}

// make makes the file: in WORK/tmp first if it has to take a whiteout's place,
// or if it is not right from the start, since a crash must not leave it so.
func (f *FS) make(d *node, dirfd int, at slot, what New, st *Stat) (*node, error) {
	where := spot{fd: dirfd, name: at.name}
	staged := at.white || !f.comesRight(what)
	if staged {
		where = spot{fd: f.tmp, name: f.tempName()}
	}
	fd, err := f.makeAt(where, what)
	if err != nil {
		return nil, err
	}
	failpoint.Hit("create.made")
	made := where
	if fd >= 0 {
		made = spot{fd: fd}
	}
	err = f.finish(made, at, what, st)
	failpoint.Hit("create.finished")
	if err == nil && staged {
		err = f.unstage(where.name, dirfd, at, what.Mode)
	}
	if err != nil {
		f.undo(where, fd)
		return nil, err
	}
	failpoint.Hit("create.placed")
	if staged { // it has a later ctime now
		if fd < 0 {
			made = spot{fd: dirfd, name: at.name}
		}
		if err := f.statSpot(made, st); err != nil {
			f.undo(spot{fd: dirfd, name: at.name}, fd)
			return nil, err
		}
	}
	return f.enter(d, at.name, st, fd), nil
}

// makeAt makes the bare file; a regular one is returned open.
func (f *FS) makeAt(at spot, what New) (int, error) {
	mode := f.realMode(owner{mode: what.Mode})
	switch what.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return fsat.Open(at.fd, at.name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, mode&0o777)
	case unix.S_IFDIR:
		return -1, fsat.Mkdir(at.fd, at.name, mode&0o777)
	case unix.S_IFLNK:
		return -1, fsat.Symlink(what.Target, at.fd, at.name)
	}
	return -1, fsat.Mknod(at.fd, at.name, mode&^0o7000, what.Rdev)
}

// finish gives a fresh file its owner and what else does not come by itself,
// and reads its attributes.
func (f *FS) finish(at spot, slot slot, what New, st *Stat) error {
	var u unix.Stat_t
	if err := fsat.Stat(at.fd, at.name, &u); err != nil {
		return err
	}
	if slot.below && what.Mode&unix.S_IFMT == unix.S_IFDIR {
		if err := f.setOpaque(at); err != nil {
			return err
		}
	}
	want := owner{uid: what.UID, gid: what.GID, mode: what.Mode, rdev: what.Rdev}
	inherits := what.access != nil || what.defaults != nil
	if f.root && u.Uid == want.uid && u.Gid == want.gid && u.Mode == want.mode && !inherits {
		st.fromUpper(&u)
		return nil
	}
	if want.mode&unix.S_IFMT == unix.S_IFLNK && f.root && u.Uid == want.uid && u.Gid == want.gid {
		st.fromUpper(&u)
		return nil
	}
	if err := f.setOwner(at, want); err != nil {
		return err
	}
	if err := f.setACL(at, &what); err != nil {
		return err
	}
	return f.statSpot(at, st)
}

// comesRight reports whether the system call that makes a file gives it the
// owner and mode that it shall have.
func (f *FS) comesRight(what New) bool {
	return f.root && int(what.UID) == f.uid && int(what.GID) == f.gid && what.Mode&0o7000 == 0 &&
		what.access == nil && what.defaults == nil
}

// unstage moves a finished file from WORK/tmp to its name.
func (f *FS) unstage(temp string, dirfd int, at slot, mode uint32) error {
	if at.white {
		return f.replaceWhiteout(temp, dirfd, at.name, mode)
	}
	return fsat.Rename(f.tmp, temp, dirfd, at.name, unix.RENAME_NOREPLACE)
}

// replaceWhiteout moves a finished file from WORK/tmp over a whiteout. Nothing
// but a folder can replace a folder, so one changes places with it.
func (f *FS) replaceWhiteout(temp string, dirfd int, name string, mode uint32) error {
	if mode&unix.S_IFMT != unix.S_IFDIR {
		return fsat.Rename(f.tmp, temp, dirfd, name, 0)
	}
	if err := fsat.Rename(f.tmp, temp, dirfd, name, unix.RENAME_EXCHANGE); err != nil {
		return err
	}
	failpoint.Hit("create.exchanged")
	f.discard(temp)
	return nil
}

func (f *FS) undo(where spot, fd int) {
	if fd >= 0 {
		fsat.Close(fd)
	}
	if err := fsat.RemoveAll(where.fd, where.name); err != nil {
		f.log.Warn("cannot remove a half-made file", "name", where.name, "err", err)
	}
}

// enter makes the node of a fresh file. st.Ino is the upper's inode number
// until here, the union's from here on.
func (f *FS) enter(d *node, name string, st *Stat, fd int) *node {
	ino := upperBit | st.Ino
	n := &node{ino: ino, typ: st.Mode & unix.S_IFMT}
	if n.typ == unix.S_IFDIR {
		n = f.newFolder(ino, 0)
		st.Nlink = 2
	}
	n.inUpper, n.counted = true, true
	n.data.set(dataWhole)
	n.places = []place{{d, name}}
	f.table.fresh(n)
	if fd >= 0 {
		f.cache(n, fd).release()
	}
	st.Ino = ino
	return n
}
