package imagestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"unio/imagestore/blob"
	"unio/imagestore/layer"
)

func (s *Store) layerIndexPath(diffID digest.Digest) string {
	return filepath.Join(s.layersDir(), diffID.Encoded()+".idx")
}

func (s *Store) viewPath(chainID digest.Digest) string {
	return filepath.Join(s.viewsDir(), chainID.Encoded()+".idx")
}

// chainOf names the view of a chain of layers. No layers at all have a chain
// too, under the digest of nothing.
func chainOf(diffIDs []digest.Digest) digest.Digest {
	if id := layer.ChainID(diffIDs); id != "" {
		return id
	}
	return digest.FromBytes(nil)
}

// HasLayer reports whether the tar of a layer and its index are there.
func (s *Store) HasLayer(diffID digest.Digest) bool {
	if !s.blobs.Has(diffID) {
		return false
	}
	_, err := os.Lstat(s.layerIndexPath(diffID))
	return err == nil
}

// LayerByBlob finds the layer of a manifest's blob, compressed or not, if the
// store has everything of it: the blob itself, the tar and the index.
func (s *Store) LayerByBlob(d digest.Digest) (Layer, bool) {
	size, err := s.blobs.Size(d)
	if err != nil {
		return Layer{}, false
	}
	if l, ok := s.layerByPair(d); ok && s.HasLayer(l.DiffID) {
		return l, true
	}
	if !s.HasLayer(d) {
		return Layer{}, false
	}
	l := Layer{DiffID: d, Size: size, Existed: true}
	l.Blob = l.tar()
	return l, true
}

// HasBlob reports whether the store has a blob of any kind.
func (s *Store) HasBlob(d digest.Digest) bool { return s.blobs.Has(d) }

// Blob opens a blob of any kind. The caller closes it. [ErrNotFound] when it
// is not there.
func (s *Store) Blob(d digest.Digest) (*blob.Blob, error) {
	b, err := s.blobs.Open(d)
	if errors.Is(err, blob.ErrNotFound) {
		return nil, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return b, err
}

// OpenLayerTar opens the uncompressed tar of a layer. The caller closes it.
func (s *Store) OpenLayerTar(diffID digest.Digest) (*blob.Blob, error) { return s.Blob(diffID) }

// Index opens the index of a layer; a missing or damaged one is made again
// from the tar. The caller closes it.
func (s *Store) Index(ctx context.Context, diffID digest.Digest) (*layer.Index, error) {
	return s.openIndex(ctx, diffID, s.rebuildIndex)
}

// openIndex opens an index, with a way to make it again.
func (s *Store) openIndex(ctx context.Context, diffID digest.Digest, rebuild func(context.Context, digest.Digest) error) (*layer.Index, error) {
	if err := blob.Check(diffID); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	x, err := layer.OpenIndex(s.layerIndexPath(diffID))
	if err == nil || !rebuildable(err) {
		return x, err
	}
	s.log.Info("make index again", "diffID", diffID, "why", err)
	if err := rebuild(ctx, diffID); err != nil {
		return nil, err
	}
	return layer.OpenIndex(s.layerIndexPath(diffID))
}

// rebuildable tells whether a derived file is to be made again.
func rebuildable(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, layer.ErrBadIndex)
}

// rebuildIndex makes the index of a layer from its tar.
func (s *Store) rebuildIndex(ctx context.Context, diffID digest.Digest) error {
	release, err := s.Hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	return s.makeIndex(ctx, diffID)
}

// makeIndex does the work of rebuildIndex and verifies the tar on the way.
//
// Preconditions: the store is held.
func (s *Store) makeIndex(ctx context.Context, diffID digest.Digest) error {
	tar, err := s.OpenLayerTar(diffID)
	if err != nil {
		return fmt.Errorf("layer %s: %w", diffID, err)
	}
	defer tar.Close()
	var x *layer.Index
	sum := diffID.Verifier()
	err = fanOut(ctx, tar,
		func(r io.Reader) error { _, err := io.Copy(sum, r); return err },
		func(r io.Reader) (err error) { x, err = layer.Scan(ctx, r, layer.Limits{}); return err })
	if x != nil {
		defer x.Close()
	}
	if err != nil {
		return fmt.Errorf("index layer %s: %w", diffID, err)
	}
	if !sum.Verified() {
		return fmt.Errorf("index layer %s: %w: the tar does not match its digest", diffID, ErrCorrupt)
	}
	return s.writeFrom(s.layerIndexPath(diffID), x)
}

// ensureLayer makes sure that the tar of an image's layer is there, if need
// be from the compressed blob that the manifest names.
func (s *Store) ensureLayer(ctx context.Context, l LayerRef) error {
	if s.blobs.Has(l.DiffID) {
		return nil
	}
	release, err := s.Hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	return s.unpack(ctx, l)
}

// unpack makes the tar and the index of a layer from the blob of the manifest.
//
// Preconditions: the store is held.
func (s *Store) unpack(ctx context.Context, l LayerRef) error {
	b, err := s.Blob(l.Blob.Digest)
	if err != nil {
		return fmt.Errorf("layer %s: %w", l.DiffID, err)
	}
	defer b.Close()
	_, err = s.addLayer(ctx, b, LayerOptions{
		Digest: l.Blob.Digest, Size: l.Blob.Size, DiffID: l.DiffID,
		MediaType: l.Blob.MediaType, KeepCompressed: true,
	})
	return err
}

// View is the merged tree of an image, open for reading: a merge.Lower.
type View struct {
	*layer.View
	contents []*blob.Blob
}

// Close releases the view and the tars below it.
func (v *View) Close() error {
	var errs []error
	if v.View != nil {
		errs = append(errs, v.View.Close())
	}
	for _, b := range v.contents {
		errs = append(errs, b.Close())
	}
	return errors.Join(errs...)
}

