package imagestore

import (
	"context"
	"slices"

	"github.com/opencontainers/go-digest"
)

// PruneOptions of [Store.Prune]. The zero value is docker's "image prune".
type PruneOptions struct {
	// All removes every image that no container uses; otherwise only those
	// without a tag.
	All bool
	// Keep spares an image; nil spares none.
	Keep func(*Image) bool
}

// Pruned is what a pruning did.
type Pruned struct {
	Removed []Removed
	Bytes   int64 // freed on disk
}

// Prune removes images that nothing needs: no container, no child and, unless
// All is set, no tag. It then collects all garbage, unfinished downloads
// included, waiting until ctx ends for those who are adding something.
func (s *Store) Prune(ctx context.Context, o PruneOptions) (Pruned, error) {
	uses, err := s.uses()
	if err != nil {
		return Pruned{}, err
	}
	rm := &removal{s: s, uses: uses}
	err = s.updateRefs(ctx, func(r *refs) error {
		rm.r = r
		return rm.prune(ctx, o)
	})
	if err != nil {
		return Pruned{}, err
	}
	freed, err := s.collect(ctx, 0)
	return Pruned{Removed: rm.done, Bytes: freed.Bytes}, err
}

// prune takes off the list what may go, children before their parents.
func (rm *removal) prune(ctx context.Context, o PruneOptions) error {
	for {
		before := len(rm.done)
		for _, id := range rm.prunable(o) {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			rm.pruneOne(id)
		}
		if len(rm.done) == before {
			return nil
		}
	}
}

// prunable lists the images that can go now, the newest first.
func (rm *removal) prunable(o PruneOptions) []digest.Digest {
	var list []*Image
	seen := map[digest.Digest]bool{}
	for _, d := range rm.r.images() {
		img, err := rm.s.load(rm.r, d)
		if err != nil || seen[img.ID] || d.Annotations[annotationPinned] != "" {
			continue
		}
		seen[img.ID] = true
		if rm.user(img.ID, nil) != nil || rm.hasChildren(img.ID) || len(img.Names) > 0 && !o.All || o.Keep != nil && o.Keep(img) {
			continue
		}
		list = append(list, img)
	}
	slices.SortStableFunc(list, func(a, b *Image) int { return b.Config.CreatedAt().Compare(a.Config.CreatedAt()) })
	ids := make([]digest.Digest, len(list))
	for i, img := range list {
		ids[i] = img.ID
	}
	return ids
}

// pruneOne removes an image with its names. Its parents have their own turn.
func (rm *removal) pruneOne(id digest.Digest) {
	for _, n := range rm.names(id) {
		rm.untag(n)
	}
	rm.drop(id)
}
