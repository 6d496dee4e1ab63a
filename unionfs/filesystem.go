package unionfs

import (
	"errors"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"unio/cow"
	"unio/unionfs/merge"
)

// filesystem answers the kernel's requests. Those that are not defined here
// are answered ENOSYS by the embedded default, which tells the kernel to do
// without (fuse_file_open, fuse_access, fuse_flush in the kernel's fs/fuse).
type filesystem struct {
	fuse.RawFileSystem
	tree tree
	cow  *cow.FS // nil: read-only
	log  *slog.Logger

	ledger *Ledger // nil: no other server comes after this one

	ids         *IDs          // nil: owners show as they are
	valid       time.Duration // how long the kernel may believe what it was told
	staticNlink bool
	noXattrs    bool
	writeback   bool
	acl         bool
	labels      bool // SELinux is at work

	trim      merge.Trimmer // the lower, if it can; else nil
	forgotten atomic.Uint64 // nodes

	asked     asked
	dropAttrs func(folder uint64) // makes the kernel ask for them again
}

var _ fuse.RawFileSystem = (*filesystem)(nil)

func newFilesystem(o *Options) *filesystem {
	fs := &filesystem{
		RawFileSystem: fuse.NewDefaultRawFileSystem(), cow: o.Cow, log: o.Log, ledger: o.Ledger,
		ids: o.IDs, valid: validity(o.Timeout), staticNlink: o.StaticNlink, noXattrs: o.NoXattrs,
		writeback: o.Cow != nil && o.Writeback, acl: o.ACL, labels: hasLabels(),
		asked: asked{start: time.Now()}, dropAttrs: func(uint64) {},
	}
	fs.trim, _ = o.Lower.(merge.Trimmer)
	if o.Cow != nil {
		fs.tree = o.Cow
	} else {
		fs.tree = image{o.Lower}
	}
	return fs
}

// String names the filesystem in messages.
func (fs *filesystem) String() string { return "unio" }

// forEver is how long the kernel may believe what it was told: nobody but the
// kernel itself changes anything.
const forEver = 365 * 24 * time.Hour

func validity(timeout time.Duration) time.Duration {
	if timeout == 0 {
		return forEver
	}
	return max(timeout, 0)
}

// status turns an error into the errno the kernel gets. What is no errno is
// logged and becomes EIO.
func (fs *filesystem) status(op string, ino uint64, err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	errno, ok := err.(unix.Errno) // mostly; the search in wrapped errors allocates
	if !ok {
		errno = errnoIn(err)
	}
	switch errno {
	case 0, unix.ENOSYS:
		fs.log.Error("request failed", "op", op, "ino", ino, "err", err)
		return fuse.EIO
	case unix.EIO, unix.ESTALE, unix.EBADF:
		fs.log.Warn("request failed", "op", op, "ino", ino, "err", err)
	}
	return fuse.Status(errno)
}

// errnoIn finds the errno that an error wraps, 0 if there is none.
func errnoIn(err error) (errno unix.Errno) {
	errors.As(err, &errno)
	return errno
}

func (fs *filesystem) fillAttr(a *fuse.Attr, st *cow.Stat) {
	a.Ino = uint64(st.Ino)
	a.Size, a.Blocks, a.Blksize = st.Size, st.Blocks, st.Blksize
	a.Atime, a.Atimensec = uint64(st.Atime.Sec), uint32(st.Atime.Nsec)
	a.Mtime, a.Mtimensec = uint64(st.Mtime.Sec), uint32(st.Mtime.Nsec)
	a.Ctime, a.Ctimensec = uint64(st.Ctime.Sec), uint32(st.Ctime.Nsec)
	a.Mode, a.Nlink, a.Uid, a.Gid = st.Mode, st.Nlink, st.UID, st.GID
	a.Rdev = kernelDev(st.Rdev)
	if fs.ids != nil {
		a.Uid, a.Gid = fs.ids.show(st.UID, st.GID)
	}
	if fs.staticNlink && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		a.Nlink = 1
	}
}

