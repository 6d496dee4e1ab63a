package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"unio/imagestore"
)

// PullOptions says what to pull.
type PullOptions struct {
	// Platform is os/arch[/variant]; empty for this machine's.
	Platform string
	// AllTags pulls every tag of the repository; the reference has none then.
	AllTags bool
}

// Pulled is one image that a pull brought.
type Pulled struct {
	// Name is the full reference, "docker.io/library/busybox:latest".
	Name string
	// Digest is what the reference stands for at the registry: the digest of
	// a manifest or of an index.
	Digest digest.Digest
	// ImageID is the digest of the config.
	ImageID digest.Digest
	// Updated is false if the store had the image under this name already.
	Updated bool
}

// emptyImage is what Dockerfiles call an image without layers; no registry has
// it.
const emptyImage = hubName + "/library/scratch"

// Pull brings an image, or with AllTags all images of a repository, into the
// store. It reports docker's steps to the client's Progress and returns what
// it brought, also if a later tag failed. Errors are in docker's words and
// wrap this package's sentinels or those of the store.
func (c *Client) Pull(ctx context.Context, st *imagestore.Store, ref string, o PullOptions) ([]Pulled, error) {
	name, err := parseReference(ref, o.AllTags)
	if err != nil {
		return nil, err
	}
	if name.Name() == emptyImage {
		return nil, &userError{text: "'scratch' is a reserved name", kind: ErrReference}
	}
	want, err := ParsePlatform(o.Platform)
	if err != nil {
		return nil, err
	}
	places, err := c.o.Config.places(name)
	if err != nil {
		return nil, err
	}
	p := &puller{c: c, st: st, want: want, explicit: o.Platform != ""}
	for i, place := range places {
		done, err := p.from(ctx, place, name, o.AllTags)
		if err == nil || i == len(places)-1 || ctx.Err() != nil || errors.Is(err, ErrPlatform) {
			return done, err
		}
		c.log.Warn("mirror failed, trying the next place", "mirror", place.Name(), "err", err)
	}
	return nil, nil
}

// from pulls a reference, or all tags of its repository, from one of the
// places where it may be found.
func (p *puller) from(ctx context.Context, place, name reference.Named, allTags bool) ([]Pulled, error) {
	repo, ctx := p.c.repository(ctx, place, "pull")
	p.repo = repo
	names := []reference.Named{name}
	if allTags {
		var err error
		if names, err = repo.taggedNames(ctx, name); err != nil {
			return nil, pullError(err, name)
		}
	}
	return p.all(ctx, names, allTags)
}

// parseReference completes a reference as docker does.
func parseReference(ref string, allTags bool) (reference.Named, error) {
	name, err := reference.ParseNormalizedNamed(ref)
	switch {
	case err != nil:
		return nil, &userError{text: err.Error(), kind: ErrReference, err: err}
	case !allTags:
		return reference.TagNameOnly(name), nil
	case !reference.IsNameOnly(name):
		return nil, &userError{text: "tag can't be used with --all-tags/-a", kind: ErrReference}
	}
	return name, nil
}

// taggedNames lists the repository's tags as references.
func (r *repository) taggedNames(ctx context.Context, name reference.Named) ([]reference.Named, error) {
	tags, err := r.tags(ctx)
	if err != nil {
		return nil, err
	}
	slices.Sort(tags)
	var names []reference.Named
	for _, tag := range slices.Compact(tags) {
		if isReferrersTag(tag) {
			continue
		}
		tagged, err := reference.WithTag(name, tag)
		if err != nil {
			return nil, fmt.Errorf("tag %q: %w: %w", printable(tag), ErrVerify, err)
		}
		names = append(names, tagged)
	}
	return names, nil
}

// all pulls one reference after the other, and ends with docker's status.
func (p *puller) all(ctx context.Context, names []reference.Named, trimmed bool) ([]Pulled, error) {
	var done []Pulled
	updated := false
	for _, name := range names {
		got, err := p.one(ctx, name)
		if err != nil {
			return done, pullError(err, name)
		}
		done = append(done, got)
		updated = updated || got.Updated
	}
	if len(names) == 0 {
		return nil, nil
	}
	status := names[0]
	if trimmed {
		status = reference.TrimNamed(status)
	}
	text := "Status: Image is up to date for "
	if updated {
		text = "Status: Downloaded newer image for "
	}
	p.c.step("", text+reference.FamiliarString(status))
	return done, nil
}

