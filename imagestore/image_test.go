package imagestore

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestLayoutIsOCI(t *testing.T) {
	s := newStore(t)
	img := addImage(t, s, "a", "debian:12")
	var layout ocispec.ImageLayout
	p, err := os.ReadFile(filepath.Join(s.Root(), "oci-layout"))
	must(t, err)
	must(t, json.Unmarshal(p, &layout))
	if layout.Version != "1.0.0" {
		t.Errorf("layout %+v", layout)
	}
	p, err = os.ReadFile(filepath.Join(s.Root(), "index.json"))
	must(t, err)
	x, err := ParseIndex(p)
	must(t, err)
	d := x.Manifests[0]
	if d.Digest != img.Manifest.Digest || d.Annotations[ocispec.AnnotationRefName] != "debian:12" ||
		d.Annotations["io.containerd.image.name"] != "docker.io/library/debian:12" {
		t.Errorf("descriptor %+v", d)
	}
	must(t, filepath.Walk(s.Root(), func(path string, fi os.FileInfo, err error) error {
		want := os.FileMode(0o600)
		if fi.IsDir() {
			want = 0o700
		}
		if path != s.Root() && fi.Mode().Perm() != want {
			t.Errorf("%s: mode %v", path, fi.Mode().Perm())
		}
		return err
	}))
	fsckClean(t, s)
}

func TestImageRoundTrip(t *testing.T) {
	s := newStore(t)
	base := addLayer(t, s, makeTar(t, files{"etc/": "", "etc/a": "1", "gone": "x"}))
	top := addLayer(t, s, makeTar(t, files{"etc/b": "2", ".wh.gone": ""}))
	config := configOf(t, "two", base, top)
	img, err := s.AddImage(bg, NewImage{Config: config, Layers: []Layer{base, top}, Names: []string{"two"}})
	must(t, err)
	if img.ID != digest.FromBytes(config) || !slices.Equal(img.Names, []string{"two:latest"}) || !img.Local || len(img.Layers) != 2 {
		t.Errorf("image %+v", img)
	}
	again, err := open(t, s.Root()).Lookup(bg, "two")
	must(t, err)
	if !bytes.Equal(again.RawConfig, config) || again.Config.Config.Labels["label"] != "two" || again.Layers[1].Size != top.Size {
		t.Errorf("image read back %+v", again)
	}
	if _, ok := readFile(t, s, img, "gone"); ok {
		t.Error("a whiteout did nothing")
	}
	size, err := s.ImageSize(bg, img)
	must(t, err)
	if size != 3 {
		t.Errorf("size %d, want 3", size)
	}
}

func TestImageWithoutLayers(t *testing.T) {
	s := newStore(t)
	img, err := s.AddImage(bg, NewImage{Config: configOf(t, "scratch"), Names: []string{"scratch2"}})
	must(t, err)
	v, err := s.View(bg, img)
	must(t, err)
	if v.Nodes() != 1 {
		t.Errorf("%d nodes", v.Nodes())
	}
	must(t, v.Close())
	fsckClean(t, s)
}

func TestLookup(t *testing.T) {
	s := newStore(t)
	a := addImage(t, s, "a", "debian", "debian:12", "localhost:5000/x/y:1")
	b := addImage(t, s, "b")
	must(t, s.AddDigest(bg, "debian", digest.FromString("registry"), a.ID))
	for name, want := range map[string]*Image{
		"debian": a, "debian:latest": a, "debian:12": a, "docker.io/library/debian:12": a, "library/debian": a,
		"index.docker.io/library/debian": a, "localhost:5000/x/y:1": a,
		"debian@" + digest.FromString("registry").String(): a, "debian:7@" + digest.FromString("registry").String(): a,
		"debian@" + a.Manifest.Digest.String(): a,
		a.ID.String():                          a, a.ID.Encoded(): a, a.ID.Encoded()[:12]: a, "sha256:" + a.ID.Encoded()[:9]: a,
		b.ID.String(): b, b.ID.Encoded()[:20]: b,
	} {
		img, err := s.Lookup(bg, name)
		if err != nil || img.ID != want.ID {
			t.Errorf("%s: %v, %v", name, img, err)
		}
	}
	for name, msg := range map[string]string{
		"nope": "No such image: nope:latest", "debian:13": "No such image: debian:13", "x/y:1": "No such image: x/y:1",
		digest.FromString("?").String():             "No such image: " + digest.FromString("?").String(),
		"debian@" + digest.FromString("?").String(): "No such image: debian@" + digest.FromString("?").String(),
	} {
		if _, err := s.Lookup(bg, name); !errors.Is(err, ErrNotFound) || err.Error() != msg {
			t.Errorf("%q: %v", name, err)
		}
	}
	for name, msg := range map[string]string{
		"Debian": "invalid reference format: repository name (library/Debian) must be lowercase",
		"":       "invalid reference format", "../x": "invalid reference format",
	} {
		if _, err := s.Lookup(bg, name); !errors.Is(err, ErrInvalid) || err.Error() != msg {
			t.Errorf("%q: %v", name, err)
		}
	}
	if !slices.Equal(lookup(t, s, "debian").Names, []string{"debian:12", "debian:latest", "localhost:5000/x/y:1"}) {
		t.Errorf("names %v", lookup(t, s, "debian").Names)
	}
}

