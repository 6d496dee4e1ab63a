package unionfs

import "github.com/hanwen/go-fuse/v2/fuse"

// IDRange says that the Size owners from Stored on, as they are on disk, show
// as those from Shown on, and that the mount's users are stored by the reverse.
type IDRange struct{ Stored, Shown, Size uint32 }

// IDs says how owners on disk show on a mount, as fuse-overlayfs's options
// uidmapping, gidmapping and squash_to_* do (its manual, "Dynamic UID and GID
// mapping"). The zero value shows them as they are.
type IDs struct {
	UIDs, GIDs           []IDRange // none: as they are
	SquashUID, SquashGID *uint32   // what all show as, whoever they belong to
}

// Mapped reports whether anything shows otherwise than it is.
func (m *IDs) Mapped() bool {
	return len(m.UIDs) > 0 || len(m.GIDs) > 0 || m.SquashUID != nil || m.SquashGID != nil
}

// overflowID is who shows where no range has an owner (the default of
// /proc/sys/kernel/overflowuid).
const overflowID = 65534

// show turns an owner on disk into one on the mount.
func (m *IDs) show(uid, gid uint32) (uint32, uint32) {
	return shown(m.UIDs, m.SquashUID, uid), shown(m.GIDs, m.SquashGID, gid)
}

// store turns an owner on the mount into one on disk.
func (m *IDs) store(uid, gid uint32) (uint32, uint32) {
	return stored(m.UIDs, uid), stored(m.GIDs, gid)
}

// shown is how an owner on disk shows: the same for all that are squashed, nobody
// for one in no range.
func shown(ranges []IDRange, squash *uint32, id uint32) uint32 {
	if squash != nil {
		return *squash
	}
	if len(ranges) == 0 {
		return id
	}
	for _, r := range ranges {
		if id >= r.Stored && id-r.Stored < r.Size {
			return r.Shown + (id - r.Stored)
		}
	}
	return overflowID
}

// stored is the reverse, which squashing has none of.
func stored(ranges []IDRange, id uint32) uint32 {
	if len(ranges) == 0 {
		return id
	}
	for _, r := range ranges {
		if id >= r.Shown && id-r.Shown < r.Size {
			return r.Stored + (id - r.Shown)
		}
	}
	return overflowID
}

// mapOwner changes the owner in an attribute change from the mount's to the
// disk's.
func (m *IDs) mapOwner(in *fuse.SetAttrIn) { in.Uid, in.Gid = m.store(in.Uid, in.Gid) }
