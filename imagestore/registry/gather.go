package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"unio/imagestore"
)

// What refers to an image (signatures, lists of its content) comes along with
// it, and goes along when it is pushed. It is an extra: no pull fails for want
// of it, waits long for it, or takes more of it than these.
const (
	maxReferrers     = 64
	maxReferrerBytes = 128 << 20
	// maxReferrerDepth is how far referrers of referrers are followed: the
	// signature of a list of contents is at 2.
	maxReferrerDepth = 3
	// referrersGrace is how long a pull that has all its layers waits for them.
	referrersGrace = 10 * time.Second
)

// errEnough ends the gathering of referrers.
var errEnough = errors.New("more referrers than are kept")

// gatherer brings the referrers of one image.
type gatherer struct {
	p     *puller
	count int   // manifests so far
	bytes int64 // of their blobs so far
}

// gathering starts to gather referrers while the layers come. The function that
// it returns waits for the end, or does not wait any more.
func (p *puller) gathering(ctx context.Context, subject digest.Digest) (wait func(worthIt bool)) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.gather(ctx, subject)
	}()
	return func(worthIt bool) {
		if worthIt {
			timer := time.AfterFunc(referrersGrace, cancel)
			defer timer.Stop()
		} else {
			cancel()
		}
		<-done
		cancel()
	}
}

// gather brings what refers to a manifest into the store.
//
// Preconditions: the store is held.
func (p *puller) gather(ctx context.Context, subject digest.Digest) {
	g := &gatherer{p: p}
	if err := g.referrersOf(ctx, subject, 1); err != nil {
		p.c.log.Warn("referrers not pulled", "subject", subject, "err", err)
	}
}

func (g *gatherer) referrersOf(ctx context.Context, subject digest.Digest, depth int) error {
	if depth > maxReferrerDepth {
		return nil
	}
	list, err := g.p.repo.referrers(ctx, subject)
	if err != nil {
		return err
	}
	var kept []ocispec.Descriptor
	old := g.p.st.Referrers(subject)
	for _, d := range list {
		if kindOf(d.MediaType) != kindManifest {
			continue // of a kind that is not known here
		}
		if g.count++; g.count > maxReferrers {
			err = errEnough
			break
		}
		if !slices.ContainsFunc(old, func(o ocispec.Descriptor) bool { return o.Digest == d.Digest }) {
			kept, err = g.keep(ctx, subject, d, kept)
		}
		if err == nil {
			err = g.referrersOf(ctx, d.Digest, depth+1)
		}
		if errors.Is(err, errEnough) || ctx.Err() != nil {
			break
		}
		if err != nil {
			g.p.c.log.Warn("referrer not pulled", "digest", d.Digest, "err", err)
			err = nil // others may come
		}
	}
	if len(kept) == 0 {
		return err
	}
	return errors.Join(err, g.p.st.AddReferrers(context.WithoutCancel(ctx), subject, kept))
}

// keep brings one referrer and adds it to those that are kept.
func (g *gatherer) keep(ctx context.Context, subject digest.Digest, d ocispec.Descriptor, kept []ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	doc, err := g.p.repo.child(ctx, d, kindManifest)
	if err != nil {
		return kept, err
	}
	if doc.body.Subject == nil || doc.body.Subject.Digest != subject {
		return kept, fmt.Errorf("%w: is not about %s", ErrVerify, subject)
	}
	for _, part := range doc.parts() {
		if err := g.blob(ctx, part); err != nil {
			return kept, err
		}
	}
	if err := g.store(ctx, doc.desc.Digest, doc.raw); err != nil {
		return kept, err
	}
	return append(kept, ocispec.Descriptor{
		MediaType: doc.desc.MediaType, Digest: doc.desc.Digest, Size: doc.desc.Size, ArtifactType: doc.artifactType(),
	}), nil
}

// parts are the blobs that a manifest names.
func (d *document) parts() []ocispec.Descriptor {
	list := d.body.Layers[:len(d.body.Layers):len(d.body.Layers)]
	if d.body.Config != nil {
		list = append(list, *d.body.Config)
	}
	return list
}

