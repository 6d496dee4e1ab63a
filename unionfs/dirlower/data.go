package dirlower

import (
	"strings"

	"golang.org/x/sys/unix"

	"unio/cow/fsat"
	"unio/unionfs/merge"
)

// content is a regular file's data: an open file, whose holes up to limit show
// what is below it.
type content struct {
	fd    int
	size  int64
	limit int64
	bare  bool     // it is all hole: metacopy
	below *content // nil: the holes are holes
}

// close closes the file and those below it.
func (c *content) close() {
	for ; c != nil; c = c.below {
		fsat.Close(c.fd)
	}
}

// contentOf opens a file's data; the caller releases it.
func (t *Tree) contentOf(ino merge.Ino) (*handle, error) {
	n, err := t.get(ino)
	if err != nil {
		return nil, err
	}
	k := handleKey{n, dataOf}
	if h := t.handles.get(k); h != nil {
		return h, nil
	}
	if n.isDir() {
		return nil, unix.EISDIR
	}
	c, err := t.openContent(n)
	if err != nil {
		return nil, err
	}
	h := &handle{fd: c.fd, content: c}
	h.refs.Store(1)
	t.handles.keep(k, h)
	return h, nil
}

// openContent opens a file's data, in as many layers as it is spread over.
func (t *Tree) openContent(n *node) (*content, error) {
	f, err := t.fileOf(n)
	if err != nil {
		return nil, err
	}
	defer f.release()
	if err := t.checkRegular(&f); err != nil {
		return nil, err
	}
	fd, err := openData(f.fd, f.name)
	if err != nil {
		return nil, staleIfGone(err)
	}
	c, err := t.newContent(fd)
	if err != nil {
		return nil, err
	}
	if c.limit == 0 {
		return c, nil
	}
	if err := t.openBelow(n, c); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// checkRegular refuses a file that stands for a device or the like.
func (t *Tree) checkRegular(f *file) error {
	if t.layers[f.layer].override == "" {
		return nil
	}
	a := merge.Attr{Mode: unix.S_IFREG}
	if err := t.applyOverride(f.fd, f.name, f.layer, &a); err != nil {
		return err
	}
	if !a.IsRegular() {
		return unix.EINVAL
	}
	return nil
}

// openData opens a regular file for reading, without a trace in its access
// time if we may. Opening a device can do something, so it looks first; and it
// does not block on what somebody has put there since.
func openData(dirfd int, name string) (int, error) {
	const flags = unix.O_RDONLY | unix.O_NONBLOCK
	var st unix.Stat_t
	if err := fsat.Stat(dirfd, name, &st); err != nil {
		return -1, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return -1, unix.EINVAL
	}
	fd, err := fsat.Open(dirfd, name, flags|unix.O_NOATIME, 0)
	if err == unix.EPERM {
		fd, err = fsat.Open(dirfd, name, flags, 0)
	}
	return fd, err
}

// newContent takes an open file over, and closes it if it is no regular one.
func (t *Tree) newContent(fd int) (*content, error) {
	var st unix.Stat_t
	err := fsat.Fstat(fd, &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = unix.EINVAL
	}
	c := &content{fd: fd, size: st.Size}
	if err == nil {
		c.limit, err = t.readPartial(fd, st.Size)
	}
	if err == nil && c.limit > 0 {
		_, errMeta := fsat.GetXattr(fd, "", t.names.metacopy, nil)
		c.bare = errMeta == nil
	}
	if err != nil {
		fsat.Close(fd)
		return nil, err
	}
	return c, nil
}

// openBelow opens the layers from which a file's data is completed.
func (t *Tree) openBelow(n *node, top *content) error {
	w := &walk{t: t, up: n.up, name: n.name, want: n.name, bottom: len(t.layers) - 1, data: true}
	if err := w.run(n.layer()); err != nil {
		return err
	}
	last := top
	for i := 1; i < len(w.stack); i++ {
		fd, err := t.openPart(n, &w.stack[i])
		if err != nil {
			return err
		}
		if last.below, err = t.newContent(fd); err != nil {
			return err
		}
		last = last.below
	}
	if last.limit == 0 {
		return nil
	}
	t.log.Error("the data of a file is in none of the lower folders", "name", n.name, "layer", t.layers[n.layer()].path)
	return unix.EIO
}

// openPart opens a file's data in a layer below its topmost.
func (t *Tree) openPart(n *node, e *elem) (int, error) {
	if e.path == "" {
		dir, err := t.dirOf(n.up, int(e.layer))
		if err != nil {
			return -1, err
		}
		defer dir.release()
		return openData(dir.fd, n.name)
	}
	dir, name := parentOf(e.path), baseOf(e.path)
	if dir == "" {
		return openData(t.layers[e.layer].fd, name)
	}
	fd, err := openBelow(t.layers[e.layer].fd, dir, handleOnly)
	if err != nil {
		return -1, err
	}
	defer fsat.Close(fd)
	return openData(fd, name)
}

// ReadAt implements [merge.Lower].
func (t *Tree) ReadAt(ino merge.Ino, p []byte, off int64) (int, error) {
	h, err := t.contentOf(ino)
	if err != nil {
		return 0, err
	}
	defer h.release()
	if off < 0 {
		return 0, unix.EINVAL
	}
	return h.content.readAt(p, off)
}

// readAt reads like pread(2), but never less than there is: behind the limit
// the file's own data, before it in turn what it has and what is below.
func (c *content) readAt(p []byte, off int64) (int, error) {
	if c.below == nil || off >= c.limit {
		return fsat.ReadFull(c.fd, p, off)
	}
	p = p[:min(int64(len(p)), max(c.size-off, 0))]
	done := 0
	for done < len(p) {
		at := off + int64(done)
		from, end, err := c.source(at)
		if err != nil {
			return done, err
		}
		part := p[done:min(int64(len(p)), end-off)]
		if err := c.fill(from, part, at); err != nil {
			return done, err
		}
		done += len(part)
	}
	return done, nil
}

// fill reads a whole part: what a source is too short for is zeros.
func (c *content) fill(from *content, part []byte, at int64) error {
	var n int
	var err error
	if from == c {
		n, err = fsat.ReadFull(c.fd, part, at)
	} else {
		n, err = from.readAt(part, at)
	}
	clear(part[n:])
	return err
}

// source tells where the byte at off comes from, and up to where the next do.
func (c *content) source(off int64) (from *content, end int64, err error) {
	if off >= c.limit {
		return c, max(c.size, off+1), nil
	}
	if c.bare {
		return c.below, c.limit, nil
	}
	data, err := unix.Seek(c.fd, off, unix.SEEK_DATA)
	if err == unix.ENXIO {
		return c.below, c.limit, nil
	}
	if err != nil {
		return nil, 0, err
	}
	if data > off {
		return c.below, min(data, c.limit), nil
	}
	end, err = unix.Seek(c.fd, off, unix.SEEK_HOLE)
	return c, max(end, off+1), err
}

// Segments implements [merge.Lower].
func (t *Tree) Segments(ino merge.Ino) ([]merge.Segment, error) {
	h, err := t.contentOf(ino)
	if err != nil {
		return nil, err
	}
	defer h.release()
	var out []merge.Segment
	for off := int64(0); ; {
		start, err := h.content.seek(off, unix.SEEK_DATA)
		if err == unix.ENXIO {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		end, err := h.content.seek(start, unix.SEEK_HOLE)
		if err != nil {
			return nil, err
		}
		out = append(out, merge.Segment{Off: start, Len: end - start})
		off = end
	}
}

// Seek implements [merge.Seeker].
func (t *Tree) Seek(ino merge.Ino, off int64, whence int) (int64, error) {
	h, err := t.contentOf(ino)
	if err != nil {
		return 0, err
	}
	defer h.release()
	return h.content.seek(off, whence)
}

// seek is lseek(2) with SEEK_DATA or SEEK_HOLE. ENXIO: off is behind the end,
// or there is no more data.
func (c *content) seek(off int64, whence int) (int64, error) {
	if off < 0 || off >= c.size || whence != unix.SEEK_DATA && whence != unix.SEEK_HOLE {
		return 0, seekError(whence)
	}
	if c.below == nil {
		return unix.Seek(c.fd, off, whence)
	}
	for off < c.size {
		from, end, err := c.source(off)
		if err != nil {
			return 0, err
		}
		var at int64
		if from == c {
			at, err = unix.Seek(c.fd, off, whence)
		} else {
			at, err = from.seek(off, whence)
		}
		if err == unix.ENXIO {
			if at, err = end, nil; whence == unix.SEEK_HOLE {
				at = off
			}
		}
		if err != nil || at < min(end, c.size) {
			return at, err
		}
		off = end
	}
	if whence == unix.SEEK_HOLE {
		return c.size, nil
	}
	return 0, unix.ENXIO
}

// seekError tells a question that makes no sense from one behind the end.
func seekError(whence int) error {
	if whence != unix.SEEK_DATA && whence != unix.SEEK_HOLE {
		return unix.EINVAL
	}
	return unix.ENXIO
}

// CopyTo implements [merge.Cloner]. Between filesystems, and of files made up
// of several, ENOTSUP.
func (t *Tree) CopyTo(ino merge.Ino, fd int, seg merge.Segment) (int64, error) {
	h, err := t.contentOf(ino)
	if err != nil {
		return 0, err
	}
	defer h.release()
	if h.content.below != nil {
		return 0, unix.ENOTSUP
	}
	done := int64(0)
	for done < seg.Len {
		from, to := seg.Off+done, seg.Off+done
		n, err := unix.CopyFileRange(h.fd, &from, fd, &to, int(min(seg.Len-done, 1<<30)), 0)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EXDEV || err == unix.EINVAL || err == unix.ENOSYS || err == unix.EOPNOTSUPP:
			return done, unix.ENOTSUP
		case err != nil || n == 0:
			return done, err
		}
		done += int64(n)
	}
	return done, nil
}

// baseOf returns the last component of a path.
func baseOf(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }
