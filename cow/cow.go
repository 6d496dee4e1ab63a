// Package cow is the writable half of a union: one upper folder over one
// [merge.Lower]. It copies up what changes, hides what is deleted behind
// whiteouts and gives every file one number for ever, whichever of the two
// its data comes from. It knows no FUSE: package unionfs translates.
//
// # On disk
//
// The upper has overlayfs's own layout (whiteout devices, opaque, redirect and
// metacopy attributes), plus an origin attribute that names the lower node
// which something was copied up from. WORK/tmp holds what is being built and
// becomes visible by one rename; WORK/hub holds the files copied up from lower
// nodes with several names, under their node number, so that every name finds
// the same file. WORK/orphan holds what has lost its name while the kernel
// still refers to it.
//
// # In memory
//
// The upper is walked once, by [Open]; from then on its names are known and a
// lookup makes no system call but stat. A lower node that the upper never
// touched costs nothing. Attributes and data are never cached here: the
// kernel does that.
//
// # Locks
//
// In this order, parents before children, lower numbers first among equals:
//
//	node.copying   one copy-up at a time of one node; held while data is copied
//	node.data.mu   the blocks of a partial file; held while they are read or written
//	FS.moving      one move between folders at a time
//	folder.mu      the names in one folder, in memory and in the upper
//	node.mu        where a node is in the upper; taken child before parent for reading only
//	shard.mu       the node table
//
// A folder's lock is never held while file data is copied.
package cow

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"unio/cow/fsat"
	"unio/unionfs/merge"
	"unio/whiteout"
)

// ErrInUse says that another mount writes to this upper.
var ErrInUse = errors.New("the upper folder is in use by another mount")

// Options say what to unite.
type Options struct {
	Upper string      // folder that holds the changes; must exist
	Work  string      // folder on the same filesystem for what is being built; must exist
	Lower merge.Lower // what the changes are made to
	Root  bool        // real owners and devices, trusted.* attributes; otherwise override_stat and user.*
	// Volatile leaves out every wait for the disk. The upper is marked until a
	// clean Close; Open refuses a marked one with ErrVolatile.
	Volatile bool
	// Resume takes the upper over from a server that died while its mount lives
	// on: the numbers that it gave to the kernel stay valid, those of unlinked
	// files included.
	Resume bool
	// WorkFD is Work, opened and locked by that server (see [FS.Lock]), when it
	// is not 0. It belongs to the FS from then on.
	WorkFD int
	Log    *slog.Logger // nil: nothing is logged

	// Plain keeps the upper readable by overlayfs, fuse-overlayfs and
	// container engines at every moment: it stands for all that follow.
	Plain      bool
	AllNames   bool // a file with several lower names is copied up under all that are known
	NoMetacopy bool // a change of attributes copies a file's data too
	NoPartial  bool // large files are copied up whole when they are written, not by blocks
	NoRedirect bool // a folder that shows lower entries is copied up before it is renamed

	// ACL lets what is made inherit the access control lists of its folder, and
	// applies the umask: the kernel leaves both to the union then. It needs Root
	// and a filesystem with such lists; Open gives ErrNoACL otherwise.
	ACL bool

	// UserXattr keeps what belongs to the union in user.* attributes even
	// with Root: for the root user of a user namespace, who has real owners
	// but no trusted.* (overlayfs's option userxattr).
	UserXattr bool
	// WhiteoutNames reads files called .wh.NAME and .wh..wh..opq in the upper
	// as the whiteouts that fuse-overlayfs makes where it can make no device,
	// and lets nobody make such names. Without it they are names like others.
	WhiteoutNames bool
	// HostOwners shows files without an owner attribute, in a union without
	// Root, as their owner's on disk; otherwise those of our user show as the
	// root user's.
	HostOwners bool
}

// normalise spells out what Plain stands for.
func (o *Options) normalise() {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.AllNames = o.AllNames || o.Plain
	o.NoMetacopy = o.NoMetacopy || o.Plain
	o.NoPartial = o.NoPartial || o.Plain
	o.NoRedirect = o.NoRedirect || o.Plain
}

