package container

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/go-digest"

	"unio/unionfs/transport"
)

// Mount says that something is mounted on a folder, as its server noted it
// under the run root.
type Mount struct {
	ID        string // the container's, or one of its own for the mount of an image
	Dir       string // absolute, without symbolic links
	Container string // ID; empty: an image is mounted, read-only
	Name      string // of the container
	Image     digest.Digest
	ImageName string
	ReadOnly  bool
	Server    process
	Keeper    process // starts another server when that one dies; none for a moment after mounting
	Created   time.Time
	Transport transport.Kind // how requests come: transport.Dev or transport.Uring; empty in notes of older servers
	Made      []string       // folders made for the mount, outermost first, which go with it
	Log       string         // file the server writes to

	// Dead says that server and keeper have ended without unmounting. It is found
	// out by whoever reads the note.
	Dead bool `json:"-"`
}

// Target is what is mounted, as users call it.
func (m *Mount) Target() string { return cmp.Or(m.Name, m.ImageName, m.Image.String()) }

func (s *Store) mountsDir() string { return filepath.Join(s.runRoot, "mounts") }

func (s *Store) notePath(id string) string { return filepath.Join(s.mountsDir(), id+".json") }

// Mounts returns what is mounted, the oldest first, dead mounts included. Notes
// of mounts that are gone, as after a reboot, are removed on the way.
func (s *Store) Mounts() ([]*Mount, error) {
	entries, err := os.ReadDir(s.mountsDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	var list []*Mount
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || !validID(id) {
			continue
		}
		m, err := s.readNote(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue // unmounted just now
		}
		if err != nil {
			s.log.Error("mount left out", "id", id, "err", err)
			continue
		}
		if s.settle(m) {
			list = append(list, m)
		}
	}
	slices.SortStableFunc(list, func(a, b *Mount) int { return a.Created.Compare(b.Created) })
	return list, nil
}

// settle finds out whether a noted mount is there, and sets Dead. A note
// without a mount and without a server is removed. Nothing is asked of the
// server, which may hang.
func (s *Store) settle(m *Mount) bool {
	mounted, err := isMounted(m.Dir)
	if err != nil {
		s.log.Error("mount table", "err", err)
		return false
	}
	alive := m.Server.alive() || m.Keeper.alive()
	if !mounted && !alive {
		s.forget(m)
	}
	m.Dead = !alive
	return mounted
}

// fsType is what the mount table calls our mounts.
const fsType = "fuse.unio"

// isMounted reports whether a FUSE filesystem is what one sees at dir, an
// absolute path without symbolic links.
func isMounted(dir string) (bool, error) { return isMountedAs(dir, "fuse") }

// isMountedAs reports whether the uppermost mount at dir is of a type that
// starts with prefix.
func isMountedAs(dir, prefix string) (bool, error) {
	list, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) { return i.Mountpoint != dir, false })
	if err != nil {
		return false, fmt.Errorf("read the mount table: %w", err)
	}
	return len(list) > 0 && strings.HasPrefix(list[len(list)-1].FSType, prefix), nil
}

func (s *Store) readNote(id string) (*Mount, error) {
	m := &Mount{}
	if err := readJSON(s.notePath(id), m); err != nil {
		return nil, err
	}
	if m.ID != id || !filepath.IsAbs(m.Dir) {
		return nil, fmt.Errorf("note of mount %s is malformed", id)
	}
	return m, nil
}

// note records a mount. A reboot ends the mount, so nothing is flushed to disk.
func (s *Store) note(m *Mount) error {
	if err := os.MkdirAll(s.mountsDir(), 0o700); err != nil {
		return err
	}
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	path := s.notePath(m.ID)
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// forget removes the note of a mount that is gone, and the folders that were
// made for it, if they are empty as they should be.
func (s *Store) forget(m *Mount) {
	if err := os.Remove(s.notePath(m.ID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("note of a mount stays", "id", m.ID, "err", err)
	}
	for _, kind := range []string{statsSocket, controlSocket} {
		_ = s.inMountsDir(m.ID, kind, os.Remove) // left by a server that was killed
	}
	if m.Container == "" && m.Log != "" {
		os.Remove(m.Log)
	}
	removeMade(m.Made)
}

// removeMade removes folders that were made on the way to a mount point.
func removeMade(made []string) {
	for _, dir := range slices.Backward(made) {
		if os.Remove(dir) != nil {
			return // someone else uses it by now
		}
	}
}

// FindMount finds a mount by its folder, or by the name, ID or unique prefix
// of the ID of its container. It gives ErrNotMounted.
func (s *Store) FindMount(ref string) (*Mount, error) {
	list, err := s.Mounts()
	if err != nil {
		return nil, err
	}
	if m := s.byDir(list, ref); m != nil {
		return m, nil
	}
	c, err := s.Lookup(ref)
	switch {
	case err == nil:
		return onlyMount(list, c.ID, c.Name)
	case errors.Is(err, ErrAmbiguous):
		return nil, err
	case isPath(ref):
		return nil, say(ErrNotMounted, "%s: not mounted by unio", ref)
	}
	return nil, say(ErrNotMounted, "%s: no such container and no such mount", ref)
}

// byDir finds the newest mount on a folder. A path that needs no resolving is
// not touched: the server behind it may hang, or count its requests.
func (s *Store) byDir(list []*Mount, dir string) *Mount {
	on := func(path string) *Mount {
		for _, m := range slices.Backward(list) {
			if m.Dir == path {
				return m
			}
		}
		return nil
	}
	if abs, err := filepath.Abs(dir); err == nil {
		if m := on(abs); m != nil {
			return m
		}
	}
	return on(realPath(dir))
}

func onlyMount(list []*Mount, id, name string) (*Mount, error) {
	for _, m := range list {
		if m.Container == id {
			return m, nil
		}
	}
	return nil, say(ErrNotMounted, "container %s is not mounted", name)
}

// isPath reports whether a word can only mean a folder.
func isPath(ref string) bool { return strings.ContainsRune(ref, '/') || ref == "." || ref == ".." }

// realPath is the absolute path of a folder without symbolic links. The folder
// itself may be missing or a dead mount, which cannot be looked at.
func realPath(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		return real
	}
	parent := filepath.Dir(abs)
	if parent == abs {
		return abs
	}
	return filepath.Join(realPath(parent), filepath.Base(abs))
}

// isMountPoint reports whether anything is mounted on a folder.
func isMountPoint(dir string) (bool, error) {
	list, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(dir))
	if err != nil {
		return false, fmt.Errorf("read the mount table: %w", err)
	}
	return len(list) > 0, nil
}
