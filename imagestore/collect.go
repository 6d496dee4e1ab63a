package imagestore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"unio/imagestore/blob"
)

// Collected is what a collection removed.
type Collected struct {
	Blobs []digest.Digest
	Bytes int64 // freed on disk: blobs, indexes, views, temporary files
}

// partialAge is how long an unfinished transfer is kept for the next attempt.
const partialAge = 24 * time.Hour

// Collect removes everything that no reference needs, directly or for a
// container; unfinished downloads of the last day stay. It waits for those who
// are adding something, until ctx ends, and keeps new ones waiting while it
// works.
func (s *Store) Collect(ctx context.Context) (Collected, error) { return s.collect(ctx, partialAge) }

// collect is Collect with the age at which unfinished downloads go.
func (s *Store) collect(ctx context.Context, partials time.Duration) (Collected, error) {
	release, err := s.exclusive(ctx)
	if err != nil {
		return Collected{}, err
	}
	defer release()
	return s.sweep(ctx, partials)
}

// sweep does the work of Collect.
//
// Preconditions: the store is held exclusively.
func (s *Store) sweep(ctx context.Context, partials time.Duration) (Collected, error) {
	if err := s.unpin(ctx); err != nil {
		return Collected{}, fmt.Errorf("collect garbage: %w", err)
	}
	m, err := s.mark()
	if err != nil {
		return Collected{}, fmt.Errorf("collect garbage: %w", err)
	}
	var c Collected
	for _, step := range []func(*marks, *Collected) error{s.sweepBlobs, s.sweepDerived} {
		if err := step(m, &c); err != nil {
			return c, fmt.Errorf("collect garbage: %w", err)
		}
	}
	for _, unfinished := range []func(time.Duration) (int64, error){s.sweepTemp, s.sweepUploads} {
		n, err := unfinished(partials)
		c.Bytes += n
		if err != nil {
			return c, fmt.Errorf("collect garbage: %w", err)
		}
	}
	return c, nil
}

// sweepTemp removes temporary files that nobody is writing.
func (s *Store) sweepTemp(partials time.Duration) (int64, error) {
	release, err := s.lockTemp(unix.LOCK_EX)
	if err != nil {
		return 0, err
	}
	defer release()
	return s.blobs.RemoveTemp(partials)
}

// marks is what has to stay.
type marks struct {
	walked map[digest.Digest]bool // manifests and indexes that were followed
	about  map[digest.Digest]bool // referrers that were followed, images in their own right or not
	blobs  map[digest.Digest]bool
	layers map[string]bool // base names in layers/
	views  map[string]bool // base names in views/
}

func newMarks() *marks {
	return &marks{
		walked: map[digest.Digest]bool{}, about: map[digest.Digest]bool{}, blobs: map[digest.Digest]bool{},
		layers: map[string]bool{}, views: map[string]bool{},
	}
}

// mark walks from the references to all that they need. A manifest that
// cannot be read stops it: nobody knows what it needs.
func (s *Store) mark() (*marks, error) {
	r, err := s.readRefs()
	if err != nil {
		return nil, err
	}
	m := newMarks()
	for _, d := range r.index.Manifests {
		if err := s.markDescriptor(m, d); err != nil {
			return nil, err
		}
	}
	return m, s.markCache(m)
}

// markDescriptor marks what a descriptor of index.json needs. That its blob has
// to stay does not say that it was followed: another image may call it a layer.
func (s *Store) markDescriptor(m *marks, d ocispec.Descriptor) error {
	if m.walked[d.Digest] {
		return nil
	}
	m.walked[d.Digest], m.blobs[d.Digest] = true, true
	switch {
	case IsIndex(d.MediaType): // another tool put it here
		return s.markIndex(m, d)
	case d.MediaType == "" || IsManifest(d.MediaType):
		return s.markImage(m, d)
	}
	return nil
}