// one pulls what one reference stands for.
func (p *puller) one(ctx context.Context, name reference.Named) (Pulled, error) {
	tag := tagOrDigest(name)
	doc, err := p.repo.manifest(ctx, tag)
	if err != nil {
		return Pulled{}, err
	}
	title := tag
	if _, ok := name.(reference.Digested); ok {
		title = name.String() // as docker shows it
	}
	p.c.step(title, "Pulling from "+p.repo.path)
	names, err := storeNames(name, doc.desc.Digest)
	if err != nil {
		return Pulled{}, err
	}
	before := p.current(ctx, names[0])
	img, err := p.known(ctx, doc, names)
	if err == nil && img == nil {
		img, err = p.image(ctx, doc, names)
	}
	if err != nil {
		return Pulled{}, err
	}
	p.c.step("", "Digest: "+doc.desc.Digest.String())
	return Pulled{
		Name: name.String(), Digest: doc.desc.Digest, ImageID: img.ID,
		Updated: before != img.ID,
	}, nil
}

// known finds the image in the store if it has been pulled, or pushed, under
// the same digest before, and gives it its name. It returns nil if there is
// none, or not all of it.
func (p *puller) known(ctx context.Context, doc *document, names []string) (*imagestore.Image, error) {
	release, err := p.st.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	pinned := names[len(names)-1]
	img, err := p.st.Lookup(ctx, pinned)
	if err != nil || !p.complete(img) {
		return nil, nil // whatever is wrong with it, pulling it anew helps
	}
	if kindOf(doc.desc.MediaType) == kindIndex && rank(p.want, img.Platform()) == 0 {
		return nil, nil // the digest is that of an index with other images
	}
	if err := p.checkPlatform(&img.Config, names[0]); err != nil {
		return nil, err
	}
	p.gathering(ctx, img.Manifest.Digest)(true)
	if p.current(ctx, names[0]) == img.ID {
		return img, nil
	}
	err = p.st.Tag(ctx, pinned, names[0])
	if errors.Is(err, imagestore.ErrNotFound) {
		return nil, nil // a removal came first: the blobs stay while the store is held, the references do not
	}
	return img, err
}

// complete reports whether the store has all layers of an image.
func (p *puller) complete(img *imagestore.Image) bool {
	return !slices.ContainsFunc(img.Layers, func(l imagestore.LayerRef) bool {
		return !p.st.HasLayer(l.DiffID) || !p.st.HasBlob(l.Blob.Digest)
	})
}

// current is the image that a name stands for in the store, "" if none.
func (p *puller) current(ctx context.Context, name string) digest.Digest {
	img, err := p.st.Lookup(ctx, name)
	if err != nil {
		return ""
	}
	return img.ID
}

// tagOrDigest is the part of a reference that a registry is asked for. If both
// are there the digest counts, as it does for docker.
func tagOrDigest(name reference.Named) string {
	if d, ok := name.(reference.Digested); ok {
		return d.Digest().String()
	}
	if t, ok := name.(reference.Tagged); ok {
		return t.Tag()
	}
	return "latest"
}

// storeNames are the names that an image gets: its tag, unless it was asked
// for by digest, and the digest that the registry knows it by.
func storeNames(name reference.Named, d digest.Digest) ([]string, error) {
	pinned, err := reference.WithDigest(reference.TrimNamed(name), d)
	if err != nil {
		return nil, fmt.Errorf("name %s@%s: %w", name, d, err)
	}
	if _, ok := name.(reference.Digested); ok {
		return []string{pinned.String()}, nil
	}
	return []string{name.String(), pinned.String()}, nil
}

// checkPlatform compares the image that was found with the platform that the
// user named. An image without alternatives is taken as it is otherwise.
func (p *puller) checkPlatform(conf *imagestore.ImageConfig, ref string) error {
	if !p.explicit || rank(p.want, conf.Platform) > 0 {
		return nil
	}
	return &userError{
		text: fmt.Sprintf("image with reference %s was found but does not provide the specified platform (%s): it is for %s",
			ref, platformName(p.want), printable(platformName(conf.Platform))),
		kind: ErrPlatform, err: errors.ErrUnsupported,
	}
}
