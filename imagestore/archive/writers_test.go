package archive

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"unio/imagestore"
)

// entry is an entry of manifest.json with all that anybody writes into it.
type entry struct {
	Config       string
	RepoTags     []string
	Layers       []string
	LayerSources map[string]ocispec.Descriptor `json:",omitempty"`
}

// writer is how a tool lays out the archive of one image with the name
// quay.io/x/app:1, which has two different layers and the first one again.
type writer struct {
	name  string
	write func(t *testing.T, s sample) []item
	// unnamed: this layout has no place for a name.
	unnamed bool
	// manifest: the layout has one, which must be kept.
	manifest bool
}

const writtenName = "quay.io/x/app:1"

func writers() []writer {
	return []writer{
		{name: "docker 1.10 to 24", write: docker10},
		{name: "docker 25.0.0, no layers in the manifest", write: docker25Bare},
		{name: "docker 25.0.0, layers in another order", write: docker25Disorder},
		{name: "docker 25.0.0 to 25.0.2, by ID", write: docker25ByID, unnamed: true},
		{name: "docker 25 to 28", write: docker28, manifest: true},
		{name: "docker 29, one of several platforms", write: docker29, manifest: true},
		{name: "podman save, buildah push docker-archive", write: podmanArchive},
		{name: "buildah push oci-archive", write: ociArchive, manifest: true},
		{name: "kaniko, crane, ko", write: kaniko},
		{name: "nerdctl save, ctr export", write: nerdctl, manifest: true},
		{name: "skopeo dir", write: skopeoDir, unnamed: true, manifest: true},
		{name: "umoci", write: umoci, manifest: true},
		{name: "bazel rules_docker", write: bazelDocker},
		{name: "bazel rules_oci, docker", write: bazelOCI},
		{name: "bazel rules_oci, layout", write: bazelLayout, unnamed: true, manifest: true},
		{name: "jib", write: jib},
		{name: "nix dockerTools", write: nix},
		{name: "buildx type=docker", write: buildx, manifest: true},
	}
}

// layerFolders are folders as docker made them for readers before 1.10.
func layerFolders(s sample) (items []item, layers []string) {
	first := map[string]string{}
	for n, l := range s.tars {
		dir := fmt.Sprintf("%064x", n+1)
		items = append(items, item{name: dir + "/"}, item{name: dir + "/VERSION", text: "1.0"}, item{name: dir + "/json", text: `{"id":"` + dir + `"}`})
		layers = append(layers, dir+"/layer.tar")
		if at := first[l]; at != "" {
			items = append(items, item{name: dir + "/layer.tar", link: "../" + at})
			continue
		}
		first[l] = dir + "/layer.tar"
		items = append(items, item{name: dir + "/layer.tar", text: l})
	}
	return items, layers
}

func dockerEnd(t *testing.T, e entry) []item {
	return []item{
		{name: "manifest.json", text: toJSON(t, []entry{e}) + "\n"},
		{name: "repositories", text: `{"quay.io/x/app":{"1":"` + strings.Repeat("0", 63) + "3\"}}\n"},
	}
}

func docker10(t *testing.T, s sample) []item {
	items, layers := layerFolders(s)
	config := s.id().Encoded() + ".json"
	items = append(items, item{name: config, text: s.config})
	return append(items, dockerEnd(t, entry{Config: config, RepoTags: []string{writtenName}, Layers: layers})...)
}

// docker25 has plain tars among blobs, beside a manifest of given layers.
func docker25(t *testing.T, s sample, listed []string, manifests func(ocispec.Descriptor) string) []item {
	l := newLayout(t)
	e := entry{Config: blobName(s.id()), RepoTags: []string{writtenName}, LayerSources: map[string]ocispec.Descriptor{}}
	for _, tar := range s.tars {
		d := l.blob(ocispec.MediaTypeImageLayer, tar)
		e.Layers = append(e.Layers, blobName(d.Digest))
		e.LayerSources[d.Digest.String()] = d
		l.blob("", `{"created":"1970-01-01T00:00:00Z","id":"`+d.Digest.Encoded()+`"}`) // for readers before 1.10
	}
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: l.blob(ocispec.MediaTypeImageConfig, s.config), Layers: []ocispec.Descriptor{}}
	m.SchemaVersion = 2
	for _, tar := range listed {
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: sha(tar), Size: int64(len(tar))})
	}
	index := manifests(l.blob(ocispec.MediaTypeImageManifest, toJSON(t, m)))
	if index == "null" {
		e.RepoTags = nil
	}
	items := append(once(l.items), item{
		name: "index.json",
		text: `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":` + index + `}`,
	})
	return append(items, dockerEnd(t, e)...)
}

