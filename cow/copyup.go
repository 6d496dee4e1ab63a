package cow

import (
	"strconv"

	"golang.org/x/sys/unix"

	"unio/cow/failpoint"
	"unio/cow/fsat"
	"unio/unionfs/merge"
	"unio/whiteout"
)

// Copy-up makes a lower node one of the upper: what stands for it is built in
// WORK/tmp and becomes visible by one rename, so a crash leaves either nothing
// or all of it. Metadata alone is copied where that will do: the upper file is
// then sparse, marked by the metacopy attribute, and its data is still read
// from the lower. A large file is marked as partial instead when it is written.

// form is how much of a regular file is brought into the upper.
type form uint8

const (
	formMeta    form = iota // its attributes
	formPartial             // and what blocks are changed
	formWhole               // and all its data
)

// want says what a change needs of a file in the upper.
type want struct {
	form form   // at least
	keep uint64 // bytes from the start that the change leaves in the file
}

// everything keeps all bytes of a file.
const everything = ^uint64(0)

// copyUp returns node ino as one of the upper, with its metadata at least.
func (f *FS) copyUp(ino merge.Ino) (*node, error) {
	n, err := f.node(ino)
	if err != nil || n.inUpperNow() {
		return n, err
	}
	n.copying.Lock()
	defer n.copying.Unlock()
	if n.inUpperNow() {
		return n, nil
	}
	return n, f.lift(n, want{formMeta, everything})
}

// copyUpFolder is copyUp of what must be a folder.
func (f *FS) copyUpFolder(ino merge.Ino) (*node, error) {
	n, err := f.copyUp(ino)
	if err == nil && !n.isDir() {
		err = unix.ENOTDIR
	}
	return n, err
}

// copyUpData returns regular file ino as one of the upper whose data can be
// changed: partial if w and the file allow it, or else whole.
func (f *FS) copyUpData(ino merge.Ino, w want) (*node, error) {
	n, err := f.node(ino)
	if err != nil || n.data.serves(w.form) {
		return n, err
	}
	if n.typ != unix.S_IFREG {
		return nil, unix.EINVAL
	}
	n.copying.Lock()
	defer n.copying.Unlock()
	switch {
	case n.data.serves(w.form):
		return n, nil
	case !n.inUpperNow():
		return n, f.lift(n, w)
	case n.data.get() == dataPartial:
		return n, f.completePartial(n)
	}
	return n, f.complete(n, w)
}

// choose settles in which form size bytes of a lower file are brought up.
func (f *FS) choose(n *node, size uint64, form form) form {
	switch {
	case n.typ != unix.S_IFREG:
		return formMeta
	case form == formMeta && !f.noMetacopy, form == formPartial && f.partial && size >= partialMin:
		return form
	}
	return formWhole
}

// lift builds the upper's counterpart of untouched node n and puts it in
// place. Preconditions: n.copying is held.
func (f *FS) lift(n *node, w want) error {
	var a merge.Attr
	if err := f.lower.Attr(n.lower, &a); err != nil {
		return err
	}
	if whiteout.IsDevice(a.Mode, a.Rdev) {
		return unix.EPERM // in an upper it would hide its own name
	}
	links, err := f.lower.Links(n.lower)
	if err != nil {
		return err
	}
	var parent *node
	// A lower may know fewer names than a file has.
	if len(links) == 1 && (a.IsDir() || a.Nlink < 2) && !n.isGone() {
		if parent, err = f.copyUp(links[0].Dir); err != nil {
			return err
		}
	}
	size := min(a.Size, w.keep)
	form := f.choose(n, size, w.form)
	temp, err := f.build(n, &a, want{form, size})
	if err != nil {
		return err
	}
	switch {
	case parent != nil:
		err = f.placeNamed(n, temp, parent, links[0].Name)
	case n.isGone():
		err = f.placeOrphan(n, temp)
	default:
		err = f.placeHub(n, temp, a.Nlink)
	}
	if err != nil {
		f.discard(temp)
		return err
	}
	n.data.begin(form, int64(size))
	f.counts.copyUp(form, size)
	if f.allNames && parent == nil {
		return f.nameAll(n, links)
	}
	return nil
}

func ownerOf(a *merge.Attr) owner {
	return owner{uid: a.UID, gid: a.GID, mode: a.Mode, rdev: a.Rdev}
}

func (n *node) isGone() bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.gone
}

