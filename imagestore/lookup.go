package imagestore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"unio/imagestore/blob"
)

// manifestInfo is what lookups need of a manifest.
type manifestInfo struct {
	manifest *ocispec.Manifest
	raw      []byte
}

func (i *manifestInfo) id() digest.Digest { return i.manifest.Config.Digest }

// manifest reads a manifest, verified. Manifests never change, so each is
// parsed once.
func (s *Store) manifest(d digest.Digest) (*manifestInfo, error) {
	s.mu.Lock()
	info := s.manifests[d]
	s.mu.Unlock()
	if info != nil && s.blobs.Has(d) {
		return info, nil
	}
	raw, err := s.readMetadata("manifest", d)
	if err != nil {
		return nil, err
	}
	m, err := ParseManifest(raw)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", d, err)
	}
	info = &manifestInfo{manifest: m, raw: raw}
	s.mu.Lock()
	s.manifests[d] = info
	s.mu.Unlock()
	return info, nil
}

// readMetadata reads a manifest or config blob. One that is missing or
// damaged, although something refers to it, gives [ErrCorrupt].
func (s *Store) readMetadata(what string, d digest.Digest) ([]byte, error) {
	raw, err := s.blobs.ReadAll(d, MetadataLimit)
	if errors.Is(err, blob.ErrNotFound) || errors.Is(err, blob.ErrMismatch) || errors.Is(err, blob.ErrTooBig) {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, what, err)
	}
	return raw, err
}

// load reads the image that a descriptor stands for. Its names come from all
// descriptors of the same ID in r.
func (s *Store) load(r *refs, d ocispec.Descriptor) (*Image, error) {
	info, err := s.manifest(d.Digest)
	if err != nil {
		return nil, err
	}
	raw, err := s.readMetadata("config", info.id())
	if err != nil {
		return nil, err
	}
	c, err := ParseConfig(raw)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", info.id(), err)
	}
	if err := checkPair(info.manifest, c, raw); err != nil {
		return nil, fmt.Errorf("image %s: %w", info.id(), err)
	}
	img := &Image{
		ID: info.id(), Manifest: plain(d), Config: *c, RawConfig: raw, RawManifest: info.raw,
		Layers: s.layerRefs(info.manifest.Layers, c.RootFS.DiffIDs),
		Local:  d.Annotations[annotationLocal] != "",
	}
	s.addNames(r, img)
	return img, nil
}

// plain returns a descriptor without the store's annotations.
func plain(d ocispec.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, Platform: d.Platform}
}

// addNames collects what index.json says of an image.
func (s *Store) addNames(r *refs, img *Image) {
	for _, d := range s.descriptorsOf(r, img.ID) {
		if p := digest.Digest(d.Annotations[annotationParent]); img.Parent == "" && blob.Check(p) == nil {
			img.Parent = p
		}
		if t, err := time.Parse(time.RFC3339Nano, d.Annotations[annotationTagged]); err == nil && t.After(img.Tagged) {
			img.Tagged = t
		}
		n := nameOf(d)
		switch {
		case n == nil:
		case isDigestName(n):
			img.Digests = append(img.Digests, reference.FamiliarString(n))
		default:
			img.Names = append(img.Names, reference.FamiliarString(n))
		}
	}
	slices.Sort(img.Names)
	slices.Sort(img.Digests)
}

// descriptorsOf returns the descriptors of all manifests of an image.
func (s *Store) descriptorsOf(r *refs, id digest.Digest) []ocispec.Descriptor {
	var list []ocispec.Descriptor
	for _, d := range r.images() {
		if otherImage(d, id.Encoded()) {
			continue
		}
		if info, err := s.manifest(d.Digest); err == nil && info.id() == id {
			list = append(list, d)
		}
	}
	return list
}

// Lookup finds an image by name ("debian", "debian:12", "debian@sha256:…"),
// by ID, or by a prefix of an ID that no other image has; names win over
// prefixes. Errors: [ErrNotFound], [ErrInvalid], [ErrAmbiguous], [ErrCorrupt].
func (s *Store) Lookup(ctx context.Context, nameOrID string) (*Image, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r, err := s.readRefs()
	if err != nil {
		return nil, err
	}
	d, err := s.resolve(r, nameOrID)
	if err != nil {
		return nil, err
	}
	return s.load(r, d)
}

