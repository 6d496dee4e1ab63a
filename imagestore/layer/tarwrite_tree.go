package layer

import (
	"context"
	"fmt"
	"io"

	"unio/unionfs/merge"
	"unio/whiteout"
)

// WriteTree writes a whole read-only tree as one flat tar, by the same rules
// as [Changes.WriteTar]. It streams: memory grows with the largest folder and
// the number of files that have several names.
func WriteTree(ctx context.Context, t merge.Lower, w io.Writer) error {
	return WriteMerged(ctx, Upper{}, t, w)
}

// WriteMerged writes what upper and lower show together as one flat tar, by
// the same rules as [Changes.WriteTar]; an Upper without Dir stands for none.
// A name that begins with ".wh." is refused, since who imports the tar would
// take it for a whiteout.
func WriteMerged(ctx context.Context, up Upper, lower merge.Lower, w io.Writer) error {
	m, err := newMergeWalk(up, lower)
	if err != nil {
		return err
	}
	defer m.close()
	f, root, err := m.root()
	if err != nil {
		return err
	}
	x := &exporter{walk: m, out: newTarEmitter(w, &m.sources)}
	if err := x.out.emit(ctx, place{dir: f.dir}, root); err != nil {
		return err
	}
	if err := x.folder(ctx, f); err != nil {
		return err
	}
	return x.out.finish()
}

// exporter writes a merged tree, folder by folder.
type exporter struct {
	walk *mergeWalk
	out  *tarEmitter
}

// folder writes what is in f, which stands in the tar already.
func (x *exporter) folder(ctx context.Context, f folder) error {
	kids, err := x.walk.children(ctx, f)
	if err != nil {
		return err
	}
	for _, c := range kids {
		if c.up != nil && c.up.whiteout {
			continue
		}
		if err := x.child(ctx, f, c); err != nil {
			return err
		}
	}
	return nil
}

// child writes one entry of f with all that is below it.
func (x *exporter) child(ctx context.Context, f folder, c child) error {
	if whiteout.IsReserved(c.name) {
		return fmt.Errorf("%s/%s: %w", f.path, c.name, ErrReservedName)
	}
	n, err := x.walk.node(f, c)
	if err != nil {
		return f.wrap(c.name, err)
	}
	at := place{dir: f.dir}
	if f.path != "" {
		at.path = f.path[1:] + "/"
	}
	if err := x.out.emit(ctx, at, n); err != nil || !n.isDir() {
		return err
	}
	sub, err := x.walk.enter(f, n)
	if err != nil {
		return err
	}
	defer sub.close()
	return x.folder(ctx, sub)
}
