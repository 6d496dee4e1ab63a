package archive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"unio/imagestore"
)

const actionLoad = "Loading layer"

// collectWait is how long a failed load waits for its turn to clean up. If
// others keep the store busy, the next collection does it.
const collectWait = 2 * time.Second

// Load brings all images of an archive into the store and returns them in
// their order in the archive. When it fails, no image was added, and the
// layers that had come in already are removed again.
func Load(ctx context.Context, st *imagestore.Store, src Source, o LoadOptions) ([]Loaded, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	list, err := load(ctx, st, src, o)
	if err == nil {
		return list, nil
	}
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), collectWait)
	defer cancel()
	if _, cerr := st.Collect(cleanup); cerr != nil {
		o.Log.Info("clean up after a failed load", "err", cerr)
	}
	return nil, err
}

func load(ctx context.Context, st *imagestore.Store, src Source, o LoadOptions) ([]Loaded, error) {
	release, err := st.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	b, err := open(ctx, st, src, o)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	list, err := images(b, o.Log)
	if err != nil {
		return nil, err
	}
	l := &loader{st: st, box: b, o: o, layers: map[digest.Digest]imagestore.Layer{}}
	if err := l.bringLayers(ctx, list); err != nil {
		return nil, err
	}
	var loaded []Loaded
	for _, f := range list {
		more, err := l.addImage(ctx, f)
		if err != nil {
			return nil, err
		}
		loaded = append(loaded, more...)
	}
	return loaded, nil
}

// loader is one run of Load.
type loader struct {
	st     *imagestore.Store
	box    box
	o      LoadOptions
	layers map[digest.Digest]imagestore.Layer // by diffID
}

// bringLayers adds the layers of all images, each once, several at a time.
func (l *loader) bringLayers(ctx context.Context, list []*found) error {
	var todo []foundLayer
	seen := map[digest.Digest]bool{}
	for _, f := range list {
		for _, fl := range f.layers {
			if !seen[fl.diffID] {
				seen[fl.diffID] = true
				todo = append(todo, fl)
			}
		}
	}
	results := make([]imagestore.Layer, len(todo))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(l.box.parallel())
	for i, fl := range todo {
		g.Go(func() (err error) {
			results[i], err = l.box.layer(gctx, fl.name, l.options(fl))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, fl := range todo {
		l.layers[fl.diffID] = results[i]
	}
	return nil
}

func (l *loader) options(fl foundLayer) imagestore.LayerOptions {
	return imagestore.LayerOptions{
		Digest: fl.desc.Digest, Size: fl.desc.Size, MediaType: fl.desc.MediaType,
		DiffID: fl.diffID, KeepCompressed: fl.desc.Digest != "",
		Progress: l.o.Progress, ID: imagestore.ShortID(fl.diffID), Action: actionLoad,
	}
}

// addImage adds one image whose layers are there.
func (l *loader) addImage(ctx context.Context, f *found) ([]Loaded, error) {
	a := imagestore.NewImage{Config: f.config, Manifest: f.manifest, Names: f.names, Parent: l.parent(ctx, f)}
	for _, fl := range f.layers {
		a.Layers = append(a.Layers, l.layers[fl.diffID])
	}
	id := f.id()
	loaded := []Loaded{}
	for _, name := range f.names {
		n, err := imagestore.ParseName(name)
		if err != nil {
			return nil, err
		}
		e := Loaded{Name: reference.FamiliarString(n), ID: id}
		old, err := l.st.Lookup(ctx, name)
		if err == nil && old.ID != id {
			e.Replaced = old.ID
		}
		loaded = append(loaded, e)
	}
	if len(f.names) == 0 {
		loaded = append(loaded, Loaded{ID: id})
	}
	if _, err := l.st.AddImage(ctx, a); err != nil {
		return nil, fmt.Errorf("image %s: %w", imagestore.ShortID(id), err)
	}
	return loaded, nil
}

// parent is the parent that a docker archive gives an image, if it is there.
func (l *loader) parent(ctx context.Context, f *found) digest.Digest {
	if f.parent == "" {
		return ""
	}
	if _, err := l.st.Get(ctx, f.parent); err != nil {
		if !errors.Is(err, imagestore.ErrNotFound) {
			l.o.Log.Warn("look for parent", "parent", f.parent, "err", err)
		}
		return ""
	}
	return f.parent
}