// View opens the merged tree of an image; where it is missing or damaged it
// is made again. The caller closes it.
func (s *Store) View(ctx context.Context, img *Image) (*View, error) {
	ids := img.DiffIDs()
	if v, err := s.openView(s.viewPath(chainOf(ids)), ids); err == nil { // mostly
		return v, nil
	}
	for _, l := range img.Layers {
		if err := s.ensureLayer(ctx, l); err != nil {
			return nil, err
		}
	}
	return s.ViewOf(ctx, ids)
}

// ViewOf is View for any chain of layers, bottom first.
func (s *Store) ViewOf(ctx context.Context, diffIDs []digest.Digest) (*View, error) {
	path := s.viewPath(chainOf(diffIDs))
	v, err := s.openView(path, diffIDs)
	if err == nil || !rebuildable(err) {
		return v, err
	}
	s.log.Info("make view", "path", path, "why", err)
	if err := s.buildView(ctx, diffIDs); err != nil {
		return nil, err
	}
	return s.openView(path, diffIDs)
}

// openView opens a view and the tars below it.
func (s *Store) openView(path string, diffIDs []digest.Digest) (*View, error) {
	if _, err := os.Lstat(path); err != nil {
		return nil, fmt.Errorf("open view: %w", err)
	}
	v := &View{}
	contents := make([]io.ReaderAt, 0, len(diffIDs))
	for _, d := range diffIDs {
		b, err := s.OpenLayerTar(d)
		if err != nil {
			v.Close()
			return nil, fmt.Errorf("layer %s: %w", d, err)
		}
		v.contents = append(v.contents, b)
		contents = append(contents, b)
	}
	var err error
	if v.View, err = layer.OpenView(path, contents); err != nil {
		v.Close()
		return nil, err
	}
	return v, nil
}

// buildView merges the indexes of a chain and writes the result.
func (s *Store) buildView(ctx context.Context, diffIDs []digest.Digest) error {
	release, err := s.Hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	return s.makeView(ctx, diffIDs)
}

// makeView does the work of buildView. Where there is a view of all layers but
// the last, it is extended, which costs little more than the last layer; any
// trouble with that leaves it to the layers themselves.
//
// Preconditions: the store is held.
func (s *Store) makeView(ctx context.Context, diffIDs []digest.Digest) error {
	v, err := s.extendView(ctx, diffIDs)
	if err != nil {
		s.log.Info("merge all layers", "why", err)
		return s.remakeView(ctx, diffIDs)
	}
	return s.writeFrom(s.viewPath(chainOf(diffIDs)), v)
}

// extendView puts the last layer over the view of the others.
func (s *Store) extendView(ctx context.Context, diffIDs []digest.Digest) (v *layer.ViewData, err error) {
	err = s.withLast(ctx, diffIDs, func(below *layer.View, top *layer.Index) (err error) {
		v, err = layer.ExtendView(below, top)
		return err
	})
	return v, err
}

// withLast opens the view of all layers of a chain but the last, and the index
// of that one.
func (s *Store) withLast(ctx context.Context, diffIDs []digest.Digest, do func(below *layer.View, top *layer.Index) error) error {
	last := len(diffIDs) - 1
	if last < 1 {
		return errors.New("one layer at most")
	}
	below, err := layer.OpenView(s.viewPath(chainOf(diffIDs[:last])), make([]io.ReaderAt, last)) // no content is read
	if err != nil {
		return err
	}
	defer below.Close()
	top, err := s.openIndex(ctx, diffIDs[last], s.makeIndex)
	if err != nil {
		return err
	}
	defer top.Close()
	return do(below, top)
}

// remakeView makes a view from the indexes of all its layers.
//
// Preconditions: the store is held.
func (s *Store) remakeView(ctx context.Context, diffIDs []digest.Digest) error {
	indexes := make([]*layer.Index, 0, len(diffIDs))
	defer func() {
		for _, x := range indexes {
			x.Close()
		}
	}()
	for _, d := range diffIDs {
		x, err := s.openIndex(ctx, d, s.makeIndex)
		if err != nil {
			return err
		}
		indexes = append(indexes, x)
	}
	v, err := layer.BuildView(indexes)
	if err != nil {
		return fmt.Errorf("merge layers: %w", err)
	}
	return s.writeFrom(s.viewPath(chainOf(diffIDs)), v)
}

// ContentSize returns the bytes of file content in a layer, which is what
// docker shows as its size.
func (s *Store) ContentSize(ctx context.Context, diffID digest.Digest) (int64, error) {
	if err := blob.Check(diffID); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if n, err := layer.ReadDataSize(s.layerIndexPath(diffID)); err == nil {
		return int64(n), nil
	}
	x, err := s.Index(ctx, diffID)
	if err != nil {
		return 0, err
	}
	defer x.Close()
	return int64(x.DataSize()), nil
}

// ImageSize returns the sum of the content sizes of an image's layers.
func (s *Store) ImageSize(ctx context.Context, img *Image) (int64, error) {
	var total int64
	for _, l := range img.Layers {
		if err := s.ensureLayer(ctx, l); err != nil {
			return 0, err
		}
		n, err := s.ContentSize(ctx, l.DiffID)
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

// layerRefs pairs the layers of a manifest with the diffIDs of its config.
func (s *Store) layerRefs(blobs []ocispec.Descriptor, diffIDs []digest.Digest) []LayerRef {
	list := make([]LayerRef, len(diffIDs))
	for i, d := range diffIDs {
		size, err := s.blobs.Size(d)
		if err != nil {
			size = -1
		}
		list[i] = LayerRef{DiffID: d, Blob: blobs[i], Size: size}
	}
	return list
}
