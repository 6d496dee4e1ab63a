package cow

import (
	"golang.org/x/sys/unix"

	"unio/cow/fsat"
	"unio/unionfs/merge"
)

// Stat holds the attributes of a node of the union.
type Stat struct {
	Ino     merge.Ino
	Mode    uint32 // type and permission bits
	UID     uint32
	GID     uint32
	Nlink   uint32
	Rdev    uint64
	Size    uint64 // bytes
	Blocks  uint64 // of 512 bytes
	Blksize uint32
	Atime   unix.Timespec
	Mtime   unix.Timespec
	Ctime   unix.Timespec

	attr merge.Attr // what the lower says, here so that asking it allocates nothing
}

const blockSize = 4096

// FromLower fills in the attributes of lower node ino. Most lowers keep one
// time for all three.
func (st *Stat) FromLower(ino merge.Ino, a *merge.Attr) {
	t := unix.Timespec{Sec: a.Sec, Nsec: int64(a.Nsec)}
	st.Ino, st.Mode, st.UID, st.GID, st.Nlink, st.Rdev = ino, a.Mode, a.UID, a.GID, a.Nlink, a.Rdev
	st.Size, st.Blocks, st.Blksize = a.Size, 0, blockSize
	st.Atime, st.Mtime, st.Ctime = t, t, t
	if a.Host {
		st.Atime, st.Ctime, st.Blocks = a.Access, a.Change, a.Blocks
		return
	}
	switch {
	case a.IsDir():
		st.Size = blockSize
	case a.IsRegular():
		st.Blocks = blocksOf(a.Size)
	}
}

// fromUpper fills in what the upper's filesystem says, its inode number
// included.
func (st *Stat) fromUpper(u *unix.Stat_t) {
	st.Ino = merge.Ino(u.Ino)
	st.Mode, st.UID, st.GID, st.Nlink, st.Rdev = u.Mode, u.Uid, u.Gid, uint32(u.Nlink), u.Rdev
	st.Size, st.Blocks, st.Blksize = uint64(u.Size), uint64(u.Blocks), uint32(u.Blksize)
	st.Atime, st.Mtime, st.Ctime = u.Atim, u.Mtim, u.Ctim
}

// Getattr fills in the attributes of a node.
func (f *FS) Getattr(ino merge.Ino, st *Stat) error {
	n := f.table.get(ino)
	if n == nil && f.isHidden(ino) {
		var err error
		if n, err = f.node(ino); err != nil {
			return err
		}
	}
	if n != nil {
		return f.statNode(n, st)
	}
	return f.statLower(ino, st)
}

func (f *FS) statLower(ino merge.Ino, st *Stat) error {
	return st.Ask(f.lower, ino)
}

// Ask fills in the attributes of a node of lower.
func (st *Stat) Ask(lower merge.Lower, ino merge.Ino) error {
	if err := lower.Attr(ino, &st.attr); err != nil {
		return err
	}
	st.FromLower(ino, &st.attr)
	return nil
}

func (f *FS) statNode(n *node, st *Stat) error {
	var err error
	if n.inUpperNow() {
		err = f.statUpper(n, st)
	} else {
		err = f.statLower(n.lower, st)
	}
	if err != nil {
		return err
	}
	f.adjust(n, st)
	return nil
}

// inUpperNow reports whether n has been copied up or was born in the upper,
// which never ends.
func (n *node) inUpperNow() bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.inUpper
}

func (f *FS) statUpper(n *node, st *Stat) error {
	s, err := f.spotOf(n)
	if err != nil {
		return err
	}
	defer s.release()
	return f.statSpot(s, st)
}

func (f *FS) statSpot(s spot, st *Stat) error {
	var u unix.Stat_t
	if err := fsat.Stat(s.fd, s.name, &u); err != nil {
		return err
	}
	st.fromUpper(&u)
	if f.root {
		return nil
	}
	return f.override(s, st)
}

// uncounted is how many subfolders a folder has whose lower does not count
// them: so few that it stays below zero, and the link count 1, which says so.
const uncounted = -1 << 40

// subdirsOf returns how many subfolders a lower folder has.
func subdirsOf(a *merge.Attr) int64 {
	if a.Nlink < 2 {
		return uncounted
	}
	return int64(a.Nlink) - 2
}

// adjust puts right what the upper's filesystem cannot know of the union.
func (f *FS) adjust(n *node, st *Stat) {
	st.Ino = n.ino
	if !n.inUpperNow() {
		f.adjustLost(n, st)
	}
	if n.isDir() {
		n.dir.mu.RLock()
		st.Nlink = uint32(max(2+n.dir.subdirs, 1))
		if n.dir.removed {
			st.Nlink = 0
		}
		n.dir.mu.RUnlock()
		return
	}
	n.mu.RLock()
	switch {
	case n.gone:
		st.Nlink = 0
	case n.hubbed:
		st.Nlink = n.nlink
	case !n.inUpper:
		st.Nlink -= n.lost
	}
	inUpper := n.inUpper
	n.mu.RUnlock()
	if !inUpper || n.typ != unix.S_IFREG {
		return
	}
	switch n.data.get() { // what shows of the lower takes room as well
	case dataLower:
		st.Blocks = blocksOf(st.Size)
	case dataPartial:
		st.Blocks = max(st.Blocks, blocksOf(uint64(n.data.limit.Load())))
	}
}

// blocksOf returns how many blocks of 512 bytes a file without holes takes.
func blocksOf(size uint64) uint64 {
	return (size + blockSize - 1) / blockSize * (blockSize / 512)
}

// adjustLost gives a lower node that lost a name, but was never copied up, the
// change time that this is. It has no other place than memory: who still sees
// the node has it open.
func (f *FS) adjustLost(n *node, st *Stat) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.lostAt != 0 {
		st.Ctime = unix.NsecToTimespec(n.lostAt)
	}
}
