package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/opencontainers/go-digest"

	"unio/imagestore"
	"unio/imagestore/layer"
)

// Tree is the tree of an image, a layer or a container, open for reading. It
// must be closed.
type Tree struct {
	*layer.View
	diffIDs []digest.Digest // of the layers it is made of; the last of a container's is empty
	closers []func() error
}

// Close releases what the tree reads from.
func (t *Tree) Close() error {
	var errs []error
	for _, c := range t.closers {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

// LayersTree opens the tree of a chain of layers, bottom first.
func LayersTree(ctx context.Context, st *imagestore.Store, diffIDs ...digest.Digest) (*Tree, error) {
	v, err := st.ViewOf(ctx, diffIDs)
	if err != nil {
		return nil, err
	}
	return &Tree{View: v.View, diffIDs: diffIDs, closers: []func() error{v.Close}}, nil
}

// ContainerTree opens the tree of a container as it is now. Its changes become
// a layer, as for a commit, which is thrown away on Close.
func ContainerTree(ctx context.Context, st *imagestore.Store, src Source) (*Tree, error) {
	changes, err := Diff(ctx, st, src)
	if err != nil {
		return nil, err
	}
	img, err := st.Get(ctx, src.Container.Image)
	if err != nil {
		return nil, errors.Join(err, changes.Close())
	}
	w, err := st.Blobs().Writer(ctx)
	if err != nil {
		return nil, errors.Join(err, changes.Close())
	}
	t := &Tree{
		diffIDs: append(img.DiffIDs(), ""),
		closers: []func() error{changes.Close, func() error { w.Abort(); return nil }},
	}
	if err = changes.WriteTar(ctx, w); err == nil {
		err = t.open(ctx, st, w.File())
	}
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// open merges the layers of the image and the changes, whose tar is f.
func (t *Tree) open(ctx context.Context, st *imagestore.Store, f *os.File) error {
	top, err := layer.Scan(ctx, io.NewSectionReader(f, 0, math.MaxInt64), layer.Limits{})
	if err != nil {
		return fmt.Errorf("index the changes: %w", err)
	}
	defer top.Close()
	var indexes []*layer.Index
	var contents []io.ReaderAt
	defer func() {
		for _, x := range indexes {
			x.Close()
		}
	}()
	for _, d := range t.diffIDs[:len(t.diffIDs)-1] {
		x, err := st.Index(ctx, d)
		if err != nil {
			return err
		}
		indexes = append(indexes, x)
		tar, err := st.OpenLayerTar(d)
		if err != nil {
			return err
		}
		t.closers = append(t.closers, tar.Close)
		contents = append(contents, tar)
	}
	data, err := layer.BuildView(append(indexes, top))
	if err != nil {
		return fmt.Errorf("merge the changes: %w", err)
	}
	t.View, err = data.Open(append(contents, f))
	return err
}