// Get finds an image by its whole ID, also one that was removed by force
// while a container needs it.
func (s *Store) Get(ctx context.Context, id digest.Digest) (*Image, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r, err := s.readRefs()
	if err != nil {
		return nil, err
	}
	list := s.descriptorsOf(r, id)
	if len(list) == 0 {
		return nil, message(ErrNotFound, "No such image: %s", id)
	}
	return s.load(r, list[0])
}

// resolve finds the descriptor that a name or ID stands for.
func (s *Store) resolve(r *refs, nameOrID string) (ocispec.Descriptor, error) {
	ref, err := reference.ParseAnyReference(nameOrID)
	if err != nil {
		// What is no name may still be the beginning of "sha256:…".
		if d, perr := s.byPrefix(r, nameOrID); !errors.Is(perr, ErrNotFound) {
			return d, perr
		}
		return ocispec.Descriptor{}, notFound(nameOrID)
	}
	if n, ok := ref.(reference.Named); ok {
		if d, ok := s.byName(r, n); ok {
			return d, nil
		}
	}
	return s.byPrefix(r, nameOrID)
}

// byName finds a name, with its tag or digest.
func (s *Store) byName(r *refs, n reference.Named) (ocispec.Descriptor, bool) {
	n = reference.TagNameOnly(n)
	if c, ok := n.(reference.Canonical); ok {
		return s.byNameAndDigest(r, c)
	}
	return r.find(n)
}

// byNameAndDigest finds NAME@DIGEST: a digest that the name resolved to at a
// registry, or the digest of a manifest that a tag of NAME stands for. A tag
// beside the digest says nothing more.
func (s *Store) byNameAndDigest(r *refs, c reference.Canonical) (ocispec.Descriptor, bool) {
	for _, d := range r.images() {
		n := nameOf(d)
		if n == nil || n.Name() != c.Name() {
			continue
		}
		if have, ok := n.(reference.Canonical); ok && have.Digest() == c.Digest() || d.Digest == c.Digest() {
			return d, true
		}
	}
	return ocispec.Descriptor{}, false
}

// byPrefix finds an image by the beginning of its ID.
func (s *Store) byPrefix(r *refs, prefix string) (ocispec.Descriptor, error) {
	hex := strings.TrimPrefix(prefix, "sha256:")
	var found ocispec.Descriptor
	var id digest.Digest
	for _, d := range r.images() {
		if otherImage(d, hex) {
			continue
		}
		info, err := s.manifest(d.Digest)
		if err != nil || hex == "" || d.Annotations[annotationPinned] != "" || !strings.HasPrefix(info.id().Encoded(), hex) {
			continue
		}
		if id != "" && id != info.id() {
			return ocispec.Descriptor{}, ambiguous(prefix)
		}
		if id == "" {
			found, id = d, info.id()
		}
	}
	if id == "" {
		return ocispec.Descriptor{}, notFound(prefix)
	}
	return found, nil
}

// List returns all images, newest first. Images whose manifest or config
// cannot be read are left out and logged; Fsck reports them.
func (s *Store) List(ctx context.Context) ([]*Image, error) {
	r, err := s.readRefs()
	if err != nil {
		return nil, err
	}
	seen := map[digest.Digest]bool{}
	var list []*Image
	for _, d := range r.images() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		info, err := s.manifest(d.Digest)
		if err == nil && (seen[info.id()] || d.Annotations[annotationPinned] != "") {
			continue
		}
		var img *Image
		if err == nil {
			img, err = s.load(r, d)
		}
		if err != nil {
			s.log.Warn("image cannot be read", "manifest", d.Digest, "err", err)
			continue
		}
		seen[img.ID] = true
		list = append(list, img)
	}
	slices.SortStableFunc(list, func(a, b *Image) int {
		return b.Config.CreatedAt().Compare(a.Config.CreatedAt())
	})
	return list, nil
}
