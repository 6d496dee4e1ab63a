package archive

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"unio/imagestore"
)

// found is one image of an archive.
type found struct {
	manifest []byte // nil when the archive has none of OCI's kind
	config   []byte
	layers   []foundLayer // bottom first
	names    []string
	guesses  []string // bare ref.names, used when nothing better names the image
	parent   digest.Digest
	foreign  bool // for another platform than this machine's
}

func (f *found) id() digest.Digest { return digest.FromBytes(f.config) }

// consistent reports whether the layers that came as plain tars are those that
// the config lists, in its order: their digests are the diffIDs.
func (f *found) consistent() bool {
	return !slices.ContainsFunc(f.layers, func(l foundLayer) bool {
		plain := l.desc.MediaType == ocispec.MediaTypeImageLayer || l.desc.MediaType == imagestore.MediaTypeDockerLayer
		return plain && l.desc.Digest.Algorithm() == digest.SHA256 && l.desc.Digest != l.diffID
	})
}

type foundLayer struct {
	name   string // of the entry
	diffID digest.Digest
	desc   ocispec.Descriptor // zero without a manifest
}

// dockerImage is an entry of a docker archive's manifest.json (moby,
// image/tarexport).
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
	Parent   digest.Digest
}

const (
	dockerManifest = "manifest.json"
	maxDepth       = 4 // of nested image indexes
)

// reader collects the images of an archive.
type reader struct {
	box     box
	log     *slog.Logger
	twofold bool // it is a docker archive and an image layout at once
	list    []*found
}

// unknown says what an archive lacks. Docker before 1.10 wrote images without
// manifest.json, whose IDs were not digests; docker 29 does not read them
// either.
func unknown(b box) error {
	if b.has(dockerRepositories) {
		return fmt.Errorf("%w: it was saved by docker before 1.10, load it with docker 1.10 to 28 and save it again", ErrFormat)
	}
	return fmt.Errorf("%w: it has neither %s nor %s", ErrFormat, dockerManifest, ocispec.ImageIndexFile)
}

// images finds out what an archive holds. The OCI side of an archive that is
// both keeps manifests as they were; docker's side knows the names best.
func images(b box, log *slog.Logger) ([]*found, error) {
	r := &reader{box: b, log: log}
	oci, docker := b.has(ocispec.ImageIndexFile), b.has(dockerManifest)
	r.twofold = oci && docker
	if !oci && !docker {
		return nil, unknown(b)
	}
	if oci {
		if err := checkLayout(b); err != nil {
			return nil, err
		}
		raw, err := b.metadata(ocispec.ImageIndexFile)
		if err != nil {
			return nil, err
		}
		if err := r.index(raw, nil, maxDepth); err != nil {
			return nil, err
		}
	}
	if docker {
		if err := r.docker(); err != nil {
			return nil, err
		}
	}
	if len(r.list) == 0 {
		return nil, fmt.Errorf("%w: it names no image", ErrFormat)
	}
	for _, f := range r.list {
		if len(f.names) > 0 {
			continue
		}
		for _, guess := range f.guesses {
			r.name(f, guess)
		}
	}
	return r.withoutForeign(), nil
}

// withoutForeign leaves out images for other platforms whose names an image for
// this one has too: some layouts list the platforms of an image side by side, not
// in an index of their own.
func (r *reader) withoutForeign() []*found {
	here := map[string]bool{}
	for _, f := range r.list {
		for _, n := range f.names {
			here[n] = here[n] || !f.foreign
		}
	}
	return slices.DeleteFunc(r.list, func(f *found) bool {
		spare := f.foreign && len(f.names) > 0 && !slices.ContainsFunc(f.names, func(n string) bool { return !here[n] })
		if spare {
			r.log.Info("skip an image for another platform", "id", f.id(), "names", f.names)
		}
		return spare
	})
}

// foreignPlatform reports whether a config says that its image is for another
// platform than this machine's.
func foreignPlatform(c *imagestore.ImageConfig) bool {
	return c.OS != "" && c.OS != runtime.GOOS || c.Architecture != "" && c.Architecture != runtime.GOARCH
}

