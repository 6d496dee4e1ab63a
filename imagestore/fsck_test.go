package imagestore

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// damage cases: what is done to a store, what fsck calls it, and whether the
// image is whole after a repair.
func TestFsckFindsAndRepairs(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(t *testing.T, s *Store, img *Image)
		says   string
		whole  bool
		soft   bool // made again when needed: no damage
	}{
		"index cut": {func(t *testing.T, s *Store, img *Image) {
			must(t, os.Truncate(s.layerIndexPath(img.DiffIDs()[0]), 100))
		}, "index of layer", true, false},
		"index gone": {func(t *testing.T, s *Store, img *Image) {
			must(t, os.Remove(s.layerIndexPath(img.DiffIDs()[0])))
		}, "index of layer", true, true},
		"view flipped": {func(t *testing.T, s *Store, img *Image) {
			damageFile(t, s.viewPath(chainOf(img.DiffIDs())), 300)
		}, "view of image x:1", true, false},
		"view gone": {func(t *testing.T, s *Store, img *Image) {
			must(t, os.Remove(s.viewPath(chainOf(img.DiffIDs()))))
		}, "view of image x:1", true, true},
		"tar flipped": {func(t *testing.T, s *Store, img *Image) {
			damageFile(t, blobPath(t, s, img.DiffIDs()[0]), 600)
		}, "image x:1: layer sha256:", true, false},
		"tar gone": {func(t *testing.T, s *Store, img *Image) {
			must(t, os.Remove(blobPath(t, s, img.DiffIDs()[0])))
		}, "image x:1: layer sha256:", true, false},
		"compressed layer flipped": {func(t *testing.T, s *Store, img *Image) {
			damageFile(t, blobPath(t, s, img.Layers[0].Blob.Digest), 30)
		}, "image x:1: layer sha256:", false, false},
		"manifest flipped": {func(t *testing.T, s *Store, img *Image) {
			damageFile(t, blobPath(t, s, img.Manifest.Digest), 30)
		}, "image x:1: ", false, false},
		"config gone": {func(t *testing.T, s *Store, img *Image) {
			must(t, os.Remove(blobPath(t, s, img.ID)))
		}, "image x:1: ", false, false},
		"oci-layout": {func(t *testing.T, s *Store, _ *Image) {
			must(t, os.WriteFile(filepath.Join(s.Root(), "oci-layout"), nil, 0o600))
		}, "oci-layout: is missing or damaged", true, false},
		"pair damaged": {func(t *testing.T, s *Store, _ *Image) {
			list, err := filepath.Glob(filepath.Join(s.pairsDir(), "*"))
			must(t, err)
			damageFile(t, list[0], 0)
		}, "pair ", true, false},
		"referrer flipped": {func(t *testing.T, s *Store, img *Image) {
			damageFile(t, blobPath(t, s, addReferrer(t, s, img.Manifest.Digest)), 30)
		}, "referrer sha256:", true, false},
		"blob of a referrer gone": {func(t *testing.T, s *Store, img *Image) {
			addReferrer(t, s, addReferrer(t, s, img.Manifest.Digest))
			must(t, os.Remove(blobPath(t, s, digest.FromString("{}"))))
		}, "referrer sha256:", true, false},
		"list of referrers damaged": {func(t *testing.T, s *Store, img *Image) {
			must(t, os.Remove(blobPath(t, s, addReferrer(t, s, img.Manifest.Digest)))) // else: garbage
			must(t, s.blobs.Remove(digest.FromString("{}")))
			damageFile(t, s.referrersPath(img.Manifest.Digest), 0)
			must(t, os.WriteFile(filepath.Join(s.Root(), "oci-layout"), nil, 0o600))
		}, "oci-layout: is missing or damaged", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			img := addPulled(t, s, "a", "x:1")
			c.damage(t, s, img)
			testFsck(t, s.Root(), c.says, c.soft)
			s = open(t, s.Root())
			if c.whole {
				if text, ok := readFile(t, s, lookup(t, s, "x:1"), "a"); !ok || text != "a" {
					t.Errorf("content after repair %q %v", text, ok)
				}
				fsckClean(t, s)
			}
			// What could not be repaired comes back with the next pull.
			again := addPulled(t, s, "a", "x:1")
			if again.ID != img.ID {
				t.Errorf("ID %s, was %s", again.ID, img.ID)
			}
			fsckClean(t, s)
		})
	}
}