// FS is one writable union. Its methods may be called from several goroutines
// at once.
type FS struct {
	lower merge.Lower
	names whiteout.Xattrs
	root  bool
	acl   bool
	log   *slog.Logger

	allNames, noMetacopy, noRedirect bool // see Options
	lenient                          bool // attributes that the upper's filesystem refuses are left out
	hostOwners, whiteoutNames        bool // see Options

	table   table
	lookups lookups // of lower nodes
	handles handles
	counts  counts

	// moving is held by a move from one folder to another: who lies below whom,
	// which decides the order of locks, then stays as it is. The kernel does the
	// same for every filesystem (s_vfs_rename_mutex), so nobody waits for it.
	moving sync.Mutex

	top *node // the root of the union
	tmp int   // WORK/tmp
	hub *node // WORK/hub as a folder of the upper
	// orphan is WORK/orphan likewise.
	orphan  *node
	resumed bool // Options.Resume
	opened  bool // Open has come to its end
	lock    int  // keeps others off the upper

	order order // what the upper's filesystem promises (sync.go)
	// pastSynced: what earlier servers did is on the disk
	pastSynced atomic.Bool
	volatile   bool
	marked     bool // with the marks of a volatile mount

	partial bool  // large files are copied up by blocks
	exact   bool  // the upper's filesystem keeps holes where they are
	block   int64 // bytes that a partial file has or has not together

	serial atomic.Uint64 // makes names in WORK/tmp unique
	white  shared        // the whiteout that all others are links of
	uid    int           // who we are, for a union without privilege
	gid    int

	untouched   untouched
	dropListing func(merge.Ino) // see OnListing

	claims []claim           // while the upper is read
	linked map[uint64]*node  // likewise: files of several names, by inode number of the upper's filesystem
	void   map[uint64]string // by inode number of the upper's filesystem: folders that show no lower, and their paths
}

// shared is a whiteout kept in WORK/tmp to be linked from.
type shared struct {
	mu   sync.Mutex
	name string
}

const (
	tmpName = "tmp"
	hubName = "hub"
	// maxUpperHandles bounds the descriptors kept open on upper files.
	maxUpperHandles = 4096
)

// Open takes an upper folder into use: it locks it, clears what an earlier
// crash left in the work folder and learns what the upper holds.
func Open(o Options) (*FS, error) {
	o.normalise()
	f := &FS{
		lower: o.Lower, names: whiteout.XattrsFor(o.Root && !o.UserXattr), root: o.Root, acl: o.ACL, log: o.Log, volatile: o.Volatile,
		allNames: o.AllNames, noMetacopy: o.NoMetacopy, noRedirect: o.NoRedirect,
		lenient: !o.Root || o.UserXattr, hostOwners: o.HostOwners, whiteoutNames: o.WhiteoutNames,
		resumed: o.Resume,
		tmp:     -1, lock: -1, uid: os.Geteuid(), gid: os.Getegid(),
		partial: !o.NoPartial,
	}
	f.table.init()
	f.handles.init(handleLimit())
	if err := f.open(o); err != nil {
		f.Close()
		return nil, err
	}
	f.opened = true
	return f, nil
}

func (f *FS) open(o Options) error {
	if err := f.startCounting(); err != nil {
		return fmt.Errorf("count lookups: %w", err)
	}
	upper, err := fsat.OpenRoot(o.Upper)
	if err != nil {
		return fmt.Errorf("open upper folder %s: %w", o.Upper, err)
	}
	f.top = f.newFolder(merge.RootIno, merge.RootIno)
	f.top.held = newHandle(upper)
	f.top.inUpper = true
	if err := f.checkACL(); err != nil {
		return fmt.Errorf("open upper folder %s: %w", o.Upper, err)
	}
	if err := f.openWork(&o); err != nil {
		return err
	}
	if o.Volatile {
		if err := f.markVolatile(&o); err != nil {
			return err
		}
	}
	f.learnHoles()
	if err := f.tryXattr(); err != nil {
		return fmt.Errorf("the filesystem of %s cannot hold an upper folder: %w", o.Upper, err)
	}
	if err := f.adoptRoot(); err != nil {
		return fmt.Errorf("prepare upper folder %s: %w", o.Upper, err)
	}
	return f.load()
}

// tryXattr finds out whether the upper's filesystem takes our attributes:
// better now than at the first copy-up.
func (f *FS) tryXattr() error {
	err := fsat.SetXattr(f.tmp, "", f.names.Origin, nil, 0)
	if err == unix.ENOTSUP || err == unix.EPERM {
		return fmt.Errorf("set the extended attribute %s: %w", f.names.Origin, err)
	}
	return nil
}

// adoptRoot gives the root of a fresh upper the attributes of the lower's.
func (f *FS) adoptRoot() error {
	s := spot{fd: f.top.held.fd}
	names, err := fsat.Names(s.fd, ".")
	if err != nil || len(names) > 0 {
		return err
	}
	_, err = fsat.GetXattr(s.fd, "", f.names.Origin, nil)
	if err != unix.ENODATA {
		return err
	}
	var a merge.Attr
	if err := f.lower.Attr(merge.RootIno, &a); err != nil {
		return err
	}
	return f.dress(f.top, s, &a)
}

