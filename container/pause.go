package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"unio/container/runner"
)

// A paused container has a file of its own beside its state, which the supervisor
// alone writes. It is there before the first process is stopped and goes after the
// last one runs again, so that what was stopped is never taken for running.

func (c *Container) pausedPath() string { return filepath.Join(c.dir, "paused") }

// frozenPath is a file that is there if this run was ever paused.
func (c *Container) frozenPath() string { return filepath.Join(c.dir, "frozen") }

// paused reports whether a container that runs has been paused.
func (c *Container) paused() bool {
	if !c.State.Running() {
		return false
	}
	_, err := os.Lstat(c.pausedPath())
	return err == nil
}

// Word is what lists call a state.
func (s *State) Word() string {
	if s.Paused {
		return "paused"
	}
	return string(s.Status)
}

// Pause stops all processes of a container where they stand. It gives
// ErrNotRunning.
func (s *Store) Pause(c *Container) error {
	switch {
	case c.State.Status == StatusRestarting:
		return say(ErrNotRunning, "Container %s is restarting, wait until the container is running", c.ID)
	case !c.State.Running():
		return say(ErrNotRunning, "Container %s is not running", c.ID)
	}
	mark, err := os.OpenFile(c.pausedPath(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return say(ErrRunning, "Container %s is already paused", c.ID)
	}
	if err == nil {
		err = errors.Join(mark.Close(), os.WriteFile(c.frozenPath(), nil, 0o600))
	}
	if err == nil {
		err = runner.Freeze(c.ID, c.Processes)
	}
	if err != nil {
		return fmt.Errorf("Cannot pause container %s: %w", c.ID, errors.Join(err, s.Resume(c))) //nolint:staticcheck // docker's words
	}
	return nil
}

// Unpause lets a paused container go on.
func (s *Store) Unpause(c *Container) error {
	switch {
	case !c.State.Running():
		return say(ErrNotRunning, "Container %s is not running", c.ID)
	case !c.paused():
		return say(ErrRunning, "Container %s is not paused", c.ID)
	}
	return s.Resume(c)
}

// Resume lets a container go on if it is paused.
func (*Store) Resume(c *Container) error {
	if _, err := os.Lstat(c.pausedPath()); err != nil {
		return nil //nolint:nilerr // it is not paused, or gone
	}
	if err := runner.Thaw(c.ID); err != nil {
		return fmt.Errorf("unpause container %s: %w", c.Name, err)
	}
	if err := os.Remove(c.pausedPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unpause container %s: %w", c.Name, err)
	}
	c.State.Paused = false
	return nil
}

// Resumed forgets that a container whose run has ended was ever paused, and takes
// away the cgroup that it was stopped by, which the runner knows nothing of.
func (r *Run) Resumed() error {
	if err := r.store.Resume(r.Container); err != nil {
		return err
	}
	if err := os.Remove(r.frozenPath()); err == nil {
		runner.RemoveCgroups(r.ID)
	}
	return nil
}
