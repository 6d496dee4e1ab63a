package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"unio/imagestore"
)

var bg = context.Background()

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newStore(t testing.TB) *imagestore.Store {
	t.Helper()
	s, err := imagestore.Open(t.TempDir(), imagestore.Options{})
	must(t, err)
	return s
}

// item is an entry of an archive under test.
type item struct {
	name, text string
	link       string // a symbolic link to this name
	hard       string // a hard link to this name
}

func pack(t testing.TB, items []item) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, i := range items {
		h := &tar.Header{Name: i.name, Mode: 0o644, Size: int64(len(i.text)), Typeflag: tar.TypeReg, ModTime: time.Unix(1e9, 0)}
		switch {
		case i.link != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, i.link
		case i.hard != "":
			h.Typeflag, h.Linkname = tar.TypeLink, i.hard
		case strings.HasSuffix(i.name, "/"):
			h.Typeflag = tar.TypeDir
		}
		must(t, w.WriteHeader(h))
		_, err := io.WriteString(w, i.text)
		must(t, err)
	}
	must(t, w.Close())
	return b.Bytes()
}

func layerTar(t testing.TB, name, text string) string {
	t.Helper()
	return string(pack(t, []item{{name: name, text: text}}))
}

func sha(s string) digest.Digest { return digest.FromString(s) }

func compress(t testing.TB, s string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := io.WriteString(w, s)
	must(t, err)
	must(t, w.Close())
	return b.String()
}

func toJSON(t testing.TB, v any) string {
	t.Helper()
	p, err := json.Marshal(v)
	must(t, err)
	return string(p)
}

// sample is an image to put into archives: its layers and its config.
type sample struct {
	tars   []string
	config string
}

func newSample(t testing.TB, label string, tars ...string) sample {
	t.Helper()
	c := map[string]any{
		"architecture": "amd64", "os": "linux", "config": map[string]any{"Labels": map[string]string{"label": label}},
		"created": "2020-01-02T03:04:05Z",
	}
	ids := []digest.Digest{}
	history := []any{}
	for _, l := range tars {
		ids = append(ids, sha(l))
		history = append(history, map[string]string{"created_by": "step"})
	}
	c["rootfs"] = map[string]any{"type": "layers", "diff_ids": ids}
	c["history"] = history
	return sample{tars: tars, config: toJSON(t, c)}
}

func (s sample) id() digest.Digest { return sha(s.config) }

// legacyDocker is what "docker save" of 20.10 writes: a folder per layer, equal
// layers as links, the descriptions last.
func legacyDocker(t testing.TB, images map[string]sample) []item {
	t.Helper()
	var items, configs []item
	var manifest []dockerImage
	first := map[string]string{}
	n := 0
	for _, name := range sortedKeys(images) {
		s := images[name]
		e := dockerImage{Config: s.id().Encoded() + ".json", RepoTags: []string{name}}
		if strings.HasPrefix(name, "-") {
			e.RepoTags = nil
		}
		for _, l := range s.tars {
			dir := fmt.Sprintf("%064x", n)
			n++
			items = append(items, item{name: dir + "/"}, item{name: dir + "/VERSION", text: "1.0"}, item{name: dir + "/json", text: `{"id":"x"}`})
			if at := first[l]; at != "" {
				items = append(items, item{name: dir + "/layer.tar", link: "../" + at})
			} else {
				first[l] = dir + "/layer.tar"
				items = append(items, item{name: dir + "/layer.tar", text: l})
			}
			e.Layers = append(e.Layers, dir+"/layer.tar")
		}
		manifest = append(manifest, e)
		configs = append(configs, item{name: e.Config, text: s.config})
	}
	return append(append(items, configs...), item{name: "manifest.json", text: toJSON(t, manifest)}, item{name: "repositories", text: "{}"})
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// layout builds an OCI image layout, entry by entry.
type layout struct {
	t     testing.TB
	items []item
	index ocispec.Index
}

func newLayout(t testing.TB) *layout {
	l := &layout{t: t}
	l.index.SchemaVersion = 2
	l.items = []item{{name: "oci-layout", text: layoutContent}, {name: "blobs/"}, {name: "blobs/sha256/"}}
	return l
}

func (l *layout) blob(mediaType, text string) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: sha(text), Size: int64(len(text))}
	l.items = append(l.items, item{name: blobName(d.Digest), text: text})
	return d
}