func lookup(t *testing.T, s *Store, name string) *Image {
	t.Helper()
	img, err := s.Lookup(bg, name)
	must(t, err)
	return img
}

func TestAmbiguousPrefix(t *testing.T) {
	s := newStore(t)
	seen := map[byte]bool{}
	for i := range 17 { // two of 17 begin with the same digit
		img := addImage(t, s, string(rune('a'+i)))
		first := img.ID.Encoded()[0]
		if seen[first] {
			_, err := s.Lookup(bg, string(first))
			if !errors.Is(err, ErrAmbiguous) {
				t.Errorf("prefix %c: %v", first, err)
			}
			return
		}
		seen[first] = true
	}
}

func TestNameWinsOverPrefix(t *testing.T) {
	s := newStore(t)
	a := addImage(t, s, "a")
	b := addImage(t, s, "b", a.ID.Encoded()[:6])
	if img := lookup(t, s, a.ID.Encoded()[:6]); img.ID != b.ID {
		t.Error("the prefix won")
	}
}

func TestNamesMove(t *testing.T) {
	s := newStore(t)
	a := addImage(t, s, "a", "x:1")
	b := addImage(t, s, "b", "x:1")
	if lookup(t, s, "x:1").ID != b.ID {
		t.Error("the name did not move")
	}
	old := lookup(t, s, a.ID.String())
	if !old.Dangling() {
		t.Errorf("names of the old image: %v", old.Names)
	}
	must(t, s.Tag(bg, a.ID.String(), "x:1"))
	if !lookup(t, s, b.ID.String()).Dangling() {
		t.Error("tagging left the other its name")
	}
	list, err := s.List(bg)
	must(t, err)
	if len(list) != 2 {
		t.Errorf("%d images", len(list))
	}
	fsckClean(t, s)
}

func TestTagRefuses(t *testing.T) {
	s := newStore(t)
	addImage(t, s, "a", "x:1")
	for dst, msg := range map[string]string{
		"x@" + digest.FromString("1").String(): "refusing to create a tag with a digest reference",
		"sha256:1":                             "refusing to create an ambiguous tag using digest algorithm as name",
		"UPPER":                                "invalid reference format: repository name (library/UPPER) must be lowercase",
		"a b":                                  "invalid reference format",
		"":                                     "invalid reference format",
		strings.Repeat("a", 64):                "invalid repository name (" + strings.Repeat("a", 64) + "), cannot specify 64-byte hexadecimal strings",
		"x:" + strings.Repeat("a", 129):        "invalid reference format",
		"../../etc/passwd":                     "invalid reference format",
		"x:1\nio.containerd.image.name: evil":  "invalid reference format",
		"localhost:5000/" + strings.Repeat("a", 256): "repository name must not be more than 255 characters",
	} {
		if err := s.Tag(bg, "x:1", dst); !errors.Is(err, ErrInvalid) || err.Error() != msg {
			t.Errorf("%q: %v", dst, err)
		}
	}
	if err := s.Tag(bg, "nope", "y"); !errors.Is(err, ErrNotFound) {
		t.Errorf("tag of nothing: %v", err)
	}
}

func TestPulledManifestSurvivesALoad(t *testing.T) {
	s := newStore(t)
	img := addPulled(t, s, "a", "x:1")
	if img.Local || img.Layers[0].Blob.MediaType != ocispec.MediaTypeImageLayerGzip {
		t.Errorf("image %+v", img)
	}
	again, err := s.AddImage(bg, NewImage{Config: img.RawConfig, Names: []string{"y:1"}})
	must(t, err)
	if again.Manifest.Digest != img.Manifest.Digest || again.Local {
		t.Errorf("manifest %s became %s", img.Manifest.Digest, again.Manifest.Digest)
	}
	if lookup(t, s, "y:1").ID != img.ID {
		t.Error("the new name is missing")
	}
}

