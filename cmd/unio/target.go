package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"unio/build"
	"unio/container"
	"unio/imagestore"
	"unio/unionfs/transport"
)

// containers opens the containers and their mounts.
func (e *env) containers() *container.Store {
	return container.Open(e.root, e.runRoot, e.log)
}

// openLower opens the merged tree of an image for a mount server.
func (e *env) openLower(ctx context.Context, id digest.Digest) (container.Lower, error) {
	st, err := e.store()
	if err != nil {
		return nil, err
	}
	img, err := st.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	view, err := st.View(ctx, img)
	if err != nil {
		return nil, fmt.Errorf("open image %s: %w", id, err)
	}
	return view, nil
}

// target is what a word on the command line names: a container, or else an
// image.
type target struct {
	container *container.Container
	image     *imagestore.Image
	name      string // the image as the user called it
}

// findTarget looks for a container and then for an image; but an image that is
// called so comes before a container whose ID begins so by chance. When there
// is neither, the error is about the image, as docker's is.
func (e *env) findTarget(ctx context.Context, name string) (*target, error) {
	c, noContainer := e.containers().Lookup(name)
	if noContainer == nil && (c.ID == name || c.Name == strings.TrimPrefix(name, "/")) {
		return &target{container: c}, nil
	}
	st, err := e.store()
	if err != nil {
		return nil, err
	}
	img, err := st.Lookup(ctx, name)
	none := errors.Is(noContainer, container.ErrNotFound)
	switch {
	case err == nil && (none || !strings.HasPrefix(img.ID.Encoded(), name)):
		return &target{image: img, name: name}, nil
	case noContainer == nil:
		return &target{container: c}, nil
	case none:
		return nil, err
	}
	return nil, noContainer
}

// newContainer makes a container of an image. The store is held meanwhile, so
// that the image is not collected before the container's record is there.
func (e *env) newContainer(ctx context.Context, t *target, name string) (*container.Container, error) {
	st, err := e.store()
	if err != nil {
		return nil, err
	}
	release, err := st.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if _, err := st.Get(ctx, t.image.ID); err != nil {
		return nil, err
	}
	return e.containers().Create(container.CreateOptions{
		Name: name, Image: t.image.ID, ImageName: t.name, Config: t.image.Config.Config,
	})
}

// command is the command line of this program with a hidden command, for work
// in another process with the same store.
func (e *env) command(words ...string) []string {
	line := []string{"/proc/self/exe", "--root=" + e.root, "--runroot=" + e.runRoot}
	if e.debug {
		line = append(line, "--debug")
	}
	if e.transport != transport.Auto {
		line = append(line, "--transport="+string(e.transport))
	}
	return append(line, words...)
}

// source finds the container whose changes are meant: by its name or ID, or by
// the folder it is mounted on.
func (e *env) source(ctx context.Context, ref string) (*build.Source, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	cs := e.containers()
	m, err := cs.FindMount(ref)
	switch {
	case err == nil && m.Container == "" && m.Image == "":
		return nil, fmt.Errorf("%s is a mount of plain folders, without an image or a container", m.Dir)
	case err == nil && m.Container == "":
		return nil, fmt.Errorf("%s is a mount of image %s without a container: there are no changes", m.Dir, m.Target())
	case err == nil:
		found, err := cs.Lookup(m.Container)
		if err != nil {
			return nil, err
		}
		src := &build.Source{Container: found}
		if !m.Dead {
			src.Mounted, src.Stubs = m.Dir, cs.Stubs(found)
		}
		return src, nil
	case !errors.Is(err, container.ErrNotMounted):
		return nil, err
	}
	found, lookupErr := cs.Lookup(ref)
	if lookupErr != nil && strings.ContainsRune(ref, '/') {
		return nil, err
	}
	return &build.Source{Container: found}, lookupErr
}