// image adds an image with compressed layers.
func (l *layout) image(s sample) ocispec.Descriptor {
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: l.blob(ocispec.MediaTypeImageConfig, s.config), Layers: []ocispec.Descriptor{}}
	m.SchemaVersion = 2
	for _, tar := range s.tars {
		m.Layers = append(m.Layers, l.blob(ocispec.MediaTypeImageLayerGzip, compress(l.t, tar)))
	}
	return l.blob(ocispec.MediaTypeImageManifest, toJSON(l.t, m))
}

// add puts a descriptor into index.json.
func (l *layout) add(d ocispec.Descriptor, notes ...string) {
	d.Annotations = map[string]string{}
	for i := 0; i < len(notes); i += 2 {
		d.Annotations[notes[i]] = notes[i+1]
	}
	l.index.Manifests = append(l.index.Manifests, d)
}

func (l *layout) entries() []item {
	return append(slices.Clone(l.items), item{name: "index.json", text: toJSON(l.t, l.index)})
}

// ways are all the ways by which the same entries can come.
func ways(t *testing.T, items []item) map[string]func() Source {
	t.Helper()
	p := pack(t, items)
	backward := slices.Clone(items)
	slices.Reverse(backward)
	dir := t.TempDir()
	file := filepath.Join(dir, "a.tar")
	must(t, os.WriteFile(file, p, 0o600))
	gz := filepath.Join(dir, "a.tar.gz")
	must(t, os.WriteFile(gz, []byte(compress(t, string(p))), 0o600))
	folder := filepath.Join(dir, "folder")
	unpack(t, folder, items)
	var z bytes.Buffer
	zw, err := zstd.NewWriter(&z)
	must(t, err)
	_, err = zw.Write(p)
	must(t, err)
	must(t, zw.Close())
	return map[string]func() Source{
		"file":            func() Source { return Source{Path: file} },
		"compressed file": func() Source { return Source{Path: gz} },
		"folder":          func() Source { return Source{Path: folder} },
		"stream":          func() Source { return Source{Reader: onlyReader{bytes.NewReader(p)}} },
		"stream backward": func() Source { return Source{Reader: onlyReader{bytes.NewReader(pack(t, backward))}} },
		"zstd stream":     func() Source { return Source{Reader: onlyReader{&z}} },
		"open file": func() Source {
			f, err := os.Open(file)
			must(t, err)
			t.Cleanup(func() { f.Close() })
			return Source{Reader: f}
		},
	}
}

type onlyReader struct{ io.Reader }

func unpack(t *testing.T, dir string, items []item) {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o755))
	for _, i := range items {
		path := filepath.Join(dir, i.name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		switch {
		case strings.HasSuffix(i.name, "/"):
			must(t, os.MkdirAll(path, 0o755))
		case i.link != "":
			must(t, os.Symlink(i.link, path))
		case i.hard != "":
			must(t, os.Link(filepath.Join(dir, i.hard), path))
		default:
			must(t, os.WriteFile(path, []byte(i.text), 0o644))
		}
	}
}

// expect loads in every way and compares what is said.
func expect(t *testing.T, items []item, want ...Loaded) map[string]*imagestore.Store {
	t.Helper()
	stores := map[string]*imagestore.Store{}
	for way, src := range ways(t, items) {
		st := newStore(t)
		got, err := Load(bg, st, src(), LoadOptions{})
		if err != nil {
			t.Errorf("%s: %v", way, err)
			continue
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: loaded %+v, want %+v", way, got, want)
		}
		rep, err := st.Fsck(bg, imagestore.FsckOptions{})
		must(t, err)
		for _, p := range rep.Problems {
			if !p.Garbage {
				t.Errorf("%s: fsck: %s", way, p)
			}
		}
		stores[way] = st
	}
	return stores
}

