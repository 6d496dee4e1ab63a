package cow

import (
	"math"

	"golang.org/x/sys/unix"

	"unio/cow/failpoint"
	"unio/cow/fsat"
	"unio/unionfs/merge"
)

// Change says which attributes to set; nil leaves one as it is. A Nsec of
// UTIME_NOW stands for the clock's time.
type Change struct {
	Mode       *uint32 // permission bits
	UID        *uint32
	GID        *uint32
	Size       *uint64
	Atime      *unix.Timespec
	Mtime      *unix.Timespec
	KillPriv   bool // clear setuid and setgid as a write does
	KillSetgid bool // clear setgid
	Foreign    Foreign
}

// Foreign tells of a group whether who asks is neither in it nor privileged;
// nil: never. The setgid bit of a file that its group may not execute, once
// the mark of mandatory locking, goes only then
// (setattr_should_drop_sgid in the kernel's fs/attr.c).
type Foreign func(gid uint32) bool

// Setattr changes attributes of a node and fills in the result.
func (f *FS) Setattr(ino merge.Ino, c Change, st *Stat) error {
	var n *node
	var err error
	if c.Size != nil && *c.Size > math.MaxInt64 {
		return unix.EINVAL
	}
	if c.Size != nil {
		n, err = f.copyUpData(ino, want{formPartial, *c.Size})
	} else {
		n, err = f.copyUp(ino)
	}
	if err != nil {
		return err
	}
	if c.Size != nil {
		if err := f.truncate(n, int64(*c.Size)); err != nil {
			return err
		}
		failpoint.Hit("setattr.truncated")
	}
	if err := f.change(n, &c); err != nil {
		return err
	}
	failpoint.Hit("setattr.changed")
	return f.statNode(n, st)
}

func (f *FS) truncate(n *node, size int64) error {
	h, err := f.handleOf(n)
	if err != nil {
		return err
	}
	defer h.release()
	if n.data.get() == dataPartial {
		n.data.mu.Lock()
		defer n.data.mu.Unlock()
		return f.truncatePartial(n, h.fd, size)
	}
	return unix.Ftruncate(h.fd, size)
}

// change sets what c names of owner, mode and times. Preconditions: n is in the
// upper.
func (f *FS) change(n *node, c *Change) error {
	s, err := f.spotOf(n)
	if err != nil {
		return err
	}
	defer s.release()
	if c.Mode != nil || c.UID != nil || c.GID != nil || c.KillPriv || c.KillSetgid {
		if err := f.changeOwner(n, s, c); err != nil {
			return err
		}
	}
	if c.Atime == nil && c.Mtime == nil {
		return nil
	}
	return fsat.Utimes(s.fd, s.name, timeOr(c.Atime), timeOr(c.Mtime))
}

func timeOr(t *unix.Timespec) unix.Timespec {
	if t == nil {
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	}
	return *t
}

// changeOwner sets owner and mode. As the server has every privilege, nothing
// is cleared by itself: changing the owner of a file that is no folder takes
// its setuid bit and mostly its setgid bit.
func (f *FS) changeOwner(n *node, s spot, c *Change) error {
	var st Stat
	if err := f.statSpot(s, &st); err != nil {
		return err
	}
	o := owner{uid: st.UID, gid: st.GID, mode: st.Mode, rdev: st.Rdev}
	if c.UID != nil {
		o.uid = *c.UID
	}
	if c.GID != nil {
		o.gid = *c.GID
	}
	if n.typ != unix.S_IFDIR && (c.KillPriv || c.UID != nil || c.GID != nil) {
		o.mode = withoutPrivilege(o.mode, c.Foreign != nil && c.Foreign(st.GID))
	}
	if c.KillSetgid {
		o.mode &^= unix.S_ISGID
	}
	if c.Mode != nil {
		o.mode = o.mode&unix.S_IFMT | *c.Mode&0o7777
	}
	if f.root && c.UID == nil && c.GID == nil {
		if c.Mode == nil && o.mode == st.Mode || n.typ == unix.S_IFLNK {
			return nil // a chmod that changes nothing changes the change time
		}
		return fsat.Chmod(s.fd, s.name, o.mode)
	}
	return f.setOwner(s, o)
}

// withoutPrivilege clears setuid, and setgid where it gives rights or who asks
// is foreign to the group.
func withoutPrivilege(mode uint32, foreign bool) uint32 {
	mode &^= unix.S_ISUID
	if mode&unix.S_IXGRP != 0 || foreign {
		mode &^= unix.S_ISGID
	}
	return mode
}
