package unionfs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"unio/cow"
	"unio/unionfs/merge"
	"unio/unionfs/transport"
)

// Requests that a server left unanswered when it died come again to its
// successor, marked as repeated. What they ask for may have been done. Most do
// not mind: reading, writing, setting attributes, truncating, allocating and
// punching do the same once more (the kernel sends no FALLOCATE that moves
// data). For those that change names, what is there tells: a name that was to
// be made is there, one that was to be removed is not. The kernel holds the
// locks of the folders until it has the answer, so nobody else did that. Where
// what is there does not tell, the ledger does.

// isRepeated reports whether a request may have been carried out before.
func isRepeated(h *fuse.InHeader) bool { return h.Unique&transport.Repeated != 0 }

// createAgain answers a repeated request for something new, which found its
// name taken.
func (fs *filesystem) createAgain(h *fuse.InHeader, name string, what cow.New, st *cow.Stat) error {
	if !isRepeated(h) {
		return unix.EEXIST
	}
	return fs.cow.Recreate(merge.Ino(h.NodeId), name, what, st)
}

// linkAgain is createAgain for LINK: the name must be one of that file.
func (fs *filesystem) linkAgain(in *fuse.LinkIn, name string, st *cow.Stat) error {
	if !isRepeated(&in.InHeader) {
		return unix.EEXIST
	}
	if err := fs.cow.Lookup(merge.Ino(in.NodeId), name, st); err != nil {
		return err
	}
	if st.Ino != merge.Ino(in.Oldnodeid) {
		return unix.EEXIST
	}
	return nil
}

// removed turns the answer to a repeated request for a removal that found
// nothing into a success.
func removed(h *fuse.InHeader, err error) error {
	if err == merge.ErrNotExist && isRepeated(h) {
		return nil
	}
	return err
}

// renamed reports whether a rename has been carried out already. Of one that
// exchanges, the ledger says what the two names were before.
func (fs *filesystem) renamed(in *fuse.RenameIn, oldName, newName string) bool {
	again := isRepeated(&in.InHeader)
	oldDir, newDir := merge.Ino(in.NodeId), merge.Ino(in.Newdir)
	if in.Flags&unix.RENAME_EXCHANGE == 0 {
		return again && fs.cow.Renamed(oldDir, oldName, newDir, newName)
	}
	var a, b cow.Stat
	if fs.ledger == nil || fs.cow.Lookup(oldDir, oldName, &a) != nil || fs.cow.Lookup(newDir, newName, &b) != nil {
		return false // the rename itself says what is wrong
	}
	unique := in.Unique &^ transport.Repeated
	if !again {
		fs.ledger.put(unique, uint64(a.Ino), uint64(b.Ino))
		return false
	}
	wasA, wasB, noted := fs.ledger.find(unique)
	return noted && (uint64(a.Ino) == wasB || uint64(b.Ino) == wasA)
}

// setxattrFlags takes XATTR_CREATE off a repeated request that had found no
// such attribute the first time.
func (fs *filesystem) setxattrFlags(in *fuse.SetXAttrIn, name string) int {
	flags := int(in.Flags)
	if flags&unix.XATTR_CREATE == 0 || fs.ledger == nil {
		return flags
	}
	unique := in.Unique &^ transport.Repeated
	if isRepeated(&in.InHeader) {
		if _, _, noted := fs.ledger.find(unique); noted {
			return flags &^ unix.XATTR_CREATE
		}
	}
	if _, err := fs.cow.Getxattr(merge.Ino(in.NodeId), name); err == unix.ENODATA {
		fs.ledger.put(unique, 0, 0)
	}
	return flags
}

// removexattr removes an attribute. When it is gone, the ledger says whether it
// was there.
func (fs *filesystem) removexattr(h *fuse.InHeader, name string) error {
	unique := h.Unique &^ transport.Repeated
	_, err := fs.cow.Getxattr(merge.Ino(h.NodeId), name)
	switch {
	case fs.ledger == nil:
	case err == nil:
		fs.ledger.put(unique, 0, 0)
	case err == unix.ENODATA && isRepeated(h):
		if _, _, noted := fs.ledger.find(unique); noted {
			return nil
		}
	}
	if err != nil {
		return err
	}
	return fs.cow.Removexattr(merge.Ino(h.NodeId), name)
}