func testFsck(t *testing.T, root, says string, soft bool) {
	t.Helper()
	rep, err := open(t, root).Fsck(bg, FsckOptions{})
	must(t, err)
	if (rep.Damaged() == 0) != soft || len(rep.Problems) == 0 || !strings.Contains(rep.Problems[0].String(), says) {
		t.Errorf("report %+v, want one that says %q", rep.Problems, says)
	}
	rep, err = open(t, root).Fsck(bg, FsckOptions{Repair: true})
	must(t, err)
	if len(rep.Problems) == 0 {
		t.Error("nothing to repair")
	}
}

func blobPath(t *testing.T, s *Store, d digest.Digest) string {
	t.Helper()
	p, err := s.Blobs().Path(d)
	must(t, err)
	return p
}

func damageFile(t *testing.T, path string, at int) {
	t.Helper()
	p, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, flip(p, at), 0o600))
}

// addReferrer adds a manifest about another one, with one blob, and returns its
// digest.
func addReferrer(t *testing.T, s *Store, subject digest.Digest) digest.Digest {
	t.Helper()
	config, err := s.blobs.Put(bg, []byte("{}"))
	must(t, err)
	raw := []byte(`{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"` + config.String() +
		`","size":2},"layers":[],"subject":{"digest":"` + subject.String() + `"}}`)
	d, err := s.blobs.Put(bg, raw)
	must(t, err)
	must(t, s.AddReferrers(bg, subject, []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: int64(len(raw))}}))
	return d
}

func TestFsckOfLostReferences(t *testing.T) {
	for name, content := range map[string]string{
		"empty": "", "text": "hello", "cut": `{"schemaVersion":2,"manif`, "version": `{"schemaVersion":1}`,
		"digest": `{"schemaVersion":2,"manifests":[{"digest":"sha256:../../x","size":1}]}`, "null": "null",
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			img := addImage(t, s, "a", "x:1")
			must(t, os.WriteFile(s.indexFile(), []byte(content), 0o600))
			if _, err := s.List(bg); !errors.Is(err, ErrCorrupt) {
				t.Errorf("list: %v", err)
			}
			if _, err := s.Collect(bg); !errors.Is(err, ErrCorrupt) {
				t.Errorf("collect: %v", err)
			}
			testFsck(t, s.Root(), "index.json: ", false)
			if lookup(t, s, img.ID.String()).ID != img.ID {
				t.Error("the image is lost")
			}
			if old, err := os.ReadFile(s.indexFile() + ".damaged"); err != nil || string(old) != content {
				t.Errorf("the damaged file was not kept: %q %v", old, err)
			}
			fsckClean(t, s)
		})
	}
}

func TestFsckOfGarbage(t *testing.T) {
	s := newStore(t)
	addImage(t, s, "a", "x:1")
	addLayer(t, s, makeTar(t, files{"lost": "1"}))
	must(t, os.WriteFile(filepath.Join(s.tempDir(), "blob-1"), make([]byte, 100), 0o600))
	rep, err := s.Fsck(bg, FsckOptions{})
	must(t, err)
	if rep.Damaged() != 0 || len(rep.Problems) != 2 {
		t.Errorf("report %+v", rep)
	}
	release, err := s.Hold(bg)
	must(t, err)
	rep, err = s.Fsck(bg, FsckOptions{})
	must(t, err)
	if len(rep.Problems) != 0 {
		t.Errorf("what another writes was called garbage: %+v", rep.Problems)
	}
	release()
	rep, err = s.Fsck(bg, FsckOptions{Repair: true})
	must(t, err)
	if rep.Freed < 1000 {
		t.Errorf("freed %d bytes", rep.Freed)
	}
	fsckClean(t, s)
}