// once drops what is there twice: a blob that two layers are.
func once(items []item) []item {
	seen := map[string]bool{}
	return slices.DeleteFunc(items, func(i item) bool {
		was := seen[i.name]
		seen[i.name] = true
		return was
	})
}

func named25(t *testing.T) func(ocispec.Descriptor) string {
	return func(d ocispec.Descriptor) string {
		d.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
		d.Annotations = map[string]string{"io.containerd.image.name": writtenName, ocispec.AnnotationRefName: "1"}
		return toJSON(t, []ocispec.Descriptor{d})
	}
}

func docker28(t *testing.T, s sample) []item { return docker25(t, s, s.tars, named25(t)) }

func docker25Bare(t *testing.T, s sample) []item { return docker25(t, s, nil, named25(t)) }

func docker25Disorder(t *testing.T, s sample) []item {
	other := slices.Clone(s.tars)
	slices.Reverse(other)
	other[0], other[1] = other[1], other[0]
	return docker25(t, s, other, named25(t))
}

func docker25ByID(t *testing.T, s sample) []item {
	return docker25(t, s, s.tars, func(ocispec.Descriptor) string { return "null" })
}

// docker29 saves from containerd: the index of all platforms, this one's
// image, another's manifest without its layers, and provenance.
func docker29(t *testing.T, s sample) []item {
	l := newLayout(t)
	mine := l.image(s)
	mine.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	away := newLayout(t)
	other := away.image(newSample(t, "other", layerTar(t, "other", "x")))
	other.Platform = &ocispec.Platform{OS: "linux", Architecture: "arm64"}
	l.items = append(l.items, away.items[len(away.items)-1])
	proof := l.blob(ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[]}`)
	proof.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	proof.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	inner := ocispec.Index{Manifests: []ocispec.Descriptor{other, mine, proof}}
	inner.SchemaVersion = 2
	l.add(l.blob(ocispec.MediaTypeImageIndex, toJSON(t, inner)), "io.containerd.image.name", writtenName, ocispec.AnnotationRefName, "1")
	e := entry{Config: blobName(s.id()), RepoTags: []string{writtenName}}
	for _, tar := range s.tars {
		e.Layers = append(e.Layers, blobName(sha(compress(t, tar))))
	}
	return append(once(l.entries()), item{name: "manifest.json", text: toJSON(t, []entry{e})})
}

func podmanArchive(t *testing.T, s sample) []item {
	var items []item
	e := entry{Config: s.id().Encoded() + ".json", RepoTags: []string{writtenName}}
	for _, tar := range s.tars {
		e.Layers = append(e.Layers, sha(tar).Encoded()+".tar")
		items = append(items, item{name: sha(tar).Encoded() + ".tar", text: tar})
	}
	items = append(once(items), item{name: e.Config, text: s.config})
	for n, tar := range s.tars {
		dir := fmt.Sprintf("%064x", n+1)
		items = append(items,
			item{name: dir + "/layer.tar", link: "../" + sha(tar).Encoded() + ".tar"},
			item{name: dir + "/VERSION", text: "1.0"}, item{name: dir + "/json", text: "{}"})
	}
	return append(items, dockerEnd(t, e)...)
}

func ociArchive(t *testing.T, s sample) []item {
	l := newLayout(t)
	l.add(l.image(s), ocispec.AnnotationRefName, writtenName)
	return once(l.entries())
}

func umoci(t *testing.T, s sample) []item {
	l := newLayout(t)
	l.add(l.image(s), ocispec.AnnotationRefName, writtenName)
	l.index.MediaType = ""
	return once(l.entries())
}

func nerdctl(t *testing.T, s sample) []item {
	l := newLayout(t)
	l.add(l.image(s), "io.containerd.image.name", writtenName, ocispec.AnnotationRefName, "1")
	e := entry{Config: blobName(s.id()), RepoTags: []string{writtenName}}
	for _, tar := range s.tars {
		e.Layers = append(e.Layers, blobName(sha(compress(t, tar))))
	}
	return append(once(l.entries()), item{name: "manifest.json", text: toJSON(t, []entry{e})})
}

// buildx puts layers among blobs, compressed, and names them in both places.
func buildx(t *testing.T, s sample) []item { return nerdctl(t, s) }

// kaniko: the tarball of go-containerregistry, a colon in the config's name.
func kaniko(t *testing.T, s sample) []item {
	e := entry{Config: s.id().String(), RepoTags: []string{writtenName}}
	items := []item{{name: e.Config, text: s.config}}
	for _, tar := range s.tars {
		z := compress(t, tar)
		e.Layers = append(e.Layers, sha(z).Encoded()+".tar.gz")
		items = append(items, item{name: sha(z).Encoded() + ".tar.gz", text: z})
	}
	return append(once(items), item{name: "manifest.json", text: toJSON(t, []entry{e})})
}

func jib(t *testing.T, s sample) []item {
	items := kaniko(t, s)
	for i := range items {
		items[i].name = strings.Replace(items[i].name, s.id().String(), "config.json", 1)
		items[i].text = strings.Replace(items[i].text, s.id().String(), "config.json", 1)
	}
	return items
}

func skopeoDir(t *testing.T, s sample) []item {
	l := newLayout(t)
	d := l.image(s)
	items := []item{{name: "version", text: "Directory Transport Version: 1.1\n"}}
	for _, i := range once(l.items) {
		base := i.name[strings.LastIndex(i.name, "/")+1:]
		switch {
		case base == d.Digest.Encoded():
			items = append(items, item{name: "manifest.json", text: i.text})
		case strings.HasPrefix(i.name, "blobs/sha256/") && base != "":
			items = append(items, item{name: base, text: i.text})
		}
	}
	return items
}

// bazelDocker: rules_docker, all entries below "./".
func bazelDocker(t *testing.T, s sample) []item {
	config := s.id().Encoded() + ".json"
	items := []item{{name: "./"}, {name: "./" + config, text: s.config}}
	e := entry{Config: config, RepoTags: []string{writtenName}}
	for _, tar := range s.tars {
		e.Layers = append(e.Layers, sha(tar).Encoded()+"/layer.tar")
		items = append(items, item{name: "./" + sha(tar).Encoded() + "/layer.tar", text: tar})
	}
	items = append(once(items), item{name: "./top", text: sha(s.tars[len(s.tars)-1]).Encoded()})
	for _, i := range dockerEnd(t, e) {
		items = append(items, item{name: "./" + i.name, text: i.text})
	}
	return items
}

func bazelOCI(t *testing.T, s sample) []item {
	e := entry{Config: blobName(s.id()), RepoTags: []string{writtenName}}
	items := []item{{name: e.Config, text: s.config}}
	for _, tar := range s.tars {
		z := compress(t, tar)
		e.Layers = append(e.Layers, blobName(sha(z))+".tar.gz")
		items = append(items, item{name: blobName(sha(z)) + ".tar.gz", text: z})
	}
	return append(once(items), item{name: "manifest.json", text: toJSON(t, []entry{e})})
}

func bazelLayout(t *testing.T, s sample) []item {
	l := newLayout(t)
	l.add(l.image(s))
	return once(l.entries())
}

// nix: dockerTools, the description first, layers in folders of their own.
func nix(t *testing.T, s sample) []item {
	items := bazelDocker(t, s)
	items = slices.DeleteFunc(items, func(i item) bool { return i.name == "./top" || i.name == "./repositories" })
	for i := range items {
		items[i].name = strings.TrimPrefix(items[i].name, "./")
	}
	return slices.DeleteFunc(items, func(i item) bool { return i.name == "" })
}

// TestWriters loads what the tools of the field write, in every way an archive
// can come. Where the tool runs here, TestArchivesOfTools in integration loads
// the real thing.
func TestWriters(t *testing.T) {
	t.Parallel()
	base := layerTar(t, "base", "1")
	s := newSample(t, "x", base, layerTar(t, "top", "2"), base)
	for _, w := range writers() {
		t.Run(w.name, func(t *testing.T) {
			want := Loaded{Name: writtenName, ID: s.id()}
			if w.unnamed {
				want.Name = ""
			}
			for way, st := range expect(t, w.write(t, s), want) {
				img, err := st.Get(bg, s.id())
				must(t, err)
				if img.Local == w.manifest {
					t.Errorf("%s: the manifest was made here: %v", way, img.Local)
				}
			}
		})
	}
}

// TestBeforeDocker110: those archives are refused with what to do.
func TestBeforeDocker110(t *testing.T) {
	t.Parallel()
	s := newSample(t, "x", layerTar(t, "a", "1"))
	items, _ := layerFolders(s)
	items = append(items, item{name: "repositories", text: `{"app":{"1":"` + fmt.Sprintf("%064x", 1) + `"}}`})
	for way, src := range ways(t, items) {
		_, err := Load(bg, newStore(t), src(), LoadOptions{})
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "saved by docker before 1.10") {
			t.Errorf("%s: %v", way, err)
		}
	}
}

// TestShortHistory: umoci with --no-history, and others, add layers that the
// history does not tell of. What is made from such an image tells of all.
func TestShortHistory(t *testing.T) {
	t.Parallel()
	s := newSample(t, "x", layerTar(t, "a", "1"), layerTar(t, "b", "2"))
	var c imagestore.ImageConfig
	must(t, json.Unmarshal([]byte(s.config), &c))
	c.History = c.History[:1]
	s.config = toJSON(t, c)
	st := newStore(t)
	_, err := Load(bg, st, Source{Reader: bytes.NewReader(pack(t, docker10(t, s)))}, LoadOptions{})
	must(t, err)
	img, err := st.Lookup(bg, writtenName)
	must(t, err)
	if h := img.Config.FullHistory(); len(h) != 2 || h[0].CreatedBy != "step" || h[1].CreatedBy != "" {
		t.Errorf("history %+v", h)
	}
}

// TestPaxLayersInStream: a layer that begins with an extended header is known
// for one by its first block, as are tars of any age.
func TestPaxLayersInStream(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]tar.Header{
		"pax":          {Name: "a", ModTime: time.Unix(1e9, 5), Format: tar.FormatPAX, PAXRecords: map[string]string{"SCHILY.xattr.user.x": "y"}},
		"gnu":          {Name: strings.Repeat("long/", 60) + "a", Format: tar.FormatGNU},
		"global first": {Typeflag: tar.TypeXGlobalHeader, Name: "g", PAXRecords: map[string]string{"comment": "x"}},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		must(t, w.WriteHeader(&h))
		must(t, w.WriteHeader(&tar.Header{Name: "second", Mode: 0o644}))
		must(t, w.Close())
		s := newSample(t, "x", b.String())
		got, err := Load(bg, newStore(t), Source{Reader: onlyReader{bytes.NewReader(pack(t, docker10(t, s)))}}, LoadOptions{})
		if err != nil || len(got) != 1 {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// TestPlatformsSideBySide: an index.json that lists the platforms of an image
// itself gives this machine's; the only one there is, is taken whatever it is.
func TestPlatformsSideBySide(t *testing.T) {
	t.Parallel()
	mine, other := newSample(t, "mine", layerTar(t, "a", "1")), newSample(t, "other", layerTar(t, "b", "1"))
	other.config = strings.Replace(other.config, `"amd64"`, `"s390x"`, 1)
	mine.config = strings.Replace(mine.config, `"amd64"`, `"`+runtime.GOARCH+`"`, 1)
	both, alone := newLayout(t), newLayout(t)
	both.add(both.image(mine), ocispec.AnnotationRefName, "x:1")
	both.add(both.image(other), ocispec.AnnotationRefName, "x:1")
	alone.add(alone.image(other), ocispec.AnnotationRefName, "x:1")
	expect(t, both.entries(), Loaded{Name: "x:1", ID: mine.id()})
	expect(t, alone.entries(), Loaded{Name: "x:1", ID: other.id()})
}
