package imagestore

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"unio/imagestore/blob"
)

// A referrer is a manifest about another one, its subject: a signature, a list
// of what is in an image (image-spec, manifest.md, "subject"). Those that a
// pull found are listed in state/referrers/<algorithm>-<hex of the subject>, an
// image index as registries give it out. Such a record, and the blobs that it
// needs, live as long as their subject. Losing them harms no image: the next
// pull brings them again.

// AddReferrers records manifests that refer to subject, beside those that are
// recorded. They and all that they name must be in the store.
//
// Preconditions: the store is held ([Store.Hold]).
func (s *Store) AddReferrers(ctx context.Context, subject digest.Digest, list []ocispec.Descriptor) error {
	release, err := s.lockIndex(ctx) // two pulls of one image may come here at once
	if err != nil {
		return err
	}
	defer release()
	if err := os.MkdirAll(s.referrersDir(), dirMode); err != nil {
		return fmt.Errorf("record referrers: %w", err)
	}
	all := s.Referrers(subject)
	for _, d := range list {
		if !slices.ContainsFunc(all, func(o ocispec.Descriptor) bool { return o.Digest == d.Digest }) {
			all = append(all, d)
		}
	}
	return s.writeReferrers(subject, all)
}

// Referrers lists the manifests of the store that refer to subject, sorted by
// digest. A record that is missing or damaged counts as none.
func (s *Store) Referrers(subject digest.Digest) []ocispec.Descriptor {
	raw, err := readLimited(s.referrersPath(subject), MetadataLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var x *ocispec.Index
	if err == nil {
		x, err = ParseIndex(raw)
	}
	if err != nil {
		s.log.Warn("record of referrers not read", "subject", subject, "err", err)
		return nil
	}
	return slices.DeleteFunc(x.Manifests, func(d ocispec.Descriptor) bool { return !s.blobs.Has(d.Digest) })
}

func (s *Store) writeReferrers(subject digest.Digest, list []ocispec.Descriptor) error {
	slices.SortFunc(list, func(a, b ocispec.Descriptor) int { return cmp.Compare(a.Digest, b.Digest) })
	raw, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: list,
	})
	if err != nil {
		return fmt.Errorf("record referrers of %s: %w", subject, err)
	}
	if old, err := os.ReadFile(s.referrersPath(subject)); err == nil && string(old) == string(raw) {
		return nil
	}
	return s.writeFile(s.referrersPath(subject), raw)
}

func (s *Store) referrersDir() string { return filepath.Join(s.stateDir(), "referrers") }

func (s *Store) referrersPath(subject digest.Digest) string {
	return filepath.Join(s.referrersDir(), string(subject.Algorithm())+"-"+subject.Encoded())
}

// subjectOf is the reverse of the file name in referrersPath; empty for a name
// that is none.
func subjectOf(name string) digest.Digest {
	algorithm, hex, _ := strings.Cut(name, "-")
	d := digest.NewDigestFromEncoded(digest.Algorithm(algorithm), hex)
	if blob.Check(d) != nil {
		return ""
	}
	return d
}

// referrerBlobs lists what a referrer names. It may be anything that has the
// form of a manifest, so this asks for less than [ParseManifest].
func (s *Store) referrerBlobs(d digest.Digest) ([]ocispec.Descriptor, error) {
	raw, err := s.readMetadata("referrer", d)
	if err != nil {
		return nil, err
	}
	var m ocispec.Manifest
	if err := decode(raw, "referrer", &m); err != nil {
		return nil, err
	}
	list := append(m.Layers, m.Config)
	for _, part := range list {
		if err := checkDescriptor("referrer", part); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// markReferrers marks what is about a manifest, and what is about that.
func (s *Store) markReferrers(m *marks, subject digest.Digest) {
	for _, d := range s.Referrers(subject) {
		if m.about[d.Digest] {
			continue // a circle, as no digest can make one but a damaged record
		}
		m.about[d.Digest] = true
		parts, err := s.referrerBlobs(d.Digest)
		if err != nil {
			s.log.Warn("referrer not kept", "digest", d.Digest, "err", err)
			continue
		}
		m.blobs[d.Digest] = true
		for _, part := range parts {
			m.blobs[part.Digest] = true
		}
		s.markReferrers(m, d.Digest)
	}
}

// sweepReferrers removes the records of subjects that are gone.
func (s *Store) sweepReferrers(m *marks) (freed int64, err error) {
	freed, err = sweepFolder(s.referrersDir(), func(name string) bool { return m.blobs[subjectOf(name)] })
	if errors.Is(err, fs.ErrNotExist) {
		return freed, nil // none was ever pulled
	}
	return freed, err
}

// referrers checks what is about a manifest of an image. With Repair, what is
// damaged is taken off the record, for the next pull to bring it again.
func (c *check) referrers(img ocispec.Descriptor, subject digest.Digest) error {
	path := c.s.referrersPath(subject)
	if c.views[path] {
		return nil
	}
	c.views[path] = true
	list := c.s.Referrers(subject)
	whole := make([]ocispec.Descriptor, 0, len(list))
	for _, d := range list {
		err := c.referrer(img, d)
		switch {
		case c.ctx.Err() != nil:
			return c.ctx.Err()
		case err == nil:
			whole = append(whole, d)
		case !c.gone(img):
			c.report("referrer "+d.Digest.String(), c.o.Repair, "%v", err)
		}
	}
	if c.o.Repair && len(whole) < len(list) {
		return c.s.writeReferrers(subject, whole)
	}
	return nil
}

func (c *check) referrer(img, d ocispec.Descriptor) error {
	if err := c.blobAgain(img, d.Digest, d.Size); err != nil {
		return err
	}
	parts, err := c.s.referrerBlobs(d.Digest)
	for _, part := range parts {
		err = errors.Join(err, c.blobAgain(img, part.Digest, part.Size))
	}
	return errors.Join(err, c.referrers(img, d.Digest))
}