// kernelDev turns a device number into the form that FUSE carries
// (new_encode_dev in include/linux/kdev_t.h).
func kernelDev(rdev uint64) uint32 {
	major, minor := unix.Major(rdev), unix.Minor(rdev)
	return minor&0xff | major<<8 | (minor&^0xff)<<12
}

// userDev is the reverse of kernelDev.
func userDev(rdev uint32) uint64 {
	return unix.Mkdev(rdev>>8&0xfff, rdev&0xff|rdev>>12&0xfff00)
}

// entry fills in the answer that hands a node to the kernel, and counts that
// it has.
func (fs *filesystem) entry(out *fuse.EntryOut, st *cow.Stat) {
	out.NodeId = uint64(st.Ino)
	out.Generation = 1
	out.SetEntryTimeout(fs.valid)
	out.SetAttrTimeout(fs.valid)
	fs.fillAttr(&out.Attr, st)
	fs.tree.Remember(st.Ino)
}

// Lookup answers LOOKUP. That there is nothing is an answer that the kernel
// keeps, too.
func (fs *filesystem) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	var st cow.Stat
	return fs.lookupTo(h, name, &st, out)
}

// lookupTo is Lookup with room for what the tree says: what is passed through an
// interface would else be allocated.
func (fs *filesystem) lookupTo(h *fuse.InHeader, name string, st *cow.Stat, out *fuse.EntryOut) fuse.Status {
	if len(name) > unix.NAME_MAX {
		return fuse.Status(unix.ENAMETOOLONG)
	}
	changes := fs.asked.changes.Load()
	err := fs.lookup(merge.Ino(h.NodeId), name, st)
	if err == merge.ErrNotExist {
		*out = fuse.EntryOut{}
		out.SetEntryTimeout(fs.valid)
		return fuse.OK
	}
	if err != nil {
		return fs.status("lookup", h.NodeId, err)
	}
	fs.tell(st, h, changes)
	fs.entry(out, st)
	return fuse.OK
}

// trimEvery is how many nodes the kernel must have forgotten for the lower to
// be trimmed.
const trimEvery = 1 << 16

// lookup finds a name or, for those who open files by handle, a node by its
// own number (".") and the folder above it (".."), which the kernel asks for
// when it has forgotten them (fuse_get_dentry and fuse_get_parent in the
// kernel's fs/fuse/inode.c).
func (fs *filesystem) lookup(dir merge.Ino, name string, st *cow.Stat) error {
	switch name {
	case ".":
		err := fs.tree.Getattr(dir, st)
		if err == nil && st.Nlink == 0 {
			err = merge.ErrStale
		}
		return err
	case "..":
		parent := dir
		err := fs.tree.ReadDir(dir, 0, func(e cow.Dirent) bool {
			parent = e.Ino
			return e.Name != name
		})
		if err != nil {
			return err
		}
		return fs.tree.Getattr(parent, st)
	}
	return fs.tree.Lookup(dir, name, st)
}

// Forget answers FORGET. A kernel that forgets very much is short of memory,
// and gets back what the server can spare.
func (fs *filesystem) Forget(node, count uint64) {
	fs.tree.Forget(merge.Ino(node), count)
	if fs.forgotten.Add(1)%trimEvery != 0 {
		return
	}
	if fs.trim != nil {
		fs.trim.Trim()
	}
	go debug.FreeOSMemory()
}

// GetAttr answers GETATTR.
func (fs *filesystem) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	var st cow.Stat
	return fs.getattrTo(&in.InHeader, &st, out)
}

func (fs *filesystem) getattrTo(h *fuse.InHeader, st *cow.Stat, out *fuse.AttrOut) fuse.Status {
	changes := fs.asked.changes.Load()
	if err := fs.tree.Getattr(merge.Ino(h.NodeId), st); err != nil {
		return fs.status("getattr", h.NodeId, err)
	}
	fs.tell(st, h, changes)
	out.SetTimeout(fs.valid)
	fs.fillAttr(&out.Attr, st)
	return fuse.OK
}

