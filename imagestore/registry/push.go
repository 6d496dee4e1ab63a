package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"unio/imagestore"
)

// PushOptions says what to push.
type PushOptions struct {
	// AllTags pushes every tag that the store has of the repository; the
	// reference has none then.
	AllTags bool
	// Compression of layers that were made here: "gzip" (the default) or
	// "zstd".
	Compression string
}

// Pushed is one reference that a push wrote.
type Pushed struct {
	// Name is the full reference, "localhost:5000/app:1".
	Name string
	// Digest and Size are those of the manifest, as the registry has it now.
	Digest digest.Digest
	Size   int64
}

// Push sends an image, or with AllTags all images of a repository, to the
// registry that the reference names. Blobs and manifests that came from a
// registry go back bit by bit; layers made here are compressed while they are
// sent. It reports docker's steps to the client's Progress. Errors are in
// docker's words.
func (c *Client) Push(ctx context.Context, st *imagestore.Store, ref string, o PushOptions) ([]Pushed, error) {
	name, err := parseReference(ref, o.AllTags)
	if err != nil {
		return nil, err
	}
	if _, ok := name.(reference.Digested); ok {
		return nil, &userError{text: "cannot push a digest reference", kind: ErrReference}
	}
	if o.Compression != "" && o.Compression != gzipName && o.Compression != zstdName {
		return nil, fmt.Errorf("compression %q: %w: want gzip or zstd", o.Compression, ErrUnsupported)
	}
	places, err := c.o.Config.places(name)
	if err != nil {
		return nil, err
	}
	c.step("", fmt.Sprintf("The push refers to repository [%s]", reference.TrimNamed(name)))
	images, err := localImages(ctx, st, name, o.AllTags)
	if err != nil {
		return nil, err
	}
	repo, ctx := c.repository(ctx, places[len(places)-1], "pull", "push")
	if err := repo.reach(ctx); err != nil {
		return nil, pushError(err)
	}
	p := &pusher{c: c, st: st, repo: repo, compression: o.Compression, sent: map[digest.Digest]sentLayer{}}
	var done []Pushed
	for _, img := range images {
		got, err := p.one(ctx, img)
		if err != nil {
			return done, pushError(err)
		}
		done = append(done, got)
	}
	return done, nil
}

// tagged is an image under the name that it is pushed as.
type tagged struct {
	name reference.NamedTagged
	img  *imagestore.Image
}

// localImages finds in the store what is to be pushed.
func localImages(ctx context.Context, st *imagestore.Store, name reference.Named, allTags bool) ([]tagged, error) {
	names, err := tagsInStore(ctx, st, name)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, &userError{
			text: "An image does not exist locally with the tag: " + reference.FamiliarName(name),
			kind: imagestore.ErrNotFound,
		}
	}
	if !allTags {
		one, ok := name.(reference.NamedTagged)
		if !ok {
			return nil, &userError{text: "invalid reference format", kind: ErrReference}
		}
		names = []reference.NamedTagged{one}
	}
	var out []tagged
	for _, n := range names {
		img, err := localImage(ctx, st, n)
		if err != nil {
			return nil, err
		}
		out = append(out, tagged{n, img})
	}
	return out, nil
}

func localImage(ctx context.Context, st *imagestore.Store, name reference.NamedTagged) (*imagestore.Image, error) {
	img, err := st.Lookup(ctx, name.String())
	if errors.Is(err, imagestore.ErrNotFound) {
		return nil, &userError{text: "tag does not exist: " + reference.FamiliarString(name), kind: imagestore.ErrNotFound, err: err}
	}
	return img, err
}

// tagsInStore lists the references that the store has of a repository.
func tagsInStore(ctx context.Context, st *imagestore.Store, name reference.Named) ([]reference.NamedTagged, error) {
	images, err := st.List(ctx)
	if err != nil {
		return nil, err
	}
	var names []reference.NamedTagged
	for _, img := range images {
		for _, s := range img.Names {
			n, err := reference.ParseNormalizedNamed(s)
			if err != nil || n.Name() != name.Name() {
				continue
			}
			if t, ok := n.(reference.NamedTagged); ok {
				names = append(names, t)
			}
		}
	}
	sortNames(names)
	return names, nil
}

// one pushes one image: layers, config, then the manifest under its tag.
func (p *pusher) one(ctx context.Context, t tagged) (Pushed, error) {
	release, err := p.st.Hold(ctx)
	if err != nil {
		return Pushed{}, err
	}
	defer release()
	// It may have been removed, with its layers, before the store was held.
	if t.img, err = localImage(ctx, p.st, t.name); err != nil {
		return Pushed{}, err
	}
	layers, err := p.layers(ctx, t.img)
	if err != nil {
		return Pushed{}, err
	}
	doc, err := pushManifest(t.img, layers)
	if err != nil {
		return Pushed{}, err
	}
	if err := p.config(ctx, t.img, doc); err != nil {
		return Pushed{}, fmt.Errorf("push config: %w", err)
	}
	if err := p.repo.publish(ctx, t.name.Tag(), doc); err != nil {
		return Pushed{}, fmt.Errorf("push manifest: %w", err)
	}
	p.remember(ctx, t, doc)
	if err := p.referrers(ctx, doc.desc.Digest, 0); err != nil {
		return Pushed{}, fmt.Errorf("push referrers: %w", err)
	}
	p.c.step("", fmt.Sprintf("%s: digest: %s size: %d", t.name.Tag(), doc.desc.Digest, doc.desc.Size))
	return Pushed{Name: t.name.String(), Digest: doc.desc.Digest, Size: doc.desc.Size}, nil
}

// config sends the image's config unless the registry has it.
func (p *pusher) config(ctx context.Context, img *imagestore.Image, doc *document) error {
	desc := *doc.body.Config
	has, err := p.has(ctx, desc.Digest)
	if err != nil || has {
		return err
	}
	_, err = p.repo.upload(ctx, &upload{out: newOutflow(bytesSource(desc, img.RawConfig))})
	return err
}

// has is hasBlob with retries.
func (p *pusher) has(ctx context.Context, d digest.Digest) (has bool, err error) {
	err = p.c.again(ctx, func() (err error) {
		has, err = p.repo.hasBlob(ctx, d)
		return err
	})
	return has, err
}

// remember gives the image the digest that the registry now knows it by. The
// push has succeeded whatever becomes of this.
func (p *pusher) remember(ctx context.Context, t tagged, doc *document) {
	err := p.st.AddDigest(ctx, t.name.Name(), doc.desc.Digest, t.img.ID)
	if err != nil {
		p.c.log.Debug("digest of the push not kept", "name", t.name.String(), "error", err)
	}
}

// registryOf is the host part of a reference in short or full form, and the
// repository's path.
func registryOf(name string) (domain, path string, ok bool) {
	n, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return "", "", false
	}
	return reference.Domain(n), strings.TrimSpace(reference.Path(n)), true
}
