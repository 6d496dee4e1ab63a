package cow

import (
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"unio/cow/failpoint"
	"unio/cow/fsat"
)

// A large file of the lower is copied up block by block, as it is written. Its
// upper file is sparse: a block that is there counts, a hole shows the lower's
// data up to the limit that the attribute unio.partial holds, and zeros behind
// it. What keeps that exact at every moment, a kill included:
//
//   - a block below the limit is written whole: before some of it is changed,
//     all of it is copied ([FS.ownBlock]);
//   - nothing below the limit becomes a hole again, nor is allocated without
//     being written: the kernel may show such a block as data of zeros;
//   - a shrinking file gets its new size before its new limit, and a reader of
//     the attribute takes the size if that is less; a file grows only once the
//     limit is right;
//   - filesystems may write to the block at the end of a file when its size
//     changes, so that block is copied first.
//
// Reads of a partial file share fileData.mu, and whatever writes has it alone,
// so a reader never takes half of a change for a hole.

// dataState says where the bytes of a regular file are.
type dataState uint32

const (
	dataLower   dataState = iota // in the lower
	dataPartial                  // blocks in the upper, the rest in the lower
	dataWhole                    // in the upper
)

// fileData is where the data of a node is. The state only ever moves on.
type fileData struct {
	limit atomic.Int64 // bytes below which a hole is the lower's; changed with mu held for writing
	state atomic.Uint32

	mu    sync.RWMutex // the blocks of a partial file, and the rest
	loose bool         // the attribute still holds a larger limit than the file has bytes
	lost  bool         // nobody knows what the holes stand for: reading them is an error
}

func (d *fileData) get() dataState  { return dataState(d.state.Load()) }
func (d *fileData) set(s dataState) { d.state.Store(uint32(s)) }

// partialMin is the size in bytes from which on a file is copied up by blocks:
// below it, one copy costs less than what the blocks cost later.
const partialMin = 256 << 10

// parseLimit reads the attribute; false: it is not a number of bytes.
func parseLimit(text string) (int64, bool) {
	limit, err := strconv.ParseInt(text, 10, 64)
	return limit, err == nil && limit >= 0
}

// writeLimit stores a limit with the file at s.
func (f *FS) writeLimit(s spot, limit int64) error {
	return fsat.SetXattr(s.fd, s.name, f.names.Partial, strconv.AppendInt(nil, limit, 10), 0)
}

// lowerLimit makes limit, which is less than before, the limit of n. None of
// the lower shows below 0, so that makes the file whole. Preconditions:
// n.data.mu is held for writing.
func (f *FS) lowerLimit(n *node, fd int, limit int64) error {
	n.data.limit.Store(limit)
	n.data.loose = true
	return f.tighten(n, fd)
}

// tighten makes the attribute say what the limit is. Without that the file
// must not grow: what it once was would come back. Preconditions: n.data.mu is
// held for writing.
func (f *FS) tighten(n *node, fd int) error {
	if !n.data.loose {
		return nil
	}
	if limit := n.data.limit.Load(); limit > 0 {
		if n.data.lost {
			return nil // an attribute that makes sense would bring back what it was not about
		}
		if err := f.writeLimit(spot{fd: fd}, limit); err != nil {
			return err
		}
	} else if err := f.endPartial(n, fd); err != nil {
		return err
	}
	n.data.loose = false
	n.settled.unsettle()
	failpoint.Hit("partial.limited")
	return nil
}

// endPartial makes a file whole of which no hole shows the lower.
// Preconditions: n.data.mu is held for writing.
func (f *FS) endPartial(n *node, fd int) error {
	if err := fsat.RemoveXattr(fd, "", f.names.Partial); err != nil && err != unix.ENODATA {
		return err
	}
	if n.data.lost { // perhaps of a metacopy file
		if err := fsat.RemoveXattr(fd, "", f.names.Metacopy); err != nil && err != unix.ENODATA {
			return err
		}
	}
	n.settled.unsettle()
	n.data.limit.Store(0)
	n.data.set(dataWhole)
	return nil
}

// filled reports whether no hole is left below the limit of a partial file.
func (f *FS) filled(n *node, fd int) bool {
	if n.data.get() != dataPartial {
		return false
	}
	n.data.mu.RLock()
	defer n.data.mu.RUnlock()
	hole, err := seek(fd, 0, unix.SEEK_HOLE)
	return err == nil && hole >= n.data.limit.Load()
}

// finishPartial makes a file whole that was filled before its data went to the
// disk: once the mark is off, a block that a power cut takes reads as zeros.
func (f *FS) finishPartial(n *node, fd int) error {
	n.data.mu.Lock()
	defer n.data.mu.Unlock()
	if n.data.get() != dataPartial {
		return nil
	}
	return f.endPartial(n, fd)
}

// readLower fills p from the lower file behind partial file n.
func (f *FS) readLower(n *node, p []byte, off int64) error {
	if n.data.lost {
		return unix.EIO
	}
	k, err := f.lower.ReadAt(n.lower, p, off)
	if err == nil && k < len(p) {
		err = unix.EIO // the limit is never behind the lower's end
	}
	return err
}

// stretch is a part of a partial file, from where it was asked for to end.
type stretch struct {
	end int64
	own bool // data of the upper, otherwise a hole
}