// checkLayout refuses an image layout of a version that is not known
// (image-spec, image-layout.md). Some writers leave the file out.
func checkLayout(b box) error {
	if !b.has(ocispec.ImageLayoutFile) {
		return nil
	}
	raw, err := b.metadata(ocispec.ImageLayoutFile)
	if err != nil {
		return err
	}
	var l ocispec.ImageLayout
	if err := json.Unmarshal(raw, &l); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrFormat, ocispec.ImageLayoutFile, err)
	}
	if l.Version != ocispec.ImageLayoutVersion {
		return fmt.Errorf("%w: its image layout has version %q, only %s is known", ErrFormat, l.Version, ocispec.ImageLayoutVersion)
	}
	return nil
}

// index reads an image index: index.json itself, or a nested one with the
// names that its own descriptor gave it.
func (r *reader) index(raw []byte, from *ocispec.Descriptor, depth int) error {
	x, err := imagestore.ParseIndex(raw)
	if err != nil {
		return err
	}
	if depth == 0 {
		return fmt.Errorf("%w: image indexes nested more than %d deep", imagestore.ErrInvalid, maxDepth)
	}
	if from != nil {
		return r.choose(x, *from, depth)
	}
	for _, d := range x.Manifests {
		if err := r.descriptor(d, d, depth); err != nil {
			return err
		}
	}
	return nil
}

// choose takes one image of a nested index, which is one image for several
// platforms: this machine's if the archive has it, else the first there is.
func (r *reader) choose(x *ocispec.Index, from ocispec.Descriptor, depth int) error {
	var here []ocispec.Descriptor
	for _, d := range x.Manifests {
		if !imagestore.Attestation(d) && r.whole(d) {
			here = append(here, d)
		}
	}
	if len(here) == 0 {
		return fmt.Errorf("%w: it has no image of index %s", ErrMissing, from.Digest)
	}
	i := slices.IndexFunc(here, func(d ocispec.Descriptor) bool {
		return d.Platform != nil && d.Platform.OS == runtime.GOOS && d.Platform.Architecture == runtime.GOARCH
	})
	return r.descriptor(here[max(i, 0)], from, depth)
}

// whole reports whether an archive has an image with all its layers: docker and
// containerd save the index of all platforms, some manifests, and the layers of
// one. What cannot be read is left to those who read it.
func (r *reader) whole(d ocispec.Descriptor) bool {
	if !r.box.has(blobName(d.Digest)) {
		return false
	}
	raw, err := r.box.metadata(blobName(d.Digest))
	if err != nil || !imagestore.IsManifest(d.MediaType) {
		return true
	}
	m, err := imagestore.ParseManifest(raw)
	if err != nil {
		return true
	}
	return !slices.ContainsFunc(append(m.Layers, m.Config), func(l ocispec.Descriptor) bool {
		return !r.box.has(blobName(l.Digest))
	})
}

// descriptor reads what d describes. Names come from the descriptor at the
// top.
func (r *reader) descriptor(d, top ocispec.Descriptor, depth int) error {
	if imagestore.Attestation(d) {
		return nil
	}
	raw, err := r.box.metadata(blobName(d.Digest))
	if err != nil {
		return err
	}
	switch {
	case imagestore.IsIndex(d.MediaType):
		return r.index(raw, &top, depth-1)
	case imagestore.IsManifest(d.MediaType), d.MediaType == "":
		return r.manifest(raw, top)
	}
	r.log.Info("skip what is no image", "mediaType", d.MediaType, "digest", d.Digest)
	return nil
}

// manifest reads one image of an OCI layout.
func (r *reader) manifest(raw []byte, top ocispec.Descriptor) error {
	m, err := imagestore.ParseManifest(raw)
	if err != nil {
		return err
	}
	f, err := r.fromManifest(raw, m, blobName)
	if err == nil && r.twofold && !f.consistent() {
		err = fmt.Errorf("%w: the layers of manifest %s are not those of its config", imagestore.ErrCorrupt, digest.FromBytes(raw))
	}
	if r.twofold && (errors.Is(err, imagestore.ErrInvalid) || errors.Is(err, imagestore.ErrCorrupt)) {
		// Docker 25.0.0 wrote manifests without layers, or with layers in any
		// order (moby issues 47065 and 47150). Its own manifest.json is right.
		r.log.Warn("pass over a manifest that contradicts its config", "err", err)
		return nil
	}
	if err != nil {
		return err
	}
	r.nameFrom(f, top)
	r.add(f)
	return nil
}

