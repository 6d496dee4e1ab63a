package dockerfile

import (
	"context"
	"errors"
	"slices"
	"time"

	"unio/imagestore"
)

// sources are the images that --cache-from names, as far as they are here.
func (b *build) sources(ctx context.Context) ([]*imagestore.Image, error) {
	var list []*imagestore.Image
	for _, name := range b.o.CacheFrom {
		img, err := b.st.Lookup(ctx, name)
		if errors.Is(err, imagestore.ErrNotFound) {
			continue // as docker's builder does
		}
		if err != nil {
			return nil, err
		}
		list = append(list, img)
	}
	return list, nil
}

// findInImage looks for a step in an image: it must have come to the same state
// by the same steps, and this one must be its next. Only what the history tells
// in full is found: not a RUN with mounts.
func (r *stageRun) findInImage(c *change) (rec imagestore.CacheRecord, ok bool) {
	if c.hidden {
		return rec, false
	}
	for _, img := range r.cacheFrom {
		steps, layers := img.Config.History, img.DiffIDs()
		at := len(r.s.history)
		if at >= len(steps) || len(r.s.layers) > len(layers) || steps[at].CreatedBy != c.createdBy ||
			!slices.Equal(layers[:len(r.s.layers)], r.s.layers) || !r.sameSteps(img) {
			continue
		}
		rec = imagestore.CacheRecord{Title: r.code, Data: c.createdBy, Created: time.Unix(0, 0).UTC()}
		if steps[at].Created != nil {
			rec.Created = *steps[at].Created
		}
		if steps[at].EmptyLayer {
			return rec, true
		}
		if len(layers) > len(r.s.layers) && r.st.HasLayer(layers[len(r.s.layers)]) {
			rec.Layer = layers[len(r.s.layers)]
			return rec, true
		}
	}
	return rec, false
}

// sameSteps reports whether an image began with the steps of the stage so far.
func (r *stageRun) sameSteps(img *imagestore.Image) bool {
	for i, h := range r.s.history {
		if img.Config.History[i].CreatedBy != h.CreatedBy || img.Config.History[i].EmptyLayer != h.EmptyLayer {
			return false
		}
	}
	return true
}