// stretchAt tells what the upper file holds at pos, which is below limit.
func stretchAt(fd int, pos, limit int64) (stretch, error) {
	data, err := seek(fd, pos, unix.SEEK_DATA)
	if err == unix.ENXIO {
		return stretch{end: limit}, nil
	}
	if err != nil {
		return stretch{}, err
	}
	if data > pos {
		return stretch{end: min(data, limit)}, nil
	}
	end, err := seek(fd, pos, unix.SEEK_HOLE)
	return stretch{end: end, own: true}, err
}

func seek(fd int, off int64, whence int) (int64, error) {
	for {
		at, err := unix.Seek(fd, off, whence)
		if err != unix.EINTR {
			return at, err
		}
	}
}

// readPartial reads from a file that was partial a moment ago.
func (f *FS) readPartial(n *node, p []byte, off int64) (int, error) {
	h, err := f.handleOf(n)
	if err != nil {
		return 0, err
	}
	defer h.release()
	n.data.mu.RLock()
	defer n.data.mu.RUnlock()
	limit := n.data.limit.Load()
	done := 0
	for done < len(p) && off+int64(done) < limit {
		k, err := f.readStretch(n, h.fd, p[done:], off+int64(done))
		done += k
		if err != nil {
			return done, err
		}
	}
	k, err := fsat.ReadFull(h.fd, p[done:], off+int64(done))
	return done + k, err
}

// readStretch reads the first bytes of p, which all come from one side.
func (f *FS) readStretch(n *node, fd int, p []byte, off int64) (int, error) {
	s, err := stretchAt(fd, off, n.data.limit.Load())
	if err != nil {
		return 0, err
	}
	p = p[:min(int64(len(p)), s.end-off)]
	if !s.own {
		return len(p), f.readLower(n, p, off)
	}
	k, err := fsat.ReadFull(fd, p, off)
	if err == nil && k < len(p) {
		err = unix.EIO // somebody else has cut the file
	}
	return k, err
}

// ownBlock copies the block around pos into the upper unless it is there.
// Preconditions: n.data.mu is held for writing.
func (f *FS) ownBlock(n *node, fd int, pos int64) error {
	start := pos - pos%f.block
	limit := n.data.limit.Load()
	if start >= limit {
		return nil
	}
	s, err := stretchAt(fd, start, limit)
	if err != nil || s.own {
		return err
	}
	// What the block has behind the limit is zeros, which writing to it makes.
	buf := make([]byte, min(f.block, limit-start))
	return f.copyBlocks(n, fd, buf, start)
}

// copyBlocks copies whole blocks of the lower, by way of buf.
func (f *FS) copyBlocks(n *node, fd int, buf []byte, off int64) error {
	if err := f.readLower(n, buf, off); err != nil {
		return err
	}
	if err := writeAll(fd, buf, off); err != nil {
		return err
	}
	f.counts.copied.Add(uint64(len(buf)))
	return nil
}

// prepare readies a partial file of size bytes for a change of the bytes from
// from to to: the blocks that keep some of their bytes become the upper's.
// Preconditions: n.data.mu is held for writing.
func (f *FS) prepare(n *node, fd int, size, from, to int64) error {
	if to > size {
		if err := f.prepareGrowth(n, fd, size); err != nil {
			return err
		}
	}
	if from%f.block != 0 {
		if err := f.ownBlock(n, fd, from); err != nil {
			return err
		}
	}
	if to%f.block != 0 && to < size {
		return f.ownBlock(n, fd, to)
	}
	return nil
}

// prepareGrowth readies a partial file of size bytes for a larger size.
func (f *FS) prepareGrowth(n *node, fd int, size int64) error {
	if err := f.tighten(n, fd); err != nil {
		return err
	}
	if size%f.block == 0 {
		return nil
	}
	return f.ownBlock(n, fd, size)
}

// writePartial writes to a file that was partial a moment ago. Preconditions:
// n.data.mu is held for writing.
func (f *FS) writePartial(n *node, fd int, p []byte, off int64) (int, error) {
	var st unix.Stat_t
	if err := fsat.Fstat(fd, &st); err != nil {
		return 0, err
	}
	if err := f.prepare(n, fd, st.Size, off, off+int64(len(p))); err != nil {
		return 0, err
	}
	failpoint.Hit("partial.owned")
	k, err := pwrite(fd, p, off)
	failpoint.Hit("partial.block")
	return k, err
}

// truncatePartial sets the size of a partial file. Preconditions: n.data.mu is
// held for writing.
func (f *FS) truncatePartial(n *node, fd int, size int64) error {
	var st unix.Stat_t
	if err := fsat.Fstat(fd, &st); err != nil {
		return err
	}
	if size > st.Size {
		if err := f.prepareGrowth(n, fd, st.Size); err != nil {
			return err
		}
	} else if size < st.Size && size%f.block != 0 {
		if err := f.ownBlock(n, fd, size); err != nil {
			return err
		}
	}
	if err := unix.Ftruncate(fd, size); err != nil {
		return err
	}
	failpoint.Hit("partial.truncate")
	if size < n.data.limit.Load() {
		return f.lowerLimit(n, fd, size)
	}
	return nil
}
