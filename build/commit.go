package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"unio/imagestore"
	"unio/imagestore/layer"
)

// CommitOptions describe the image to make of a container.
type CommitOptions struct {
	Source
	Name    string // NAME[:TAG]; empty: the image has only its ID
	Author  string
	Message string
	Changes []string // Dockerfile instructions, see [ApplyChanges]

	Progress imagestore.Progress // nil: silent
}

// Committed is the result of a commit.
type Committed struct {
	Image *imagestore.Image
	// Torn says which files changed while they were read, which happens to a
	// container in use; nil: none. They are in the image with the size that
	// they had first.
	Torn error
}

// Commit makes a new image: the container's image, what the container changed
// as one more layer, and a config with the changes asked for. A container
// without changes gives no layer, only a new entry in the history. Two commits
// of the same state give the same layer.
//
// Errors are those of the store; ErrChange; imagestore.ErrInvalid for a bad
// name. Nothing refers to the new image before it is complete.
func Commit(ctx context.Context, st *imagestore.Store, o CommitOptions) (*Committed, error) {
	var names []string
	if o.Name != "" {
		if _, err := imagestore.ParseTag(o.Name); err != nil {
			return nil, err
		}
		names = []string{o.Name}
	}
	run, err := cloneConfig(&o.Container.Config)
	if err != nil {
		return nil, err
	}
	if err := ApplyChanges(&run.DockerOCIImageConfig, o.Changes); err != nil {
		return nil, err
	}
	release, err := st.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	base, err := st.Get(ctx, o.Container.Image)
	if err != nil {
		return nil, err
	}
	added, torn, err := addChanges(ctx, st, &o)
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(o.config(base, run, added))
	if err != nil {
		return nil, fmt.Errorf("commit: write config: %w", err)
	}
	img, err := st.AddImage(ctx, imagestore.NewImage{Config: config, Names: names, Parent: base.ID})
	if err != nil {
		return nil, err
	}
	return &Committed{Image: img, Torn: torn}, nil
}

// cloneConfig copies the part of a container's config that is an image's, so
// that changes leave the original alone. What says how this one container was
// attached, named or called stays behind.
func cloneConfig(c *imagestore.RunConfig) (*imagestore.RunConfig, error) {
	data, err := json.Marshal(c.DockerOCIImageConfig)
	if err != nil {
		return nil, fmt.Errorf("copy config: %w", err)
	}
	clone := &imagestore.RunConfig{}
	if err := json.Unmarshal(data, clone); err != nil {
		return nil, fmt.Errorf("copy config: %w", err)
	}
	return clone, nil
}

// addChanges puts what the container changed into the store as a layer; nil if
// it changed nothing.
func addChanges(ctx context.Context, st *imagestore.Store, o *CommitOptions) (added *imagestore.Layer, torn, err error) {
	changes, err := Diff(ctx, st, o.Source)
	if err != nil {
		return nil, nil, err
	}
	defer changes.Close()
	if changes.Empty() {
		return nil, nil, nil
	}
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := changes.WriteTar(ctx, w)
		if errors.Is(err, layer.ErrChanged) {
			written <- err // the tar is whole nevertheless
			err = nil
		} else {
			written <- nil // AddLayer gets the error from the pipe
		}
		w.CloseWithError(err)
	}()
	l, err := st.AddLayer(ctx, r, imagestore.LayerOptions{
		Progress: o.Progress, ID: o.Container.ShortID(), Action: "Committing",
	})
	r.CloseWithError(err) // ends the writer if the store gave up
	torn = <-written
	if err != nil {
		return nil, nil, fmt.Errorf("commit container %s: %w", o.Container.Name, err)
	}
	return &l, torn, nil
}

// config is the config of the new image.
func (o *CommitOptions) config(base *imagestore.Image, run *imagestore.RunConfig, added *imagestore.Layer) *imagestore.ImageConfig {
	now := time.Now().UTC()
	c := &imagestore.ImageConfig{
		Created: &now, Author: o.Author, Platform: base.Config.Platform, Config: *run,
		RootFS: ocispec.RootFS{Type: "layers"},
	}
	c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, base.Config.RootFS.DiffIDs...)
	c.History = append(c.History, base.Config.FullHistory()...)
	if added != nil {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, added.DiffID)
	}
	c.History = append(c.History, ocispec.History{
		Created: &now, CreatedBy: strings.Join(o.Container.Config.Cmd, " "),
		Author: o.Author, Comment: o.Message, EmptyLayer: added == nil,
	})
	return c
}
