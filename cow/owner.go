package cow

import (
	"fmt"

	"golang.org/x/sys/unix"

	"unio/cow/fsat"
	"unio/whiteout"
)

// owner is who a file belongs to and what it is, as the union shows it. A
// union with privilege keeps it in the inode; one without keeps it in
// [whiteout.OverrideStat] and leaves the real file to its user, readable and
// writable.
type owner struct {
	uid, gid uint32
	mode     uint32 // type and permission bits
	rdev     uint64
}

// realMode is the mode of the file that stands for o in the upper.
func (f *FS) realMode(o owner) uint32 {
	if f.root {
		return o.mode
	}
	switch o.mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return unix.S_IFDIR | o.mode&0o777 | 0o700
	case unix.S_IFLNK:
		return o.mode
	}
	return unix.S_IFREG | o.mode&0o777 | 0o600 // only that and a folder can carry the attribute
}

// setOwner gives the file at s its owner and mode. The owner goes first:
// changing it clears the setuid bit.
func (f *FS) setOwner(s spot, o owner) error {
	if !f.root {
		return f.record(s, o)
	}
	if err := fsat.Chown(s.fd, s.name, int(o.uid), int(o.gid)); err != nil {
		return err
	}
	if o.mode&unix.S_IFMT == unix.S_IFLNK {
		return nil
	}
	return fsat.Chmod(s.fd, s.name, o.mode)
}

// record writes o into the override attribute. A symbolic link cannot carry
// one (xattr(7)): it shows as the root user's.
func (f *FS) record(s spot, o owner) error {
	if o.mode&unix.S_IFMT == unix.S_IFLNK {
		return nil
	}
	text := fmt.Sprintf("%d:%d:%04o", o.uid, o.gid, o.mode&0o7777)
	if t := typeName(o); t != "" {
		text += ":" + t
	}
	if err := fsat.SetXattr(s.fd, s.name, whiteout.OverrideStat, []byte(text), 0); err != nil {
		return err
	}
	return fsat.Chmod(s.fd, s.name, f.realMode(o))
}

// typeName names a type that the file in the upper does not have itself.
func typeName(o owner) string {
	kind := ""
	switch o.mode & unix.S_IFMT {
	case unix.S_IFIFO:
		return "pipe"
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFCHR:
		kind = "char"
	case unix.S_IFBLK:
		kind = "block"
	default:
		return ""
	}
	return fmt.Sprintf("%s-%d-%d", kind, unix.Major(o.rdev), unix.Minor(o.rdev))
}

// override replaces what the inode at s says by what its attribute says. A
// file without one is the root user's.
func (f *FS) override(s spot, st *Stat) error {
	text, err := fsat.XattrValue(s.fd, s.name, whiteout.OverrideStat)
	switch err {
	case nil:
	case unix.ENODATA, unix.ENOTSUP, unix.EPERM, unix.EACCES:
		st.UID, st.GID = f.mapOwner(st.UID, st.GID)
		return nil
	default:
		return err
	}
	o, ok := whiteout.ParseOverride(string(text))
	if !ok {
		f.log.Warn("bad owner attribute", "value", string(text))
		st.UID, st.GID = f.mapOwner(st.UID, st.GID)
		return nil
	}
	st.UID, st.GID = o.UID, o.GID
	st.Mode = st.Mode&unix.S_IFMT | o.Mode&0o7777
	if t := o.Mode & unix.S_IFMT; t != 0 {
		st.Mode, st.Rdev = t|o.Mode&0o7777, o.Rdev
	}
	return nil
}

// mapOwner makes the user of a union without privilege its root user, unless
// the union shows the owners on the host.
func (f *FS) mapOwner(uid, gid uint32) (uint32, uint32) {
	if f.root || f.hostOwners {
		return uid, gid
	}
	if int(uid) == f.uid {
		uid = 0
	}
	if int(gid) == f.gid {
		gid = 0
	}
	return uid, gid
}
