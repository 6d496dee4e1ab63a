package imagestore

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"unio/imagestore/blob"
	"unio/imagestore/layer"
)

// FetchLayer is [Store.AddLayer] of a stream that can start at any of its
// bytes, as a download can. What came before an interruption, a kill or a
// power cut is kept, and the next attempt, by whichever process, asks open for
// the rest; all of it is verified as a whole. Two who fetch the same layer at
// once fetch it once: the second waits for the first.
//
// o.Digest and o.Size must be given.
func (s *Store) FetchLayer(ctx context.Context, open func(from int64) io.Reader, o LayerOptions) (Layer, error) {
	release, err := s.Hold(ctx)
	if err != nil {
		return Layer{}, err
	}
	defer release()
	p, err := s.blobs.Partial(ctx, o.Digest)
	if err != nil && !errors.Is(err, blob.ErrExist) {
		return Layer{}, fmt.Errorf("layer %s: %w", o.Digest, err)
	}
	if p != nil {
		defer p.Close()
	}
	if s.blobs.Has(o.Digest) {
		return s.adoptBlob(ctx, o)
	}
	had := p.Have
	l, err := s.fetchInto(ctx, p, open, o)
	if err != nil && had > 0 && isBadContent(err) {
		s.log.Info("what was downloaded before is damaged, start again", "digest", o.Digest, "err", err)
		l, err = s.fetchInto(ctx, p, open, o)
	}
	return l, err
}

// fetchInto makes one attempt. Content that cannot be right is thrown away.
func (s *Store) fetchInto(ctx context.Context, p *blob.Partial, open func(int64) io.Reader, o LayerOptions) (Layer, error) {
	if p.Have > o.Size {
		if err := p.Discard(); err != nil {
			return Layer{}, err
		}
	}
	w, err := p.Writer(ctx)
	if err != nil {
		return Layer{}, err
	}
	defer w.Abort()
	stream := p.Reader()
	if p.Have < o.Size || o.Size == 0 {
		// Written as it comes, before anything else: what is in the file when
		// the process is killed need not be fetched again.
		stream = io.MultiReader(stream, io.TeeReader(open(p.Have), w.Data()))
	}
	l, err := s.take(&intake{s: s, ctx: ctx, o: o, fetched: w}, stream)
	if err != nil && isBadContent(err) {
		err = errors.Join(err, p.Discard())
	}
	if err == nil && !s.blobs.Has(o.Digest) {
		err = p.Discard() // of a form that no manifest can name
	}
	return l, err
}

// isBadContent tells content that no further bytes can mend, and a full disk,
// from an interruption.
func isBadContent(err error) bool {
	for _, kind := range []error{ErrCorrupt, ErrLimit, layer.ErrBadTar, layer.ErrLimit, unix.ENOSPC} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// adoptBlob returns the layer of a blob that is in the store, made anew if its
// tar or index is missing.
func (s *Store) adoptBlob(ctx context.Context, o LayerOptions) (Layer, error) {
	if l, ok := s.LayerByBlob(o.Digest); ok && (o.DiffID == "" || o.DiffID == l.DiffID) {
		return l, nil
	}
	b, err := s.Blob(o.Digest)
	if err != nil {
		return Layer{}, fmt.Errorf("layer %s: %w", o.Digest, err)
	}
	defer b.Close()
	return s.addLayer(ctx, b, o)
}
