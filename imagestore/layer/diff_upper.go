package layer

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"unio/cow/fsat"
	"unio/unionfs/merge"
	"unio/whiteout"
)

// xattrPair is one extended attribute as a user of the mount sees it.
type xattrPair struct{ name, value string }

// upperEntry is all that one entry of the upper says about itself.
type upperEntry struct {
	attr   merge.Attr
	file   fileID
	xattrs []xattrPair // sorted by name
	target string      // of a symbolic link

	// What the bookkeeping says.
	whiteout bool
	opaque   bool
	metacopy bool
	partial  bool
	limit    int64     // of a partial file
	redirect *string   // nil: none
	origin   merge.Ino // 0: none, or none that makes sense
	unnamed  bool      // a file in the link hub that has no name left in the union
	owned    bool      // override_stat said who owns it
}

// upperReader reads entries of an upper folder. It believes bookkeeping that
// makes no sense as little as package cow does, so that a layer holds what the
// mount showed.
type upperReader struct {
	names    whiteout.Xattrs
	root     bool
	uid, gid uint32 // ours: without privilege they stand for the root user
}

func newUpperReader(root bool) upperReader {
	return upperReader{whiteout.XattrsFor(root), root, uint32(os.Geteuid()), uint32(os.Getegid())}
}

// hostXattrs belong to the host that a file lies on, not to the image: labels
// that the kernel puts on every file.
func hostXattr(name string) bool {
	return name == "security.selinux" || name == "system.nfs4_acl"
}

// read returns the entry called name in the folder dirfd, "." for itself.
func (r *upperReader) read(dirfd int, name string) (*upperEntry, error) {
	var st unix.Stat_t
	if err := fsat.Stat(dirfd, name, &st); err != nil {
		return nil, fmt.Errorf("stat: %w", err)
	}
	e := &upperEntry{attr: statAttr(&st), file: fileID{st.Dev, st.Ino}}
	if whiteout.IsDevice(st.Mode, st.Rdev) {
		e.whiteout = true
		return e, nil
	}
	if err := r.readXattrs(dirfd, name, e); err != nil {
		return nil, err
	}
	if !r.root && !e.owned {
		r.mapOwner(&e.attr)
	}
	if !e.attr.IsRegular() { // override_stat may make another type of it
		e.metacopy, e.partial, e.limit = false, false, 0
	}
	if e.attr.IsSymlink() {
		target, err := fsat.Readlink(dirfd, name)
		if err != nil {
			return nil, fmt.Errorf("read link: %w", err)
		}
		e.target, e.attr.Size = target, uint64(len(target))
	}
	return e, nil
}

// mapOwner makes what belongs to the user of a union without privilege the
// root user's, as the mount shows it.
func (r *upperReader) mapOwner(a *merge.Attr) {
	if a.UID == r.uid {
		a.UID = 0
	}
	if a.GID == r.gid {
		a.GID = 0
	}
}

// statAttr keeps of a stat what a layer can hold.
func statAttr(st *unix.Stat_t) merge.Attr {
	a := merge.Attr{
		Mode: st.Mode, UID: st.Uid, GID: st.Gid, Nlink: uint32(st.Nlink),
		Size: uint64(st.Size), Sec: st.Mtim.Sec, Nsec: uint32(st.Mtim.Nsec),
	}
	if isDevice(st.Mode) {
		a.Rdev = st.Rdev
	}
	return a
}

func isDevice(mode uint32) bool {
	return mode&unix.S_IFMT == unix.S_IFCHR || mode&unix.S_IFMT == unix.S_IFBLK
}

// readXattrs sorts the attributes into what the user sees and what the
// bookkeeping says.
func (r *upperReader) readXattrs(dirfd int, name string, e *upperEntry) error {
	stored, err := fsat.ListXattr(dirfd, name)
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("list attributes: %w", err)
	}
	for _, s := range stored {
		shown, ok := r.names.Unescape(s)
		if hostXattr(s) || (!ok && !r.isMark(s)) {
			continue
		}
		value, err := fsat.XattrValue(dirfd, name, s)
		if err == unix.ENODATA {
			continue
		}
		if err != nil {
			return fmt.Errorf("attribute %s: %w", s, err)
		}
		if ok {
			e.xattrs = append(e.xattrs, xattrPair{shown, string(value)})
		} else {
			r.mark(e, s, string(value))
		}
	}
	slices.SortFunc(e.xattrs, func(a, b xattrPair) int { return cmp.Compare(a.name, b.name) })
	return nil
}