// openWork opens WORK and its two folders, and empties WORK/tmp.
func (f *FS) openWork(o *Options) error {
	path := o.Work
	work, err := f.lockWork(o)
	if err != nil {
		return err
	}
	if err := f.sameDevice(work); err != nil {
		return err
	}
	if err := f.checkVolatile(o); err != nil {
		return err
	}
	f.order = orderOf(work)
	if err := fsat.RemoveAll(work, tmpName); err != nil {
		return fmt.Errorf("clear %s/%s: %w", path, tmpName, err)
	}
	if f.tmp, err = makeDir(work, tmpName); err != nil {
		return fmt.Errorf("make %s/%s: %w", path, tmpName, err)
	}
	hub, err := makeDir(work, hubName)
	if err != nil {
		return fmt.Errorf("make %s/%s: %w", path, hubName, err)
	}
	f.hub = f.newFolder(0, 0)
	f.hub.held = newHandle(hub)
	f.hub.inUpper = true
	return f.openOrphans(work, path)
}

// lockWork opens WORK and keeps others off it and off the upper.
func (f *FS) lockWork(o *Options) (int, error) {
	if o.WorkFD > 0 {
		f.lock = o.WorkFD
		unix.CloseOnExec(f.lock)
		return f.lock, nil
	}
	work, err := fsat.OpenRoot(o.Work)
	if err != nil {
		return -1, fmt.Errorf("open work folder %s: %w", o.Work, err)
	}
	f.lock = work
	if err := unix.Flock(work, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return -1, fmt.Errorf("lock %s: %w", o.Work, ErrInUse)
	}
	// Others may come with a work folder of their own.
	if err := unix.Flock(f.top.held.fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return -1, fmt.Errorf("lock %s: %w", o.Upper, ErrInUse)
	}
	return work, nil
}

// Lock returns a copy of the descriptor that keeps others off the upper. It
// does so as long as any copy is open, in whatever process.
func (f *FS) Lock() (*os.File, error) {
	fd, err := unix.FcntlInt(uintptr(f.lock), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	return os.NewFile(uintptr(fd), "work"), nil
}

// sameDevice refuses a work folder from which nothing can be renamed into the
// upper.
func (f *FS) sameDevice(work int) error {
	var u, w unix.Stat_t
	if err := fsat.Fstat(f.top.held.fd, &u); err != nil {
		return fmt.Errorf("stat upper folder: %w", err)
	}
	if err := fsat.Fstat(work, &w); err != nil {
		return fmt.Errorf("stat work folder: %w", err)
	}
	if u.Dev != w.Dev {
		return fmt.Errorf("the work folder must be on the filesystem of the upper folder: %w", unix.EXDEV)
	}
	return nil
}

func makeDir(dirfd int, name string) (int, error) {
	if err := fsat.Mkdir(dirfd, name, 0o700); err != nil && err != unix.EEXIST {
		return -1, err
	}
	fd, err := fsat.OpenDir(dirfd, name)
	if err == nil {
		// What is built here inherits from its folder in the union, never from
		// one on the host. That there is no list to remove is no error.
		_ = fsat.RemoveXattr(fd, "", DefaultACL)
	}
	return fd, err
}

// handleLimit leaves most descriptors of the process to its other needs.
func handleLimit() int {
	var rl unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &rl); err != nil {
		return 256
	}
	return int(min(rl.Cur/2, maxUpperHandles))
}

// Close gives the upper back. Nothing is buffered here, so nothing is lost
// when it is not called, except that the upper of a volatile mount stays marked.
func (f *FS) Close() error {
	err := f.unmark()
	f.table.each(func(n *node) { f.dropHandles(n) })
	f.clearOrphans()
	for _, n := range []*node{f.top, f.hub, f.orphan} {
		if n != nil {
			f.dropHandles(n)
		}
	}
	for _, fd := range []int{f.tmp, f.lock} {
		if fd >= 0 {
			fsat.Close(fd)
		}
	}
	f.tmp, f.lock = -1, -1
	return firstError(err, f.lookups.close())
}

// tempName returns a name for something to be built in WORK/tmp.
func (f *FS) tempName() string { return strconv.FormatUint(f.serial.Add(1), 36) }

// discard removes what could not be finished in WORK/tmp.
func (f *FS) discard(temp string) {
	if err := fsat.RemoveAll(f.tmp, temp); err != nil {
		f.log.Warn("cannot remove from the work folder", "name", temp, "err", err)
	}
}
