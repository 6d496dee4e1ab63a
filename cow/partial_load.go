package cow

import (
	"slices"

	"golang.org/x/sys/unix"

	"unio/cow/fsat"
	"unio/unionfs/merge"
)

// serves reports whether the data can be changed in the way that form names.
func (d *fileData) serves(form form) bool {
	s := d.get()
	return s == dataWhole || s == dataPartial && form != formWhole
}

// begin sets the state of a fresh copy of size bytes.
func (d *fileData) begin(form form, size int64) {
	switch {
	case form == formWhole || size == 0:
		d.set(dataWhole)
	case form == formPartial:
		d.limit.Store(size)
		d.set(dataPartial)
	}
}

// adoptData settles where the data is of n, which stands for entry e of the
// upper.
func (f *FS) adoptData(n *node, e *found, dirfd int) {
	meta, partial := e.has(f.names.Metacopy), e.has(f.names.Partial)
	switch {
	case n.typ != unix.S_IFREG:
	case partial && e.st.Mode&unix.S_IFMT == unix.S_IFREG:
		f.adoptPartial(n, e, dirfd)
	case !meta:
		n.data.set(dataWhole)
	case f.outgrown(n, e, dirfd):
		f.adoptPartial(n, e, dirfd)
	case n.lower == 0:
		if e.st.Size > 0 {
			f.log.Error("the data of a file that was copied up without it is in no lower", "name", e.name)
		}
		n.data.lost, n.data.loose = true, true
		n.data.limit.Store(e.st.Size)
		n.data.set(dataPartial)
	}
}

// outgrown reports whether a file that was copied up without its data is longer
// than the lower one. We never leave one so; what is behind the lower's end
// then reads as zeros, and as a partial file that is what it says.
func (f *FS) outgrown(n *node, e *found, dirfd int) bool {
	var a merge.Attr
	if n.lower == 0 || f.lower.Attr(n.lower, &a) != nil || a.Size >= uint64(e.st.Size) || !f.partial {
		return false
	}
	s := spot{fd: dirfd, name: e.name}
	err := f.writeLimit(s, int64(a.Size))
	if err == nil {
		err = fsat.RemoveXattr(s.fd, s.name, f.names.Metacopy)
	}
	if err != nil {
		f.log.Warn("cannot mark a file as partial", "name", e.name, "err", err)
	}
	return err == nil
}

// adoptPartial reads the limit of a partial file. It may be more than there
// is, of the file if a crash came in between, of the lower if somebody changed
// that; one that makes no sense leaves what lies in holes unknown.
func (f *FS) adoptPartial(n *node, e *found, dirfd int) {
	text, err := fsat.XattrValue(dirfd, e.name, f.names.Partial)
	limit, ok := parseLimit(string(text))
	var a merge.Attr
	if n.lower == 0 || f.lower.Attr(n.lower, &a) != nil || !a.IsRegular() {
		ok = false
	}
	if err != nil || !ok || !f.exact {
		f.log.Error("the lower part of a partial file is lost",
			"name", e.name, "limit", string(text), "origin", uint64(n.lower), "holes", f.exact, "err", err)
		n.data.lost = true
		limit = e.st.Size
	}
	if !n.data.lost && uint64(limit) > a.Size {
		f.log.Error("the lower part of a partial file is shorter than it was", "name", e.name, "limit", limit, "size", a.Size)
	}
	n.data.loose = limit > e.st.Size
	n.data.limit.Store(min(limit, e.st.Size))
	n.data.set(dataPartial)
}

// Filesystems on which a hole of a file is exactly what was never written, as
// f_type of statfs(2) has them. Others may report all of a file as data, or
// round.
var exactHoles = [...]int64{
	unix.EXT4_SUPER_MAGIC, // of ext2 and ext3, too
	unix.XFS_SUPER_MAGIC,
	unix.BTRFS_SUPER_MAGIC,
	unix.TMPFS_MAGIC,
	unix.F2FS_SUPER_MAGIC,
}

// blockMax bounds the block of a partial file, in bytes: with larger ones (a
// tmpfs of huge pages has 2 MiB) a whole copy is better.
const blockMax = 64 << 10

// learnHoles finds out whether and in what blocks the upper's filesystem keeps
// holes. Where that is not known to be exact, files are not copied up by
// blocks; where it is known not to be, the holes of those that were, on
// another filesystem, are lost.
func (f *FS) learnHoles() {
	var fs unix.Statfs_t
	err := unix.Fstatfs(f.tmp, &fs)
	known := err == nil && slices.Contains(exactHoles[:], int64(fs.Type))
	f.block = max(blockSize, int64(fs.Bsize))
	if err == nil {
		err = f.tryHoles()
	}
	f.exact = err == nil || known && err != unix.ENOTSUP // a full disk says nothing
	if f.partial && (!known || err != nil) {
		f.log.Info("large files are copied up whole: the upper's filesystem is not known to keep holes exactly", "err", err)
		f.partial = false
	}
}

// tryHoles makes a file with a hole before and behind one block and looks
// whether they are found: the type of a filesystem does not say which driver it
// has (ext2's own knows no holes). ENOTSUP: they are not.
func (f *FS) tryHoles() error {
	fd, err := f.nameless()
	if err != nil {
		return err
	}
	defer fsat.Close(fd)
	var st unix.Stat_t
	if err := fsat.Fstat(fd, &st); err != nil {
		return err
	}
	block := max(f.block, int64(st.Blksize))
	if block > blockMax || block&(block-1) != 0 {
		return unix.ENOTSUP
	}
	f.block = block
	return tryBlock(fd, block)
}

// nameless opens a new file in WORK/tmp that has no name.
func (f *FS) nameless() (int, error) {
	fd, err := fsat.Tmpfile(f.tmp, 0o600)
	if err != unix.EOPNOTSUPP && err != unix.EISDIR {
		return fd, err
	}
	temp := f.tempName()
	fd, err = fsat.Open(f.tmp, temp, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err == nil {
		f.discard(temp)
	}
	return fd, err
}

// tryBlock writes the second of three blocks of an empty file.
func tryBlock(fd int, block int64) error {
	if err := unix.Ftruncate(fd, 3*block); err != nil {
		return err
	}
	if err := writeAll(fd, make([]byte, block), block); err != nil {
		return err
	}
	data, err := seek(fd, 0, unix.SEEK_DATA)
	if err != nil || data != block {
		return firstError(err, unix.ENOTSUP)
	}
	hole, err := seek(fd, block, unix.SEEK_HOLE)
	if err != nil || hole != 2*block {
		return firstError(err, unix.ENOTSUP)
	}
	if _, err := seek(fd, hole, unix.SEEK_DATA); err != unix.ENXIO {
		return firstError(err, unix.ENOTSUP)
	}
	return nil
}
