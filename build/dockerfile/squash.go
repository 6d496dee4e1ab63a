package dockerfile

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"unio/imagestore"
	"unio/imagestore/layer"
)

// squash makes one layer of those that the build has put on its base. The
// history keeps all steps, and says what became of them as docker's does.
func (b *build) squash(ctx context.Context, s *state) error {
	var below []digest.Digest
	var steps int
	parent := ""
	if s.base != nil {
		below, steps, parent = s.base.DiffIDs(), len(s.base.Config.FullHistory()), s.base.ID.String()
	}
	if !s.changed {
		return nil
	}
	config, err := s.marshal()
	if err != nil {
		return err
	}
	added, err := b.squashed(ctx, below, s.layers)
	if err != nil {
		return fmt.Errorf("squash: %w", err)
	}
	for i := steps; i < len(s.history); i++ {
		s.history[i].EmptyLayer = true
	}
	comment := fmt.Sprintf("create new from %s", digest.FromBytes(config))
	if parent != "" {
		comment = fmt.Sprintf("merge %s to %s", digest.FromBytes(config), parent)
	}
	now := b.now()
	s.layers = append(below[:len(below):len(below)], added...)
	s.history = append(s.history, ocispec.History{Created: &now, Comment: comment, EmptyLayer: len(added) == 0})
	s.created = &now
	return nil
}

// squashed makes the one layer; none if nothing changed.
func (b *build) squashed(ctx context.Context, below, all []digest.Digest) (added []digest.Digest, err error) {
	views := make([]*imagestore.View, 2)
	for i, chain := range [][]digest.Digest{below, all} {
		if views[i], err = b.st.ViewOf(ctx, chain); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, views[i].Close()) }()
	}
	d, err := b.addLayer(ctx, func(w io.Writer) error { return layer.WriteSquash(ctx, views[0].View, views[1].View, w) })
	if err != nil || d == "" {
		return nil, err
	}
	return []digest.Digest{d}, nil
}
