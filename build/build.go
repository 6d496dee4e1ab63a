// Package build makes new images: from what a container changed ([Commit]),
// from a tar of a root filesystem ([Import]), and by instructions that change a
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
	// Stubs are paths of empty files and folders that are in the upper as long as
	// a program runs, to mount on, outermost first; they are no changes.
	Stubs []string
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
	view, err := src.open(ctx, st)
	if err != nil {
		return nil, err
	}
	changes, err := layer.Diff(ctx, src.upper(), view)
	if err != nil {
		return nil, errors.Join(err, view.Close())
	}
	return &Changes{Changes: changes, lower: view}, nil
}

// Export writes the whole tree of a container, as a mount of it shows it, as
// one flat tar.
func Export(ctx context.Context, st *imagestore.Store, src Source, w io.Writer) error {
	view, err := src.open(ctx, st)
	if err != nil {
		return err
	}
	return errors.Join(layer.WriteMerged(ctx, src.upper(), view, w), view.Close())
}

// open opens the image below the changes, once these are all in the upper.
func (s *Source) open(ctx context.Context, st *imagestore.Store) (*imagestore.View, error) {
	img, err := st.Get(ctx, s.Container.Image)
	if err != nil {
		return nil, err
	}
	if err := s.flush(); err != nil {
		return nil, err
	}
	return st.View(ctx, img)
}

func (s *Source) upper() layer.Upper {
	return layer.Upper{Dir: s.Container.UpperDir(), Work: s.Container.WorkDir(), Root: s.Container.Privileged, Hide: s.Stubs}
}

// flush lets the kernel hand all written data of the mount to its server. An
// upper that is not mounted must have been left whole.
func (s *Source) flush() error {
	if s.Mounted == "" {
		return s.Container.CheckUpper()
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
