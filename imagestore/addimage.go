package imagestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"unio/imagestore/layer"
)

// NewImage is an image to be added.
type NewImage struct {
	// Config is the image config, kept byte by byte: its digest is the
	// image's ID.
	Config []byte
	// Manifest is the manifest as it came, kept byte by byte. Nil: one is
	// made over the uncompressed layers.
	Manifest []byte
	// Layers are the layers, bottom first, as AddLayer or LayerByBlob
	// returned them. Nil: those that the config names, which must be there.
	Layers []Layer
	// Names are the names to give, "debian:12" or
	// "docker.io/library/debian:12", taken from whatever has them now. A name
	// with a digest ("debian@sha256:…") records what the name resolved to at
	// a registry. None: the image stays without a name.
	Names []string
	// Parent is the image that this one was made from on this machine.
	Parent digest.Digest
}

// AddImage adds an image over layers that are in the store, makes sure that they
// merge, and writes its references last. Adding what is there already only adds the
// names. Errors wrap [ErrInvalid] or [ErrCorrupt].
func (s *Store) AddImage(ctx context.Context, a NewImage) (*Image, error) {
	release, err := s.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	names, err := parseNames(a.Names)
	if err != nil {
		return nil, err
	}
	desc, m, err := s.prepare(&a)
	if err != nil {
		return nil, err
	}
	for _, p := range [][]byte{a.Config, a.Manifest} {
		if _, err := s.blobs.Put(ctx, p); err != nil {
			return nil, fmt.Errorf("add image: %w", err)
		}
	}
	if err := s.ensureView(ctx, m); err != nil {
		return nil, err
	}
	if err := s.reference(ctx, desc, names); err != nil {
		return nil, err
	}
	r, err := s.readRefs()
	if err != nil {
		return nil, err
	}
	return s.load(r, desc)
}

func parseNames(names []string) ([]reference.Named, error) {
	list := make([]reference.Named, 0, len(names))
	for _, name := range names {
		n, err := ParseName(name)
		if err != nil {
			return nil, err
		}
		if c, ok := n.(reference.Canonical); ok {
			// A tag beside a digest says nothing more.
			if n, err = reference.WithDigest(reference.TrimNamed(n), c.Digest()); err != nil {
				return nil, message(ErrInvalid, "%s", nameError(err))
			}
		}
		list = append(list, n)
	}
	return list, nil
}

// prepare checks the parts of an image against each other and against the
// layers that are there, and makes the manifest if there is none.
func (s *Store) prepare(a *NewImage) (ocispec.Descriptor, *ImageConfig, error) {
	c, err := ParseConfig(a.Config)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	if a.Layers, err = s.checkLayers(a.Layers, c.RootFS.DiffIDs); err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	notes := map[string]string{annotationTagged: time.Now().UTC().Format(time.RFC3339Nano)}
	if a.Manifest == nil {
		a.Manifest = s.knownManifest(digest.FromBytes(a.Config))
	}
	if a.Manifest == nil {
		notes[annotationLocal] = "true"
		if a.Manifest, err = newManifest(a.Config, a.Layers); err != nil {
			return ocispec.Descriptor{}, nil, err
		}
	}
	if a.Parent != "" {
		notes[annotationParent] = a.Parent.String()
	}
	m, err := ParseManifest(a.Manifest)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	desc := ocispec.Descriptor{
		MediaType: m.MediaType, Digest: digest.FromBytes(a.Manifest), Size: int64(len(a.Manifest)),
		Platform: platformOf(c), Annotations: notes,
	}
	if desc.MediaType == "" {
		desc.MediaType = ocispec.MediaTypeImageManifest
	}
	notes[annotationID] = desc.Digest.String() + " " + m.Config.Digest.String()
	if err := checkPair(m, c, a.Config); err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	return desc, c, s.checkSizes(m)
}

// checkSizes compares the sizes that a manifest tells with the blobs that are
// there. Who brings a blob checks its size; one that was there before, from
// another image, came without a look at this manifest.
func (s *Store) checkSizes(m *ocispec.Manifest) error {
	for _, l := range m.Layers {
		if have, err := s.blobs.Size(l.Digest); err == nil && have != l.Size {
			return fmt.Errorf("%w: layer %s has %d bytes, the manifest says %d", ErrCorrupt, l.Digest, have, l.Size)
		}
	}
	return nil
}

// knownManifest returns a manifest that came with the image before, so that
// an image that was pulled and is then loaded keeps the registry's manifest.
func (s *Store) knownManifest(id digest.Digest) []byte {
	r, err := s.readRefs()
	if err != nil {
		return nil
	}
	for _, d := range s.descriptorsOf(r, id) {
		info, err := s.manifest(d.Digest)
		if err == nil && d.Annotations[annotationLocal] == "" {
			return info.raw
		}
	}
	return nil
}

// platformOf is a config's platform for a descriptor; nil when it says none.
func platformOf(c *ImageConfig) *ocispec.Platform {
	if c.OS == "" || c.Architecture == "" {
		return nil
	}
	return &ocispec.Platform{OS: c.OS, Architecture: c.Architecture, Variant: c.Variant}
}

// checkLayers makes sure that the layers are those of the config, and there.
func (s *Store) checkLayers(layers []Layer, diffIDs []digest.Digest) ([]Layer, error) {
	if layers != nil && len(layers) != len(diffIDs) {
		return nil, invalid("image: there are %d layers, the config tells of %d", len(layers), len(diffIDs))
	}
	list := make([]Layer, len(diffIDs))
	for i, d := range diffIDs {
		if layers != nil && layers[i].DiffID != d {
			return nil, fmt.Errorf("%w: layer %d is %s, the config says %s", ErrCorrupt, i+1, layers[i].DiffID, d)
		}
		size, err := s.blobs.Size(d)
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w: %w", i+1, ErrNotFound, err)
		}
		list[i] = Layer{DiffID: d, Size: size, Existed: true}
	}
	return list, nil
}

// ensureView sees to it that there can be a view of an image. Where there is one
// of all layers but the last, it is enough that the last goes over it, which
// costs what that layer holds and not what the image does: a mount extends the
// view then. Otherwise the view is built.
//
// Preconditions: the store is held.
func (s *Store) ensureView(ctx context.Context, c *ImageConfig) error {
	diffIDs := c.RootFS.DiffIDs
	if _, err := os.Lstat(s.viewPath(chainOf(diffIDs))); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if s.withLast(ctx, diffIDs, layer.CheckExtension) == nil {
		return nil
	}
	return s.buildView(ctx, diffIDs)
}

// reference makes an image visible under its names, or without one.
func (s *Store) reference(ctx context.Context, desc ocispec.Descriptor, names []reference.Named) error {
	return s.updateRefs(ctx, func(r *refs) error {
		for _, n := range names {
			r.set(n, desc)
		}
		if len(names) == 0 {
			r.keep(desc)
		}
		s.tidy(r, desc.Digest)
		return nil
	})
}

// tidy drops descriptors without a name, and pins, that say nothing which the
// descriptor of manifest does not say too.
func (s *Store) tidy(r *refs, manifest digest.Digest) {
	info, err := s.manifest(manifest)
	if err != nil {
		return
	}
	id := info.id()
	r.dropIf(func(d ocispec.Descriptor) bool {
		if nameOf(d) != nil || otherImage(d, id.Encoded()) || d.Digest == manifest && d.Annotations[annotationPinned] == "" {
			return false
		}
		info, err := s.manifest(d.Digest)
		return err == nil && info.id() == id
	})
}
