package archive

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"unio/imagestore"
	"unio/imagestore/blob"
)

const (
	actionSave         = "Saving layer"
	dockerRepositories = "repositories"
	layoutContent      = `{"imageLayoutVersion":"` + ocispec.ImageLayoutVersion + `"}`
)

// Save writes images to w as a tar that is a docker archive and an OCI image
// layout at the same time. A name without a tag stands for all tags of its
// repository; an ID for the image without a name. Layers are written as the
// manifest has them, compressed where they came compressed, so that IDs and
// digests stay. The same images give the same bytes. If w is a file, layers
// are copied by the kernel.
//
// In index.json, ref.name holds the tag and io.containerd.image.name the full
// name, as docker writes them.
//
// What is removed from the store meanwhile is saved all the same: the layers
// are opened first, while nothing can be collected, and collection need not
// wait for a reader that is slow.
func Save(ctx context.Context, st *imagestore.Store, names []string, w io.Writer, o SaveOptions) error {
	s := &saver{
		st: st, o: o, index: []ocispec.Descriptor{}, repositories: map[string]map[string]string{},
		open: map[digest.Digest]*blob.Blob{},
	}
	defer s.close()
	if err := s.prepare(ctx, names); err != nil {
		return err
	}
	return s.write(ctx, newTarWriter(w))
}

// maxOpen is how many layers are open at once. Of more, collection has to
// wait.
const maxOpen = 512

// prepare finds what is to be saved, and opens it.
func (s *saver) prepare(ctx context.Context, names []string) (err error) {
	if s.release, err = s.st.Hold(ctx); err != nil {
		return err
	}
	for _, name := range names {
		if err := s.selectImages(ctx, name); err != nil {
			return err
		}
	}
	for _, p := range s.images {
		if err := s.describe(p); err != nil {
			return err
		}
	}
	for _, l := range s.layers {
		if s.open[l.Digest] != nil {
			continue
		}
		if len(s.open) == maxOpen {
			return nil
		}
		if s.open[l.Digest], err = s.openLayer(l); err != nil {
			return err
		}
	}
	s.release()
	s.release = nil
	return nil
}

func (s *saver) close() {
	for _, b := range s.open {
		if b != nil {
			b.Close()
		}
	}
	if s.release != nil {
		s.release()
	}
}

func (s *saver) openLayer(l ocispec.Descriptor) (*blob.Blob, error) {
	b, err := s.st.Blob(l.Digest)
	if err != nil {
		return nil, err
	}
	if b.Size() != l.Size {
		b.Close()
		return nil, fmt.Errorf("%w: blob %s has %d bytes, its manifest says %d", imagestore.ErrCorrupt, l.Digest, b.Size(), l.Size)
	}
	return b, nil
}

// picked is an image to save with the names to save it under.
type picked struct {
	img      *imagestore.Image
	manifest []byte // what is written; not always the stored one
	tags     []reference.NamedTagged
}

// document is a small file of the archive.
type document struct {
	name    string
	content []byte
}

// saver is one run of Save.
type saver struct {
	st     *imagestore.Store
	o      SaveOptions
	images []*picked

	index        []ocispec.Descriptor
	docker       []savedImage
	repositories map[string]map[string]string // repository → tag → top layer
	docs         []document                   // manifests and configs
	layers       []ocispec.Descriptor

	open    map[digest.Digest]*blob.Blob // layers
	release func()                       // lets go of the store; nil: done
}

// savedImage is an entry of manifest.json. Its fields are in docker's order.
type savedImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// selectImages finds what one argument stands for.
func (s *saver) selectImages(ctx context.Context, name string) error {
	ref, err := reference.ParseAnyReference(name)
	if n, ok := ref.(reference.Named); err == nil && ok && reference.IsNameOnly(n) {
		found, err := s.selectRepository(ctx, n)
		if found || err != nil {
			return err
		}
	}
	img, err := s.st.Lookup(ctx, name)
	if err != nil {
		return err
	}
	if n, ok := ref.(reference.NamedTagged); ok && err == nil {
		s.pick(img, n)
		return nil
	}
	s.pick(img, nil)
	return nil
}

// selectRepository picks all tags of a repository.
func (s *saver) selectRepository(ctx context.Context, repo reference.Named) (found bool, err error) {
	list, err := s.st.List(ctx)
	if err != nil {
		return false, err
	}
	for _, img := range list {
		for _, name := range img.Names {
			n, err := imagestore.ParseTag(name)
			if err != nil || n.Name() != repo.Name() {
				continue
			}
			// By name, as each tag may have a manifest of its own.
			tagged, err := s.st.Lookup(ctx, name)
			if err != nil {
				return true, err
			}
			s.pick(tagged, n)
			found = true
		}
	}
	return found, nil
}

// pick notes an image once, with all the tags it was asked for by.
func (s *saver) pick(img *imagestore.Image, tag reference.NamedTagged) {
	i := slices.IndexFunc(s.images, func(p *picked) bool { return p.img.Manifest.Digest == img.Manifest.Digest })
	if i < 0 {
		i = len(s.images)
		s.images = append(s.images, &picked{img: img})
	}
	p := s.images[i]
	if tag == nil || slices.ContainsFunc(p.tags, func(t reference.NamedTagged) bool { return t.String() == tag.String() }) {
		return
	}
	p.tags = append(p.tags, tag)
	slices.SortFunc(p.tags, func(a, b reference.NamedTagged) int { return cmp.Compare(a.String(), b.String()) })
}

