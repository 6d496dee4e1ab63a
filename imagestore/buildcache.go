package imagestore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"unio/imagestore/blob"
)

// CacheRecord says what a step of a build gave. It is a file in
// state/buildcache, named by its key. As long as it is there, its layer is not
// collected.
type CacheRecord struct {
	// Key names all that the step depends on.
	Key digest.Digest
	// Layer is the diffID of what the step added; empty: it added nothing.
	Layer digest.Digest `json:",omitempty"`
	// Chain is the chainID of the state after the step.
	Chain   digest.Digest
	Title   string    // the instruction, for listings
	Created time.Time // of the step
	Data    string    `json:",omitempty"` // the builder's own

	// Used is when a build last found the record. It is the file's time.
	Used time.Time `json:"-"`
}

// maxRecord bounds a cache record, in bytes: an instruction may have a
// heredoc of some megabytes.
const maxRecord = 32 << 20

func (s *Store) cacheDir() string { return filepath.Join(s.stateDir(), "buildcache") }

func (s *Store) cachePath(key digest.Digest) string {
	return filepath.Join(s.cacheDir(), key.Encoded()+".json")
}

// PutCache keeps a record. It is renamed into place but not synced: a record
// that a power cut has torn does not parse, and the step is done again.
//
// Preconditions: the store is held.
func (s *Store) PutCache(r CacheRecord) error {
	if err := blob.Check(r.Key); err != nil {
		return fmt.Errorf("keep build step: %w", err)
	}
	p, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("keep build step: %w", err)
	}
	if err := os.MkdirAll(s.cacheDir(), dirMode); err != nil {
		return fmt.Errorf("keep build step: %w", err)
	}
	f, err := os.CreateTemp(s.tempDir(), "cache-*")
	if err != nil {
		return fmt.Errorf("keep build step: %w", err)
	}
	_, err = f.Write(p)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), s.cachePath(r.Key))
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("keep build step: %w", err)
	}
	return nil
}

// Cache finds the record of a key, if its layer is there too, and notes that
// it was used.
func (s *Store) Cache(key digest.Digest) (CacheRecord, bool) {
	r, err := s.readCache(s.cachePath(key))
	if err != nil || r.Key != key || r.Layer != "" && !s.HasLayer(r.Layer) {
		return CacheRecord{}, false
	}
	now := time.Now()
	_ = os.Chtimes(s.cachePath(key), now, now) // worth nothing but an order
	return r, true
}

// readCache reads one record.
func (s *Store) readCache(path string) (CacheRecord, error) {
	var r CacheRecord
	st, err := os.Lstat(path)
	if err != nil {
		return r, err
	}
	p, err := readLimited(path, maxRecord)
	if err != nil {
		return r, err
	}
	dec := json.NewDecoder(bytes.NewReader(p))
	if err := dec.Decode(&r); err != nil {
		return r, fmt.Errorf("%w: build step %s: %w", ErrCorrupt, filepath.Base(path), err)
	}
	if r.Layer != "" && blob.Check(r.Layer) != nil || blob.Check(r.Key) != nil || blob.Check(r.Chain) != nil {
		return r, fmt.Errorf("%w: build step %s: bad digest", ErrCorrupt, filepath.Base(path))
	}
	r.Used = st.ModTime()
	return r, nil
}

// CacheRecords lists the records, the one used last first. What cannot be read
// is left out: no build will find it either.
func (s *Store) CacheRecords() ([]CacheRecord, error) {
	entries, err := os.ReadDir(s.cacheDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list build steps: %w", err)
	}
	var list []CacheRecord
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		if r, err := s.readCache(filepath.Join(s.cacheDir(), e.Name())); err == nil {
			list = append(list, r)
		}
	}
	slices.SortStableFunc(list, func(a, b CacheRecord) int { return b.Used.Compare(a.Used) })
	return list, nil
}

// markCache marks what the records of builds need: their layers, and the views
// of the states that they led to.
func (s *Store) markCache(m *marks) error {
	list, err := s.CacheRecords()
	for _, r := range list {
		if r.Layer != "" {
			m.blobs[r.Layer] = true
			m.layers[filepath.Base(s.layerIndexPath(r.Layer))] = true
		}
		m.views[filepath.Base(s.viewPath(r.Chain))] = true
	}
	return err
}

// CachePruneOptions of [Store.PruneCache]. The zero value removes what no image
// has.
type CachePruneOptions struct {
	All  bool                   // also what images have
	Keep func(CacheRecord) bool // spares a record; nil spares none
	// Space is how many bytes of layers may stay, those used last; 0: none.
	Space int64
}