// changed is called when an entry of a folder has come or gone, before the one
// who asked for that is told.
func (fs *filesystem) changed(folder uint64, h *fuse.InHeader) {
	if fs.asked.change(folder, h.Pid, fs.asked.now()) {
		fs.dropAttrs(folder)
	}
}

// tell is called before somebody is told what st says, which was read after so
// many changes.
func (fs *filesystem) tell(st *cow.Stat, h *fuse.InHeader, changes uint64) {
	if fs.cow == nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return
	}
	fs.asked.note(uint64(st.Ino), h.Pid, fs.asked.now())
	if fs.asked.changes.Load() == changes {
		return
	}
	before := *st
	if fs.tree.Getattr(st.Ino, st) != nil { // removed meanwhile
		*st = before
	}
}

// Readlink answers READLINK.
func (fs *filesystem) Readlink(_ <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	target, err := fs.tree.Readlink(merge.Ino(h.NodeId))
	return []byte(target), fs.status("readlink", h.NodeId, err)
}

// Open answers OPEN: there are no file handles.
func (fs *filesystem) Open(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status {
	return fuse.ENOSYS
}

// OpenDir answers OPENDIR likewise.
func (fs *filesystem) OpenDir(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status {
	return fuse.ENOSYS
}

// Flush answers FLUSH: nothing is held back that a close would have to write.
func (fs *filesystem) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }

// Access answers ACCESS: the kernel checks permissions itself.
func (fs *filesystem) Access(<-chan struct{}, *fuse.AccessIn) fuse.Status { return fuse.ENOSYS }

// ReadDir answers READDIR.
func (fs *filesystem) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	err := fs.tree.ReadDir(merge.Ino(in.NodeId), in.Offset, func(e cow.Dirent) bool { return addEntry(out, &e) })
	return fs.status("readdir", in.NodeId, err)
}

func addEntry(out *fuse.DirEntryList, e *cow.Dirent) bool {
	return out.AddDirEntry(fuse.DirEntry{Mode: e.Type, Name: e.Name, Ino: uint64(e.Ino), Off: e.Cookie})
}

// ReadDirPlus answers READDIRPLUS: a listing that saves the lookups which
// mostly follow one.
func (fs *filesystem) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	var st cow.Stat
	err := fs.tree.ReadDir(merge.Ino(in.NodeId), in.Offset, func(e cow.Dirent) bool {
		return fs.addPlus(&in.InHeader, out, &e, &st)
	})
	return fs.status("readdirplus", in.NodeId, err)
}

// addPlus adds an entry with attributes, which counts as a lookup except for the
// dots (fuse_direntplus_link in the kernel's fs/fuse/readdir.c).
func (fs *filesystem) addPlus(h *fuse.InHeader, out *fuse.DirEntryList, e *cow.Dirent, st *cow.Stat) bool {
	entry := out.AddDirLookupEntry(fuse.DirEntry{Mode: e.Type, Name: e.Name, Ino: uint64(e.Ino), Off: e.Cookie})
	if entry == nil {
		return false
	}
	changes := fs.asked.changes.Load()
	if e.Name == "." || e.Name == ".." || fs.tree.Getattr(e.Ino, st) != nil {
		return true // without attributes the kernel looks it up when it needs it
	}
	fs.tell(st, h, changes)
	fs.entry(entry, st)
	return true
}

// StatFs answers STATFS.
func (fs *filesystem) StatFs(_ <-chan struct{}, h *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	var st unix.Statfs_t
	if err := fs.tree.Statfs(&st); err != nil {
		return fs.status("statfs", h.NodeId, err)
	}
	out.Blocks, out.Bfree, out.Bavail = st.Blocks, st.Bfree, st.Bavail
	out.Files, out.Ffree = st.Files, st.Ffree
	out.Bsize, out.Frsize, out.NameLen = uint32(st.Bsize), uint32(st.Frsize), unix.NAME_MAX
	return fuse.OK
}
