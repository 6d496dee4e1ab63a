// Package volume keeps named folders that containers share and that outlive
// them: volumes/NAME of the store, with
//
//	volume.json   the record ([Volume])
//	_data         what containers see
//
// The names and messages are docker's of its "local" driver. Who uses a volume
// is known to the containers; the package is told.
package volume

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// Sentinels of the package.
var (
	// ErrNotFound says that no volume has that name.
	ErrNotFound = errors.New("no such volume")
	// ErrInUse says that a container needs a volume.
	ErrInUse = errors.New("volume is in use")
	// ErrName says that a name is malformed.
	ErrName = errors.New("invalid volume name")
)

// message is an error with docker's text that is also one of the sentinels.
type message struct {
	text string
	kind error
}

func (m *message) Error() string { return m.text }
func (m *message) Unwrap() error { return m.kind }

// Store finds, makes and removes volumes.
type Store struct{ dir string }

// Open returns the volumes of the store at root.
func Open(root string) *Store { return &Store{dir: filepath.Join(root, "volumes")} }

// Volume is the record of one volume.
type Volume struct {
	Name    string
	Created time.Time
	Labels  map[string]string
	Options map[string]string
	// Anonymous is true of one that was made for a container without a name.
	Anonymous bool
	// Filled is false until something has been put into it for the first time:
	// the first container that mounts it may fill it from its image.
	Filled bool

	dir string
}

// Mountpoint is the folder that containers see.
func (v *Volume) Mountpoint() string { return filepath.Join(v.dir, "_data") }

const nameRule = `[a-zA-Z0-9][a-zA-Z0-9_.-]`

// nameSyntax is the grammar of moby, volume/local.
var nameSyntax = regexp.MustCompile(`^` + nameRule + `+$`)

// maxName is the most bytes of a name: it is the name of a folder.
const maxName = 255

// CheckName gives ErrName, in docker's words, for a malformed name.
func CheckName(name string) error {
	if len(name) == 1 {
		return &message{fmt.Sprintf("create %s: volume name is too short, names should be at least two alphanumeric characters", name), ErrName}
	}
	if len(name) > maxName || !nameSyntax.MatchString(name) {
		return &message{fmt.Sprintf("create %s: %q includes invalid characters for a local volume name, only %q are allowed. "+
			"If you intended to pass a host directory, use absolute path", name, name, nameRule), ErrName}
	}
	return nil
}

// CreateOptions describe a new volume.
type CreateOptions struct {
	Name    string // empty: 64 hex digits of chance
	Labels  map[string]string
	Options map[string]string
}

// Create makes a volume, or finds the one of that name.
func (s *Store) Create(o CreateOptions) (*Volume, error) {
	v := &Volume{Name: o.Name, Created: time.Now().UTC().Truncate(time.Second), Labels: o.Labels, Options: o.Options}
	if o.Name == "" {
		var b [32]byte
		rand.Read(b[:]) // never fails (Go 1.24)
		v.Name, v.Anonymous = hex.EncodeToString(b[:]), true
	}
	if err := CheckName(v.Name); err != nil {
		return nil, err
	}
	if have, err := s.Get(v.Name); !errors.Is(err, ErrNotFound) {
		return have, err
	}
	v.dir = filepath.Join(s.dir, v.Name)
	if err := s.publish(v); err != nil {
		return nil, fmt.Errorf("create volume %s: %w", v.Name, err)
	}
	return s.Get(v.Name) // somebody else's, if that came first
}

// publish makes a volume aside and renames it into place.
func (s *Store) publish(v *Volume) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	s.sweep()
	temp, err := os.MkdirTemp(s.dir, tempPrefix)
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp) // nothing is left there after the rename
	made := *v
	made.dir = temp
	if err := os.Mkdir(made.Mountpoint(), 0o755); err != nil {
		return err
	}
	if err := os.Chmod(made.Mountpoint(), 0o755); err != nil {
		return err
	}
	if err := made.save(); err != nil {
		return err
	}
	err = unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, v.dir, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// tempPrefix starts the names of folders that are being made or removed; no
// volume is called so.
const tempPrefix = ".tmp-"

// tempAge is how old such a folder is when it counts as left by a crash. Making
// one takes milliseconds, and where removing one takes longer two can do it.
const tempAge = 10 * time.Minute

// sweep removes what crashes have left, which may be all the files of a volume.
// What cannot be removed now has another turn at the next change.
func (s *Store) sweep() {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return // whoever changes something says so
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), tempPrefix) {
			continue
		}
		if fi, err := e.Info(); err == nil && time.Since(fi.ModTime()) > tempAge {
			_ = os.RemoveAll(filepath.Join(s.dir, e.Name()))
		}
	}
}

func (v *Volume) save() error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(v.dir, "volume.json"), append(data, '\n'), 0o600)
}

// MarkFilled notes that a volume has got its first content.
func (v *Volume) MarkFilled() error {
	v.Filled = true
	if err := v.save(); err != nil {
		return fmt.Errorf("volume %s: %w", v.Name, err)
	}
	return nil
}

// Get finds a volume by its name.
func (s *Store) Get(name string) (*Volume, error) {
	missing := &message{fmt.Sprintf("get %s: no such volume", name), ErrNotFound}
	if CheckName(name) != nil {
		return nil, missing
	}
	v := &Volume{dir: filepath.Join(s.dir, name)}
	data, err := os.ReadFile(filepath.Join(v.dir, "volume.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missing
	}
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", name, err)
	}
	v.Name = name
	return v, nil
}

// List returns all volumes by name.
func (s *Store) List() ([]*Volume, error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	var list []*Volume
	for _, e := range entries {
		v, err := s.Get(e.Name())
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	slices.SortFunc(list, func(a, b *Volume) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// Remove removes a volume with what it holds. users are the IDs of the
// containers that need it: it gives ErrInUse if there are any.
func (s *Store) Remove(name string, users []string) error {
	v, err := s.Get(name)
	if err != nil {
		return err
	}
	if len(users) > 0 {
		return &message{fmt.Sprintf("remove %s: volume is in use - [%s]", name, strings.Join(users, ", ")), ErrInUse}
	}
	s.sweep()
	temp, err := os.MkdirTemp(s.dir, tempPrefix)
	if err != nil {
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	if err := os.Rename(v.dir, filepath.Join(temp, name)); err != nil {
		return errors.Join(fmt.Errorf("remove volume %s: %w", name, err), os.Remove(temp))
	}
	if err := os.RemoveAll(temp); err != nil {
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	return nil
}

// Size is what a volume takes on disk, its record included, in bytes. Files with
// several names count once.
func (v *Volume) Size() (int64, error) {
	var size int64
	seen := map[uint64]bool{}
	err := filepath.WalkDir(v.dir, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return nil // removed meanwhile
		}
		st, ok := fi.Sys().(*syscall.Stat_t)
		if !ok || st.Nlink > 1 && !d.IsDir() && seen[st.Ino] {
			return nil
		}
		seen[st.Ino] = true
		const unit = 512 // of st_blocks, whatever the filesystem (stat(2))
		size += st.Blocks * unit
		return nil
	})
	return size, err
}
