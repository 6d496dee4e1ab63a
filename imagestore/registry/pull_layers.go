package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"unio/imagestore"
)

// progressEvery limits how often the bytes of one layer are reported.
const progressEvery = 100 * time.Millisecond

// puller pulls from one repository into one store.
type puller struct {
	c        *Client
	st       *imagestore.Store
	repo     *repository
	want     ocispec.Platform
	explicit bool // the user named the platform
}

// image brings what doc stands for into the store: config, then layers, then
// the image under its names. The store is held meanwhile, so that nothing that
// this pull relies on is collected before the reference exists.
func (p *puller) image(ctx context.Context, doc *document, names []string) (*imagestore.Image, error) {
	release, err := p.st.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if doc, err = p.repo.resolve(ctx, doc, p.want); err != nil {
		return nil, err
	}
	if err := doc.checkImage(); err != nil {
		return nil, err
	}
	config, err := p.repo.smallBlob(ctx, *doc.body.Config)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	conf, err := parseConfig(config, len(doc.body.Layers))
	if err != nil {
		return nil, err
	}
	if err := p.checkPlatform(conf, names[0]); err != nil {
		return nil, err
	}
	gathered := p.gathering(ctx, doc.desc.Digest)
	layers, err := p.layers(ctx, doc.body.Layers, conf.RootFS.DiffIDs)
	gathered(err == nil)
	if err != nil {
		return nil, err
	}
	return p.st.AddImage(ctx, imagestore.NewImage{
		Config: config, Manifest: doc.raw, Layers: layers, Names: names,
	})
}

// fetch is one layer of a pull.
type fetch struct {
	desc   ocispec.Descriptor
	diffID digest.Digest
	id     string // as shown
	layer  imagestore.Layer
}

// layers fetches the layers that the store does not have, some at a time. A
// blob that the manifest lists twice is fetched once.
func (p *puller) layers(ctx context.Context, descs []ocispec.Descriptor, diffIDs []digest.Digest) ([]imagestore.Layer, error) {
	jobs := map[digest.Digest]*fetch{}
	var order []*fetch
	for i, desc := range descs {
		if old, ok := jobs[desc.Digest]; ok {
			if old.diffID != diffIDs[i] || old.desc.Size != desc.Size {
				return nil, fmt.Errorf("layer %s: %w: listed twice with different content", desc.Digest, ErrVerify)
			}
			continue
		}
		f := &fetch{desc: desc, diffID: diffIDs[i], id: imagestore.ShortID(desc.Digest)}
		jobs[desc.Digest] = f
		order = append(order, f)
	}
	if err := p.fetchAll(ctx, order); err != nil {
		return nil, err
	}
	out := make([]imagestore.Layer, 0, len(descs))
	for _, desc := range descs {
		out = append(out, jobs[desc.Digest].layer)
	}
	return out, nil
}

func (p *puller) fetchAll(ctx context.Context, order []*fetch) error {
	var missing []*fetch
	for _, f := range order {
		if p.have(f) {
			p.c.step(f.id, "Already exists")
			continue
		}
		// The size tells what the whole pull will come to.
		p.c.o.Progress.Update(imagestore.Event{ID: f.id, Action: "Pulling fs layer", Total: f.desc.Size})
		missing = append(missing, f)
	}
	for i, f := range missing {
		if i >= p.c.o.Parallel {
			p.c.step(f.id, "Waiting")
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(p.c.o.Parallel)
	for _, f := range missing {
		group.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return p.fetch(ctx, f)
		})
	}
	return group.Wait()
}

// have looks for a layer in the store.
func (p *puller) have(f *fetch) bool {
	layer, ok := p.st.LayerByBlob(f.desc.Digest)
	if !ok || layer.DiffID != f.diffID {
		return false
	}
	f.layer = layer
	return true
}

// fetch brings one layer. If it came in pieces that make no whole, a cache
// between here and the registry may have had one of them wrong: it is asked for
// once more, from its start.
func (p *puller) fetch(ctx context.Context, f *fetch) error {
	pieced, err := p.tryFetch(ctx, f)
	if pieced && errors.Is(err, imagestore.ErrCorrupt) {
		p.c.log.Info("layer came in pieces that do not fit, start again", "digest", f.desc.Digest, "err", err)
		_, err = p.tryFetch(ctx, f)
	}
	if err != nil {
		return layerError(f.desc.Digest, err)
	}
	p.c.step(f.id, "Pull complete")
	return nil
}

// tryFetch streams one layer into the store, which verifies, decompresses and
// indexes it in the same pass. It goes on where an earlier pull was ended.
func (p *puller) tryFetch(ctx context.Context, f *fetch) (pieced bool, err error) {
	var blob *blobReader
	open := func(from int64) io.Reader {
		blob = p.repo.openBlob(ctx, f.desc)
		blob.offset, blob.failed, blob.breaks.id = from, from, f.id
		blob.onRead = p.downloading(f)
		return blob
	}
	layer, err := p.st.FetchLayer(ctx, open, imagestore.LayerOptions{
		Digest: f.desc.Digest, Size: f.desc.Size, DiffID: f.diffID,
		MediaType: f.desc.MediaType, KeepCompressed: true,
	})
	if blob != nil {
		blob.Close()
		pieced = blob.pieced
		if err != nil && blob.err != nil && !isEOF(blob.err) {
			err = blob.err // the cause, whatever the store made of a stream that broke off
		}
	}
	f.layer = layer
	return pieced, err
}

// layerError uses docker's words for a layer that is not what was promised.
func layerError(d digest.Digest, err error) error {
	if errors.Is(err, imagestore.ErrCorrupt) || errors.Is(err, ErrVerify) {
		return fmt.Errorf("filesystem layer verification failed for digest %s: %w", d, err)
	}
	return fmt.Errorf("layer %s: %w", d, err)
}

// downloading reports the bytes of a layer, and docker's steps at their end.
func (p *puller) downloading(f *fetch) func(int64) {
	var last time.Time
	return func(n int64) {
		now := time.Now()
		if n < f.desc.Size && now.Sub(last) < progressEvery {
			return
		}
		last = now
		e := imagestore.Event{ID: f.id, Action: "Downloading", Current: n, Total: f.desc.Size}
		p.c.o.Progress.Update(e)
		if n == f.desc.Size {
			p.c.step(f.id, "Verifying Checksum")
			p.c.step(f.id, "Download complete")
			e.Action = "Extracting"
			p.c.o.Progress.Update(e)
		}
	}
}