func TestLegacyDockerArchive(t *testing.T) {
	base := layerTar(t, "base", "1")
	one := newSample(t, "one", base, layerTar(t, "one", "2"))
	two := newSample(t, "two", base, base, layerTar(t, "two", "3"))
	unnamed := newSample(t, "unnamed", base)
	items := legacyDocker(t, map[string]sample{"one:1": one, "localhost:5000/x/two:2": two, "-": unnamed})
	expect(t, items,
		Loaded{ID: unnamed.id()}, Loaded{Name: "localhost:5000/x/two:2", ID: two.id()}, Loaded{Name: "one:1", ID: one.id()})
}

func TestDockerArchiveWithHardLinksAndDots(t *testing.T) {
	l := layerTar(t, "a", "1")
	s := newSample(t, "x", l, l)
	expect(t, []item{
		{name: "./config.json", text: s.config},
		{name: "./l1.tar", text: l},
		{name: "./l2.tar", hard: "l1.tar"},
		{name: "./manifest.json", text: toJSON(t, []dockerImage{{Config: "config.json", RepoTags: []string{"x:1"}, Layers: []string{"./l1.tar", "l2.tar"}}})},
	}, Loaded{Name: "x:1", ID: s.id()})
}

func TestCompressedLayersInDockerArchive(t *testing.T) {
	l := layerTar(t, "a", "1")
	s := newSample(t, "x", l)
	expect(t, []item{
		{name: "c.json", text: s.config},
		{name: "l.tar.gz", text: compress(t, l)},
		{name: "manifest.json", text: toJSON(t, []dockerImage{{Config: "c.json", RepoTags: []string{"x:1"}, Layers: []string{"l.tar.gz"}}})},
	}, Loaded{Name: "x:1", ID: s.id()})
}

func TestOCIArchive(t *testing.T) {
	l := newLayout(t)
	s := newSample(t, "x", layerTar(t, "a", "1"), layerTar(t, "b", "2"))
	d := l.image(s)
	other := newSample(t, "other", layerTar(t, "a", "1"))
	l.add(d, ocispec.AnnotationRefName, "x:1")
	l.add(d, "io.containerd.image.name", "quay.io/a/b:2", ocispec.AnnotationRefName, "2")
	l.add(l.image(other))
	stores := expect(t, l.entries(),
		Loaded{Name: "x:1", ID: s.id()}, Loaded{Name: "quay.io/a/b:2", ID: s.id()}, Loaded{ID: other.id()})
	for way, st := range stores {
		img, err := st.Lookup(bg, "quay.io/a/b:2")
		must(t, err)
		if img.Manifest.Digest != d.Digest || img.Local || !st.HasBlob(img.Layers[0].Blob.Digest) {
			t.Errorf("%s: the manifest was not kept: %+v", way, img.Manifest)
		}
	}
}

func TestBareRefNames(t *testing.T) {
	l := newLayout(t)
	s := newSample(t, "x", layerTar(t, "a", "1"))
	d := l.image(s)
	l.add(d, ocispec.AnnotationRefName, "latest")
	l.add(d, ocispec.AnnotationRefName, "2.0")
	expect(t, l.entries(), Loaded{Name: "latest:latest", ID: s.id()}, Loaded{Name: "2.0:latest", ID: s.id()})
}

func TestNestedIndex(t *testing.T) {
	l := newLayout(t)
	arm, amd := newSample(t, "arm", layerTar(t, "a", "1")), newSample(t, "amd", layerTar(t, "b", "1"))
	armDesc, amdDesc := l.image(arm), l.image(amd)
	armDesc.Platform = &ocispec.Platform{OS: "linux", Architecture: "arm64"}
	amdDesc.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	attestation := ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageManifest, Digest: sha("none"), Size: 4,
		Platform: &ocispec.Platform{OS: "unknown", Architecture: "unknown"},
	}
	absent := ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageManifest, Digest: sha("absent"), Size: 6,
		Platform: &ocispec.Platform{OS: "linux", Architecture: "s390x"},
	}
	inner := ocispec.Index{Manifests: []ocispec.Descriptor{attestation, absent, armDesc, amdDesc}}
	inner.SchemaVersion = 2
	l.add(l.blob(ocispec.MediaTypeImageIndex, toJSON(t, inner)), ocispec.AnnotationRefName, "multi:1")
	expect(t, l.entries(), Loaded{Name: "multi:1", ID: amd.id()})
}

