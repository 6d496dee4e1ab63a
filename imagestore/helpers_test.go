package imagestore

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/ulikunitz/xz"
)

var bg = context.Background()

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, root string) *Store {
	t.Helper()
	s, err := Open(root, Options{})
	must(t, err)
	return s
}

func newStore(t testing.TB) *Store {
	t.Helper()
	return open(t, t.TempDir())
}

// files is the content of a layer: name → text. A name that ends in "/" is a
// folder, "NAME -> TARGET" a symbolic link.
type files map[string]string

// makeTar makes a layer tar, the same bytes for the same files.
func makeTar(t testing.TB, fs files) []byte {
	t.Helper()
	var names []string
	for n := range fs {
		names = append(names, n)
	}
	slices.Sort(names)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, n := range names {
		h := &tar.Header{Name: n, Mode: 0o644, Size: int64(len(fs[n])), ModTime: time.Unix(1e9, 0), Typeflag: tar.TypeReg}
		if n[len(n)-1] == '/' {
			h.Typeflag, h.Mode, h.Size = tar.TypeDir, 0o755, 0
		}
		must(t, w.WriteHeader(h))
		_, err := io.WriteString(w, fs[n][:h.Size])
		must(t, err)
	}
	must(t, w.Close())
	return b.Bytes()
}

// noise is text that does not compress.
func noise(n int, seed uint64) string {
	p := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed)}).Read(p) // never fails
	return string(p)
}

func gzipped(t testing.TB, p []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(p)
	must(t, err)
	must(t, w.Close())
	return b.Bytes()
}

func zstded(t testing.TB, p []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b)
	must(t, err)
	_, err = w.Write(p)
	must(t, err)
	must(t, w.Close())
	return b.Bytes()
}

func xzed(t testing.TB, p []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := xz.NewWriter(&b)
	must(t, err)
	_, err = w.Write(p)
	must(t, err)
	must(t, w.Close())
	return b.Bytes()
}

func addLayer(t testing.TB, s *Store, p []byte) Layer {
	t.Helper()
	l, err := s.AddLayer(bg, bytes.NewReader(p), LayerOptions{})
	must(t, err)
	return l
}

// configOf makes a config over layers. The label makes it unlike others.
func configOf(t testing.TB, label string, layers ...Layer) []byte {
	t.Helper()
	created := time.Unix(1.5e9, 0).UTC()
	c := ImageConfig{Created: &created, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}}
	c.OS, c.Architecture = "linux", "amd64"
	c.Config.Labels = map[string]string{"label": label}
	for i, l := range layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, l.DiffID)
		c.History = append(c.History, ocispec.History{Created: &created, CreatedBy: fmt.Sprintf("step %d", i)})
	}
	p, err := json.Marshal(c)
	must(t, err)
	return p
}

// addImage adds an image of one layer that holds a file named label.
func addImage(t testing.TB, s *Store, label string, names ...string) *Image {
	t.Helper()
	release, err := s.Hold(bg)
	must(t, err)
	defer release()
	l := addLayer(t, s, makeTar(t, files{label: label}))
	img, err := s.AddImage(bg, NewImage{Config: configOf(t, label, l), Layers: []Layer{l}, Names: names})
	must(t, err)
	return img
}

// addPulled adds an image as a pull does: a manifest over a compressed layer
// that is kept.
func addPulled(t testing.TB, s *Store, label string, names ...string) *Image {
	t.Helper()
	release, err := s.Hold(bg)
	must(t, err)
	defer release()
	p := gzipped(t, makeTar(t, files{label: label}))
	l, err := s.AddLayer(bg, bytes.NewReader(p), LayerOptions{Digest: digest.FromBytes(p), Size: int64(len(p)), KeepCompressed: true})
	must(t, err)
	config := configOf(t, label, l)
	img, err := s.AddImage(bg, NewImage{Config: config, Manifest: manifestOf(t, config, l.Blob), Layers: []Layer{l}, Names: names})
	must(t, err)
	return img
}

func manifestOf(t testing.TB, config []byte, layers ...ocispec.Descriptor) []byte {
	t.Helper()
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Layers: layers}
	m.SchemaVersion = 2
	m.Config = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config))}
	p, err := json.Marshal(m)
	must(t, err)
	return p
}

// fsckClean fails the test unless the store is without any problem.
func fsckClean(t testing.TB, s *Store) {
	t.Helper()
	rep, err := s.Fsck(bg, FsckOptions{})
	must(t, err)
	for _, p := range rep.Problems {
		t.Errorf("fsck: %s", p)
	}
}

// readFile reads a file of an image through its view.
func readFile(t testing.TB, s *Store, img *Image, name string) (string, bool) {
	t.Helper()
	v, err := s.View(bg, img)
	must(t, err)
	defer v.Close()
	ino, err := v.Lookup(1, name)
	if err != nil {
		return "", false
	}
	p := make([]byte, 1<<20)
	n, err := v.ReadAt(ino, p, 0)
	must(t, err)
	return string(p[:n]), true
}
