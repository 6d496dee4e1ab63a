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

// placeOrphanLocked keeps the copy of a node without a name by its descriptor
// alone. Preconditions: n.mu is held for writing.
func (f *FS) placeOrphanLocked(n *node, temp string) error {
	fd, err := fsat.Open(f.tmp, temp, openFlags(n.typ), 0)
	if err != nil {
		return err
	}
	if err := fsat.RemoveAll(f.tmp, temp); err != nil {
		fsat.Close(fd)
		return err
	}
	n.held = newHandle(fd)
	n.inUpper = true
	return nil
}

// copyChunk is how much is copied at a time.
const copyChunk = 1 << 20

// copyData writes the first size bytes of lower node ino to fd, holes as
// holes, and waits until they are on disk.
func (f *FS) copyData(fd int, ino merge.Ino, size uint64) error {
	segments, err := f.lower.Segments(ino)
	if err != nil {
		return err
	}
	buf := make([]byte, min(copyChunk, size))
	for _, s := range segments {
		end := min(s.Off+s.Len, int64(size))
		if err := f.copySegment(fd, ino, buf, merge.Segment{Off: s.Off, Len: end - s.Off}); err != nil {
			return err
		}
	}
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return err
	}
	return f.syncData(fd)
}

func (f *FS) copySegment(fd int, ino merge.Ino, buf []byte, s merge.Segment) error {
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

// complete gives a file that was copied up without its data the first limit
// bytes of it. Until the mark is taken off, readers and a next mount use the
// lower's, so a crash in between loses nothing. Preconditions: n.copying is
// held.
func (f *FS) complete(n *node, limit uint64) error {
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
	if size := min(a.Size, limit); size > 0 {
		if err := f.copyData(h.fd, n.lower, size); err != nil {
			return err
		}
	}
	failpoint.Hit("copyup.data")
	if err := fsat.RemoveXattr(h.fd, "", f.names.Metacopy); err != nil && err != unix.ENODATA {
		return err
	}
	n.settled.unsettle()
	failpoint.Hit("copyup.whole")
	n.whole.Store(true)
	f.counts.whole.Add(1)
	return fsat.Utimes(h.fd, "", st.Atim, st.Mtim)
}