// TestReplaced: docker says which image lost its name.
func TestReplaced(t *testing.T) {
	st := newStore(t)
	a, b := newSample(t, "a", layerTar(t, "a", "1")), newSample(t, "b", layerTar(t, "b", "1"))
	for _, s := range []sample{a, b, b} {
		src := Source{Reader: bytes.NewReader(pack(t, legacyDocker(t, map[string]sample{"x:1": s})))}
		got, err := Load(bg, st, src, LoadOptions{})
		must(t, err)
		want := Loaded{Name: "x:1", ID: s.id()}
		if len(got) == 1 && got[0].Replaced != "" {
			want.Replaced = a.id()
		}
		if !slices.Equal(got, []Loaded{want}) {
			t.Errorf("loaded %+v", got)
		}
	}
	if img, err := st.Lookup(bg, a.id().String()); err != nil || !img.Dangling() {
		t.Errorf("the old image: %+v, %v", img, err)
	}
}

// TestBadArchives: one line, no image, nothing left in the store.
func TestBadArchives(t *testing.T) {
	l := layerTar(t, "a", strings.Repeat("hello", 1000))
	s := newSample(t, "x", l)
	good := legacyDocker(t, map[string]sample{"x:1": s})
	replaced := func(change func(*item)) []item {
		items := slices.Clone(good)
		for i := range items {
			change(&items[i])
		}
		return items
	}
	manifest := func(text string) []item {
		return replaced(func(i *item) {
			if i.name == "manifest.json" {
				i.text = text
			}
		})
	}
	oci := func(change func(l *layout)) []item {
		o := newLayout(t)
		o.add(o.image(s), ocispec.AnnotationRefName, "x:1")
		change(o)
		return o.entries()
	}
	for name, c := range map[string]struct {
		items []item
		kind  error
	}{
		"no archive":            {[]item{{name: "a", text: "b"}}, ErrFormat},
		"manifest: text":        {manifest("["), imagestore.ErrInvalid},
		"manifest: null":        {manifest("[null]"), imagestore.ErrInvalid},
		"manifest: paths":       {manifest(`[{"Config":"../../../../etc/passwd","Layers":["/etc/shadow"]}]`), ErrMissing},
		"manifest: layer count": {manifest(`[{"Config":"` + s.id().Encoded() + `.json","Layers":[]}]`), imagestore.ErrInvalid},
		"no config":             {slices.DeleteFunc(slices.Clone(good), func(i item) bool { return strings.HasPrefix(i.name, s.id().Encoded()) }), ErrMissing},
		"no layer":              {slices.DeleteFunc(slices.Clone(good), func(i item) bool { return strings.HasSuffix(i.name, "layer.tar") }), ErrMissing},
		"other config":          {replaced(func(i *item) { i.text = strings.Replace(i.text, `"label":"x"`, `"label":"y"`, 1) }), imagestore.ErrCorrupt},
		"other layer":           {replaced(func(i *item) { i.text = strings.Replace(i.text, "hellohello", "hellohellO", 1) }), imagestore.ErrCorrupt},
		"loop of links": {replaced(func(i *item) {
			if strings.HasSuffix(i.name, "layer.tar") {
				*i = item{name: i.name, link: "layer.tar"}
			}
		}), nil},
		"oci: other layer": {oci(func(o *layout) {
			for i := range o.items {
				if strings.HasPrefix(o.items[i].text, "\x1f\x8b") {
					o.items[i].text = compress(t, layerTar(t, "other", "x"))
				}
			}
		}), imagestore.ErrCorrupt},
		"oci: no blob":    {oci(func(o *layout) { o.items = o.items[:3] }), ErrMissing},
		"oci: bad digest": {oci(func(o *layout) { o.index.Manifests[0].Digest = "sha256:../../../../etc/passwd" }), imagestore.ErrInvalid},
		"oci: index of itself": {oci(func(o *layout) {
			o.index.Manifests[0].MediaType = ocispec.MediaTypeImageIndex
		}), imagestore.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			for way, src := range ways(t, c.items) {
				if way == "folder" && name == "loop of links" {
					continue // the kernel's error
				}
				refuses(t, way, src(), c.kind)
			}
		})
	}
}

