package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"unio/imagestore"
)

// maxMounts is how many repositories a registry is asked to take a blob from
// before it is sent.
const maxMounts = 4

// pusher pushes to one repository from one store.
type pusher struct {
	c    *Client
	st   *imagestore.Store
	repo *repository
	// compression is what was asked for; empty: gzip, or whatever is there.
	compression string

	sent map[digest.Digest]sentLayer // by diffID, from earlier tags of the same push
}

// sentLayer is a layer that the registry has.
type sentLayer struct {
	desc ocispec.Descriptor
	how  string // docker's word for how it got there
}

// outgoing is one layer of a push.
type outgoing struct {
	ref  imagestore.LayerRef
	id   string // as shown
	from []string
	// exact is true if the layer must go as the manifest has it.
	exact bool
	// forms are the blobs that may be sent, the best first; the bytes of
	// some may not be in the store.
	forms []ocispec.Descriptor
	sent  sentLayer
}

// layers sends the layers of an image, some at a time, and returns what the
// registry has of each, bottom first.
func (p *pusher) layers(ctx context.Context, img *imagestore.Image) ([]ocispec.Descriptor, error) {
	from, err := p.neighbours(ctx)
	if err != nil {
		return nil, err
	}
	jobs := make([]*outgoing, 0, len(img.Layers))
	unique := map[digest.Digest]*outgoing{}
	for _, ref := range img.Layers {
		o, ok := unique[ref.DiffID]
		if !ok {
			o = p.plan(img, ref, from[ref.DiffID])
			unique[ref.DiffID] = o
		}
		jobs = append(jobs, o)
	}
	if err := p.sendAll(ctx, jobs); err != nil {
		return nil, err
	}
	descs := make([]ocispec.Descriptor, 0, len(jobs))
	for _, o := range jobs {
		descs = append(descs, o.sent.desc)
	}
	return descs, nil
}

// plan decides in what forms a layer may go out.
func (p *pusher) plan(img *imagestore.Image, ref imagestore.LayerRef, from []string) *outgoing {
	o := &outgoing{ref: ref, id: imagestore.ShortID(ref.DiffID), from: from, exact: !img.Local}
	if o.exact {
		o.forms = []ocispec.Descriptor{ref.Blob}
		return o
	}
	o.forms = slices.DeleteFunc(p.st.CompressedForms(ref.DiffID), func(d ocispec.Descriptor) bool {
		return p.compression != "" && compressionOf(d.MediaType) != p.compression
	})
	// Gzip is read everywhere, and a blob that is here beats one to be made.
	slices.SortStableFunc(o.forms, func(a, b ocispec.Descriptor) int {
		return cmp.Compare(p.formCost(a), p.formCost(b))
	})
	return o
}

func (p *pusher) formCost(d ocispec.Descriptor) int {
	cost := 0
	if _, ok := dockerType(d.MediaType); !ok {
		cost += 2
	}
	if !p.st.Blobs().Has(d.Digest) {
		cost++
	}
	return cost
}