// build makes the copy, with as many bytes as w keeps, in WORK/tmp and returns
// its name there.
func (f *FS) build(n *node, a *merge.Attr, w want) (string, error) {
	temp := f.tempName()
	if err := f.makeLike(n, temp, ownerOf(a)); err != nil {
		return "", err
	}
	failpoint.Hit("copyup.built")
	err := f.fill(n, temp, w)
	if err == nil {
		failpoint.Hit("copyup.filled")
		err = f.dress(n, spot{fd: f.tmp, name: temp}, a)
	}
	if err != nil {
		f.discard(temp)
		return "", err
	}
	failpoint.Hit("copyup.dressed")
	return temp, nil
}

// makeLike makes an empty file of n's type in WORK/tmp.
func (f *FS) makeLike(n *node, temp string, o owner) error {
	switch n.typ {
	case unix.S_IFDIR:
		return fsat.Mkdir(f.tmp, temp, 0o700)
	case unix.S_IFLNK:
		target, err := f.lower.Readlink(n.lower)
		if err != nil {
			return err
		}
		return fsat.Symlink(target, f.tmp, temp)
	case unix.S_IFREG:
		return fsat.Mknod(f.tmp, temp, unix.S_IFREG|0o600, 0)
	}
	return fsat.Mknod(f.tmp, temp, f.realMode(o), o.rdev)
}

// fill gives a regular file its size and its data or, in place of that, the
// mark of where it is. Data must be on disk before the name that replaces the
// lower's: a power cut must not leave a file of zeros where there was one.
func (f *FS) fill(n *node, temp string, w want) error {
	if n.typ != unix.S_IFREG || w.keep == 0 {
		return nil
	}
	fd, err := fsat.Open(f.tmp, temp, unix.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer fsat.Close(fd)
	if w.form == formWhole {
		return f.copyData(fd, n.lower, w.keep)
	}
	if err := unix.Ftruncate(fd, int64(w.keep)); err != nil {
		return err
	}
	if w.form == formPartial {
		return f.writeLimit(spot{fd: fd}, int64(w.keep))
	}
	return fsat.SetXattr(fd, "", f.names.Metacopy, nil, 0)
}

// dress gives the copy the owner, attributes and times of the original. Times
// go last: everything else changes them.
func (f *FS) dress(n *node, s spot, a *merge.Attr) error {
	if err := f.copyXattrs(n, s); err != nil {
		return err
	}
	if err := f.setOwner(s, ownerOf(a)); err != nil {
		return err
	}
	if err := f.copyCapability(n, s); err != nil {
		return err
	}
	t := unix.Timespec{Sec: a.Sec, Nsec: int64(a.Nsec)}
	atime := t
	if a.Host {
		atime = a.Access
	}
	return fsat.Utimes(s.fd, s.name, atime, t)
}

const capability = "security.capability"

// copyXattrs copies the attributes of the original and marks where the copy
// comes from. What the filesystem does not take from us is left out where
// there is no privilege.
func (f *FS) copyXattrs(n *node, s spot) error {
	var failed error
	err := f.lower.Xattrs(n.lower, func(name string, value []byte) bool {
		if name == capability {
			return true
		}
		failed = fsat.SetXattr(s.fd, s.name, f.names.Escape(name), value, 0)
		if f.lenient && isRefusal(failed) || IsACL(name) && failed == unix.ENOTSUP {
			failed = nil
		}
		return failed == nil
	})
	if err != nil || failed != nil {
		return firstError(err, failed)
	}
	return f.setOwn(n, s, f.names.Origin, strconv.FormatUint(uint64(n.lower), 10))
}

// setOwn sets one of the union's own attributes. Types that cannot have one
// without privilege go without.
func (f *FS) setOwn(n *node, s spot, name, value string) error {
	err := fsat.SetXattr(s.fd, s.name, name, []byte(value), 0)
	if n.typ != unix.S_IFREG && n.typ != unix.S_IFDIR && isRefusal(err) {
		return nil
	}
	return err
}

func isRefusal(err error) bool {
	return err == unix.EPERM || err == unix.ENOTSUP || err == unix.EACCES
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// copyCapability sets the file capability last: changing the owner removes it.
func (f *FS) copyCapability(n *node, s spot) error {
	value, err := f.lower.Xattr(n.lower, capability)
	if err != nil {
		return nil
	}
	err = fsat.SetXattr(s.fd, s.name, capability, value, 0)
	if f.lenient && isRefusal(err) {
		return nil
	}
	return err
}