// TestFsckBelievesDigests has a manifest that tells a wrong size of a layer which
// another image has, too: the layer is whole, whatever is said of it.
func TestFsckBelievesDigests(t *testing.T) {
	s := newStore(t)
	good := addPulled(t, s, "a", "good:1")
	liar := good.Layers[0].Blob
	liar.Size++
	raw := manifestOf(t, good.RawConfig, liar)
	_, err := s.AddImage(bg, NewImage{Config: good.RawConfig, Manifest: raw, Names: []string{"liar:1"}})
	if !errors.Is(err, ErrCorrupt) {
		t.Errorf("added with a wrong size of a layer: %v", err)
	}
	d, err := s.Blobs().Put(bg, raw) // as another tool might
	must(t, err)
	n, err := ParseName("liar:1")
	must(t, err)
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: int64(len(raw))}
	must(t, s.updateRefs(bg, func(r *refs) error {
		r.index.Manifests = append([]ocispec.Descriptor{named(desc, n)}, r.index.Manifests...) // checked first
		return nil
	}))
	rep, err := s.Fsck(bg, FsckOptions{Repair: true})
	must(t, err)
	if len(rep.Problems) != 1 || !strings.Contains(rep.Problems[0].String(), "image liar:1: layer") {
		t.Errorf("report %+v", rep.Problems)
	}
	if !s.HasBlob(good.Layers[0].Blob.Digest) {
		t.Error("a layer that is whole was removed")
	}
}

// TestCollectFollowsWhatIsBlobToo has an image that calls the manifest of another
// a layer.
func TestCollectFollowsWhatIsBlobToo(t *testing.T) {
	s := newStore(t)
	good := addPulled(t, s, "a", "good:1")
	as := good.Manifest
	as.MediaType = ocispec.MediaTypeImageLayer
	odd := addImage(t, s, "b")
	d, err := s.Blobs().Put(bg, manifestOf(t, odd.RawConfig, as))
	must(t, err)
	must(t, s.updateRefs(bg, func(r *refs) error {
		desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d}
		r.index.Manifests = append([]ocispec.Descriptor{desc}, r.index.Manifests...)
		return nil
	}))
	_, err = s.Collect(bg)
	must(t, err)
	for _, d := range []digest.Digest{good.Layers[0].Blob.Digest, good.Layers[0].DiffID, good.ID} {
		if !s.HasBlob(d) {
			t.Errorf("%s was collected", d)
		}
	}
}

// TestCollectFollowsReferrers has one that is called a layer by another, and one
// that is an image in its own right: each keeps all that it needs.
func TestCollectFollowsReferrers(t *testing.T) {
	s := newStore(t)
	release, err := s.Hold(bg)
	must(t, err)
	img := addImage(t, s, "a", "x:1")
	image := addPulled(t, s, "b", "y:1")
	put := func(parts ...ocispec.Descriptor) ocispec.Descriptor {
		config := []byte("{}")
		_, err := s.Blobs().Put(bg, config)
		must(t, err)
		raw := manifestOf(t, config, parts...)
		d, err := s.Blobs().Put(bg, raw)
		must(t, err)
		return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: int64(len(raw))}
	}
	text, err := s.Blobs().Put(bg, []byte("signature"))
	must(t, err)
	plain := put(ocispec.Descriptor{MediaType: "text/plain", Digest: text, Size: 9})
	// They are followed in the order of their digests: one comes before the plain one.
	list := []ocispec.Descriptor{plain, image.Manifest}
	for i := range 8 {
		list = append(list, put(ocispec.Descriptor{
			MediaType: "text/plain", Digest: plain.Digest, Size: plain.Size, Annotations: map[string]string{"n": strconv.Itoa(i)},
		}))
	}
	must(t, s.AddReferrers(bg, img.Manifest.Digest, list))
	release()
	_, err = s.Collect(bg)
	must(t, err)
	for _, d := range []digest.Digest{text, plain.Digest, image.Layers[0].DiffID, image.Layers[0].Blob.Digest} {
		if !s.HasBlob(d) {
			t.Errorf("%s was collected", d)
		}
	}
	fsckClean(t, s)
}

