package cow

import (
	"golang.org/x/sys/unix"

	"unio/cow/failpoint"
	"unio/cow/fsat"
	"unio/unionfs/merge"
)

// ownRange copies what the lower shows between from and to into the upper. The
// lower's own holes stay holes: they are zeros on either side. Preconditions:
// n.data.mu is held for writing.
func (f *FS) ownRange(n *node, fd int, from, to int64) error {
	limit := n.data.limit.Load()
	to = min(f.roundUp(to), limit)
	if from >= to {
		return nil
	}
	if n.data.lost {
		return unix.EIO
	}
	segments, err := f.lower.Segments(n.lower)
	if err != nil {
		return err
	}
	for _, s := range segments {
		a, b := max(s.Off, from), min(f.roundUp(s.Off+s.Len), to)
		if err := f.ownStretch(n, fd, a-a%f.block, b); err != nil {
			return err
		}
	}
	return nil
}

func (f *FS) roundUp(off int64) int64 { return (off + f.block - 1) / f.block * f.block }

// ownStretch copies the blocks between from and to that are holes. It writes
// whole blocks in one call each time, so that a kill leaves whole blocks.
func (f *FS) ownStretch(n *node, fd int, from, to int64) error {
	var buf []byte
	for from < to {
		s, err := stretchAt(fd, from, to)
		if err != nil {
			return err
		}
		if s.own {
			from = s.end
			continue
		}
		if buf == nil {
			buf = make([]byte, min(copyChunk, to-from))
		}
		part := buf[:min(int64(len(buf)), s.end-from)]
		if err := f.copyBlocks(n, fd, part, from); err != nil {
			return err
		}
		from += int64(len(part))
	}
	return nil
}

// completePartial gives a partial file all of its data. Preconditions:
// n.copying is held.
func (f *FS) completePartial(n *node) error {
	h, err := f.handleOf(n)
	if err != nil {
		return err
	}
	defer h.release()
	n.data.mu.Lock()
	defer n.data.mu.Unlock()
	var st unix.Stat_t
	if err := fsat.Fstat(h.fd, &st); err != nil {
		return err
	}
	if err := f.ownRange(n, h.fd, 0, st.Size); err != nil {
		return err
	}
	if err := f.syncData(h.fd); err != nil {
		return err
	}
	failpoint.Hit("partial.complete")
	if err := f.endPartial(n, h.fd); err != nil {
		return err
	}
	return fsat.Utimes(h.fd, "", st.Atim, st.Mtim)
}

// fallocateModes are those that leave the bytes where they are.
const fallocateModes = unix.FALLOC_FL_KEEP_SIZE | unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_ZERO_RANGE

// fallocatePartial is fallocate(2), of fallocateModes, on a partial file.
// Preconditions: n.data.mu is held for writing.
func (f *FS) fallocatePartial(n *node, fd int, mode uint32, off, length int64) error {
	var st unix.Stat_t
	if err := fsat.Fstat(fd, &st); err != nil {
		return err
	}
	if mode&unix.FALLOC_FL_KEEP_SIZE == 0 && off+length > st.Size {
		if err := f.prepareGrowth(n, fd, st.Size); err != nil {
			return err
		}
	}
	if mode&^unix.FALLOC_FL_KEEP_SIZE != 0 {
		return f.zeroPartial(n, fd, zeroing{mode, off, off + length, st.Size})
	}
	// What is allocated must be written, too, where a hole would be the lower's.
	if err := f.ownRange(n, fd, off, off+length); err != nil {
		return err
	}
	if err := fsat.Utimes(fd, "", st.Atim, st.Mtim); err != nil {
		return err
	}
	return unix.Fallocate(fd, mode, off, length)
}

// zeroing is a range that is to read as zeros.
type zeroing struct {
	mode     uint32 // FALLOC_FL_PUNCH_HOLE or FALLOC_FL_ZERO_RANGE
	off, end int64
	size     int64 // of the file before
}

