package layer

import (
	"fmt"
	"io"
	"math"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"unio/unionfs/merge"
)

// regular returns the record of a regular file, or the error of the system call
// that would have been tried on another.
func (v *View) regular(ino merge.Ino) (nodeRec, error) {
	n, err := v.node(ino)
	switch {
	case err != nil:
		return nil, err
	case n.is(unix.S_IFREG):
		return n, nil
	case n.is(unix.S_IFDIR):
		return nil, unix.EISDIR
	}
	return nil, unix.EINVAL
}

// extent returns extent i of a file of size bytes, and the number of the
// layer that holds it.
func (v *View) extent(r tableRange, i, size uint64) (Extent, uint32, error) {
	b := v.file.record(tabExtents, uint64(r.first)+i)
	if b == nil {
		return Extent{}, 0, errDamaged
	}
	x, layer := getExtent(b)
	if x.Off < 0 || x.Len <= 0 || x.At < 0 || x.Len > math.MaxInt64-max(x.Off, x.At) ||
		uint64(x.Off+x.Len) > size || int(layer) >= len(v.contents) {
		return Extent{}, 0, errDamaged
	}
	return x, layer, nil
}

// Segments returns where a regular file holds data, in order.
func (v *View) Segments(ino merge.Ino) (list []merge.Segment, err error) {
	defer catchFault(debug.SetPanicOnFault(true), &err)
	n, err := v.regular(ino)
	if err != nil {
		return nil, err
	}
	r, end := n.list(), int64(0)
	for i := range uint64(r.count) {
		x, _, err := v.extent(r, i, n.size())
		if err != nil || x.Off < end {
			return nil, errDamaged
		}
		end = x.Off + x.Len
		list = append(list, merge.Segment{Off: x.Off, Len: x.Len})
	}
	return list, nil
}

// ReadAt reads from a regular file; holes read as zeros. It reads the tar with
// one call for each extent that it touches, which is one call for all but
// sparse files.
func (v *View) ReadAt(ino merge.Ino, p []byte, off int64) (n int, err error) {
	defer catchFault(debug.SetPanicOnFault(true), &err)
	node, err := v.regular(ino)
	if err != nil {
		return 0, err
	}
	size := node.size()
	if off < 0 {
		return 0, unix.EINVAL
	}
	if uint64(off) >= size {
		return 0, nil
	}
	p = p[:min(uint64(len(p)), size-uint64(off))]
	i, err := v.searchExtent(node, off)
	for err == nil && n < len(p) {
		var step int
		step, err = v.readExtent(node, i, p[n:], off+int64(n))
		n += step
		i++
	}
	return n, err
}

// searchExtent returns the number of the first extent that ends behind off.
func (v *View) searchExtent(node nodeRec, off int64) (uint64, error) {
	r := node.list()
	// Extents are few, but an image may hold a sparse disk with many.
	lo, hi := uint64(0), uint64(r.count)
	for lo < hi {
		mid := (lo + hi) / 2
		x, _, err := v.extent(r, mid, node.size())
		switch {
		case err != nil:
			return 0, err
		case x.Off+x.Len <= off:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return lo, nil
}

// readExtent reads the hole before extent i and the extent itself, or, where
// there is no extent any more, the hole at the end of the file.
func (v *View) readExtent(node nodeRec, i uint64, p []byte, off int64) (n int, err error) {
	r := node.list()
	if i >= uint64(r.count) {
		clear(p)
		return len(p), nil
	}
	x, layer, err := v.extent(r, i, node.size())
	if err != nil || x.Off+x.Len <= off {
		return 0, errDamaged
	}
	if hole := x.Off - off; hole > 0 {
		n = int(min(hole, int64(len(p))))
		clear(p[:n])
		p = p[n:]
		off += int64(n)
	}
	if len(p) == 0 {
		return n, nil
	}
	skip := off - x.Off
	p = p[:min(int64(len(p)), x.Len-skip)]
	m, err := v.contents[layer].ReadAt(p, x.At+skip)
	if m == len(p) {
		return n + m, nil
	}
	return n + m, shortRead(layer, err)
}

// shortRead is the error of a tar that gave less than its index promises. It
// must not pass for the end of the file, which a reader would take as good.
func shortRead(layer uint32, err error) error {
	if err == nil || err == io.EOF {
		return fmt.Errorf("%w: tar of layer %d is too short", merge.ErrCorrupt, layer)
	}
	return fmt.Errorf("read tar of layer %d: %w", layer, err)
}

// Place tells where the content of a regular file begins: which layer's tar,
// counted from the bottom, and at which byte of it. Two files of one length at
// the same place of the same tar have the same content. Not ok: it is empty,
// or all hole.
func (v *View) Place(ino merge.Ino) (layer int, at int64, ok bool) {
	var err error
	defer catchFault(debug.SetPanicOnFault(true), &err)
	n, err := v.regular(ino)
	if err != nil || n.list().count == 0 {
		return 0, 0, false
	}
	x, l, err := v.extent(n.list(), 0, n.size())
	return int(l), x.At, err == nil
}
