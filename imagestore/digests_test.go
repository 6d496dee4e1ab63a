package imagestore

import (
	"os"
	"testing"
)

// TestFileDigestsLive: the digests of a layer's files are kept as long as the
// layer, counted as part of its image, and go with it.
func TestFileDigestsLive(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	img := addImage(t, s, "file", "x:1")
	id := img.DiffIDs()[0]
	before, err := s.DiskUsage(bg)
	must(t, err)
	if s.HasFileDigests(id) {
		t.Error("there are digests before anybody has asked")
	}
	d, err := s.FileDigests(bg, id)
	must(t, err)
	if _, ok := d.At(512); !ok {
		t.Error("no digest of the first file")
	}
	_, err = s.Collect(bg)
	must(t, err)
	after, err := s.DiskUsage(bg)
	must(t, err)
	if !s.HasFileDigests(id) || after.Total <= before.Total || after.Loose != before.Loose {
		t.Errorf("after a collection: %v, %+v, before %+v", s.HasFileDigests(id), after, before)
	}
	fsckClean(t, s)
	_, err = s.Remove(bg, "x:1", RemoveOptions{})
	must(t, err)
	if left, err := os.ReadDir(s.layersDir()); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
