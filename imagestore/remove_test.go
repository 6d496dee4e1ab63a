package imagestore

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"unio/imagestore/layer"
)

// lines is what rmi would print.
func lines(list []Removed) []string {
	var out []string
	for _, r := range list {
		if r.Untagged != "" {
			out = append(out, "Untagged: "+r.Untagged)
		} else {
			out = append(out, "Deleted: "+r.Deleted)
		}
	}
	return out
}

func remove(t *testing.T, s *Store, name string, o RemoveOptions) []string {
	t.Helper()
	list, err := s.Remove(bg, name, o)
	must(t, err)
	return lines(list)
}

func expectLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func deleted(img *Image) []string {
	out := []string{"Deleted: " + img.ID.String()}
	for i := len(img.DiffIDs()); i > 0; i-- {
		out = append(out, "Deleted: "+layer.ChainID(img.DiffIDs()[:i]).String())
	}
	return out
}

// refuse expects a removal to fail with docker's words and to do nothing.
func refuse(t *testing.T, s *Store, name string, o RemoveOptions, want string) {
	t.Helper()
	list, err := s.Remove(bg, name, o)
	if !errors.Is(err, ErrConflict) || err.Error() != want || len(list) != 0 {
		t.Errorf("rmi %s: %v, %v\nwant %s", name, lines(list), err, want)
	}
}

func TestRemoveByName(t *testing.T) {
	s := newStore(t)
	img := addImage(t, s, "a", "x:1", "x:2", "y:1")
	expectLines(t, remove(t, s, "x:1", RemoveOptions{}), "Untagged: x:1")
	expectLines(t, remove(t, s, "y:1", RemoveOptions{}), "Untagged: y:1")
	expectLines(t, remove(t, s, "x:2", RemoveOptions{}), append([]string{"Untagged: x:2"}, deleted(img)...)...)
	assertEmpty(t, s)
	fsckClean(t, s)
}

func TestRemoveByNameWithDigests(t *testing.T) {
	s := newStore(t)
	img := addImage(t, s, "a", "x:1", "x:2")
	d := digest.FromString("registry")
	must(t, s.AddDigest(bg, "x", d, img.ID))
	expectLines(t, remove(t, s, "x:1", RemoveOptions{}), "Untagged: x:1")
	want := append([]string{"Untagged: x:2", "Untagged: x@" + d.String()}, deleted(img)...)
	expectLines(t, remove(t, s, "x:2", RemoveOptions{}), want...)
	assertEmpty(t, s)
}

func TestRemoveByDigest(t *testing.T) {
	s := newStore(t)
	img := addImage(t, s, "a", "x:1")
	d := digest.FromString("registry")
	must(t, s.AddDigest(bg, "x", d, img.ID))
	expectLines(t, remove(t, s, "x@"+d.String(), RemoveOptions{}), "Untagged: x@"+d.String())
	if !slices.Equal(lookup(t, s, "x:1").Names, []string{"x:1"}) {
		t.Error("the tag went too")
	}
}

func TestRemoveByID(t *testing.T) {
	s := newStore(t)
	one := addImage(t, s, "a", "x:1")
	must(t, s.AddDigest(bg, "x", digest.FromString("registry"), one.ID))
	want := append([]string{"Untagged: x:1", "Untagged: x@" + digest.FromString("registry").String()}, deleted(one)...)
	expectLines(t, remove(t, s, one.ID.Encoded()[:12], RemoveOptions{}), want...)

	two := addImage(t, s, "b", "x:1", "y:1")
	refuse(t, s, two.ID.String(), RemoveOptions{},
		fmt.Sprintf("conflict: unable to delete %s (must be forced) - image is referenced in multiple repositories", ShortID(two.ID)))
	want = append([]string{"Untagged: x:1", "Untagged: y:1"}, deleted(two)...)
	expectLines(t, remove(t, s, two.ID.String(), RemoveOptions{Force: true}), want...)
	assertEmpty(t, s)
}

func TestRemoveKeepsSharedLayers(t *testing.T) {
	s := newStore(t)
	base := addLayer(t, s, makeTar(t, files{"a": "1"}))
	top := addLayer(t, s, makeTar(t, files{"b": "2"}))
	under, err := s.AddImage(bg, NewImage{Config: configOf(t, "under", base), Names: []string{"under"}})
	must(t, err)
	over, err := s.AddImage(bg, NewImage{Config: configOf(t, "over", base, top), Names: []string{"over"}})
	must(t, err)
	expectLines(t, remove(t, s, "over", RemoveOptions{}), "Untagged: over:latest", "Deleted: "+over.ID.String(), deleted(over)[1])
	if !s.HasLayer(base.DiffID) || s.HasLayer(top.DiffID) {
		t.Error("the wrong layers went")
	}
	expectLines(t, remove(t, s, "under", RemoveOptions{}), append([]string{"Untagged: under:latest"}, deleted(under)...)...)
	assertEmpty(t, s)
}

