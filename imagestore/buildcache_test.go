package imagestore

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// cached adds a layer and a record for it, and returns the record.
func cached(t *testing.T, s *Store, name string) CacheRecord {
	t.Helper()
	l, err := s.AddLayer(t.Context(), bytes.NewReader(makeTar(t, files{"f": name})), LayerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r := CacheRecord{
		Key: digest.FromString(name), Layer: l.DiffID, Chain: StateID([]digest.Digest{l.DiffID}),
		Title: "COPY " + name, Created: time.Unix(1700000000, 5).UTC(), Data: "data",
	}
	if err := s.PutCache(r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCacheRecords(t *testing.T) {
	s := newStore(t)
	want := cached(t, s, "one")
	got, ok := s.Cache(want.Key)
	got.Used = time.Time{}
	if !ok || got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if _, ok := s.Cache(digest.FromString("other")); ok {
		t.Error("found what was never put there")
	}
	// Its layer is not collected, and not without it.
	for _, step := range []func() error{
		func() error { _, err := s.Collect(t.Context()); return err },
		func() error {
			_, _, err := s.PruneCache(t.Context(), CachePruneOptions{Keep: func(CacheRecord) bool { return true }})
			return err
		},
	} {
		if err := step(); err != nil || !s.HasLayer(want.Layer) {
			t.Fatalf("the layer is gone: %v", err)
		}
	}
	if err := s.PutCache(CacheRecord{Key: "no digest"}); err == nil {
		t.Error("a bad key is taken")
	}
}

// TestCacheDamage: a record that is torn, or whose layer is gone, is none; it
// hinders nobody.
func TestCacheDamage(t *testing.T) {
	s := newStore(t)
	for name, damage := range map[string]func(r CacheRecord, path string) error{
		"torn":  func(_ CacheRecord, path string) error { return os.Truncate(path, 40) },
		"zeros": func(_ CacheRecord, path string) error { return os.WriteFile(path, make([]byte, 300), 0o600) },
		"empty": func(_ CacheRecord, path string) error { return os.Truncate(path, 0) },
		"renamed": func(r CacheRecord, path string) error {
			return os.Rename(path, s.cachePath(digest.FromString("new name")))
		},
		"bad layer": func(_ CacheRecord, path string) error {
			return os.WriteFile(path, []byte(`{"Layer":"../../x"}`), 0o600)
		},
		"layer": func(r CacheRecord, _ string) error { return s.blobs.Remove(r.Layer) },
	} {
		r := cached(t, s, name)
		if err := damage(r, s.cachePath(r.Key)); err != nil {
			t.Fatal(err)
		}
		if _, ok := s.Cache(r.Key); ok {
			t.Errorf("%s: the record is found", name)
		}
	}
	if _, ok := s.Cache(digest.FromString("new name")); ok {
		t.Error("a record is found under another key")
	}
	if _, err := s.Collect(t.Context()); err != nil {
		t.Error(err)
	}
	if _, _, err := s.PruneCache(t.Context(), CachePruneOptions{All: true}); err != nil {
		t.Error(err)
	}
}

// TestCachePrune: what no image has goes, all goes, some may stay; what is freed
// is what the disk has more, and what the usage said.
func TestCachePrune(t *testing.T) {
	s := newStore(t)
	kept := cached(t, s, "kept")
	config := `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["` + kept.Layer.String() + `"]}}`
	if _, err := s.AddImage(t.Context(), NewImage{Config: []byte(config), Names: []string{"image"}}); err != nil {
		t.Fatal(err)
	}
	gone := cached(t, s, "gone")
	u, err := s.DiskUsage(t.Context())
	if err != nil || len(u.Cache.Records) != 2 || u.Cache.Bytes == 0 || u.Loose != 0 {
		t.Errorf("%+v %v", u.Cache, err)
	}
	before := treeSize(s.root)
	removed, freed, err := s.PruneCache(t.Context(), CachePruneOptions{})
	if err != nil || len(removed) != 1 || removed[0].Key != gone.Key {
		t.Errorf("removed %v, %v", removed, err)
	}
	if left := before - treeSize(s.root); left != freed || s.HasLayer(gone.Layer) {
		t.Errorf("%d bytes freed, %d said", left, freed)
	}
	if removed, _, err = s.PruneCache(t.Context(), CachePruneOptions{All: true}); err != nil || len(removed) != 1 || !s.HasLayer(kept.Layer) {
		t.Errorf("removed %v, %v", removed, err)
	}
	last := cached(t, s, "last")
	size, _ := s.blobs.Size(last.Layer)
	if removed, _, err = s.PruneCache(t.Context(), CachePruneOptions{All: true, Space: size}); err != nil || len(removed) != 0 {
		t.Errorf("with space for it, removed %v, %v", removed, err)
	}
}

// TestCacheFolder: who shares a folder, and that one in use is not removed.
func TestCacheFolder(t *testing.T) {
	s := newStore(t)
	dir, one, err := s.CacheFolder("id", unix.LOCK_SH)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), make([]byte, 10000), 0o600); err != nil {
		t.Fatal(err)
	}
	same, two, err := s.CacheFolder("id", unix.LOCK_SH)
	if err != nil || same != dir {
		t.Errorf("%s, %v", same, err)
	}
	if _, _, err := s.CacheFolder("id", unix.LOCK_EX); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("two at once: %v", err)
	}
	two.Close()
	if _, _, err := s.PruneCache(t.Context(), CachePruneOptions{All: true}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "f")); err != nil {
		t.Errorf("a cache in use is gone: %v", err)
	}
	one.Close()
	_, freed, err := s.PruneCache(t.Context(), CachePruneOptions{All: true})
	if _, statErr := os.Stat(dir); err != nil || freed < 10000 || statErr == nil {
		t.Errorf("freed %d, %v, %v", freed, err, statErr)
	}
}
