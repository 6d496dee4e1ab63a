package layer

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

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
	redirect string
	origin   merge.Ino
}

// upperReader reads entries of an upper folder.
type upperReader struct {
	names whiteout.Xattrs
	root  bool
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
	if e.attr.IsSymlink() {
		return e, r.readTarget(dirfd, name, e)
	}
	return e, nil
}

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

// readTarget reads a symbolic link. One that override_stat says is a link is
// a file that holds the target: unprivileged links can carry no attributes.
func (r *upperReader) readTarget(dirfd int, name string, e *upperEntry) error {
	target, err := fsat.Readlink(dirfd, name)
	if err == unix.EINVAL {
		target, err = readSmall(dirfd, name, unix.PathMax)
	}
	if err != nil {
		return fmt.Errorf("read link: %w", err)
	}
	e.target = target
	e.attr.Size = uint64(len(target))
	return nil
}

func readSmall(dirfd int, name string, limit int64) (string, error) {
	fd, err := fsat.Open(dirfd, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit))
	return string(b), err
}

// readXattrs sorts the attributes into what the user sees and what the
// bookkeeping says.
func (r *upperReader) readXattrs(dirfd int, name string, e *upperEntry) error {
	stored, err := fsat.ListXattr(dirfd, name)
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("list attributes: %w", err)
	}
	for _, s := range stored {
		shown, ok := whiteout.Unescape(s)
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
		} else if err := r.mark(e, s, string(value)); err != nil {
			return fmt.Errorf("attribute %s: %w", s, err)
		}
	}
	slices.SortFunc(e.xattrs, func(a, b xattrPair) int { return cmp.Compare(a.name, b.name) })
	return nil
}

func (r *upperReader) isMark(stored string) bool {
	switch stored {
	case r.names.Opaque, r.names.Redirect, r.names.Metacopy, r.names.Whiteout, r.names.Origin:
		return true
	}
	return stored == whiteout.OverrideStat && !r.root
}

// mark takes over one attribute of the bookkeeping.
func (r *upperReader) mark(e *upperEntry, stored, value string) (err error) {
	switch stored {
	case r.names.Opaque: // the kernel writes "x" for a folder with xattr whiteouts, which hides nothing
		e.opaque = e.attr.IsDir() && value == whiteout.OpaqueValue
	case r.names.Redirect:
		e.redirect = value
	case r.names.Metacopy:
		e.metacopy = e.attr.IsRegular()
	case r.names.Whiteout:
		e.whiteout = e.attr.IsRegular() && e.attr.Size == 0
	case r.names.Origin:
		e.origin, err = parseIno(value)
	case whiteout.OverrideStat:
		err = overrideStat(&e.attr, value)
	}
	return err
}

func parseIno(s string) (merge.Ino, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is no node number: %w", s, unix.EINVAL)
	}
	return merge.Ino(n), nil
}

// overrideStat applies "uid:gid:mode[:type]" to the attributes of the file
// that stands in for the real one.
func overrideStat(a *merge.Attr, value string) error {
	f := strings.Split(value, ":")
	if len(f) < 3 || len(f) > 4 {
		return fmt.Errorf("%q: %w", value, unix.EINVAL)
	}
	uid, err1 := strconv.ParseUint(f[0], 10, 32)
	gid, err2 := strconv.ParseUint(f[1], 10, 32)
	mode, err3 := strconv.ParseUint(f[2], 8, 32)
	if err := errors.Join(err1, err2, err3); err != nil {
		return fmt.Errorf("%q: %w", value, err)
	}
	typ := a.Mode & unix.S_IFMT
	if len(f) == 4 {
		var err error
		if typ, a.Rdev, err = overrideType(f[3]); err != nil {
			return err
		}
	}
	a.UID, a.GID, a.Mode = uint32(uid), uint32(gid), typ|uint32(mode)&0o7777
	return nil
}

func overrideType(s string) (typ uint32, rdev uint64, err error) {
	switch s {
	case "dir":
		return unix.S_IFDIR, 0, nil
	case "file":
		return unix.S_IFREG, 0, nil
	case "symlink":
		return unix.S_IFLNK, 0, nil
	case "pipe":
		return unix.S_IFIFO, 0, nil
	case "socket":
		return unix.S_IFSOCK, 0, nil
	}
	if rest, ok := strings.CutPrefix(s, "block-"); ok {
		rdev, err = overrideDevice(rest)
		return unix.S_IFBLK, rdev, err
	}
	if rest, ok := strings.CutPrefix(s, "char-"); ok {
		rdev, err = overrideDevice(rest)
		return unix.S_IFCHR, rdev, err
	}
	return 0, 0, fmt.Errorf("file type %q: %w", s, unix.EINVAL)
}

func overrideDevice(s string) (uint64, error) {
	maj, minor, _ := strings.Cut(s, "-")
	m1, err1 := strconv.ParseUint(maj, 10, 32)
	m2, err2 := strconv.ParseUint(minor, 10, 32)
	return unix.Mkdev(uint32(m1), uint32(m2)), errors.Join(err1, err2)
}

// upperDir is a folder of the upper, opened when first needed, each component
// below its parent's descriptor.
type upperDir struct {
	parent *upperDir
	name   string
	handle int // -1: not open
}

func openUpperRoot(path string) (*upperDir, error) {
	fd, err := fsat.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open upper folder %s: %w", path, err)
	}
	return &upperDir{handle: fd}, nil
}

func (d *upperDir) sub(name string) *upperDir {
	return &upperDir{parent: d, name: name, handle: -1}
}

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
