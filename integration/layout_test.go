package integration

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// item is one entry of a layer tar, in the order it is written.
type item struct {
	name string
	kind byte   // tar.TypeReg when 0
	link string // target of either kind of link
	body string
	mode int64 // 0755 for folders, 0644 for the rest, when 0
}

func folder(name string) item          { return item{name: name, kind: tar.TypeDir} }
func file(name, body string) item      { return item{name: name, body: body} }
func symlink(name, target string) item { return item{name: name, kind: tar.TypeSymlink, link: target} }

func hardlink(name, target string) item  { return item{name: name, kind: tar.TypeLink, link: target} }
func gone(name string) item              { return item{name: name} } // a whiteout's empty file
func layerOf(items ...item) []item       { return items }
func layersOf(layers ...[]item) [][]item { return layers }
func (i item) withMode(mode int64) item  { i.mode = mode; return i }

// tarOf packs items as they are, rules or no rules.
func tarOf(t *testing.T, items []item) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, i := range items {
		h := &tar.Header{
			Name: i.name, Typeflag: i.kind, Linkname: i.link, Mode: i.mode,
			Size: int64(len(i.body)), ModTime: time.Unix(1_000_000_000, 0), Format: tar.FormatPAX,
		}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o644
			if h.Typeflag == tar.TypeDir {
				h.Mode = 0o755
			}
		}
		must(t, w.WriteHeader(h))
		_, err := io.WriteString(w, i.body)
		must(t, err)
	}
	must(t, w.Close())
	return buf.Bytes()
}

// layout writes an OCI layout folder with one image, named by ref, of
// uncompressed layers, bottom first.
func layout(t *testing.T, dir, ref string, layers ...[]byte) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Join(dir, "blobs/sha256"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644))
	created := time.Unix(1_000_000_000, 0).UTC()
	config := ocispec.Image{
		Created: &created, Platform: ocispec.Platform{Architecture: "amd64", OS: "linux"},
		RootFS: ocispec.RootFS{Type: "layers"},
	}
	manifest := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
	}
	for _, layer := range layers {
		d := putBlob(t, dir, ocispec.MediaTypeImageLayer, layer)
		manifest.Layers = append(manifest.Layers, d)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, d.Digest)
		config.History = append(config.History, ocispec.History{Created: &created, CreatedBy: "test"})
	}
	manifest.Config = putBlob(t, dir, ocispec.MediaTypeImageConfig, marshal(t, config))
	d := putBlob(t, dir, ocispec.MediaTypeImageManifest, marshal(t, manifest))
	d.Annotations = map[string]string{ocispec.AnnotationRefName: ref}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{d}}
	must(t, os.WriteFile(filepath.Join(dir, "index.json"), marshal(t, index), 0o644))
}

func putBlob(t *testing.T, dir, mediaType string, data []byte) ocispec.Descriptor {
	t.Helper()
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	must(t, os.WriteFile(filepath.Join(dir, "blobs/sha256", d.Digest.Encoded()), data, 0o644))
	return d
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	must(t, err)
	return data
}
