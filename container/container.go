// Package container keeps containers: named writable layers over an image.
// It knows their records, mounts and unmounts them through a server process
// in the background, and runs programs in them.
//
// A container is a folder of the store, containers/<id>, with
//
//	config.json   the record ([Record]), replaced atomically
//	upper, work   what the union (package cow) writes
//	state.json    how its last run went ([State]), replaced atomically
//	ID-json.log   what the program printed, where it is kept
//	log           what the server of its mount said
//	lock          held (flock) by that server while it lives
//	run           held by its supervisor (package supervise) while it lives
//
// What a reboot ends lies under the run root: mounts/<id>.json says where
// something is mounted and by which process ([Mount]). The kernel is believed,
// not these notes: a note without a mount is removed, a mount without a server
// ("Transport endpoint is not connected") is cleaned.
//
// Locks, outermost first: a container's run lock, containers/lock (creating,
// naming and removing records), a container's lock. Only the first is held
// while a program runs: a state "running" whose run lock is free is a lie that
// a killed supervisor has left, and whoever lists containers puts it right.
//
// The package does not create images (package build) and does not print.
package container

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"unio/cow"
)

// Sentinels of the package.
var (
	// ErrNotFound says that no container has that name or ID.
	ErrNotFound = errors.New("no such container")
	// ErrAmbiguous says that several containers' IDs start so.
	ErrAmbiguous = errors.New("ambiguous container ID")
	// ErrName says that a name is malformed.
	ErrName = errors.New("invalid container name")
	// ErrConflict says that a name is taken.
	ErrConflict = errors.New("container name in use")
	// ErrMounted says that a container is mounted and so cannot be mounted
	// once more or removed.
	ErrMounted = errors.New("container is mounted")
	// ErrRunning says that a container runs and so cannot be started once more
	// or removed.
	ErrRunning = errors.New("container is running")
	// ErrNotRunning says that a container does not run.
	ErrNotRunning = errors.New("container is not running")
	// ErrNotMounted says that nothing of unio is mounted there.
	ErrNotMounted = errors.New("not mounted")
	// ErrBusy says that a mount is in use and cannot be unmounted.
	ErrBusy = errors.New("target is busy")
)

// message is an error with a text for users that is also one of the sentinels.
type message struct {
	text string
	kind error
}

func (m *message) Error() string { return m.text }
func (m *message) Unwrap() error { return m.kind }

// say builds a message.
func say(kind error, format string, args ...any) error {
	return &message{text: fmt.Sprintf(format, args...), kind: kind}
}

// Store finds, creates and removes containers.
type Store struct {
	dir     string // containers, inside of the store
	root    string // the store
	runRoot string
	log     *slog.Logger
}

// Open returns the containers of the store at root. Their mounts are noted
// under runRoot. Folders are made when something is put into them.
func Open(root, runRoot string, log *slog.Logger) *Store {
	return &Store{dir: filepath.Join(root, "containers"), root: root, runRoot: runRoot, log: log}
}

// Container is one container as its record was when it was looked up.
type Container struct {
	Record
	State State
	dir   string
}

// UpperDir is the folder that holds what the container changed.
func (c *Container) UpperDir() string { return filepath.Join(c.dir, "upper") }

// WorkDir is the union's own folder beside the upper.
func (c *Container) WorkDir() string { return filepath.Join(c.dir, "work") }

// CheckUpper refuses a container whose last mount was volatile and did not end
// cleanly: its upper may hold files that were never written out.
func (c *Container) CheckUpper() error {
	if err := cow.CheckVolatile(c.WorkDir()); err != nil {
		return fmt.Errorf("container %s: %w", c.Name, err)
	}
	return nil
}

// Dir is the folder of the container.
func (c *Container) Dir() string { return c.dir }

// OutputPath is where the output of the program is kept, if it is: docker's
// json-file log.
func (c *Container) OutputPath() string { return filepath.Join(c.dir, c.ID+"-json.log") }

// LogPath is where the server of the container's mount writes.
func (c *Container) LogPath() string { return filepath.Join(c.dir, "log") }

func (c *Container) lockPath() string { return filepath.Join(c.dir, "lock") }

// ShortID is the ID as it is shown.
func (c *Container) ShortID() string { return c.ID[:12] }

// List returns all containers, the newest first. A record that cannot be read
// is logged and left out.
func (s *Store) List() ([]*Container, error) {
	list, unreadable, err := s.list()
	list = s.settled(list)
	if unreadable != nil {
		s.log.Error("containers left out", "err", unreadable)
	}
	return list, err
}

// ListIntact is List for those who act on what is not in it: a record that
// cannot be read is an error.
func (s *Store) ListIntact() ([]*Container, error) {
	list, unreadable, err := s.list()
	list = s.settled(list)
	if err == nil && unreadable != nil {
		err = fmt.Errorf("%w (mend or remove its folder below %s)", unreadable, s.dir)
	}
	return list, err
}

func (s *Store) list() (list []*Container, unreadable, err error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("list containers: %w", err)
	}
	for _, e := range entries {
		if !validID(e.Name()) {
			continue
		}
		c, err := s.load(e.Name())
		switch {
		case err == nil:
			list = append(list, c)
		case !errors.Is(err, fs.ErrNotExist): // what is half made or half removed has no record
			unreadable = errors.Join(unreadable, fmt.Errorf("container %.12s: unreadable record: %w", e.Name(), err))
		}
	}
	slices.SortStableFunc(list, func(a, b *Container) int { return b.Created.Compare(a.Created) })
	return list, unreadable, nil
}

// settled makes all states true, and leaves out what that has removed.
func (s *Store) settled(list []*Container) []*Container {
	return slices.DeleteFunc(list, func(c *Container) bool {
		was := c.State.Active()
		s.settleRun(c)
		return was && c.State.Status == StatusDead
	})
}

// Lookup finds a container by ID, name or unique prefix of an ID, in this
// order. It gives ErrNotFound or ErrAmbiguous.
func (s *Store) Lookup(ref string) (*Container, error) {
	list, err := s.List()
	if err != nil {
		return nil, err
	}
	name := strings.TrimPrefix(ref, "/")
	var byPrefix []*Container
	for _, c := range list {
		if c.ID == ref || c.Name == name {
			return c, nil
		}
		if ref != "" && strings.HasPrefix(c.ID, ref) {
			byPrefix = append(byPrefix, c)
		}
	}
	switch len(byPrefix) {
	case 0:
		return nil, say(ErrNotFound, "No such container: %s", ref)
	case 1:
		return byPrefix[0], nil
	}
	return nil, say(ErrAmbiguous, "multiple IDs found with provided prefix: %s", ref)
}

// MountOf finds the mount of a container. It gives ErrNotMounted.
func (s *Store) MountOf(c *Container) (*Mount, error) {
	list, err := s.Mounts()
	if err != nil {
		return nil, err
	}
	return onlyMount(list, c.ID, c.Name)
}
