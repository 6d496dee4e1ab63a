package imagestore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"unio/imagestore/layer"
)

const (
	indexSuffix   = ".idx"
	digestsSuffix = ".sum"
)

// digestsOfIndex is the name of the file with the digests of a layer's files,
// beside its index, and indexOfDigests the reverse.
func digestsOfIndex(name string) string {
	return strings.TrimSuffix(name, indexSuffix) + digestsSuffix
}

func indexOfDigests(name string) string {
	return strings.TrimSuffix(name, digestsSuffix) + indexSuffix
}

func (s *Store) digestsPath(diffID digest.Digest) string {
	return filepath.Join(s.layersDir(), digestsOfIndex(filepath.Base(s.layerIndexPath(diffID))))
}

// HasFileDigests reports whether the digests of a layer's files have been
// computed before.
func (s *Store) HasFileDigests(diffID digest.Digest) bool {
	_, err := os.Lstat(s.digestsPath(diffID))
	return err == nil
}

// FileDigests returns the digests of a layer's files. The first time they are
// computed, from the whole tar, and kept; where they cannot be kept, as in a
// store that one may only read, that is no error.
func (s *Store) FileDigests(ctx context.Context, diffID digest.Digest) (*layer.Digests, error) {
	d, err := layer.OpenDigests(s.digestsPath(diffID))
	if err == nil || !rebuildable(err) {
		return d, err
	}
	release, err := s.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	x, err := s.openIndex(ctx, diffID, s.makeIndex)
	if err != nil {
		return nil, err
	}
	defer x.Close()
	tar, err := s.OpenLayerTar(diffID)
	if err != nil {
		return nil, err
	}
	defer tar.Close()
	if d, err = layer.SumFiles(ctx, x, tar); err != nil {
		return nil, fmt.Errorf("digests of layer %s: %w", diffID, err)
	}
	if err := s.writeFrom(s.digestsPath(diffID), d); err != nil {
		s.log.Info("the digests of a layer's files are not kept", "diffID", diffID, "err", err)
	}
	return d, nil
}