// isMark reports whether a private attribute says something to us. The
// kernel keeps more of its own (origin, impure, uuid …), which we have no use for.
func (r *upperReader) isMark(stored string) bool {
	switch stored {
	case r.names.Opaque, r.names.Redirect, r.names.Metacopy, r.names.Whiteout,
		r.names.Origin, r.names.Nlink, r.names.Partial:
		return true
	}
	return stored == whiteout.OverrideStat && !r.root
}

// mark takes over one attribute of the bookkeeping.
func (r *upperReader) mark(e *upperEntry, stored, value string) {
	switch stored {
	case r.names.Opaque: // the kernel writes "x" for a folder with xattr whiteouts, which hides nothing
		e.opaque = e.attr.IsDir() && value == whiteout.OpaqueValue
	case r.names.Redirect:
		e.redirect = &value
	case r.names.Metacopy:
		e.metacopy = true
	case r.names.Whiteout:
		e.whiteout = e.attr.IsRegular() && e.attr.Size == 0
	case r.names.Origin:
		e.origin = parseIno(value)
	case r.names.Partial:
		e.markPartial(value)
	case r.names.Nlink:
		links, err := strconv.ParseUint(value, 10, 32)
		e.unnamed = err == nil && links == 0
	case whiteout.OverrideStat:
		e.owned = overrideStat(&e.attr, value)
	}
}

// markPartial takes over the limit of a partial file, which a crash may have
// left too large. A file of which all of the lower is cut off is like any
// other. What is no number is no limit that a file can have, so that
// [mergeWalk.node] refuses the file.
func (e *upperEntry) markPartial(value string) {
	limit, err := strconv.ParseInt(value, 10, 64)
	if err != nil || limit < 0 {
		limit = -1
	}
	e.limit = min(limit, int64(e.attr.Size))
	e.partial = e.limit != 0
}

// parseIno reads a node number, 0 if it is none.
func parseIno(s string) merge.Ino {
	n, err := strconv.ParseUint(s, 10, 62)
	if err != nil {
		return 0
	}
	return merge.Ino(n)
}

// overrideStat applies "uid:gid:mode[:type]" to the attributes of the file
// that stands in for the real one. False: it is not of that form.
func overrideStat(a *merge.Attr, value string) bool {
	o, ok := whiteout.ParseOverride(value)
	if !ok {
		return false
	}
	typ := a.Mode & unix.S_IFMT
	if t := o.Mode & unix.S_IFMT; t != 0 {
		typ = t
	}
	a.UID, a.GID, a.Mode, a.Rdev = o.UID, o.GID, typ|o.Mode&0o7777, o.Rdev
	return true
}

// upperDir is a folder of the upper, opened when first needed, each component
// below its parent's descriptor.
type upperDir struct {
	parent *upperDir
	name   string
	handle int // -1: not open
}

// openUpperRoot opens the upper folder itself, the one path that is followed.
func openUpperRoot(path string) (*upperDir, error) {
	fd, err := fsat.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open upper folder %s: %w", path, err)
	}
	return &upperDir{handle: fd}, nil
}

// sub returns a folder in d, not yet open.
func (d *upperDir) sub(name string) *upperDir {
	return &upperDir{parent: d, name: name, handle: -1}
}

// fd returns the descriptor of d, opening it and what is above it as needed.
func (d *upperDir) fd() (int, error) {
	if d.handle >= 0 {
		return d.handle, nil
	}
	up, err := d.parent.fd()
	if err != nil {
		return -1, err
	}
	fd, err := fsat.OpenDir(up, d.name)
	if err != nil {
		return -1, fmt.Errorf("open folder %q: %w", d.name, err)
	}
	d.handle = fd
	return fd, nil
}

// close closes the descriptor. It is for a nil folder, too.
func (d *upperDir) close() {
	if d != nil && d.handle >= 0 {
		fsat.Close(d.handle)
		d.handle = -1
	}
}
