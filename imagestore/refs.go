package imagestore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// indexLimit is how large index.json may grow, in bytes: some 30,000 names.
const indexLimit = 16 << 20

// refs is the content of index.json.
type refs struct {
	index ocispec.Index
}

// readRefs reads index.json. A damaged one gives [ErrCorrupt].
func (s *Store) readRefs() (*refs, error) {
	raw, err := readLimited(s.indexFile(), indexLimit)
	if err != nil {
		return nil, fmt.Errorf("read references: %w", err)
	}
	r, err := parseRefs(raw)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", s.indexFile(), err)
	}
	return r, nil
}

// parseRefs decodes index.json.
func parseRefs(raw []byte) (*refs, error) {
	var r refs
	if err := json.Unmarshal(raw, &r.index); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if r.index.SchemaVersion != 2 {
		return nil, fmt.Errorf("%w: schema version %d", ErrCorrupt, r.index.SchemaVersion)
	}
	for _, d := range r.index.Manifests {
		if err := checkDescriptor("reference", d); err != nil {
			return nil, errors.Join(ErrCorrupt, err)
		}
	}
	return &r, nil
}

// updateRefs changes index.json: change sees the current content, and what it
// leaves is written, unless it fails or changes nothing.
func (s *Store) updateRefs(ctx context.Context, change func(*refs) error) error {
	release, err := s.lockIndex(ctx)
	if err != nil {
		return err
	}
	defer release()
	r, err := s.readRefs()
	if err != nil {
		return err
	}
	before, err := r.encode()
	if err != nil {
		return err
	}
	if err := change(r); err != nil {
		return err
	}
	after, err := r.encode()
	if err != nil || bytes.Equal(before, after) {
		return err
	}
	return s.writeFile(s.indexFile(), after)
}

func (r *refs) encode() ([]byte, error) {
	if r.index.MediaType == "" {
		r.index.MediaType = ocispec.MediaTypeImageIndex
	}
	if r.index.Manifests == nil {
		r.index.Manifests = []ocispec.Descriptor{}
	}
	p, err := json.Marshal(r.index)
	if err != nil {
		return nil, fmt.Errorf("encode references: %w", err)
	}
	return p, nil
}

// find returns the descriptor of a name.
func (r *refs) find(n reference.Named) (ocispec.Descriptor, bool) {
	i := r.position(n)
	if i < 0 {
		return ocispec.Descriptor{}, false
	}
	return r.index.Manifests[i], true
}

func (r *refs) position(n reference.Named) int {
	full := n.String()
	if i := slices.IndexFunc(r.index.Manifests, func(d ocispec.Descriptor) bool { return d.Annotations[annotationName] == full }); i >= 0 {
		return i // spelt as we do: no need to parse them all
	}
	return slices.IndexFunc(r.index.Manifests, func(d ocispec.Descriptor) bool {
		have := nameOf(d)
		return have != nil && have.String() == full
	})
}

// images yields the descriptors of image manifests, named or not, pinned ones
// included.
func (r *refs) images() []ocispec.Descriptor {
	var list []ocispec.Descriptor
	for _, d := range r.index.Manifests {
		if d.MediaType == "" || IsManifest(d.MediaType) {
			list = append(list, d)
		}
	}
	return list
}

// set gives a name to a manifest and takes it from whatever had it before. A
// manifest that is named needs no descriptor without a name any more.
func (r *refs) set(n reference.Named, d ocispec.Descriptor) {
	d = named(d, n)
	delete(d.Annotations, annotationPinned)
	r.take(n)
	r.dropUnnamed(d.Digest)
	r.index.Manifests = append(r.index.Manifests, d)
}

// keep adds a descriptor without a name unless the manifest has one.
func (r *refs) keep(d ocispec.Descriptor) {
	has := func(o ocispec.Descriptor) bool {
		return o.Digest == d.Digest && o.Annotations[annotationPinned] == d.Annotations[annotationPinned]
	}
	if !slices.ContainsFunc(r.index.Manifests, has) {
		r.index.Manifests = append(r.index.Manifests, named(d, nil))
	}
}

// take removes a name. The manifest that had it keeps a descriptor, so that
// no image vanishes by losing its name.
func (r *refs) take(n reference.Named) (ocispec.Descriptor, bool) {
	i := r.position(n)
	if i < 0 {
		return ocispec.Descriptor{}, false
	}
	d := r.index.Manifests[i]
	r.index.Manifests = slices.Delete(r.index.Manifests, i, i+1)
	r.keep(d)
	return d, true
}

// dropUnnamed removes the descriptors of a manifest that have no name.
func (r *refs) dropUnnamed(manifest digest.Digest) {
	r.dropIf(func(d ocispec.Descriptor) bool { return d.Digest == manifest && nameOf(d) == nil })
}

// dropIf removes the descriptors that gone accepts.
func (r *refs) dropIf(gone func(ocispec.Descriptor) bool) {
	r.index.Manifests = slices.DeleteFunc(r.index.Manifests, gone)
}

// hasManifest reports whether any descriptor refers to a manifest.
func (r *refs) hasManifest(d digest.Digest) bool {
	return slices.ContainsFunc(r.index.Manifests, func(o ocispec.Descriptor) bool { return o.Digest == d })
}
