package container

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/opencontainers/go-digest"

	"unio/imagestore"
)

// recordVersion is the form of config.json that this package writes.
const recordVersion = 1

// maxRecord bounds the size of a record, in bytes: an image's config has at
// most 4 MiB.
const maxRecord = 8 << 20

// Record is what config.json holds.
type Record struct {
	Version   int
	ID        string        // 64 hex digits
	Name      string        // without a slash
	Image     digest.Digest // ID of the image: the digest of its config
	ImageName string        // the image as the user called it
	Created   time.Time
	// Config is the image's, as it was at creation, with what the user
	// changed.
	Config imagestore.RunConfig
	// Host is what the container has of the host, and Mounts what is mounted
	// into it.
	Host   HostConfig
	Mounts []MountPoint
	// Privileged says that root made the upper: owners, devices and
	// trusted.* attributes are real. It never changes.
	Privileged bool
}

// CreateOptions describe a new container.
type CreateOptions struct {
	Name      string        // empty: a generated one
	Image     digest.Digest // of the image's config
	ImageName string        // as the user called it; empty: the ID is shown
	Config    imagestore.RunConfig
	Host      HostConfig
	Mounts    []MountPoint
}

// Create makes a container with an empty upper. It gives ErrName for a
// malformed name and ErrConflict for a name that is taken.
func (s *Store) Create(o CreateOptions) (*Container, error) {
	if o.Name = strings.TrimPrefix(o.Name, "/"); o.Name != "" {
		if err := CheckName(o.Name); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("create container: %w", err)
	}
	unlock, err := lockFile(filepath.Join(s.dir, "lock"), true)
	if err != nil {
		return nil, fmt.Errorf("create container: %w", err)
	}
	defer unlock()
	s.sweep()
	if o.Name, err = s.freeName(o.Name); err != nil {
		return nil, err
	}
	c := &Container{Record: Record{
		Version: recordVersion, ID: newID(), Name: o.Name,
		Image: o.Image, ImageName: o.ImageName, Config: o.Config, Host: o.Host, Mounts: o.Mounts,
		Created: time.Now().UTC(), Privileged: os.Geteuid() == 0,
	}, State: State{Status: StatusCreated}}
	c.dir = filepath.Join(s.dir, c.ID)
	if err := s.publish(c); err != nil {
		return nil, fmt.Errorf("create container %s: %w", c.Name, err)
	}
	return c, nil
}

// tempPrefix starts the names of folders that are being made or removed.
const tempPrefix = ".tmp-"

// publish builds the folder of a container aside and renames it into place, so
// that a crash leaves all of it or something that sweep removes.
func (s *Store) publish(c *Container) error {
	temp := filepath.Join(s.dir, tempPrefix+c.ID)
	if err := os.Mkdir(temp, 0o700); err != nil {
		return err
	}
	for _, dir := range []string{"upper", "work"} {
		if err := os.Mkdir(filepath.Join(temp, dir), 0o700); err != nil {
			return err
		}
	}
	// The upper's mode is the mode of the mount's root folder until the
	// union gives it the image's.
	if err := os.Chmod(filepath.Join(temp, "upper"), 0o755); err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(temp, "config.json"), &c.Record); err != nil {
		return err
	}
	if err := os.Rename(temp, c.dir); err != nil {
		return err
	}
	return syncDir(s.dir)
}

// sweep removes what a crash left of folders half made or half removed. The
// caller holds the lock of all containers.
func (s *Store) sweep() {
	left, _ := filepath.Glob(filepath.Join(s.dir, tempPrefix+"*"))
	for _, dir := range left {
		if err := removeTree(dir); err != nil {
			s.log.Warn("left-over of a crash stays", "dir", dir, "err", err)
		}
	}
}

// load reads one record.
func (s *Store) load(id string) (*Container, error) {
	c := &Container{dir: filepath.Join(s.dir, id)}
	if err := readJSON(filepath.Join(c.dir, "config.json"), &c.Record); err != nil {
		return nil, err
	}
	switch {
	case c.Version != recordVersion:
		return nil, fmt.Errorf("container %s: record has version %d, this is for version %d", id, c.Version, recordVersion)
	case c.ID != id:
		return nil, fmt.Errorf("container %s: record says it is %q", id, c.ID)
	case CheckName(c.Name) != nil:
		return nil, fmt.Errorf("container %s: record has a bad name", id)
	case c.Image.Validate() != nil:
		return nil, fmt.Errorf("container %s: record has a bad image ID", id)
	}
	return c, c.readState()
}

// newID makes a container ID: 256 random bits in hex. One whose short form is
// all digits is passed over, since scripts would take it for a number.
func newID() string {
	for {
		var b [32]byte
		rand.Read(b[:]) // never fails (Go 1.24)
		id := hex.EncodeToString(b[:])
		if strings.Trim(id[:12], "0123456789") != "" {
			return id
		}
	}
}

func validID(id string) bool {
	return len(id) == 64 && strings.Trim(id, "0123456789abcdef") == ""
}

// encodeJSON writes v in the form of all files of this package.
func encodeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// writeJSON replaces the file at path, durably.
func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := renameio.WriteFile(path, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

// readJSON reads a file that writeJSON wrote.
func readJSON(path string, v any) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if st.Size() > maxRecord {
		return fmt.Errorf("read %s: larger than %d bytes", path, maxRecord)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// removeTree removes a folder and what it holds, also folders that their owner
// may not enter, which an ordinary user's upper can hold.
func removeTree(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	openUp := func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return nil // RemoveAll reports what really stands in the way
	}
	// WalkDir opens a folder after the call for it: by then it is open.
	_ = filepath.WalkDir(dir, openUp)
	return os.RemoveAll(dir)
}
