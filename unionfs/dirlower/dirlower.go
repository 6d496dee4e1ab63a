// Package dirlower is a [merge.Lower] over plain folders of the host: the
// lowerdir list of an overlay mount, merged as the kernel's overlayfs merges
// it. Nothing is read before somebody asks, and nothing is kept but the nodes
// that the kernel or the upper still refers to.
//
// # What is merged
//
// A folder shows the entries of all layers that have it, down to one where it
// is opaque. Deleted is what a layer above says to be: by a character device
// 0:0, a file .wh.NAME, .wh..wh..opq, or the overlay.whiteout attribute. A
// folder renamed over the layers below is followed by overlay.redirect, and a
// file whose data stayed below (overlay.metacopy, unio.partial) is completed
// from there. The rules are those of ovl_lookup in the kernel's
// fs/overlayfs/namei.c. Names beginning with ".wh." are never shown.
//
// Layers must not change while they are mounted, and none may lie inside
// another.
//
// # Numbers
//
// A node's number is the index of its device (from 1, in the order of the
// layers) shifted by 48 bits, plus the inode number of the topmost file of the
// host that it is made of; the root is 1. So st_ino is the same on every mount
// of the same layers, and hard links are one node. An inode number of more
// than 48 bits is folded into a range of its own, and so is a folder that
// hostile redirects show in two places.
//
// # Escape
//
// Layers may be written by strangers. Every call goes through a descriptor and
// one component, or through openat2 with RESOLVE_BENEATH and
// RESOLVE_NO_SYMLINKS: no symbolic link of a layer is ever followed.
package dirlower

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"unio/cow/fsat"
	"unio/unionfs/merge"
	"unio/whiteout"
)

// MaxDirs is how many folders can be united, as in overlayfs
// (OVL_MAX_STACK in the kernel's fs/overlayfs/params.h).
const MaxDirs = 500

// Errors of [Open].
var (
	// ErrDirs says that there are no folders, or too many.
	ErrDirs = errors.New("between 1 and 500 lower folders can be united")
	// ErrOverlap says that one lower folder is, or lies in, another.
	ErrOverlap = errors.New("lower folders overlap")
)

// Options say what to unite.
type Options struct {
	Dirs        []string     // topmost first, as in lowerdir=
	Root        bool         // show real owners; otherwise ours stand for the root user, and override_stat is read
	UserXattr   bool         // bookkeeping is in user.overlay.* also for Root (overlayfs's userxattr)
	HostOwners  bool         // without Root: files without an owner attribute show as their owner's on disk
	StaticNlink bool         // link counts of folders are 1 instead of counted
	Names       *os.File     // empty, or the journal of a server that died: takes the names of all numbers given out; nil: none
	Log         *slog.Logger // nil: nothing is logged
}

// Tree is the merged tree. It is safe for use by several goroutines.
type Tree struct {
	layers     []*layer
	roots      []elem // every layer's root, as a folder's stack
	names      marks
	hidden     whiteout.Xattrs
	root       bool
	overridden bool // a layer's owners are in [whiteout.OverrideStat]
	host       bool // Options.HostOwners
	static     bool
	uid        uint32
	gid        uint32
	log        *slog.Logger

	devices devices
	table   table
	recent  recent
	handles handles
	lists   lists
	journal journal
	top     *node
}

var _ interface {
	merge.Lower
	merge.Counter
	merge.Cloner
	merge.Seeker
} = (*Tree)(nil)

// layer is one folder of Options.Dirs.
type layer struct {
	path     string
	fd       int
	dev      uint64
	override string // attribute that says who owns a file, "" if none is read
	exact    bool   // a listing gives the inode numbers that stat gives
}