func TestIndexAndViewAreMadeAgain(t *testing.T) {
	s := newStore(t)
	img := addImage(t, s, "a", "x:1")
	for _, path := range []string{s.layerIndexPath(img.DiffIDs()[0]), s.viewPath(chainOf(img.DiffIDs()))} {
		for name, damage := range map[string]func(){
			"gone": func() { must(t, os.Remove(path)) }, "empty": func() { must(t, os.Truncate(path, 0)) },
			"header": func() { damageFile(t, path, 20) }, "text": func() { must(t, os.WriteFile(path, []byte("hello"), 0o600)) },
		} {
			damage()
			if _, ok := readFile(t, s, img, "a"); !ok {
				t.Errorf("%s, %s: cannot be read", filepath.Base(path), name)
			}
			if n, err := s.ContentSize(bg, img.DiffIDs()[0]); err != nil || n != 1 {
				t.Errorf("%s, %s: size %d, %v", filepath.Base(path), name, n, err)
			}
			fsckClean(t, s)
		}
	}
	// A tar that does not match its digest must not become an index.
	must(t, os.Remove(s.layerIndexPath(img.DiffIDs()[0])))
	damageFile(t, blobPath(t, s, img.DiffIDs()[0]), 700)
	if _, err := s.Index(bg, img.DiffIDs()[0]); !errors.Is(err, ErrCorrupt) {
		t.Errorf("index of a damaged tar: %v", err)
	}
}

func FuzzManifest(f *testing.F) {
	f.Add(manifestOf(f, []byte("{}")))
	f.Add([]byte(`{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json"},"layers":[null]}`))
	f.Fuzz(func(t *testing.T, p []byte) {
		m, err := ParseManifest(p)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("error %v", err)
			}
			return
		}
		for _, l := range m.Layers {
			if l.Digest.Validate() != nil || l.Size < 0 {
				t.Errorf("accepted layer %+v", l)
			}
		}
	})
}

func FuzzConfig(f *testing.F) {
	f.Add(configOf(f, "x", Layer{DiffID: digest.FromString("1")}))
	f.Add([]byte(`{"rootfs":{"type":"layers","diff_ids":[]},"history":[null,{"empty_layer":true}],"config":null}`))
	f.Fuzz(func(t *testing.T, p []byte) {
		c, err := ParseConfig(p)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("error %v", err)
			}
			return
		}
		if n := len(c.FullHistory()); n < len(c.RootFS.DiffIDs) {
			t.Errorf("%d steps for %d layers", n, len(c.RootFS.DiffIDs))
		}
		layers := make([]Layer, len(c.RootFS.DiffIDs))
		m, err := newManifest(p, layers)
		if err == nil && !bytes.Contains(m, []byte(digest.FromBytes(p))) {
			t.Error("manifest without its config")
		}
	})
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(emptyIndex))
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"digest":"sha256:` + strings.Repeat("a", 64) + `","size":1,"annotations":{"org.opencontainers.image.ref.name":"x@"}}]}`))
	f.Fuzz(func(t *testing.T, p []byte) {
		r, err := parseRefs(p)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("error %v", err)
			}
			return
		}
		for _, d := range r.images() {
			if n := nameOf(d); n != nil {
				r.take(n)
			}
		}
		if _, err := r.encode(); err != nil {
			t.Errorf("encode: %v", err)
		}
		if _, err := ParseIndex(p); err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("error %v", err)
		}
	})
}