// nameFrom takes the name that a descriptor in index.json gives an image. A
// ref.name without a repository, as docker and umoci write it, is a mere tag,
// and is only taken for a name when there is no other.
func (r *reader) nameFrom(f *found, d ocispec.Descriptor) {
	full, ref := d.Annotations["io.containerd.image.name"], d.Annotations[ocispec.AnnotationRefName]
	switch {
	case full != "":
		r.name(f, full)
	case strings.ContainsAny(ref, ":/"):
		r.name(f, ref)
	case ref != "":
		f.guesses = append(f.guesses, ref)
	}
}

// fromManifest reads the image of a manifest; where gives a blob's entry.
func (r *reader) fromManifest(raw []byte, m *ocispec.Manifest, where func(digest.Digest) string) (*found, error) {
	f := &found{manifest: raw}
	var err error
	if f.config, err = r.box.metadata(where(m.Config.Digest)); err != nil {
		return nil, err
	}
	c, err := imagestore.ParseConfig(f.config)
	if err != nil {
		return nil, err
	}
	if len(c.RootFS.DiffIDs) != len(m.Layers) {
		return nil, fmt.Errorf("%w image: the manifest has %d layers, the config %d", imagestore.ErrInvalid, len(m.Layers), len(c.RootFS.DiffIDs))
	}
	f.foreign = foreignPlatform(c)
	for i, d := range m.Layers {
		f.layers = append(f.layers, foundLayer{name: where(d.Digest), diffID: c.RootFS.DiffIDs[i], desc: d})
	}
	return f, nil
}

// plainDir reads what skopeo's "dir:" and "podman save --format docker-dir"
// write: the manifest itself as manifest.json, blobs beside it by their hex.
func (r *reader) plainDir(raw []byte) error {
	m, err := imagestore.ParseManifest(raw)
	if err != nil {
		return err
	}
	f, err := r.fromManifest(raw, m, digest.Digest.Encoded)
	if err != nil {
		return err
	}
	r.add(f)
	return nil
}

// name adds a name to an image. Something that is no name is no reason to
// refuse the image.
func (r *reader) name(f *found, name string) {
	n, err := imagestore.ParseTag(name)
	if err != nil {
		r.log.Warn("skip a name that is none", "name", name, "err", err)
		return
	}
	if full := n.String(); !slices.Contains(f.names, full) {
		f.names = append(f.names, full)
	}
}

// add joins images of the same ID.
func (r *reader) add(f *found) *found {
	for _, o := range r.list {
		if o.id() != f.id() {
			continue
		}
		for _, n := range f.names {
			r.name(o, n)
		}
		o.guesses = append(o.guesses, f.guesses...)
		return o
	}
	r.list = append(r.list, f)
	return f
}

// docker reads manifest.json.
func (r *reader) docker() error {
	raw, err := r.box.metadata(dockerManifest)
	if err != nil {
		return err
	}
	if bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{")) {
		return r.plainDir(raw)
	}
	var list []*dockerImage
	if err := json.Unmarshal(raw, &list); err != nil {
		return fmt.Errorf("%w %s: %w", imagestore.ErrInvalid, dockerManifest, err)
	}
	for _, d := range list {
		if d == nil {
			return fmt.Errorf("%w %s: an entry is null", imagestore.ErrInvalid, dockerManifest)
		}
		if err := r.dockerImage(d); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) dockerImage(d *dockerImage) error {
	config, err := r.box.metadata(clean(d.Config))
	if err != nil {
		return err
	}
	c, err := imagestore.ParseConfig(config)
	if err != nil {
		return err
	}
	if len(c.RootFS.DiffIDs) != len(d.Layers) {
		return fmt.Errorf("%w %s: invalid manifest, layers length mismatch: expected %d, got %d",
			imagestore.ErrInvalid, dockerManifest, len(c.RootFS.DiffIDs), len(d.Layers))
	}
	f := &found{config: config, parent: d.Parent, foreign: foreignPlatform(c)}
	for i, name := range d.Layers {
		f.layers = append(f.layers, foundLayer{name: clean(name), diffID: c.RootFS.DiffIDs[i]})
	}
	f = r.add(f)
	for _, tag := range d.RepoTags {
		r.name(f, tag)
	}
	return nil
}