// sendAll shows the layers as docker does, the top one first, and sends them.
func (p *pusher) sendAll(ctx context.Context, jobs []*outgoing) error {
	var order []*outgoing
	for _, o := range slices.Backward(jobs) {
		if slices.Contains(order, o) {
			continue
		}
		order = append(order, o)
		p.c.o.Progress.Update(imagestore.Event{ID: o.id, Action: "Preparing", Total: p.expected(o)})
	}
	for i, o := range order {
		if i >= p.c.o.Parallel {
			p.c.step(o.id, "Waiting")
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(p.c.o.Parallel)
	for _, o := range order {
		if done, ok := p.sent[o.ref.DiffID]; ok {
			o.sent = done
			p.c.step(o.id, "Layer already exists")
			continue
		}
		group.Go(func() error { return p.send(ctx, o) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, o := range order {
		p.sent[o.ref.DiffID] = o.sent
	}
	return nil
}

// expected is how many bytes of a layer will be counted if it has to be sent:
// those of the form that is ready, or of the tar that is compressed on the way.
func (p *pusher) expected(o *outgoing) int64 {
	if len(o.forms) > 0 && p.st.Blobs().Has(o.forms[0].Digest) {
		return o.forms[0].Size
	}
	return o.ref.Size
}

// send sees to it that the registry has one layer.
func (p *pusher) send(ctx context.Context, o *outgoing) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	sent, err := p.offer(ctx, o)
	if err == nil && sent.how == "" {
		sent, err = p.sendBytes(ctx, o)
	}
	if err != nil {
		return fmt.Errorf("push layer %s: %w", o.ref.DiffID, err)
	}
	o.sent = sent
	p.c.step(o.id, sent.how)
	return nil
}

// offer tries what costs no bytes: the registry may have one of the layer's
// forms in this repository, or in another that it can take it from.
func (p *pusher) offer(ctx context.Context, o *outgoing) (sentLayer, error) {
	if o.exact && isForeign(o.ref.Blob.MediaType) && len(o.ref.Blob.URLs) > 0 {
		return sentLayer{o.ref.Blob, "Skipped foreign layer"}, nil // others may fetch it where we did
	}
	for _, d := range o.forms {
		has, err := p.has(ctx, d.Digest)
		if err != nil {
			return sentLayer{}, err
		}
		if has {
			return sentLayer{d, "Layer already exists"}, nil
		}
	}
	for _, d := range o.forms {
		for _, path := range o.from {
			if p.mounted(ctx, d.Digest, path) {
				return sentLayer{d, "Mounted from " + path}, nil
			}
		}
	}
	return sentLayer{}, nil
}

// mounted tries a mount. If it fails for whatever reason, sending the bytes
// will do, or show what is wrong.
func (p *pusher) mounted(ctx context.Context, d digest.Digest, from string) bool {
	s, err := p.repo.mount(ctx, d, from)
	if err != nil {
		p.c.log.Debug("mount failed", "digest", d, "from", from, "error", err)
		return false
	}
	if s == nil {
		return true
	}
	p.repo.cancelUpload(ctx, s)
	return false
}

// sendBytes uploads the layer: a blob of the store if there is one, else the
// tar, compressed on the way.
func (p *pusher) sendBytes(ctx context.Context, o *outgoing) (sentLayer, error) {
	src, err := p.source(o)
	if err != nil {
		return sentLayer{}, err
	}
	total := o.ref.Size
	if desc, ok := src.known(); ok {
		total = desc.Size
	}
	u := &upload{id: o.id, out: newOutflow(src), note: p.note(o, src, total)}
	if u.note != nil {
		defer u.note.Close()
	}
	report := p.pushing(o.id, total)
	if z, ok := src.(*packedSource); ok {
		z.onRead = report
	} else {
		u.progress = report
	}
	desc, err := p.repo.upload(ctx, u)
	if err != nil {
		return sentLayer{}, err
	}
	if _, ok := src.known(); !ok {
		if err := p.st.RememberCompressed(o.ref.DiffID, desc); err != nil {
			p.c.log.Debug("compressed digest not kept", "diffID", o.ref.DiffID, "error", err)
		}
	}
	return sentLayer{desc, "Pushed"}, nil
}

// note opens the store's note of an upload, if it is worth one. nil: without.
func (p *pusher) note(o *outgoing, src source, size int64) *imagestore.UploadNote {
	if size < worthNoting {
		return nil
	}
	what := p.repo.url("blobs", o.ref.DiffID.String()).String() + " " + src.mediaType()
	if desc, ok := src.known(); ok {
		what += " " + desc.Digest.String()
	}
	note, err := p.st.UploadNote(what)
	if err != nil {
		p.c.log.Debug("upload will not go on after a kill", "error", err)
		return nil
	}
	return note
}

// source opens the best of what the store has of a layer.
func (p *pusher) source(o *outgoing) (source, error) {
	for _, d := range o.forms {
		if p.st.Blobs().Has(d.Digest) {
			return &blobSource{desc: d, read: p.opener(d.Digest)}, nil
		}
	}
	if !p.st.Blobs().Has(o.ref.DiffID) {
		return nil, fmt.Errorf("layer %s: %w", o.ref.DiffID, imagestore.ErrNotFound)
	}
	packed := &packedSource{tar: p.opener(o.ref.DiffID), as: imagestore.MediaTypeDockerLayerGzip, pack: packGzip}
	if p.compression == zstdName {
		packed.as, packed.pack = ocispec.MediaTypeImageLayerZstd, packZstd
	}
	return packed, nil
}

// opener reads a blob of the store from its start.
func (p *pusher) opener(d digest.Digest) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		b, err := p.st.Blobs().Open(d)
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{io.NewSectionReader(b, 0, b.Size()), b}, nil
	}
}

// pushing reports the bytes of a layer.
func (p *pusher) pushing(id string, total int64) func(int64) {
	var last time.Time
	return func(n int64) {
		now := time.Now()
		if n < total && now.Sub(last) < progressEvery {
			return
		}
		last = now
		p.c.o.Progress.Update(imagestore.Event{ID: id, Action: "Pushing", Current: n, Total: max(total, n)})
	}
}

// neighbours lists, for each layer, other repositories of the same registry
// that probably have it: those that images of the store with that layer are
// named after.
func (p *pusher) neighbours(ctx context.Context) (map[digest.Digest][]string, error) {
	images, err := p.st.List(ctx)
	if err != nil {
		return nil, err
	}
	from := map[digest.Digest][]string{}
	for _, img := range images {
		for _, name := range slices.Concat(img.Digests, img.Names) {
			domain, path, ok := registryOf(name)
			if !ok || domain != p.repo.domain || path == p.repo.path {
				continue
			}
			for _, l := range img.Layers {
				if list := from[l.DiffID]; len(list) < maxMounts && !slices.Contains(list, path) {
					from[l.DiffID] = append(list, path)
				}
			}
		}
	}
	return from, nil
}

// pushManifest is the manifest to send: the one that the image came with, if
// its layers went as it has them, or else one over the layers as they went.
func pushManifest(img *imagestore.Image, layers []ocispec.Descriptor) (*document, error) {
	if !img.Local && sameLayers(img, layers) {
		return parseDocument(img.RawManifest, img.Manifest.MediaType, img.Manifest.Digest.String())
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: imagestore.MediaTypeDockerManifest,
		Config: ocispec.Descriptor{
			MediaType: imagestore.MediaTypeDockerConfig, Digest: img.ID, Size: int64(len(img.RawConfig)),
		},
		Layers: make([]ocispec.Descriptor, 0, len(layers)),
	}
	// Docker's schema 2 is what every registry and every docker reads; only
	// what it has no words for makes the manifest OCI's.
	if slices.ContainsFunc(layers, func(d ocispec.Descriptor) bool { _, ok := dockerType(d.MediaType); return !ok }) {
		m.MediaType, m.Config.MediaType = ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig
	}
	for _, d := range layers {
		t := ociType(d.MediaType)
		if m.MediaType == imagestore.MediaTypeDockerManifest {
			t, _ = dockerType(d.MediaType)
		}
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: t, Digest: d.Digest, Size: d.Size, URLs: d.URLs})
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	return parseDocument(raw, m.MediaType, "")
}

func sameLayers(img *imagestore.Image, layers []ocispec.Descriptor) bool {
	return slices.EqualFunc(img.Layers, layers, func(l imagestore.LayerRef, d ocispec.Descriptor) bool {
		return l.Blob.Digest == d.Digest
	})
}

func sortNames(names []reference.NamedTagged) {
	slices.SortFunc(names, func(a, b reference.NamedTagged) int { return cmp.Compare(a.String(), b.String()) })
}

// cancelUpload gives a session up that a failed mount opened. The registry
// would forget it by itself, later.
func (r *repository) cancelUpload(ctx context.Context, s *session) {
	ctx, cancel := context.WithTimeoutCause(ctx, probeTimeout, errStalled)
	defer cancel()
	req, err := r.request(ctx, "DELETE", s.location)
	if err != nil {
		return
	}
	resp, err := r.do(req, 200, 202, 204)
	if err == nil {
		err = resp.Body.Close()
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		r.c.log.Debug("upload session left to the registry", "error", err)
	}
}
