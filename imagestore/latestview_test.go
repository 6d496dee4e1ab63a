package imagestore

import (
	"archive/tar"
	"bytes"
	"os"
	"testing"

	"unio/imagestore/layer"
)

// An image of one more layer is added without its view. The first mount makes
// it, the same that the layers alone give, also after the base was removed and
// its view with it.
func TestViewIsMadeLate(t *testing.T) {
	for _, collected := range []bool{false, true} {
		s := newStore(t)
		base := addImage(t, s, "a", "base:1")
		below, err := s.Index(bg, base.DiffIDs()[0])
		must(t, err)
		defer below.Close()
		top := addLayer(t, s, makeTar(t, files{"b": "2"}))
		l := []Layer{{DiffID: base.DiffIDs()[0]}, top}
		img, err := s.AddImage(bg, NewImage{Config: configOf(t, "b", l...), Layers: l, Names: []string{"top:1"}})
		must(t, err)
		path := s.viewPath(chainOf(img.DiffIDs()))
		if _, err := os.Lstat(path); err == nil {
			t.Error("a view was made that nobody asked for")
		}
		fsckClean(t, s)
		if collected {
			_, err := s.Remove(bg, "base:1", RemoveOptions{})
			must(t, err)
			_, err = s.Collect(bg)
			must(t, err)
			fsckClean(t, s)
		}
		if text, ok := readFile(t, s, img, "b"); !ok || text != "2" {
			t.Errorf("content %q %v", text, ok)
		}
		got, err := os.ReadFile(path)
		must(t, err)
		above, err := s.Index(bg, top.DiffID)
		must(t, err)
		defer above.Close()
		whole, err := layer.BuildView([]*layer.Index{below, above})
		must(t, err)
		var want bytes.Buffer
		_, err = whole.WriteTo(&want)
		must(t, err)
		if !bytes.Equal(got, want.Bytes()) {
			t.Errorf("the view is not that of its layers (base collected: %v)", collected)
		}
	}
}

// A layer that does not go over the others makes no image.
func TestViewMadeLateIsChecked(t *testing.T) {
	s := newStore(t)
	base := addImage(t, s, "a", "base:1")
	top := addLayer(t, s, linkToNothing(t))
	l := []Layer{{DiffID: base.DiffIDs()[0]}, top}
	if img, err := s.AddImage(bg, NewImage{Config: configOf(t, "b", l...), Layers: l}); err == nil {
		t.Errorf("image %s of a layer with a link to nothing", img.ID)
	}
}

func linkToNothing(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	must(t, w.WriteHeader(&tar.Header{Name: "b", Typeflag: tar.TypeLink, Linkname: "nothing"}))
	must(t, w.Close())
	return b.Bytes()
}
