package cow

import (
	"golang.org/x/sys/unix"

	"unio/cow/failpoint"
	"unio/cow/fsat"
	"unio/unionfs/merge"
)

// placeNamed moves a finished copy to its name in the upper. If the name went
// away meanwhile, the copy serves those who still have the file open.
func (f *FS) placeNamed(n *node, temp string, parent *node, name string) error {
	d := parent.dir
	d.mu.Lock()
	defer d.mu.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gone {
		return f.placeOrphanLocked(n, temp)
	}
	h, err := f.handleOf(parent)
	if err != nil {
		return err
	}
	defer h.release()
	err = f.keepTimes(h.fd, func() error {
		return fsat.Rename(f.tmp, temp, h.fd, name, unix.RENAME_NOREPLACE)
	})
	if err != nil {
		return err
	}
	d.put(name, n, true)
	n.places = append(n.places, place{parent, name})
	n.inUpper = true
	return nil
}

// keepTimes runs change, which puts a copy into the folder open at fd, and
// gives the folder its times back: nobody has changed anything yet.
func (f *FS) keepTimes(fd int, change func() error) error {
	var st unix.Stat_t
	if err := fsat.Fstat(fd, &st); err != nil {
		return err
	}
	if err := change(); err != nil {
		return err
	}
	failpoint.Hit("copyup.renamed")
	return fsat.Utimes(fd, "", st.Atim, st.Mtim)
}

// placeHub puts the copy of a node with several names into the hub.
func (f *FS) placeHub(n *node, temp string, links uint32) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gone {
		return f.placeOrphanLocked(n, temp)
	}
	links -= n.lost
	if err := f.writeNlink(spot{fd: f.tmp, name: temp}, links); err != nil {
		return err
	}
	if err := f.rememberPath(n, spot{fd: f.tmp, name: temp}); err != nil {
		return err
	}
	name := hubEntry(n.lower)
	if err := fsat.Rename(f.tmp, temp, f.hub.held.fd, name, unix.RENAME_NOREPLACE); err != nil {
		return err
	}
	failpoint.Hit("copyup.hub")
	n.places = append(n.places, place{f.hub, name})
	n.hubbed, n.nlink, n.inUpper = true, links, true
	return nil
}

func (f *FS) placeOrphan(n *node, temp string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return f.placeOrphanLocked(n, temp)
}

// placeOrphanLocked moves the copy of a node without a name to the orphans.
// Preconditions: n.mu is held for writing.
func (f *FS) placeOrphanLocked(n *node, temp string) error {
	if err := fsat.Rename(f.tmp, temp, f.orphan.held.fd, orphanEntry(n.ino), 0); err != nil {
		return err
	}
	f.adoptedByOrphans(n)
	n.inUpper = true
	return nil
}

// copyChunk is how much is copied at a time.
const copyChunk = 1 << 20

// copyData writes the first size bytes of lower node ino to fd, holes as
// holes, and waits until they are on disk.
func (f *FS) copyData(fd int, ino merge.Ino, size uint64) error {
	if size == 0 {
		return unix.Ftruncate(fd, 0)
	}
	segments, err := f.lower.Segments(ino)
	if err != nil {
		return err
	}
	for _, s := range segments {
		end := min(s.Off+s.Len, int64(size))
		if err := f.copySegment(fd, ino, merge.Segment{Off: s.Off, Len: end - s.Off}); err != nil {
			return err
		}
	}
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return err
	}
	return f.syncData(fd)
}

// copySegment copies a stretch of data, inside the kernel if the lower can.
func (f *FS) copySegment(fd int, ino merge.Ino, s merge.Segment) error {
	s, err := f.cloneSegment(fd, ino, s)
	if err != nil || s.Len <= 0 {
		return err
	}
	buf := make([]byte, min(copyChunk, s.Len))
	for s.Len > 0 {
		n, err := f.lower.ReadAt(ino, buf[:min(int64(len(buf)), s.Len)], s.Off)
		if err != nil {
			return err
		}
		if n == 0 {
			return unix.EIO // the index promised data that is not there
		}
		if err := writeAll(fd, buf[:n], s.Off); err != nil {
			return err
		}
		f.counts.copied.Add(uint64(n))
		s.Off += int64(n)
		s.Len -= int64(n)
	}
	return nil
}

// cloneSegment copies as much of s as the lower does by itself, and returns
// what is left.
func (f *FS) cloneSegment(fd int, ino merge.Ino, s merge.Segment) (merge.Segment, error) {
	c, ok := f.lower.(merge.Cloner)
	for ok && s.Len > 0 {
		n, err := c.CopyTo(ino, fd, s)
		if err == unix.ENOTSUP || err == nil && n <= 0 {
			break
		}
		if err != nil {
			return s, err
		}
		f.counts.copied.Add(uint64(n))
		s.Off += n
		s.Len -= n
	}
	return s, nil
}

func writeAll(fd int, p []byte, off int64) error {
	for len(p) > 0 {
		n, err := pwrite(fd, p, off)
		if err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// complete brings the data of a file that was copied up without. Until the
// mark is taken off, readers and a next mount use the lower's, so a crash in
// between loses nothing; and when it is, the file must not be longer than what
// is left of it. Preconditions: n.copying is held.
func (f *FS) complete(n *node, w want) error {
	var a merge.Attr
	if err := f.lower.Attr(n.lower, &a); err != nil {
		return err
	}
	h, err := f.handleOf(n)
	if err != nil {
		return err
	}
	defer h.release()
	var st unix.Stat_t
	if err := fsat.Fstat(h.fd, &st); err != nil {
		return err
	}
	w.keep = min(a.Size, uint64(st.Size), w.keep)
	w.form = f.choose(n, w.keep, w.form)
	if w.form == formPartial {
		w.keep = min(a.Size, uint64(st.Size)) // the rest goes as from any partial file
		err = f.startPartial(h.fd, int64(w.keep))
	} else {
		err = f.copyData(h.fd, n.lower, w.keep)
	}
	if err != nil {
		return err
	}
	failpoint.Hit("copyup.data")
	if err := fsat.RemoveXattr(h.fd, "", f.names.Metacopy); err != nil && err != unix.ENODATA {
		return err
	}
	n.settled.unsettle()
	failpoint.Hit("copyup.whole")
	n.data.begin(w.form, int64(w.keep))
	f.counts.copyUp(w.form, w.keep)
	return fsat.Utimes(h.fd, "", st.Atim, st.Mtim)
}

// startPartial marks a file without data as partial. What a copy that was not
// finished left in it goes first.
func (f *FS) startPartial(fd int, limit int64) error {
	_, err := seek(fd, 0, unix.SEEK_DATA)
	if err == nil {
		err = unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, f.roundUp(limit))
	}
	if err != nil && err != unix.ENXIO {
		return err
	}
	return f.writeLimit(spot{fd: fd}, limit)
}