func TestAddImageRefuses(t *testing.T) {
	s := newStore(t)
	l := addLayer(t, s, makeTar(t, files{"a": "1"}))
	good := configOf(t, "x", l)
	manifest := func(change func(*ocispec.Manifest)) []byte {
		var m ocispec.Manifest
		must(t, json.Unmarshal(manifestOf(t, good, l.tar()), &m))
		change(&m)
		p, err := json.Marshal(m)
		must(t, err)
		return p
	}
	config := func(change func(*ImageConfig)) []byte {
		var c ImageConfig
		must(t, json.Unmarshal(good, &c))
		change(&c)
		p, err := json.Marshal(c)
		must(t, err)
		return p
	}
	for name, a := range map[string]NewImage{
		"no config":             {},
		"null":                  {Config: []byte("null")},
		"no rootfs":             {Config: []byte(`{"history":[null]}`)},
		"long history":          {Config: config(func(c *ImageConfig) { c.History = append(c.History, ocispec.History{}) })},
		"history of nulls":      {Config: bytes.Replace(good, []byte(`"history":[{`), []byte(`"history":[null,{`), 1)},
		"other rootfs":          {Config: config(func(c *ImageConfig) { c.RootFS.Type = "disk" })},
		"bad diffID":            {Config: config(func(c *ImageConfig) { c.RootFS.DiffIDs[0] = "sha256:../../x" })},
		"absent layer":          {Config: config(func(c *ImageConfig) { c.RootFS.DiffIDs[0] = digest.FromString("?") })},
		"layers of another":     {Config: good, Layers: []Layer{}},
		"big config":            {Config: append(bytes.Repeat([]byte(" "), MetadataLimit), good...)},
		"bad name":              {Config: good, Names: []string{"A"}},
		"manifest: text":        {Config: good, Manifest: []byte("x")},
		"manifest: null":        {Config: good, Manifest: []byte("null")},
		"manifest: version":     {Config: good, Manifest: manifest(func(m *ocispec.Manifest) { m.SchemaVersion = 1 })},
		"manifest: type":        {Config: good, Manifest: manifest(func(m *ocispec.Manifest) { m.MediaType = ocispec.MediaTypeImageIndex })},
		"manifest: config type": {Config: good, Manifest: manifest(func(m *ocispec.Manifest) { m.Config.MediaType = "application/x" })},
		"manifest: layer type":  {Config: good, Manifest: manifest(func(m *ocispec.Manifest) { m.Layers[0].MediaType = "application/x" })},
		"manifest: no layers":   {Config: good, Manifest: manifest(func(m *ocispec.Manifest) { m.Layers = nil })},
		"manifest: more layers": {Config: good, Manifest: manifest(func(m *ocispec.Manifest) { m.Layers = append(m.Layers, m.Layers[0]) })},
		"manifest: bad digest":  {Config: good, Manifest: manifest(func(m *ocispec.Manifest) { m.Layers[0].Digest = "sha256:x" })},
		"manifest: size":        {Config: good, Manifest: manifest(func(m *ocispec.Manifest) { m.Layers[0].Size = -1 })},
		"manifest: config":      {Config: good, Manifest: manifest(func(m *ocispec.Manifest) { m.Config.Digest = digest.FromString("?") })},
		"manifest: config size": {Config: good, Manifest: manifest(func(m *ocispec.Manifest) { m.Config.Size++ })},
		"manifest: index too":   {Config: good, Manifest: bytes.Replace(manifestOf(t, good, l.tar()), []byte("{"), []byte(`{"manifests":[],`), 1)},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.AddImage(bg, a)
			if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNotFound) {
				t.Errorf("error %v", err)
			}
		})
	}
	list, err := s.List(bg)
	must(t, err)
	if len(list) != 0 {
		t.Errorf("%d images were added", len(list))
	}
}

func TestConfigWithoutHistory(t *testing.T) {
	s := newStore(t)
	l := addLayer(t, s, makeTar(t, files{"a": "1"}))
	config := []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["` + l.DiffID.String() + `"]}}`)
	img, err := s.AddImage(bg, NewImage{Config: config, Names: []string{"bare"}})
	must(t, err)
	if h := img.Config.FullHistory(); len(h) != 1 {
		t.Errorf("history %v", h)
	}
}

// TestForeignWriter reads a store that another tool has written to: a name
// without its full form, a layer that is only there compressed, something
// that is no image.
func TestForeignWriter(t *testing.T) {
	s := newStore(t)
	gz := gzipped(t, makeTar(t, files{"a": "from elsewhere"}))
	diffID := digest.FromBytes(makeTar(t, files{"a": "from elsewhere"}))
	config := configOf(t, "foreign", Layer{DiffID: diffID})
	manifest := manifestOf(t, config, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(gz), Size: int64(len(gz))})
	for _, p := range [][]byte{gz, config, manifest} {
		_, err := s.Blobs().Put(bg, p)
		must(t, err)
	}
	index := ocispec.Index{Manifests: []ocispec.Descriptor{
		{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(manifest), Size: int64(len(manifest)), Annotations: map[string]string{ocispec.AnnotationRefName: "foreign"}},
		{MediaType: "application/vnd.example", Digest: digest.FromBytes(config), Size: int64(len(config))},
	}}
	index.SchemaVersion = 2
	p, err := json.Marshal(index)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(s.Root(), "index.json"), p, 0o600))

	img := lookup(t, s, "foreign")
	if text, ok := readFile(t, s, img, "a"); !ok || text != "from elsewhere" {
		t.Errorf("content %q", text)
	}
	_, err = s.Collect(bg)
	must(t, err)
	if lookup(t, s, "foreign").Layers[0].Size < 0 {
		t.Error("the tar was collected")
	}
	fsckClean(t, s)
}
