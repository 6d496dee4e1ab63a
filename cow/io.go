package cow

import (
	"math"

	"golang.org/x/sys/unix"

	"unio/cow/fsat"
	"unio/unionfs/merge"
)

// Read reads from a regular file: fewer bytes than asked for only at its end.
func (f *FS) Read(ino merge.Ino, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, unix.EINVAL
	}
	// The kernel reads whole pages, the last one of the largest file too.
	p = p[:min(int64(len(p)), math.MaxInt64-off)]
	n := f.table.get(ino)
	if n == nil {
		return f.lower.ReadAt(ino, p, off)
	}
	switch n.data.get() {
	case dataLower:
		return f.lower.ReadAt(n.lower, p, off)
	case dataPartial:
		return f.readPartial(n, p, off)
	}
	h, err := f.handleOf(n)
	if err != nil {
		return 0, err
	}
	defer h.release()
	return fsat.ReadFull(h.fd, p, off)
}

// inFile reports whether length bytes at off can be those of a file, whose size
// is an int64. The kernel asks for no others, but what is computed with blocks
// would go wrong with them.
func inFile(off, length int64) bool {
	return off >= 0 && length >= 0 && off <= math.MaxInt64-length
}

// How says what goes with a write.
type How struct {
	KillPriv  bool // the writer may not keep the file's setuid and setgid bits
	Foreign   Foreign
	KeepMtime bool // the kernel's page cache writes: it keeps the time itself and sends it
}

// Write writes to a regular file.
func (f *FS) Write(ino merge.Ino, p []byte, off int64, how How) (int, error) {
	if !inFile(off, int64(len(p))) {
		return 0, unix.EINVAL
	}
	n, err := f.copyUpData(ino, want{formPartial, everything})
	if err != nil {
		return 0, err
	}
	if how.KillPriv {
		if err := f.change(n, &Change{KillPriv: true, Foreign: how.Foreign}); err != nil {
			return 0, err
		}
	}
	h, err := f.handleOf(n)
	if err != nil {
		return 0, err
	}
	defer h.release()
	if n.data.get() == dataPartial {
		n.data.mu.Lock()
		defer n.data.mu.Unlock()
	}
	if how.KeepMtime {
		return f.writeKeepingMtime(n, h.fd, p, off)
	}
	return f.writeTo(n, h.fd, p, off)
}

// writeTo writes to the upper file of n. Preconditions: n.data.mu is held for
// writing if the file is partial.
func (f *FS) writeTo(n *node, fd int, p []byte, off int64) (int, error) {
	if n.data.get() == dataPartial {
		return f.writePartial(n, fd, p, off)
	}
	return pwrite(fd, p, off)
}

// writeKeepingMtime writes what the kernel's cache has collected. The kernel
// keeps the time of such a write itself and sends it later, so the file's must
// not move meanwhile. Preconditions: those of writeTo.
func (f *FS) writeKeepingMtime(n *node, fd int, p []byte, off int64) (int, error) {
	var st unix.Stat_t
	if err := fsat.Fstat(fd, &st); err != nil {
		return 0, err
	}
	k, err := f.writeTo(n, fd, p, off)
	if err != nil {
		return k, err
	}
	return k, fsat.Utimes(fd, "", timeOr(nil), st.Mtim)
}

func pwrite(fd int, p []byte, off int64) (int, error) {
	for {
		n, err := unix.Pwrite(fd, p, off)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// Fallocate is fallocate(2), with the flags that the upper's filesystem has.
func (f *FS) Fallocate(ino merge.Ino, mode uint32, off, length int64) error {
	if !inFile(off, length) {
		return unix.EINVAL
	}
	form := formPartial
	if mode&^fallocateModes != 0 {
		form = formWhole
	}
	n, err := f.copyUpData(ino, want{form, everything})
	if err != nil {
		return err
	}
	h, err := f.handleOf(n)
	if err != nil {
		return err
	}
	defer h.release()
	if n.data.get() == dataPartial {
		n.data.mu.Lock()
		defer n.data.mu.Unlock()
		return f.fallocatePartial(n, h.fd, mode, off, length)
	}
	return unix.Fallocate(h.fd, mode, off, length)
}

// Seek finds the next data (SEEK_DATA) or hole (SEEK_HOLE) at or behind off.
// ENXIO: there is none.
func (f *FS) Seek(ino merge.Ino, off int64, whence int) (int64, error) {
	n := f.table.get(ino)
	if n == nil {
		return SeekLower(f.lower, ino, off, whence)
	}
	if n.data.get() == dataLower {
		return SeekLower(f.lower, n.lower, off, whence)
	}
	h, err := f.handleOf(n)
	if err != nil {
		return 0, err
	}
	defer h.release()
	n.data.mu.RLock()
	defer n.data.mu.RUnlock()
	if n.data.get() == dataWhole {
		return seek(h.fd, off, whence)
	}
	return f.seekPartial(n, h.fd, off, whence)
}

// SeekLower is [FS.Seek] on a lower file.
func SeekLower(lower merge.Lower, ino merge.Ino, off int64, whence int) (int64, error) {
	var a merge.Attr
	if err := lower.Attr(ino, &a); err != nil {
		return 0, err
	}
	if off < 0 || uint64(off) >= a.Size {
		return 0, unix.ENXIO
	}
	if seeker, ok := lower.(merge.Seeker); ok {
		return seeker.Seek(ino, off, whence)
	}
	segments, err := lower.Segments(ino)
	if err != nil {
		return 0, err
	}
	switch whence {
	case unix.SEEK_DATA:
		return nextData(segments, off)
	case unix.SEEK_HOLE:
		return nextHole(segments, off), nil
	}
	return 0, unix.EINVAL
}

func nextData(segments []merge.Segment, off int64) (int64, error) {
	for _, s := range segments {
		if off < s.Off+s.Len {
			return max(off, s.Off), nil
		}
	}
	return 0, unix.ENXIO
}

// nextHole returns where data that covers off ends; every file has a hole at
// its end.
func nextHole(segments []merge.Segment, off int64) int64 {
	for _, s := range segments {
		if off >= s.Off && off < s.Off+s.Len {
			off = s.Off + s.Len
		}
	}
	return off
}

// Statfs fills in how full the upper's filesystem is.
func (f *FS) Statfs(out *unix.Statfs_t) error {
	return unix.Fstatfs(f.tmp, out)
}

// Readlink returns the target of a symbolic link.
func (f *FS) Readlink(ino merge.Ino) (string, error) {
	n := f.table.get(ino)
	if n == nil || !n.inUpperNow() {
		return f.lower.Readlink(ino)
	}
	if n.typ != unix.S_IFLNK {
		return "", unix.EINVAL
	}
	s, err := f.spotOf(n)
	if err != nil {
		return "", err
	}
	defer s.release()
	return fsat.Readlink(s.fd, s.name)
}
