package imagestore

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ImageUsage is what one image takes on disk, in bytes: its manifests, its
// config, and its layers, each as it came and as tar, with their indexes.
type ImageUsage struct {
	*Image
	Unique     int64 // needed by this image alone
	Shared     int64 // needed by others too
	Containers int   // that use the image
}

// DiskUsage is what the whole store takes on disk, in bytes.
type DiskUsage struct {
	Images []ImageUsage
	Total  int64 // of all images, each file counted once
	Active int64 // of that, what images with containers need
	Cache  CacheUsage
	Loose  int64 // needed by nothing: the next collection frees it
}

// DiskUsage adds up the files of the store: which image needs what, and what
// nothing needs.
func (s *Store) DiskUsage(ctx context.Context) (*DiskUsage, error) {
	images, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	uses, err := s.uses()
	if err != nil {
		return nil, err
	}
	r, err := s.readRefs()
	if err != nil {
		return nil, err
	}
	t := &tally{s: s, users: map[string]int{}, size: map[string]int64{}}
	needs := make([][]string, len(images))
	for i, img := range images {
		if needs[i], err = t.needs(r, img); err != nil {
			return nil, err
		}
	}
	u := &DiskUsage{}
	active := map[string]bool{}
	for i, img := range images {
		one := ImageUsage{Image: img}
		for _, use := range uses {
			if use.ImageID == img.ID {
				one.Containers++
			}
		}
		for _, path := range needs[i] {
			if t.users[path] > 1 {
				one.Shared += t.size[path]
			} else {
				one.Unique += t.size[path]
			}
			active[path] = active[path] || one.Containers > 0
		}
		u.Images = append(u.Images, one)
	}
	for path, in := range active {
		u.Total += t.size[path]
		if in {
			u.Active += t.size[path]
		}
	}
	if u.Cache, err = s.cacheUsage(active); err != nil {
		return nil, err
	}
	u.Loose, err = t.loose(active)
	return u, err
}

// tally counts who needs which file, and how large each is on disk.
type tally struct {
	s     *Store
	users map[string]int
	size  map[string]int64
}

// needs lists the files that an image needs, all that exist.
func (t *tally) needs(r *refs, img *Image) ([]string, error) {
	m := newMarks()
	for _, d := range t.s.descriptorsOf(r, img.ID) {
		if err := t.s.markDescriptor(m, d); err != nil {
			return nil, err
		}
	}
	var list []string
	add := func(path string) {
		if size, err := diskSize(path); err == nil {
			t.users[path]++
			t.size[path] = size
			list = append(list, path)
		}
	}
	for d := range m.blobs {
		path, err := t.s.blobs.Path(d)
		if err != nil {
			return nil, err
		}
		add(path)
	}
	for name := range m.layers {
		add(filepath.Join(t.s.layersDir(), name))
		add(filepath.Join(t.s.layersDir(), digestsOfIndex(name)))
	}
	for name := range m.views {
		add(filepath.Join(t.s.viewsDir(), name))
	}
	return list, nil
}

// loose adds up what is in the store's folders and not a key of known.
func (t *tally) loose(known map[string]bool) (int64, error) {
	var sum int64
	for _, dir := range []string{filepath.Join(t.s.root, "blobs"), t.s.layersDir(), t.s.viewsDir(), t.s.tempDir()} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // removed meanwhile, or nothing was ever put there
			}
			if _, ok := known[path]; ok || err != nil || d.IsDir() {
				return err
			}
			if size, err := diskSize(path); err == nil {
				sum += size
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return sum, nil
}

// diskSize is how many bytes of disk a file takes.
func diskSize(path string) (int64, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return 0, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	const unit = 512 // of st_blocks, whatever the filesystem (stat(2))
	return st.Blocks * unit, nil
}