// zeroPartial punches a hole or zeroes a range. Behind the limit that is the
// filesystem's; below it zeros are written, or the limit comes down if the
// range reaches it. Preconditions: n.data.mu is held for writing.
func (f *FS) zeroPartial(n *node, fd int, z zeroing) error {
	limit := n.data.limit.Load()
	split := f.roundUp(limit)
	if z.end > split { // first, as it is what may not be supported
		off := max(z.off, split)
		if err := unix.Fallocate(fd, z.mode, off, z.end-off); err != nil {
			return err
		}
		z.end = split
	}
	if z.mode&unix.FALLOC_FL_KEEP_SIZE != 0 {
		z.end = min(z.end, z.size)
	}
	if z.off >= z.end {
		return nil
	}
	if err := f.prepare(n, fd, max(z.size, z.end), z.off, z.end); err != nil {
		return err
	}
	failpoint.Hit("partial.owned")
	if lowered := f.roundUp(z.off); z.end >= limit && lowered < limit {
		return f.zeroTail(n, fd, z, lowered)
	}
	return f.writeZeros(fd, z.off, z.end)
}

// zeroTail zeroes what lies from z.off, which is in an own block if it is not
// at its start, to behind the limit: by one change of the attribute all holes
// behind lowered become zeros.
func (f *FS) zeroTail(n *node, fd int, z zeroing, lowered int64) error {
	if err := f.writeZeros(fd, z.off, lowered); err != nil {
		return err
	}
	if err := f.lowerLimit(n, fd, lowered); err != nil {
		return err
	}
	if z.end > z.size { // a hole makes no file longer
		if err := f.writeZeros(fd, z.end-1, z.end); err != nil {
			return err
		}
	}
	return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, lowered, z.end-lowered)
}

// writeZeros writes zeros, in whole blocks but at the ends. The kernel copies
// from memory as far as it is there, and may then end with a kill
// (generic_perform_write in mm/filemap.c): so that no block is left half done,
// the memory is touched first.
func (f *FS) writeZeros(fd int, from, to int64) error {
	if from >= to {
		return nil
	}
	zeros := make([]byte, min(copyChunk, to-from))
	for i := 0; i < len(zeros); i += blockSize {
		zeros[i] = 0
	}
	for from < to {
		k := min(to-from, int64(len(zeros)))
		if part := from % f.block; part != 0 {
			k = min(k, f.block-part)
		}
		if err := writeAll(fd, zeros[:k], from); err != nil {
			return err
		}
		from += k
	}
	return nil
}

// seekPartial finds the next data or hole of a partial file: either side's
// data counts. Preconditions: n.data.mu is held for reading.
func (f *FS) seekPartial(n *node, fd int, off int64, whence int) (int64, error) {
	if _, err := seek(fd, off, unix.SEEK_HOLE); err != nil {
		return 0, err // off is not in the file
	}
	segments, err := f.lower.Segments(n.lower)
	if err != nil && !n.data.lost {
		return 0, err
	}
	limit := n.data.limit.Load()
	switch whence {
	case unix.SEEK_DATA:
		return dataPartly(fd, segments, off, limit)
	case unix.SEEK_HOLE:
		return holePartly(fd, segments, off, limit)
	}
	return 0, unix.EINVAL
}

// dataPartly finds the next data of either side, whichever comes first.
func dataPartly(fd int, segments []merge.Segment, off, limit int64) (int64, error) {
	below, err := nextData(segments, off)
	none := err != nil || below >= limit
	own, err := seek(fd, off, unix.SEEK_DATA)
	switch {
	case none:
		return own, err
	case err == unix.ENXIO:
		return below, nil
	}
	return min(own, below), err
}

// holePartly follows data of either side from off to where it ends.
func holePartly(fd int, segments []merge.Segment, off, limit int64) (int64, error) {
	for {
		at := off
		if data, err := seek(fd, at, unix.SEEK_DATA); err == nil && data == at {
			if at, err = seek(fd, at, unix.SEEK_HOLE); err != nil {
				return 0, err
			}
		}
		if at < limit {
			at = min(max(at, nextHole(segments, at)), limit)
		}
		if at == off {
			return off, nil
		}
		off = at
	}
}
