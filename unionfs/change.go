package unionfs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"unio/cow"
	"unio/unionfs/merge"
)

// SetAttr answers SETATTR.
func (fs *filesystem) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	var st cow.Stat
	return fs.setattrTo(in, &st, out)
}

func (fs *filesystem) setattrTo(in *fuse.SetAttrIn, st *cow.Stat, out *fuse.AttrOut) fuse.Status {
	if fs.cow == nil {
		return fuse.EROFS
	}
	if fs.ids != nil {
		fs.ids.mapOwner(in)
	}
	if err := fs.cow.Setattr(merge.Ino(in.NodeId), fs.changeOf(in), st); err != nil {
		return fs.status("setattr", in.NodeId, err)
	}
	out.SetTimeout(fs.valid)
	fs.fillAttr(&out.Attr, st)
	return fuse.OK
}

// changeOf translates the fields that a SETATTR says are valid.
func (fs *filesystem) changeOf(in *fuse.SetAttrIn) cow.Change {
	c := cow.Change{
		KillPriv: in.Valid&fuse.FATTR_KILL_SUIDGID != 0 || heraldsWrite(in), Foreign: fs.foreign(&in.InHeader),
	}
	if in.Valid&fuse.FATTR_MODE != 0 {
		c.Mode = &in.Mode
	}
	if in.Valid&fuse.FATTR_UID != 0 {
		c.UID = &in.Uid
	}
	if in.Valid&fuse.FATTR_GID != 0 {
		c.GID = &in.Gid
	}
	if in.Valid&fuse.FATTR_SIZE != 0 {
		c.Size = &in.Size
	}
	if in.Valid&fuse.FATTR_ATIME != 0 {
		c.Atime = timeOf(in.Atime, in.Atimensec, in.Valid&fuse.FATTR_ATIME_NOW != 0)
	}
	if in.Valid&fuse.FATTR_MTIME != 0 {
		c.Mtime = timeOf(in.Mtime, in.Mtimensec, in.Valid&fuse.FATTR_MTIME_NOW != 0)
	}
	return c
}

// heraldsWrite recognises the SETATTR that the kernel sends before a write that
// takes setuid and setgid bits away (__remove_privs in fs/inode.c,
// fuse_setattr): it asks for nothing, since it leaves the taking to the WRITE.
// But only an answer with the bits gone makes the kernel forget them.
func heraldsWrite(in *fuse.SetAttrIn) bool {
	const nothing = fuse.FATTR_FH | fuse.FATTR_LOCKOWNER | fuse.FATTR_CTIME
	return in.Valid&^uint32(nothing) == 0 && in.InHeader.Uid != 0
}

func timeOf(sec uint64, nsec uint32, now bool) *unix.Timespec {
	if now {
		return &unix.Timespec{Nsec: unix.UTIME_NOW}
	}
	return &unix.Timespec{Sec: int64(sec), Nsec: int64(nsec)}
}

// caller tells whom what a request makes will belong to, as on disk.
func (fs *filesystem) caller(h *fuse.InHeader) (uid, gid uint32) {
	if fs.ids == nil {
		return h.Uid, h.Gid
	}
	return fs.ids.store(h.Uid, h.Gid)
}

// create makes something new and hands it to the kernel.
func (fs *filesystem) create(h *fuse.InHeader, name string, what cow.New, out *fuse.EntryOut) fuse.Status {
	var st cow.Stat
	return fs.createTo(h, name, what, &st, out)
}

func (fs *filesystem) createTo(h *fuse.InHeader, name string, what cow.New, st *cow.Stat, out *fuse.EntryOut) fuse.Status {
	if fs.cow == nil {
		return fuse.EROFS
	}
	what.UID, what.GID = fs.caller(h)
	err := fs.cow.Create(merge.Ino(h.NodeId), name, what, st)
	if err == unix.EEXIST {
		err = fs.createAgain(h, name, what, st)
	}
	if err != nil {
		return fs.status("create", h.NodeId, err)
	}
	fs.changed(h.NodeId, h)
	fs.entry(out, st)
	return fuse.OK
}

// Mknod answers MKNOD, which also stands for CREATE.
func (fs *filesystem) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	return fs.create(&in.InHeader, name, cow.New{Mode: in.Mode, Rdev: userDev(in.Rdev), Umask: in.Umask}, out)
}

// Create answers CREATE: the kernel then sends MKNOD and opens without asking.
func (fs *filesystem) Create(<-chan struct{}, *fuse.CreateIn, string, *fuse.CreateOut) fuse.Status {
	return fuse.ENOSYS
}