func (s *Store) markIndex(m *marks, d ocispec.Descriptor) error {
	raw, err := s.readMetadata("image index", d.Digest)
	if err != nil {
		return err
	}
	x, err := ParseIndex(raw)
	if err != nil {
		return err
	}
	for _, sub := range x.Manifests {
		// Layouts may hold some platforms of an index only.
		if !s.blobs.Has(sub.Digest) {
			continue
		}
		if err := s.markDescriptor(m, sub); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) markImage(m *marks, d ocispec.Descriptor) error {
	info, err := s.manifest(d.Digest)
	if err != nil {
		return err
	}
	m.blobs[info.id()] = true
	for _, l := range info.manifest.Layers {
		m.blobs[l.Digest] = true
	}
	raw, err := s.readMetadata("config", info.id())
	if err != nil {
		return err
	}
	c, err := ParseConfig(raw)
	if err != nil {
		return fmt.Errorf("image %s: %w", info.id(), err)
	}
	for _, diffID := range c.RootFS.DiffIDs {
		m.blobs[diffID] = true
		m.layers[filepath.Base(s.layerIndexPath(diffID))] = true
	}
	s.markView(m, c.RootFS.DiffIDs)
	s.markReferrers(m, d.Digest)
	return nil
}

// markView keeps the view of a chain, or, as long as there is none, that which
// it will be made from.
func (s *Store) markView(m *marks, diffIDs []digest.Digest) {
	path := s.viewPath(chainOf(diffIDs))
	m.views[filepath.Base(path)] = true
	if _, err := os.Lstat(path); err != nil && len(diffIDs) > 1 {
		m.views[filepath.Base(s.viewPath(chainOf(diffIDs[:len(diffIDs)-1])))] = true
	}
}

// unpin drops images that were removed and kept for containers that are gone.
func (s *Store) unpin(ctx context.Context) error {
	uses, err := s.uses()
	if err != nil {
		return err
	}
	used := map[digest.Digest]bool{}
	for _, u := range uses {
		used[u.ImageID] = true
	}
	return s.updateRefs(ctx, func(r *refs) error {
		r.dropIf(func(d ocispec.Descriptor) bool {
			if d.Annotations[annotationPinned] == "" {
				return false
			}
			info, err := s.manifest(d.Digest)
			return err == nil && !used[info.id()]
		})
		return nil
	})
}

// uses asks which containers need images.
func (s *Store) uses() ([]Use, error) {
	if s.opt.InUse == nil {
		return nil, nil
	}
	uses, err := s.opt.InUse()
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	return uses, nil
}

func (s *Store) sweepBlobs(m *marks, c *Collected) error {
	for info, err := range s.blobs.Walk() {
		if err != nil {
			return err
		}
		if info.Digest == "" || m.blobs[info.Digest] {
			continue // what is no blob is not ours to remove
		}
		size, err := diskSize(info.Path)
		if err != nil {
			return err
		}
		if err := s.blobs.Remove(info.Digest); err != nil {
			return err
		}
		s.log.Debug("removed blob", "digest", info.Digest, "bytes", size)
		c.Blobs = append(c.Blobs, info.Digest)
		c.Bytes += size
	}
	return nil
}

// sweepDerived removes indexes, views and pairs without their blobs.
func (s *Store) sweepDerived(m *marks, c *Collected) error {
	n, err := sweepFolder(s.layersDir(), func(name string) bool { return m.layers[name] || m.layers[indexOfDigests(name)] })
	c.Bytes += n
	if err != nil {
		return err
	}
	n, err = sweepFolder(s.viewsDir(), func(name string) bool { return m.views[name] })
	c.Bytes += n
	if err != nil {
		return err
	}
	n, err = sweepFolder(s.pairsDir(), func(name string) bool {
		diffID, _, ok := splitPair(name)
		return ok && m.blobs[diffID]
	})
	c.Bytes += n
	if err != nil {
		return err
	}
	n, err = s.sweepReferrers(m)
	c.Bytes += n
	return err
}

// sweepFolder removes the files of a folder that are not to be kept.
func sweepFolder(dir string, keep func(name string) bool) (freed int64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if keep(e.Name()) || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if size, err := diskSize(path); err == nil {
			freed += size
		}
		if err := os.Remove(path); err != nil {
			return freed, err
		}
	}
	return freed, nil
}

// Usage is what the store takes on disk, in bytes.
type Usage struct {
	Blobs, Indexes, Views, Other int64
}

// Usage adds up the files of the store, garbage included.
func (s *Store) Usage() (Usage, error) {
	var u Usage
	for info, err := range s.blobs.Walk() {
		if err != nil {
			return u, err
		}
		u.Blobs += info.Size
	}
	var errs []error
	sum := func(dir string, into *int64) {
		entries, err := os.ReadDir(dir)
		errs = append(errs, err)
		for _, e := range entries {
			if fi, err := e.Info(); err == nil && fi.Mode().IsRegular() {
				*into += fi.Size()
			}
		}
	}
	sum(s.layersDir(), &u.Indexes)
	sum(s.viewsDir(), &u.Views)
	sum(s.pairsDir(), &u.Other)
	sum(s.tempDir(), &u.Other)
	return u, errors.Join(errs...)
}

// isDamage tells damage of the store from trouble of this machine.
func isDamage(err error) bool {
	return errors.Is(err, ErrCorrupt) || errors.Is(err, ErrInvalid) || errors.Is(err, ErrNotFound) ||
		errors.Is(err, blob.ErrMismatch) || errors.Is(err, blob.ErrNotFound)
}