// refuses expects a load to fail and to leave nothing.
func refuses(t *testing.T, way string, src Source, kind error) {
	t.Helper()
	st := newStore(t)
	list, err := Load(bg, st, src, LoadOptions{})
	if err == nil || kind != nil && !errors.Is(err, kind) {
		t.Errorf("%s: loaded %v, error %v, want %v", way, list, err, kind)
		return
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("%s: more than one line: %v", way, err)
	}
	if u, err := st.Usage(); err != nil || u != (imagestore.Usage{}) {
		t.Errorf("%s: left behind %+v, %v", way, u, err)
	}
}

// TestTruncatedArchives cuts an archive at every few bytes.
func TestTruncatedArchives(t *testing.T) {
	s := newSample(t, "x", layerTar(t, "a", strings.Repeat("hello", 100)))
	p := pack(t, legacyDocker(t, map[string]sample{"x:1": s}))
	end := bytes.LastIndex(p, []byte("repositories"))
	file := filepath.Join(t.TempDir(), "cut.tar")
	for n := 1; n < end-512; n += 501 {
		must(t, os.WriteFile(file, p[:n], 0o600))
		refuses(t, fmt.Sprintf("file of %d", n), Source{Path: file}, nil)
		refuses(t, fmt.Sprintf("stream of %d", n), Source{Reader: onlyReader{bytes.NewReader(p[:n])}}, nil)
		z := compress(t, string(p))
		z = z[:len(z)*n/len(p)]
		refuses(t, fmt.Sprintf("gzip of %d", len(z)), Source{Reader: strings.NewReader(z)}, nil)
	}
}

func TestEmptyAndAbsent(t *testing.T) {
	st := newStore(t)
	if _, err := Load(bg, st, Source{Reader: strings.NewReader("")}, LoadOptions{}); !errors.Is(err, ErrEmpty) {
		t.Errorf("empty stream: %v", err)
	}
	empty := filepath.Join(t.TempDir(), "empty")
	must(t, os.WriteFile(empty, nil, 0o600))
	if _, err := Load(bg, st, Source{Path: empty}, LoadOptions{}); !errors.Is(err, ErrEmpty) {
		t.Errorf("empty file: %v", err)
	}
	if _, err := Load(bg, st, Source{Path: empty + "x"}, LoadOptions{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent file: %v", err)
	}
	if _, err := Load(bg, st, Source{Path: t.TempDir()}, LoadOptions{}); !errors.Is(err, ErrFormat) {
		t.Errorf("empty folder: %v", err)
	}
}

// TestFolderLinksStayInside: a layout folder whose blobs are links to files
// outside gives nothing away.
func TestFolderLinksStayInside(t *testing.T) {
	s := newSample(t, "x", layerTar(t, "a", "1"))
	dir := t.TempDir()
	outside := filepath.Join(dir, "secret.json")
	must(t, os.WriteFile(outside, []byte(s.config), 0o600))
	for _, target := range []string{outside, "../secret.json"} {
		folder := filepath.Join(t.TempDir(), "f")
		if target[0] == '.' {
			folder = filepath.Join(dir, "f")
		}
		unpack(t, folder, []item{
			{name: "c.json", link: target},
			{name: "l.tar", text: s.tars[0]},
			{name: "manifest.json", text: `[{"Config":"c.json","RepoTags":["x:1"],"Layers":["l.tar"]}]`},
		})
		refuses(t, target, Source{Path: folder}, nil)
	}
}