// Tmpfile answers TMPFILE. It is the one request that opens; the handle is
// never looked at.
func (fs *filesystem) Tmpfile(_ <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	if fs.cow == nil {
		return fuse.EROFS
	}
	var st cow.Stat
	what := cow.New{Mode: unix.S_IFREG | in.Mode&0o7777, Umask: in.Umask}
	what.UID, what.GID = fs.caller(&in.InHeader)
	if err := fs.cow.Tmpfile(merge.Ino(in.NodeId), what, &st); err != nil {
		return fs.status("tmpfile", in.NodeId, err)
	}
	fs.entry(&out.EntryOut, &st)
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	return fuse.OK
}

// Mkdir answers MKDIR.
func (fs *filesystem) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	return fs.create(&in.InHeader, name, cow.New{Mode: unix.S_IFDIR | in.Mode&0o7777, Umask: in.Umask}, out)
}

// Symlink answers SYMLINK.
func (fs *filesystem) Symlink(_ <-chan struct{}, h *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	return fs.create(h, name, cow.New{Mode: unix.S_IFLNK | 0o777, Target: target}, out)
}

// Link answers LINK.
func (fs *filesystem) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	if fs.cow == nil {
		return fuse.EROFS
	}
	var st cow.Stat
	err := fs.cow.Link(merge.Ino(in.Oldnodeid), merge.Ino(in.NodeId), name, &st)
	if err == unix.EEXIST {
		err = fs.linkAgain(in, name, &st)
	}
	if err != nil {
		return fs.status("link", in.Oldnodeid, err)
	}
	fs.changed(in.NodeId, &in.InHeader)
	fs.entry(out, &st)
	return fuse.OK
}

// Unlink answers UNLINK.
func (fs *filesystem) Unlink(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	if fs.cow == nil {
		return fuse.EROFS
	}
	return fs.left("unlink", h, fs.cow.Unlink(merge.Ino(h.NodeId), name))
}

// Rmdir answers RMDIR.
func (fs *filesystem) Rmdir(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	if fs.cow == nil {
		return fuse.EROFS
	}
	return fs.left("rmdir", h, fs.cow.Rmdir(merge.Ino(h.NodeId), name))
}

// left ends UNLINK and RMDIR.
func (fs *filesystem) left(op string, h *fuse.InHeader, err error) fuse.Status {
	if err = removed(h, err); err != nil {
		return fs.status(op, h.NodeId, err)
	}
	fs.changed(h.NodeId, h)
	return fuse.OK
}

// Rename answers RENAME and RENAME2.
func (fs *filesystem) Rename(cancel <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	if fs.cow == nil {
		return fuse.EROFS
	}
	if fs.renamed(in, oldName, newName) {
		return fuse.OK
	}
	if err := fs.cow.Detach(merge.Ino(in.NodeId), oldName, cancel); err != nil {
		return fs.status("rename", in.NodeId, err)
	}
	err := fs.cow.Rename(merge.Ino(in.NodeId), oldName, merge.Ino(in.Newdir), newName, uint(in.Flags))
	if err != nil {
		return fs.status("rename", in.NodeId, err)
	}
	fs.changed(in.NodeId, &in.InHeader)
	if in.Newdir != in.NodeId {
		fs.changed(in.Newdir, &in.InHeader)
	}
	return fuse.OK
}

// SetXAttr answers SETXATTR.
func (fs *filesystem) SetXAttr(_ <-chan struct{}, in *fuse.SetXAttrIn, name string, value []byte) fuse.Status {
	if fs.noXattrs {
		return fuse.ENOSYS
	}
	if fs.cow == nil {
		return fuse.EROFS
	}
	if cow.IsACL(name) && !fs.acl {
		return fuse.Status(unix.ENOTSUP)
	}
	err := fs.cow.Setxattr(merge.Ino(in.NodeId), name, value, fs.setxattrFlags(in, name))
	if err == nil && in.SetXAttrFlags&setxattrKillSetgid != 0 {
		var st cow.Stat
		err = fs.cow.Setattr(merge.Ino(in.NodeId), cow.Change{KillSetgid: true}, &st)
	}
	return fs.status("setxattr", in.NodeId, err)
}

// setxattrKillSetgid is FUSE_SETXATTR_ACL_KILL_SGID (include/uapi/linux/fuse.h):
// who sets an access control list is neither in the file's group nor privileged.
const setxattrKillSetgid = 1

// RemoveXAttr answers REMOVEXATTR.
func (fs *filesystem) RemoveXAttr(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	if fs.noXattrs {
		return fuse.ENOSYS
	}
	if fs.cow == nil {
		return fuse.EROFS
	}
	if cow.IsACL(name) && !fs.acl {
		return fuse.Status(unix.ENOTSUP)
	}
	err := fs.removexattr(h, name)
	if cow.IsACL(name) && err == unix.ENODATA {
		err = nil // there is always a list: the mode is one
	}
	return fs.status("removexattr", h.NodeId, err)
}