// blob brings a blob of a referrer, whatever it is, as it is.
func (g *gatherer) blob(ctx context.Context, d ocispec.Descriptor) error {
	if err := checkDigest(d.Digest); err != nil {
		return err
	}
	if g.p.st.Blobs().Has(d.Digest) {
		return nil
	}
	if d.Size < 0 || d.Size > maxReferrerBytes-g.bytes {
		return fmt.Errorf("blob %s: %w: %d bytes", d.Digest, ErrTooLarge, d.Size) // smaller ones may follow
	}
	g.bytes += d.Size
	w, err := g.p.st.Blobs().WriterFor(ctx, d.Digest.Algorithm())
	if err != nil {
		return err
	}
	defer w.Abort()
	r := g.p.repo.openBlob(ctx, d)
	defer r.Close()
	if _, err := io.Copy(w, r); err != nil {
		return err
	}
	_, err = w.Commit(d.Digest)
	return err
}

// store keeps a manifest under the digest that it was asked for by.
func (g *gatherer) store(ctx context.Context, d digest.Digest, raw []byte) error {
	w, err := g.p.st.Blobs().WriterFor(ctx, d.Algorithm())
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(raw); err != nil {
		return err
	}
	_, err = w.Commit(d)
	return err
}

// referrers lists what a repository has about a manifest: by the API for that,
// or, where a registry has none, by the tag that stands in for it (distribution
// spec, "Listing Referrers" and "Referrers Tag Schema").
func (r *repository) referrers(ctx context.Context, subject digest.Digest) ([]ocispec.Descriptor, error) {
	var all []ocispec.Descriptor
	next := r.url("referrers", subject.String())
	for next != nil && len(all) <= maxReferrers {
		page, after, err := r.referrersPage(ctx, next)
		if len(all) == 0 && (refused(err) || errors.Is(err, ErrVerify)) {
			return r.taggedReferrers(ctx, subject)
		}
		if err != nil {
			return all, err
		}
		all, next = append(all, page...), after
	}
	return all, nil
}

func (r *repository) referrersPage(ctx context.Context, u *url.URL) (list []ocispec.Descriptor, next *url.URL, err error) {
	var x ocispec.Index
	link, err := r.getJSON(ctx, u, "referrers", &x)
	if err != nil {
		return nil, nil, err
	}
	if x.MediaType != ocispec.MediaTypeImageIndex && x.Manifests == nil {
		return nil, nil, fmt.Errorf("referrers: %w: no index", ErrVerify)
	}
	next, err = nextPage(link, u)
	return x.Manifests, next, err
}

func (r *repository) taggedReferrers(ctx context.Context, subject digest.Digest) ([]ocispec.Descriptor, error) {
	doc, err := r.manifest(ctx, referrersTag(subject))
	if refused(err) || err == nil && kindOf(doc.desc.MediaType) != kindIndex {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return doc.body.Manifests, nil
}

// referrers pushes what the store has about a manifest that the registry has
// now. Registries that take images may refuse other things; that is said, and
// no reason to call the push of the image a failure.
func (p *pusher) referrers(ctx context.Context, subject digest.Digest, depth int) error {
	if depth > maxReferrerDepth {
		return nil
	}
	for _, d := range p.st.Referrers(subject) {
		err := p.referrer(ctx, d)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			p.c.step("", fmt.Sprintf("%s about this image is not pushed: %v", what(d), pushError(err)))
			continue
		}
		p.c.step(imagestore.ShortID(d.Digest), "Pushed "+what(d))
		if err := p.referrers(ctx, d.Digest, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// what is how a referrer is called in a line for the user.
func what(d ocispec.Descriptor) string {
	if d.ArtifactType == "" {
		return "manifest"
	}
	return printable(d.ArtifactType)
}

// referrer pushes one: blobs, then the manifest, then its entry in the list.
func (p *pusher) referrer(ctx context.Context, d ocispec.Descriptor) error {
	raw, err := p.st.Blobs().ReadAll(d.Digest, MaxMetadata)
	if err != nil {
		return err
	}
	doc, err := parseDocument(raw, d.MediaType, d.Digest.String())
	if err != nil {
		return err
	}
	for _, part := range doc.parts() {
		has, err := p.has(ctx, part.Digest)
		if err == nil && !has {
			_, err = p.repo.upload(ctx, &upload{out: newOutflow(&blobSource{desc: part, read: p.opener(part.Digest)})})
		}
		if err != nil {
			return err
		}
	}
	return p.repo.publish(ctx, d.Digest.String(), doc)
}
