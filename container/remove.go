package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// RemoveOptions say how to remove a container.
type RemoveOptions struct {
	Force bool // end it first if it runs, unmount it if it is mounted
}

// Remove removes a container with all that it changed. It gives ErrRunning for
// one that runs and ErrMounted for a mounted one, unless forced.
func (s *Store) Remove(ctx context.Context, c *Container, o RemoveOptions) error {
	if c.State.Active() {
		if c.State.Paused && !o.Force {
			return say(ErrRunning, "You cannot remove a paused container %s. "+
				"Unpause and then stop the container before attempting removal or force remove", c.ID)
		}
		if !o.Force {
			return say(ErrRunning, "You cannot remove a running container %s. "+
				"Stop the container before attempting removal or force remove", c.ID)
		}
		if err := s.kill(ctx, c); err != nil {
			return err
		}
	}
	r, err := s.Hold(c)
	if errors.Is(err, ErrNotFound) && c.Host.AutoRemove {
		return nil // its supervisor was quicker
	}
	if err != nil {
		return err
	}
	defer r.Close()
	if err := s.endMount(ctx, c, o.Force); err != nil {
		return err
	}
	return r.Remove(ctx)
}

// kill ends a container that runs and waits until its supervisor has seen to
// the rest.
func (s *Store) kill(ctx context.Context, c *Container) error {
	if err := s.MarkStopped(c); err != nil {
		return err
	}
	if err := c.Signal(unix.SIGKILL); err != nil && !errors.Is(err, ErrNotRunning) {
		return say(err, "Could not kill running container %s, cannot remove - %v", c.ID, err)
	}
	if err := s.Resume(c); err != nil { // what is stopped does not end
		return err
	}
	_, err := s.Wait(ctx, c)
	return err
}

// Remove removes a container that is held and not mounted.
func (r *Run) Remove(context.Context) error {
	s, c := r.store, r.Container
	if err := r.removeSocket(); err != nil {
		return fmt.Errorf("remove container %s: %w", c.Name, err)
	}
	unlockAll, err := lockFile(filepath.Join(s.dir, "lock"), true)
	if err != nil {
		return fmt.Errorf("remove container %s: %w", c.Name, err)
	}
	defer unlockAll()
	// Without a mount a server ends as soon as the kernel has let go of what
	// the container's processes had open.
	lock, err := lockWithin(c.lockPath(), serverEnd)
	if errors.Is(err, errLocked) {
		return say(ErrMounted, "cannot remove container %q: container is in use: its server has not ended yet", "/"+c.Name)
	}
	if err != nil {
		return fmt.Errorf("remove container %s: %w", c.Name, err)
	}
	defer lock.Close()
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
