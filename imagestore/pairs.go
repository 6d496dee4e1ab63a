package imagestore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"unio/imagestore/blob"
)

// A pair says that a compressed stream holds a certain layer. It is a file in
// state/pairs, named <diffID hex>-<algorithm>-<hex of the stream>, that holds
// the descriptor of the stream. Pairs are only written once both sides were
// verified, and are worth nothing once the layer is gone.

// RememberCompressed records that desc describes a compressed form of a
// layer, verified by the caller. The blob itself need not be in the store.
func (s *Store) RememberCompressed(diffID digest.Digest, desc ocispec.Descriptor) error {
	if err := errors.Join(blob.Check(diffID), blob.Check(desc.Digest)); err != nil {
		return fmt.Errorf("remember compressed layer: %w", err)
	}
	path := filepath.Join(s.pairsDir(), pairName(diffID, desc.Digest))
	p, err := json.Marshal(ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size})
	if err != nil {
		return fmt.Errorf("remember compressed layer: %w", err)
	}
	if old, err := os.ReadFile(path); err == nil && string(old) == string(p) {
		return nil
	}
	return s.writeFile(path, p)
}

func pairName(diffID, compressed digest.Digest) string {
	return diffID.Encoded() + "-" + string(compressed.Algorithm()) + "-" + compressed.Encoded()
}

// splitPair is the reverse of pairName.
func splitPair(name string) (diffID, compressed digest.Digest, ok bool) {
	parts := strings.Split(name, "-")
	if len(parts) != 3 {
		return "", "", false
	}
	diffID = digest.NewDigestFromEncoded(digest.SHA256, parts[0])
	compressed = digest.NewDigestFromEncoded(digest.Algorithm(parts[1]), parts[2])
	return diffID, compressed, blob.Check(diffID) == nil && blob.Check(compressed) == nil
}

// CompressedForms returns what compressed streams are known to hold a layer,
// newest first, whether their blobs are in the store or not.
func (s *Store) CompressedForms(diffID digest.Digest) []ocispec.Descriptor {
	type form struct {
		ocispec.Descriptor
		at time.Time
	}
	var forms []form
	s.eachPair(func(layer, _ digest.Digest, path string) {
		if layer != diffID {
			return
		}
		if d, at, err := readPair(path); err == nil {
			forms = append(forms, form{d, at})
		}
	})
	slices.SortStableFunc(forms, func(a, b form) int { return b.at.Compare(a.at) })
	list := make([]ocispec.Descriptor, len(forms))
	for i, f := range forms {
		list[i] = f.Descriptor
	}
	return list
}

// eachPair calls do for each pair. Files that are none are left out.
func (s *Store) eachPair(do func(diffID, compressed digest.Digest, path string)) {
	entries, err := os.ReadDir(s.pairsDir())
	if err != nil {
		s.log.Warn("read pairs", "err", err)
		return
	}
	for _, e := range entries {
		if diffID, compressed, ok := splitPair(e.Name()); ok {
			do(diffID, compressed, filepath.Join(s.pairsDir(), e.Name()))
		}
	}
}

// readPair reads one pair and checks it against its name.
func readPair(path string) (d ocispec.Descriptor, at time.Time, err error) {
	raw, err := readLimited(path, 1<<16)
	if err != nil {
		return d, at, err
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return d, at, fmt.Errorf("%w: pair %s: %w", ErrCorrupt, filepath.Base(path), err)
	}
	if _, c, ok := splitPair(filepath.Base(path)); !ok || c != d.Digest || d.Size < 0 {
		return d, at, fmt.Errorf("%w: pair %s", ErrCorrupt, filepath.Base(path))
	}
	fi, err := os.Stat(path)
	if err != nil {
		return d, at, err
	}
	return d, fi.ModTime(), nil
}

// layerByPair finds the layer that a compressed stream is known to hold, if
// the store has that layer.
func (s *Store) layerByPair(compressed digest.Digest) (Layer, bool) {
	if blob.Check(compressed) != nil {
		return Layer{}, false
	}
	paths, err := filepath.Glob(filepath.Join(s.pairsDir(), "*-"+string(compressed.Algorithm())+"-"+compressed.Encoded()))
	if err != nil {
		return Layer{}, false
	}
	for _, path := range paths {
		diffID, _, ok := splitPair(filepath.Base(path))
		if !ok {
			continue
		}
		d, _, err := readPair(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if size, serr := s.blobs.Size(diffID); err == nil && serr == nil {
			return Layer{DiffID: diffID, Size: size, Blob: d, Existed: true}, true
		}
	}
	return Layer{}, false
}