// family adds an image and a child that was made from it.
func family(t *testing.T, s *Store, parentNames ...string) (parent, child *Image) {
	t.Helper()
	parent = addImage(t, s, "parent", parentNames...)
	top := addLayer(t, s, makeTar(t, files{"b": "2"}))
	base := Layer{DiffID: parent.DiffIDs()[0]}
	child, err := s.AddImage(bg, NewImage{Config: configOf(t, "child", base, top), Names: []string{"child"}, Parent: parent.ID})
	must(t, err)
	return parent, child
}

func TestRemoveParent(t *testing.T) {
	s := newStore(t)
	parent, child := family(t, s, "parent")
	refuse(t, s, parent.ID.String(), RemoveOptions{Force: true},
		fmt.Sprintf("conflict: unable to delete %s (cannot be forced) - image has dependent child images", ShortID(parent.ID)))
	expectLines(t, remove(t, s, "parent", RemoveOptions{}), "Untagged: parent:latest")
	// The last child takes the parent with it, unless asked not to.
	list := remove(t, s, "child", RemoveOptions{})
	want := []string{"Untagged: child:latest", "Deleted: " + child.ID.String(), deleted(child)[1], "Deleted: " + parent.ID.String(), deleted(parent)[1]}
	expectLines(t, list, want...)
	assertEmpty(t, s)

	parent, _ = family(t, s)
	remove(t, s, "child", RemoveOptions{NoPrune: true})
	if _, err := s.Get(bg, parent.ID); err != nil {
		t.Errorf("parent: %v", err)
	}
}

func TestRemoveInUse(t *testing.T) {
	s := newStore(t)
	var uses []Use
	s.opt.InUse = func() ([]Use, error) { return uses, nil }
	img := addImage(t, s, "a", "x:1")
	id := ShortID(img.ID)
	uses = []Use{{ImageID: img.ID, Container: "0123456789abcdef", Running: true}}
	refuse(t, s, "x:1", RemoveOptions{},
		`conflict: unable to remove repository reference "x:1" (must force) - container 0123456789ab is using its referenced image `+id)
	refuse(t, s, img.ID.String(), RemoveOptions{Force: true},
		"conflict: unable to delete "+id+" (cannot be forced) - image is being used by running container 0123456789ab")
	uses[0].Running = false
	refuse(t, s, img.ID.String(), RemoveOptions{},
		"conflict: unable to delete "+id+" (must be forced) - image is being used by stopped container 0123456789ab")

	// By force it goes, but the container keeps what it stands on.
	expectLines(t, remove(t, s, img.ID.String(), RemoveOptions{Force: true}), "Untagged: x:1", "Deleted: "+img.ID.String())
	if _, err := s.Lookup(bg, img.ID.String()); !errors.Is(err, ErrNotFound) {
		t.Errorf("lookup of what was removed: %v", err)
	}
	if list, err := s.List(bg); err != nil || len(list) != 0 {
		t.Errorf("list: %v, %v", list, err)
	}
	_, err := s.Collect(bg)
	must(t, err)
	pinned, err := s.Get(bg, img.ID)
	must(t, err)
	if _, ok := readFile(t, s, pinned, "a"); !ok {
		t.Error("the container lost its image")
	}
	fsckClean(t, s)
	uses = nil
	_, err = s.Collect(bg)
	must(t, err)
	assertEmpty(t, s)
}

func TestPinnedImageComesBack(t *testing.T) {
	s := newStore(t)
	img := addImage(t, s, "a", "x:1")
	s.opt.InUse = func() ([]Use, error) { return []Use{{ImageID: img.ID, Container: "c"}}, nil }
	remove(t, s, "x:1", RemoveOptions{Force: true})
	addImage(t, s, "a")
	if list, err := s.List(bg); err != nil || len(list) != 1 {
		t.Errorf("list: %v, %v", list, err)
	}
	lookup(t, s, img.ID.String())
}

// TestRemoveWhileAnotherAdds does not wait for ever, and frees later.
func TestRemoveWhileAnotherAdds(t *testing.T) {
	s := newStore(t)
	addImage(t, s, "a", "x:1")
	release, err := open(t, s.Root()).Hold(bg)
	must(t, err)
	start := time.Now()
	remove(t, s, "x:1", RemoveOptions{})
	if d := time.Since(start); d > collectWait+time.Second {
		t.Errorf("it took %v", d)
	}
	release()
	col, err := s.Collect(bg)
	must(t, err)
	if len(col.Blobs) != 3 || col.Bytes == 0 {
		t.Errorf("collected %+v", col)
	}
	assertEmpty(t, s)
}

func TestRemoveDamagedImage(t *testing.T) {
	s := newStore(t)
	img := addImage(t, s, "a", "x:1")
	must(t, s.Blobs().Remove(img.Manifest.Digest))
	expectLines(t, remove(t, open(t, s.Root()), "x:1", RemoveOptions{}), "Untagged: x:1")
	assertEmpty(t, s)
}