// describe works out what the archive says of an image.
func (s *saver) describe(p *picked) error {
	layers, err := s.chooseLayers(p)
	if err != nil {
		return err
	}
	s.docs = append(s.docs,
		document{blobName(digest.FromBytes(p.manifest)), p.manifest},
		document{blobName(p.img.ID), p.img.RawConfig})
	s.layers = append(s.layers, layers...)
	s.addToIndex(p)
	s.addToDocker(p, layers)
	return nil
}

// chooseLayers takes the blobs of the manifest, or, if one of them is not in
// the store, the plain tars under a new manifest.
func (s *saver) chooseLayers(p *picked) ([]ocispec.Descriptor, error) {
	var as, plain []ocispec.Descriptor
	complete := true
	for _, l := range p.img.Layers {
		as = append(as, l.Blob)
		plain = append(plain, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: l.DiffID, Size: l.Size})
		complete = complete && s.st.HasBlob(l.Blob.Digest)
	}
	p.manifest = p.img.RawManifest
	if complete {
		return as, nil
	}
	for _, l := range p.img.Layers {
		if l.Size < 0 {
			return nil, fmt.Errorf("%w: layer %s of image %s is not in the store", imagestore.ErrCorrupt, l.DiffID, p.img.ID)
		}
	}
	var err error
	p.manifest, err = json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: p.img.ID, Size: int64(len(p.img.RawConfig))},
		Layers: plain,
	})
	return plain, err
}

func (s *saver) addToIndex(p *picked) {
	d := ocispec.Descriptor{
		MediaType: p.img.Manifest.MediaType, Digest: digest.FromBytes(p.manifest),
		Size: int64(len(p.manifest)), Platform: p.img.Manifest.Platform,
	}
	if d.Digest != p.img.Manifest.Digest {
		d.MediaType = ocispec.MediaTypeImageManifest
	}
	if len(p.tags) == 0 {
		s.index = append(s.index, d)
	}
	for _, t := range p.tags {
		d.Annotations = map[string]string{
			"io.containerd.image.name": t.String(),
			ocispec.AnnotationRefName:  t.Tag(),
		}
		s.index = append(s.index, d)
	}
}

func (s *saver) addToDocker(p *picked, layers []ocispec.Descriptor) {
	e := savedImage{Config: blobName(p.img.ID), Layers: []string{}}
	for _, l := range layers {
		e.Layers = append(e.Layers, blobName(l.Digest))
	}
	top := p.img.ID.Encoded()
	if n := len(layers); n > 0 {
		top = layers[n-1].Digest.Encoded()
	}
	for _, t := range p.tags {
		e.RepoTags = append(e.RepoTags, reference.FamiliarString(t))
		repo := reference.FamiliarName(t)
		if s.repositories[repo] == nil {
			s.repositories[repo] = map[string]string{}
		}
		s.repositories[repo][t.Tag()] = top
	}
	s.docker = append(s.docker, e)
}

// write puts the archive out: what describes it first, then the blobs by
// name, so that a reader of a stream knows early what comes.
func (s *saver) write(ctx context.Context, t *tarWriter) error {
	head, err := s.descriptions()
	if err != nil {
		return err
	}
	for _, d := range head {
		t.document(d)
	}
	for _, dir := range s.folders() {
		t.folder(dir)
	}
	docs := map[string][]byte{}
	for _, d := range s.docs {
		docs[d.name] = d.content
	}
	for _, name := range slices.Sorted(maps.Keys(docs)) {
		t.document(document{name, docs[name]})
	}
	layers := map[string]ocispec.Descriptor{}
	for _, l := range s.layers {
		layers[blobName(l.Digest)] = l
	}
	for _, name := range slices.Sorted(maps.Keys(layers)) {
		if docs[name] != nil {
			continue
		}
		if err := s.writeLayer(ctx, t, name, layers[name]); err != nil {
			return err
		}
	}
	return t.close()
}

func (s *saver) descriptions() ([]document, error) {
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: s.index}
	docs := []document{{ocispec.ImageLayoutFile, []byte(layoutContent)}}
	var errs []error
	add := func(name string, v any) {
		p, err := json.Marshal(v)
		errs = append(errs, err)
		docs = append(docs, document{name, p})
	}
	add(ocispec.ImageIndexFile, index)
	add(dockerManifest, s.docker)
	if len(s.repositories) > 0 {
		add(dockerRepositories, s.repositories)
	}
	return docs, errors.Join(errs...)
}

// folders are the folders that hold blobs, parents first.
func (s *saver) folders() []string {
	set := map[string]bool{"blobs": true}
	for _, d := range s.docs {
		set[path.Dir(d.name)] = true
	}
	for _, l := range s.layers {
		set["blobs/"+string(l.Digest.Algorithm())] = true
	}
	return slices.Sorted(maps.Keys(set))
}

func (s *saver) writeLayer(ctx context.Context, t *tarWriter, name string, l ocispec.Descriptor) (err error) {
	b := s.open[l.Digest]
	if b == nil {
		if b, err = s.openLayer(l); err != nil {
			return err
		}
		s.open[l.Digest] = b
	}
	defer func() {
		delete(s.open, l.Digest)
		b.Close()
	}()
	report := func(n int64) {
		if s.o.Progress != nil {
			s.o.Progress.Update(imagestore.Event{ID: imagestore.ShortID(l.Digest), Action: actionSave, Current: n, Total: l.Size})
		}
	}
	return t.copy(ctx, name, b, report)
}
