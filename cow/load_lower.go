package cow

import (
	"strconv"

	"golang.org/x/sys/unix"

	"unio/cow/fsat"
	"unio/unionfs/merge"
	"unio/whiteout"
)

// What lies below an upper entry is recorded twice: our own origin attribute
// holds the number of the lower node, and overlayfs's redirect the path of one
// that has another name. A lower that knows all its nodes finds them by
// number. One that does not (merge.Counter) finds them by path, as the kernel
// does, and a number that it does not know yet is believed as identity only:
// the file keeps its inode number, and its data must all be in the upper.

// origin is what an upper entry says about where it comes from.
type origin struct {
	ino   merge.Ino // 0: nothing, or nothing that makes sense
	known bool      // the lower has that node, of the same type
}

// readOrigin reads the origin attribute, which can be anything.
func (f *FS) readOrigin(dirfd int, name string, mode uint32) (origin, error) {
	text, err := fsat.XattrValue(dirfd, name, f.names.Origin)
	if err != nil {
		return origin{}, err
	}
	o := f.checkOrigin(string(text), mode)
	if o.ino == 0 {
		f.log.Warn("origin of an upper file is not in the lower", "name", name, "origin", string(text))
	}
	return o, nil
}

// checkOrigin believes an origin if the lower has a node of that number and type.
// A lower that knows only what was looked up cannot be asked; there the number
// counts as identity and for nothing else.
func (f *FS) checkOrigin(text string, mode uint32) origin {
	number, err := strconv.ParseUint(text, 10, 62)
	if err != nil {
		return origin{}
	}
	ino := merge.Ino(number)
	var a merge.Attr
	switch err := f.lower.Attr(ino, &a); {
	case err == nil && a.Mode&unix.S_IFMT == mode&unix.S_IFMT:
		return origin{ino: ino, known: true}
	case err == merge.ErrStale && f.sparse() && ino > merge.RootIno:
		return origin{ino: ino}
	}
	return origin{}
}

// sparse reports whether the lower finds nodes by path only.
func (f *FS) sparse() bool { return f.table.counter != nil }

// lowerFile returns the lower file of which the upper entry e of folder dir
// has not all data, 0 if it cannot be found. Preconditions: as for adopt.
func (f *FS) lowerFile(dir *node, e *found, below merge.Ino, dirfd int) merge.Ino {
	if e.origin.known {
		return e.origin.ino
	}
	ino := below
	if e.has(f.names.Redirect) {
		ino = f.redirected(dir, spot{fd: dirfd, name: e.name})
	}
	var a merge.Attr
	if ino == 0 || f.lower.Attr(ino, &a) != nil || !a.IsRegular() {
		return 0
	}
	return ino
}

// lowerFolder returns the lower folder that shows through the upper folder e
// of dir, 0 if there is none.
func (f *FS) lowerFolder(dir *node, e *found, below merge.Ino, dirfd int) merge.Ino {
	ino := below
	switch {
	case e.origin.known && !f.sparse():
		return e.origin.ino
	case e.has(f.names.Redirect):
		ino = f.redirected(dir, spot{fd: dirfd, name: e.name})
	}
	if f.isSubdir(ino) == 0 {
		return 0
	}
	return ino
}

// redirected follows overlayfs's redirect: an absolute path in the lower, or
// the name of a sibling. One that is malformed the kernel refuses together
// with the entry (ovl_get_redirect_xattr); here the entry shows what the upper
// has of it.
func (f *FS) redirected(dir *node, s spot) merge.Ino {
	value, err := fsat.XattrValue(s.fd, s.name, f.names.Redirect)
	if err != nil {
		return 0
	}
	names, absolute, ok := whiteout.ParseRedirect(string(value))
	at := merge.RootIno
	if !absolute {
		at = dir.dir.lower
	}
	if !ok || at == 0 {
		f.log.Warn("bad redirect in the upper folder", "name", s.name, "redirect", string(value))
		return 0
	}
	for _, name := range names {
		if at, err = f.lower.Lookup(at, name); err != nil {
			f.log.Warn("a redirect of the upper folder leads nowhere", "name", s.name, "redirect", string(value), "err", err)
			return 0
		}
	}
	return at
}

// rememberPath records in the upper where the lower file is of which n does
// not have all data, before n gets another name. A lower that finds nodes by
// number needs no path. Preconditions: n.mu is held.
func (f *FS) rememberPath(n *node, s spot) error {
	if !f.needsPath(n) {
		return nil
	}
	path, err := f.lowerPath(n.lower)
	if err != nil {
		return err
	}
	return fsat.SetXattr(s.fd, s.name, f.names.Redirect, []byte(path), 0)
}

func (f *FS) needsPath(n *node) bool {
	return f.sparse() && n.typ == unix.S_IFREG && n.lower != 0 && n.data.get() != dataWhole && !n.data.lost
}

// rememberPathOf is rememberPath of a file where it is now. Preconditions: as
// for rememberPath.
func (f *FS) rememberPathOf(n *node) error {
	if !f.needsPath(n) {
		return nil
	}
	s, err := f.spotLocked(n)
	if err != nil {
		return err
	}
	defer s.h.release()
	return f.rememberPath(n, s)
}

// fuseOpaque is how fuse-overlayfs once said that a folder is opaque.
const fuseOpaque = "user.fuseoverlayfs.opaque"

// isOpaque reads the opaque attributes of a folder.
func (f *FS) isOpaque(s spot) (bool, error) {
	for _, name := range [...]string{f.names.Opaque, fuseOpaque} {
		value, err := fsat.XattrValue(s.fd, s.name, name)
		if err == unix.ENODATA || err == unix.ENOTSUP {
			continue
		}
		if err != nil || string(value) == whiteout.OpaqueValue {
			return err == nil, err
		}
	}
	return false, nil
}