// Open opens the folders. It reads nothing but their own attributes.
func Open(o Options) (*Tree, error) {
	if len(o.Dirs) == 0 || len(o.Dirs) > MaxDirs {
		return nil, fmt.Errorf("%w, not %d", ErrDirs, len(o.Dirs))
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	trusted := o.Root && !o.UserXattr
	t := &Tree{
		root: o.Root, host: o.HostOwners, static: o.StaticNlink, log: o.Log,
		names: marksFor(trusted), hidden: whiteout.XattrsFor(trusted),
		uid: uint32(os.Geteuid()), gid: uint32(os.Getegid()),
	}
	t.table.init()
	t.handles.init(handleLimit())
	if err := t.open(o.Dirs, o.Names); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// open opens the layers one by one; what has been opened is in t when it fails.
func (t *Tree) open(dirs []string, names *os.File) error {
	for i, dir := range dirs {
		l, err := t.openLayer(dir)
		if err != nil {
			return err
		}
		t.layers = append(t.layers, l)
		t.roots = append(t.roots, elem{layer: uint16(i)})
	}
	if err := t.checkOverlap(); err != nil {
		return err
	}
	if err := t.journal.open(names); err != nil {
		return err
	}
	return t.makeRoot()
}

// openLayer opens one folder for reading, by its path: the one time that links
// are followed.
func (t *Tree) openLayer(dir string) (*layer, error) {
	fd, err := fsat.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open lower folder %s: %w", dir, err)
	}
	l := &layer{path: dir, fd: fd, override: t.overrideOf(fd), exact: exactNumbers(fd)}
	t.overridden = t.overridden || l.override == whiteout.OverrideStat
	var st unix.Stat_t
	if err := fsat.Fstat(fd, &st); err != nil {
		fsat.Close(fd)
		return nil, fmt.Errorf("stat lower folder %s: %w", dir, err)
	}
	l.dev = st.Dev
	if _, ok := t.devices.index(st.Dev); !ok {
		fsat.Close(fd)
		return nil, fmt.Errorf("open lower folder %s: %w", dir, errDevices)
	}
	return l, nil
}

// overrideOf tells which attribute of a layer's files says who owns them.
// fuse-overlayfs decides by the layer's root (its three names); a union
// without privilege always reads that of containers/storage.
func (t *Tree) overrideOf(fd int) string {
	for _, name := range [...]string{
		"security.fuseoverlayfs.override_stat", whiteout.OverrideStat, "user.fuseoverlayfs.override_stat",
	} {
		if _, err := fsat.GetXattr(fd, "", name, nil); err == nil {
			return name
		}
	}
	if !t.root {
		return whiteout.OverrideStat
	}
	return ""
}

// exactNumbers reports whether getdents gives the numbers that stat gives on
// the filesystem of fd. On a stacked or remote one it may not.
func exactNumbers(fd int) bool {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return false
	}
	switch int64(st.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC, unix.F2FS_SUPER_MAGIC:
		return true
	}
	return false
}

// makeRoot enters the root, which shows every layer down to an opaque one.
func (t *Tree) makeRoot() error {
	stack := t.roots
	for i, l := range t.layers[:len(t.layers)-1] {
		m, err := t.readMarks(l.fd, "")
		if err != nil {
			return fmt.Errorf("read lower folder %s: %w", l.path, err)
		}
		if m.opaque || exists(l.fd, whiteout.OpaqueName) {
			stack = stack[:i+1]
			break
		}
	}
	t.top = &node{ino: merge.RootIno}
	t.top.refs.Store(1)
	t.top.more.Store(&more{folder: newFolder(stack)})
	t.table.enter(t.top)
	return nil
}

// checkOverlap refuses a layer inside another: its folders would be seen in
// two places. The kernel refuses it, too (ovl_check_overlapping_layers).
func (t *Tree) checkOverlap() error {
	type id struct{ dev, ino uint64 }
	roots := make(map[id]*layer)
	for _, l := range t.layers {
		var st unix.Stat_t
		if err := fsat.Fstat(l.fd, &st); err != nil {
			return err
		}
		if other := roots[id{st.Dev, st.Ino}]; other != nil {
			return fmt.Errorf("%w: %s and %s are the same: %w", ErrOverlap, other.path, l.path, unix.ELOOP)
		}
		roots[id{st.Dev, st.Ino}] = l
	}
	for _, l := range t.layers {
		err := eachParent(l.fd, func(st *unix.Stat_t) error {
			if other := roots[id{st.Dev, st.Ino}]; other != nil {
				return fmt.Errorf("%w: %s is inside %s: %w", ErrOverlap, l.path, other.path, unix.ELOOP)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// eachParent calls do for every folder above the one open at fd, as far as it
// may be searched.
func eachParent(fd int, do func(*unix.Stat_t) error) error {
	var st, up unix.Stat_t
	if err := fsat.Fstat(fd, &st); err != nil {
		return err
	}
	for at := fd; ; {
		next, err := unix.Openat(at, "..", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if at != fd {
			fsat.Close(at)
		}
		if err != nil {
			return nil
		}
		at = next
		if err = fsat.Fstat(at, &up); err == nil && (up.Dev != st.Dev || up.Ino != st.Ino) {
			if err = do(&up); err == nil {
				st = up
				continue
			}
		}
		fsat.Close(at)
		return err
	}
}

// Close gives the descriptors back.
func (t *Tree) Close() error {
	t.handles.close()
	for _, l := range t.layers {
		fsat.Close(l.fd)
	}
	t.layers = nil
	return nil
}

// devices gives devices their index in node numbers.
type devices struct {
	mu   sync.RWMutex
	seen map[uint64]uint64
}

var errDevices = errors.New("too many devices below the lower folders")

// index returns the index of a device, from 1. False: there are too many.
func (d *devices) index(dev uint64) (uint64, bool) {
	d.mu.RLock()
	i := d.seen[dev]
	d.mu.RUnlock()
	if i != 0 {
		return i, true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen == nil {
		d.seen = make(map[uint64]uint64)
	}
	if i = d.seen[dev]; i == 0 {
		i = uint64(len(d.seen)) + 1
		if i >= foldedIndex {
			return 0, false
		}
		d.seen[dev] = i
	}
	return i, true
}
