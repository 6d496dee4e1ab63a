// Package merge is the merged read-only view over the lower layers of a
// union, in terms of node numbers and names. It knows neither FUSE nor where
// the bytes come from.
//
// The contract is [Lower]: one immutable tree. Its nodes carry numbers that
// never change, so a mount that is served again tomorrow, by another process,
// understands every number the kernel still holds. [Tree] is the reference
// implementation of the layer rules: it applies layers in memory, one over
// the other, and is what views are built from.
//
// A Lower is never written. What changes belongs to package cow.
package merge

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Ino is the number of a node in a Lower. It is also the node's inode number
// (st_ino) on every mount of that Lower.
type Ino uint64

// RootIno is the number of the root folder of every Lower, which is also the
// number FUSE gives the root of a mount (include/uapi/linux/fuse.h,
// FUSE_ROOT_ID).
const RootIno Ino = 1

// Sentinels of the contract. They wrap the errno that the kernel expects, so
// errors.Is works with either.
var (
	// ErrNotExist says that a folder has no entry of that name.
	ErrNotExist error = unix.ENOENT
	// ErrNoXattr says that a node has no extended attribute of that name.
	ErrNoXattr error = unix.ENODATA
	// ErrStale says that no node has that number.
	ErrStale error = unix.ESTALE
	// ErrCorrupt says that the data behind a Lower is damaged.
	ErrCorrupt = errors.New("damaged layer data")
)

// Attr holds the attributes of a node. Access and change time are not kept by
// image layers; readers show the modification time for both. Folders of a host
// have them, and programs look at them: backups at the change time, which says
// of a file unpacked today with an old date that it is new.
type Attr struct {
	Mode  uint32 // type and permission bits as in st_mode
	UID   uint32
	GID   uint32
	Nlink uint32 // names of a file; 2 + subfolders of a folder
	Rdev  uint64 // in the encoding of unix.Mkdev, devices only
	Size  uint64 // bytes; the length of the target for a symbolic link
	Sec   int64  // modification time, seconds since 1970, may be negative
	Nsec  uint32 // and nanoseconds, 0 to 999,999,999

	// What a lower on a host's filesystem knows besides; only if Host is set.
	Host   bool
	Blocks uint64 // of 512 bytes, as allocated
	Access unix.Timespec
	Change unix.Timespec
}

// IsDir reports whether the attributes are those of a folder.
func (a *Attr) IsDir() bool { return a.Mode&unix.S_IFMT == unix.S_IFDIR }

// IsRegular reports whether the attributes are those of a regular file.
func (a *Attr) IsRegular() bool { return a.Mode&unix.S_IFMT == unix.S_IFREG }

// IsSymlink reports whether the attributes are those of a symbolic link.
func (a *Attr) IsSymlink() bool { return a.Mode&unix.S_IFMT == unix.S_IFLNK }

// Entry is one name in a folder.
type Entry struct {
	Name   string // one path component, never "." or ".."
	Ino    Ino
	Type   uint32 // the type bits of the mode (S_IFMT)
	Cookie uint64 // reading goes on behind this entry with ReadDir(dir, Cookie, …); from 1
}

// Link is one name of a node: an entry of that name in folder Dir.
type Link struct {
	Dir  Ino
	Name string
}

// Segment is a stretch of a file that holds data; what lies between segments
// is a hole and reads as zeros.
type Segment struct {
	Off int64 // bytes from the start of the file
	Len int64 // bytes, > 0
}

// Lower is one immutable tree. All methods may be called from several
// goroutines at once. A number that names no node gives ErrStale; a number of
// the wrong type gives ENOTDIR, EISDIR or EINVAL as the system call would.
// Strings handed out stay valid until the Lower is closed by its owner.
type Lower interface {
	// Lookup finds name in folder dir, or returns ErrNotExist.
	Lookup(dir Ino, name string) (Ino, error)
	// Attr fills in the attributes of a node.
	Attr(ino Ino, a *Attr) error
	// ReadDir calls yield for each entry of folder dir, in an order that
	// never changes, starting behind cookie after (0: at the start), until
	// yield returns false.
	ReadDir(dir Ino, after uint64, yield func(Entry) bool) error
	// Readlink returns the target of a symbolic link.
	Readlink(ino Ino) (string, error)
	// Xattr returns the value of an extended attribute, or ErrNoXattr. The
	// caller must not change it.
	Xattr(ino Ino, name string) ([]byte, error)
	// Xattrs calls yield for each extended attribute, sorted by name.
	Xattrs(ino Ino, yield func(name string, value []byte) bool) error
	// ReadAt reads from a regular file: n < len(p) only at the end of the
	// file or with an error; the end of the file is not an error.
	ReadAt(ino Ino, p []byte, off int64) (n int, err error)
	// Segments returns where a regular file holds data, in order.
	Segments(ino Ino) ([]Segment, error)
	// Links returns every name of a node; a folder has one, the root none. A
	// Counter knows only the names that have been asked for; whether a file has
	// more is told by Attr.Nlink.
	Links(ino Ino) ([]Link, error)
	// Nodes returns how many nodes there are. Numbers run from 1 to Nodes,
	// except for a Counter, which numbers sparsely and may give an estimate.
	Nodes() uint64
	// DataSize returns the bytes of content, each file counted once.
	DataSize() uint64
}

// Cloner is what a [Lower] has as well that can copy file data inside the
// kernel.
type Cloner interface {
	// CopyTo copies a stretch of a regular file to the same place of the file
	// open at fd, shares the blocks if the filesystem can, and returns how many
	// bytes it did: fewer than all is no error. ENOTSUP: not this file, or not
	// to there; the caller reads and writes instead.
	CopyTo(ino Ino, fd int, seg Segment) (n int64, err error)
}

// Counter is what a [Lower] has as well that knows its nodes only while
// somebody refers to them. A number that [Lower.Lookup] or [Lower.ReadDir] has
// just given is good until many others have been asked for; who needs it
// longer remembers it. Numbers are below 1<<62 and the same in every process,
// but such a Lower cannot find a node by a number that it never gave.
type Counter interface {
	// Remember counts one more reference to a node.
	Remember(ino Ino)
	// Forget takes count references back and returns how many are left.
	Forget(ino Ino, count uint64) (left int64)
	// References returns how many references there are.
	References(ino Ino) int64
}

// Seeker is what a [Lower] has as well that finds data and holes of a file
// without listing all of them.
type Seeker interface {
	// Seek is lseek(2) with SEEK_DATA or SEEK_HOLE. ENXIO: off is at or behind
	// the end, or no data comes behind it.
	Seek(ino Ino, off int64, whence int) (int64, error)
}

// Trimmer is a Lower that can give memory back which it will need again only
// if it is asked again, as a mapped file can its pages. unionfs calls Trim when
// the kernel has forgotten very many nodes, which it does for want of memory.
type Trimmer interface{ Trim() }
