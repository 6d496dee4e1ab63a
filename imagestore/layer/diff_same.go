package layer

import (
	"bytes"
	"context"
	"slices"

	"golang.org/x/sys/unix"

	"unio/unionfs/merge"
)

// kindOf compares n with what the lower shows at its path. dir is the folder
// of the upper that n is in.
func (w *mergeWalk) kindOf(ctx context.Context, dir *upperDir, n *changeNode) (ChangeKind, error) {
	if n.base == 0 {
		return Added, nil
	}
	same, err := w.same(ctx, dir, n)
	if err != nil {
		return 0, err
	}
	if same {
		return 0, nil
	}
	return Modified, nil
}

// same reports whether n is as the lower has it, from the cheapest question
// to the dearest.
func (w *mergeWalk) same(ctx context.Context, dir *upperDir, n *changeNode) (bool, error) {
	if n.from == fromLower && !n.attr.IsDir() {
		return n.low == n.base, nil
	}
	var b merge.Attr
	if err := w.lower.Attr(n.base, &b); err != nil {
		return false, err
	}
	same, err := w.sameMeta(n, &b)
	if !same || err != nil || n.attr.IsDir() {
		return same, err
	}
	if b.Nlink > 1 && n.id != w.hubID(n.base) {
		return false, nil // the lower's names are of one file, and this is no longer it
	}
	if !n.attr.IsRegular() || n.attr.Size == 0 {
		return true, nil
	}
	if n.low != 0 && n.limit == 0 {
		return n.low == n.base, nil
	}
	return w.sameData(ctx, dir, n)
}

// hubID returns the identity of the hub's file for a lower node, zero if it
// has none.
func (w *mergeWalk) hubID(ino merge.Ino) linkID {
	if e := w.hub[ino]; e != nil {
		return linkID{fileID: e.file}
	}
	return linkID{}
}

// sameMeta compares all but the data with the attributes of n.base. The size
// of a folder says nothing about it.
func (w *mergeWalk) sameMeta(n *changeNode, b *merge.Attr) (bool, error) {
	a := &n.attr
	if a.Mode != b.Mode || a.UID != b.UID || a.GID != b.GID || a.Sec != b.Sec || a.Nsec != b.Nsec {
		return false, nil
	}
	if isDevice(a.Mode) && a.Rdev != b.Rdev || a.IsRegular() && a.Size != b.Size {
		return false, nil
	}
	xattrs, err := w.lowerXattrs(n.base)
	if err != nil || !slices.Equal(xattrs, n.xattrs) {
		return false, err
	}
	if a.Mode&unix.S_IFMT != unix.S_IFLNK {
		return true, nil
	}
	target, err := w.lower.Readlink(n.base)
	return target == n.target, err
}

// sameData compares the bytes of a copied-up file with the lower's. It is
// asked only when everything else agrees, modification time included, so it
// is rare; skipping it would lose a change by a program that sets times back.
func (w *mergeWalk) sameData(ctx context.Context, dir *upperDir, n *changeNode) (bool, error) {
	up, err := w.open(dir, n)
	if err != nil {
		return false, err
	}
	defer up.close()
	low, err := w.openLower(n.base)
	if err != nil {
		return false, err
	}
	const block = 256 << 10
	bufs := [2][]byte{make([]byte, block), make([]byte, block)}
	for off, size := int64(0), int64(n.attr.Size); off < size; off += block {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		s := span{off, min(block, size-off)}
		if p, ok := up.file.(*partialFile); ok && n.low == n.base && p.isLower(s) {
			continue
		}
		same, err := sameBlock(up, low, s, bufs)
		if !same || err != nil {
			return false, err
		}
	}
	return true, nil
}

// span is a stretch of a file, in bytes.
type span struct{ off, n int64 }

// sameBlock compares one stretch of two files and reads no holes.
func sameBlock(a, b *sparseData, s span, bufs [2][]byte) (bool, error) {
	holeA, err := a.isHole(s)
	if err != nil {
		return false, err
	}
	holeB, err := b.isHole(s)
	if err != nil || holeA && holeB {
		return err == nil, err
	}
	x, y := bufs[0][:s.n], bufs[1][:s.n]
	if _, err := a.readFull(x, s.off); err != nil {
		return false, err
	}
	if _, err := b.readFull(y, s.off); err != nil {
		return false, err
	}
	return bytes.Equal(x, y), nil
}