// PruneCache removes records of builds and what only they needed, and returns
// the removed ones and the bytes that this freed on disk. It waits for those
// who are adding something until ctx ends.
func (s *Store) PruneCache(ctx context.Context, o CachePruneOptions) (removed []CacheRecord, freed int64, err error) {
	list, err := s.CacheRecords()
	if err != nil {
		return nil, 0, err
	}
	states := map[digest.Digest]bool{}
	if !o.All {
		if states, err = s.imageStates(ctx); err != nil {
			return nil, 0, err
		}
	}
	var left int64
	for _, r := range list {
		if states[r.Chain] || o.Keep != nil && o.Keep(r) {
			continue
		}
		if size, err := s.blobs.Size(r.Layer); r.Layer != "" && err == nil && left+size <= o.Space {
			left += size
			continue
		}
		n, err := s.dropCache(r)
		if err != nil {
			return removed, freed, err
		}
		removed, freed = append(removed, r), freed+n
	}
	if o.All && o.Keep == nil && o.Space == 0 {
		n, err := s.dropCacheFolders()
		freed += n
		if err != nil {
			return removed, freed, fmt.Errorf("remove caches: %w", err)
		}
	}
	c, err := s.collect(ctx, 0)
	return removed, freed + c.Bytes, err
}

func (s *Store) dropCache(r CacheRecord) (freed int64, err error) {
	path := s.cachePath(r.Key)
	if freed, err = diskSize(path); err == nil {
		err = os.Remove(path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("remove build step: %w", err)
	}
	return freed, nil
}

// imageStates are the chainIDs of all images and of what lies below their
// layers.
func (s *Store) imageStates(ctx context.Context) (map[digest.Digest]bool, error) {
	images, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	states := map[digest.Digest]bool{}
	for _, img := range images {
		diffIDs := img.DiffIDs()
		for n := range diffIDs {
			states[chainOf(diffIDs[:n+1])] = true
		}
	}
	return states, nil
}

// CacheUsage is what builds have left for the next ones.
type CacheUsage struct {
	Records []CacheRecord
	// Bytes on disk of records, layers, indexes and views that no image needs:
	// what [Store.PruneCache] with All frees.
	Bytes int64
}

// cacheUsage adds up what is not a key of known, and adds it there.
func (s *Store) cacheUsage(known map[string]bool) (u CacheUsage, err error) {
	if u.Records, err = s.CacheRecords(); err != nil {
		return u, err
	}
	for _, r := range u.Records {
		paths := []string{s.cachePath(r.Key), s.viewPath(r.Chain)}
		if path, err := s.blobs.Path(r.Layer); r.Layer != "" && err == nil {
			paths = append(paths, path, s.layerIndexPath(r.Layer))
		}
		for _, path := range paths {
			if _, ok := known[path]; ok {
				continue
			}
			if size, err := diskSize(path); err == nil {
				known[path] = false
				u.Bytes += size
			}
		}
	}
	u.Bytes += treeSize(s.cacheFolders())
	return u, nil
}

// StateID names a chain of layers as [CacheRecord.Chain] does. It is the
// chainID, also for no layers at all.
func StateID(diffIDs []digest.Digest) digest.Digest { return chainOf(diffIDs) }

func (s *Store) cacheFolders() string { return filepath.Join(s.stateDir(), "buildmounts") }

// CacheFolder finds the folder of a cache that programs of builds see, or makes
// it, and takes its lock (unix.LOCK_SH or LOCK_EX) without waiting:
// EWOULDBLOCK if somebody else has it. It is not removed before the lock is
// closed.
func (s *Store) CacheFolder(id string, how int) (dir string, lock *os.File, err error) {
	top := filepath.Join(s.cacheFolders(), digest.FromString(id).Encoded())
	dir = filepath.Join(top, "data")
	for {
		if err := os.MkdirAll(dir, dirMode); err != nil {
			return "", nil, fmt.Errorf("cache folder: %w", err)
		}
		lock, err := lockCacheFolder(top, how)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was removed just now
		}
		return dir, lock, err
	}
}

// lockCacheFolder locks the folder itself, so that who holds the lock of one
// that was removed meanwhile notices.
func lockCacheFolder(top string, how int) (*os.File, error) {
	f, err := os.Open(top)
	if err != nil {
		return nil, fmt.Errorf("lock cache folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock cache folder: %w", err)
	}
	if _, err := os.Lstat(filepath.Join(top, "data")); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock cache folder: %w", err)
	}
	return f, nil
}

// dropCacheFolders removes the folders of caches that no build uses.
func (s *Store) dropCacheFolders() (freed int64, err error) {
	entries, err := os.ReadDir(s.cacheFolders())
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	var errs []error
	for _, e := range entries {
		top := filepath.Join(s.cacheFolders(), e.Name())
		lock, err := lockCacheFolder(top, unix.LOCK_EX)
		if err != nil {
			continue // in use, or going
		}
		freed += treeSize(top)
		errs = append(errs, os.RemoveAll(top), lock.Close())
	}
	return freed, errors.Join(append(errs, err)...)
}

// treeSize adds up what is in a folder, in bytes on disk.
func treeSize(dir string) (sum int64) {
	_ = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if size, serr := diskSize(path); err == nil && serr == nil {
			sum += size
		}
		return nil // what has gone meanwhile does not count
	})
	return sum
}
