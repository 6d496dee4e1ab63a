// Package build makes new images: from what a container changed ([Commit]),
// from a tar of a root filesystem (Import), and by instructions that change a
// config ([ApplyChanges]). Dockerfiles are the business of package
// build/dockerfile.
//
// The package puts configs, histories and layers together. How layers look and
// where they are kept is known to imagestore.
package build

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"unio/container"
	"unio/imagestore"
	"unio/imagestore/layer"
)

// Source is a container whose changes are looked at.
type Source struct {
	Container *container.Container
	// Mounted is the folder it is mounted on; empty: it is not. Pending
	// writes to a mount are flushed first.
	Mounted string
}

// Changes is what a container changed. It must be closed.
type Changes struct {
	*layer.Changes
	lower io.Closer
}

// Close releases the image below the changes.
func (c *Changes) Close() error { return c.lower.Close() }

// Diff finds what a container changed against its image.
func Diff(ctx context.Context, st *imagestore.Store, src Source) (*Changes, error) {
	img, err := st.Get(ctx, src.Container.Image)
	if err != nil {
		return nil, err
	}
	if err := src.flush(); err != nil {
		return nil, err
	}
	view, err := st.View(ctx, img)
	if err != nil {
		return nil, err
	}
	changes, err := layer.Diff(ctx, layer.Upper{
		Dir: src.Container.UpperDir(), Work: src.Container.WorkDir(), Root: src.Container.Privileged,
	}, view)
	if err != nil {
		return nil, errors.Join(err, view.Close())
	}
	return &Changes{Changes: changes, lower: view}, nil
}

// flush lets the kernel hand all written data of the mount to its server.
func (s *Source) flush() error {
	if s.Mounted == "" {
		return nil
	}
	fd, err := unix.Open(s.Mounted, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("flush %s: %w", s.Mounted, err)
	}
	defer unix.Close(fd)
	if err := unix.Syncfs(fd); err != nil {
		return fmt.Errorf("flush %s: %w", s.Mounted, err)
	}
	return nil
}
