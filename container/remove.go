package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// RemoveOptions say how to remove a container.
type RemoveOptions struct {
	Force bool // unmount it first if it is mounted
}

// Remove removes a container with all that it changed. It gives ErrMounted for
// a mounted one, unless forced.
func (s *Store) Remove(ctx context.Context, c *Container, o RemoveOptions) error {
	if err := s.endMount(ctx, c, o.Force); err != nil {
		return err
	}
	unlockAll, err := lockFile(filepath.Join(s.dir, "lock"), true)
	if err != nil {
		return fmt.Errorf("remove container %s: %w", c.Name, err)
	}
	defer unlockAll()
	unlock, err := lockFile(c.lockPath(), false)
	if errors.Is(err, errLocked) {
		return say(ErrMounted, "cannot remove container %q: container is in use: its server has not ended yet", "/"+c.Name)
	}
	if err != nil {
		return fmt.Errorf("remove container %s: %w", c.Name, err)
	}
	defer unlock()
	temp := filepath.Join(s.dir, tempPrefix+c.ID)
	if err := os.Rename(c.dir, temp); err != nil {
		return fmt.Errorf("remove container %s: %w", c.Name, err)
	}
	if err := removeTree(temp); err != nil {
		return fmt.Errorf("remove container %s: %w", c.Name, err)
	}
	return syncDir(s.dir)
}

// endMount makes sure that a container is not mounted.
func (s *Store) endMount(ctx context.Context, c *Container, force bool) error {
	list, err := s.Mounts()
	if err != nil {
		return err
	}
	m, err := onlyMount(list, c.ID, c.Name)
	switch {
	case err != nil:
		return nil
	case m.Dead:
		return s.clean(m)
	case force:
		return s.unmount(ctx, m, UnmountOptions{Lazy: true})
	}
	return say(ErrMounted, "cannot remove container %q: container is mounted on %s: unmount it before removing or force remove", "/"+c.Name, m.Dir)
}
