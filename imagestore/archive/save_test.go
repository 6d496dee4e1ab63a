package archive

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"unio/imagestore"
)

// filled is a store with a pulled image (compressed layers kept), one that was
// loaded from a docker archive, and one without a name.
func filled(t *testing.T) (st *imagestore.Store, pulled, local, unnamed sample) {
	t.Helper()
	st = newStore(t)
	base := layerTar(t, "base", "1")
	pulled = newSample(t, "pulled", base, layerTar(t, "p", "2"))
	local = newSample(t, "local", base, layerTar(t, "l", "3"))
	unnamed = newSample(t, "unnamed", base)
	l := newLayout(t)
	l.add(l.image(pulled), ocispec.AnnotationRefName, "pulled:1")
	for _, items := range [][]item{l.entries(), legacyDocker(t, map[string]sample{"local:1": local, "-": unnamed})} {
		_, err := Load(bg, st, Source{Reader: bytes.NewReader(pack(t, items))}, LoadOptions{})
		must(t, err)
	}
	must(t, st.Tag(bg, "pulled:1", "pulled:2"))
	must(t, st.Tag(bg, "pulled:1", "localhost:5000/copy:1"))
	return st, pulled, local, unnamed
}

func saved(t *testing.T, st *imagestore.Store, names ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	must(t, Save(bg, st, names, &b, SaveOptions{}))
	return b.Bytes()
}

func TestSaveAndLoadAgain(t *testing.T) {
	st, pulled, local, unnamed := filled(t)
	p := saved(t, st, "pulled", "local:1", unnamed.id().String(), "localhost:5000/copy:1")
	if !bytes.Equal(p, saved(t, st, "pulled", "local:1", unnamed.id().String(), "localhost:5000/copy:1")) {
		t.Error("two saves differ")
	}
	other := newStore(t)
	got, err := Load(bg, other, Source{Reader: bytes.NewReader(p)}, LoadOptions{})
	must(t, err)
	want := []Loaded{
		{Name: "pulled:1", ID: pulled.id()},
		{Name: "pulled:2", ID: pulled.id()},
		{Name: "localhost:5000/copy:1", ID: pulled.id()},
		{Name: "local:1", ID: local.id()},
		{ID: unnamed.id()},
	}
	if !slices.Equal(got, want) {
		t.Errorf("loaded %+v\nwant %+v", got, want)
	}
	for _, name := range []string{"pulled:1", "local:1"} {
		a, err := st.Lookup(bg, name)
		must(t, err)
		b, err := other.Lookup(bg, name)
		must(t, err)
		if a.ID != b.ID || a.Manifest.Digest != b.Manifest.Digest {
			t.Errorf("%s: manifest %s became %s", name, a.Manifest.Digest, b.Manifest.Digest)
		}
	}
	if !bytes.Equal(p, saved(t, other, "pulled", "local:1", unnamed.id().String(), "localhost:5000/copy:1")) {
		t.Error("saved from the other store, the bytes differ")
	}
}

// TestSaveOneTag: a name with its tag means that tag alone.
func TestSaveOneTag(t *testing.T) {
	st, pulled, _, _ := filled(t)
	got, err := Load(bg, newStore(t), Source{Reader: bytes.NewReader(saved(t, st, "pulled:2"))}, LoadOptions{})
	must(t, err)
	if !slices.Equal(got, []Loaded{{Name: "pulled:2", ID: pulled.id()}}) {
		t.Errorf("loaded %+v", got)
	}
}

// TestSaveWithoutTheCompressedBlobs writes the plain tars instead.
func TestSaveWithoutTheCompressedBlobs(t *testing.T) {
	st, pulled, _, _ := filled(t)
	img, err := st.Lookup(bg, "pulled:1")
	must(t, err)
	must(t, st.Blobs().Remove(img.Layers[0].Blob.Digest))
	got, err := Load(bg, newStore(t), Source{Reader: bytes.NewReader(saved(t, st, "pulled:1"))}, LoadOptions{})
	must(t, err)
	if !slices.Equal(got, []Loaded{{Name: "pulled:1", ID: pulled.id()}}) {
		t.Errorf("loaded %+v", got)
	}
}

func TestSaveEntries(t *testing.T) {
	st, _, local, _ := filled(t)
	r := tar.NewReader(bytes.NewReader(saved(t, st, "local:1")))
	docs := map[string][]byte{}
	var names []string
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		must(t, err)
		if h.ModTime.Unix() != 0 || h.Uid != 0 || h.Uname != "" {
			t.Errorf("%s: %v %d %q", h.Name, h.ModTime, h.Uid, h.Uname)
		}
		names = append(names, h.Name)
		docs[h.Name], err = io.ReadAll(r)
		must(t, err)
	}
	for _, name := range []string{"oci-layout", "index.json", "manifest.json", "repositories", "blobs/", "blobs/sha256/", blobName(local.id())} {
		if !slices.Contains(names, name) {
			t.Errorf("no %s in %v", name, names)
		}
	}
	var list []dockerImage
	must(t, json.Unmarshal(docs["manifest.json"], &list))
	if len(list) != 1 || !slices.Equal(list[0].RepoTags, []string{"local:1"}) || list[0].Config != blobName(local.id()) {
		t.Errorf("manifest.json %+v", list)
	}
	x, err := imagestore.ParseIndex(docs["index.json"])
	must(t, err)
	if n := x.Manifests[0].Annotations; n[ocispec.AnnotationRefName] != "1" || n["io.containerd.image.name"] != "docker.io/library/local:1" {
		t.Errorf("annotations %v", n)
	}
}

func TestSaveFile(t *testing.T) {
	st, _, _, _ := filled(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "a.tar")
	must(t, os.WriteFile(path, []byte("old"), 0o644))
	must(t, SaveFile(bg, st, []string{"local:1"}, path, SaveOptions{}))
	fi, err := os.Stat(path)
	must(t, err)
	p, err := os.ReadFile(path)
	must(t, err)
	if fi.Mode() != 0o600 || !bytes.Equal(p, saved(t, st, "local:1")) {
		t.Errorf("mode %v, %d bytes", fi.Mode(), len(p))
	}
	if err := SaveFile(bg, st, []string{"nope"}, path, SaveOptions{}); !errors.Is(err, imagestore.ErrNotFound) {
		t.Errorf("absent image: %v", err)
	}
	if q, err := os.ReadFile(path); err != nil || !bytes.Equal(p, q) {
		t.Errorf("a failed save changed the file (%v)", err)
	}
	for bad, msg := range map[string]string{
		dir: "cannot write to a directory", "/dev/null": "cannot write to a character device file",
		filepath.Join(dir, "no/x"): "invalid output path: stat ",
	} {
		if err := SaveFile(bg, st, []string{"local:1"}, bad, SaveOptions{}); err == nil || !strings.HasPrefix(err.Error(), msg) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	entries, err := os.ReadDir(dir)
	must(t, err)
	if len(entries) != 1 {
		t.Errorf("left over: %v", entries)
	}
}

// tool runs a program of the system; one that is missing fails the test.
func tool(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestOthersReadIt hands a store and a saved archive to skopeo and umoci.
func TestOthersReadIt(t *testing.T) {
	st, pulled, _, _ := filled(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "a.tar")
	must(t, SaveFile(bg, st, []string{"pulled:1"}, path, SaveOptions{}))
	for i, src := range []string{
		"oci:" + st.Root() + ":pulled:2", "oci:" + st.Root() + ":localhost:5000/copy:1",
		"oci-archive:" + path + ":1", "docker-archive:" + path + ":pulled:1",
	} {
		dst := filepath.Join(dir, "out", string(rune('a'+i)))
		must(t, os.MkdirAll(filepath.Dir(dst), 0o755))
		tool(t, "skopeo", "copy", "-q", src, "dir:"+dst)
		config, err := os.ReadFile(filepath.Join(dst, pulled.id().Encoded()))
		if err != nil || string(config) != pulled.config {
			t.Errorf("%s: config %q, %v", src, config, err)
		}
	}
	unpacked := filepath.Join(dir, "layout")
	must(t, os.Mkdir(unpacked, 0o755))
	tool(t, "tar", "-C", unpacked, "-xf", path)
	bundle := filepath.Join(dir, "bundle")
	tool(t, "umoci", "unpack", "--image", unpacked+":1", bundle)
	if p, err := os.ReadFile(filepath.Join(bundle, "rootfs/p")); err != nil || string(p) != "2" {
		t.Errorf("umoci: %q, %v", p, err)
	}
}

// TestOthersWriteIt loads what skopeo makes of an image.
func TestOthersWriteIt(t *testing.T) {
	st, pulled, _, _ := filled(t)
	dir := t.TempDir()
	src := "oci:" + st.Root() + ":pulled:1"
	for _, c := range []struct{ dst, path, name string }{
		{"docker-archive:" + dir + "/d.tar:quay.io/x/y:3", dir + "/d.tar", "quay.io/x/y:3"},
		{"oci-archive:" + dir + "/o.tar:named:4", dir + "/o.tar", "named:4"},
		{"oci:" + dir + "/layout:named:5", dir + "/layout", "named:5"},
		{"dir:" + dir + "/plain", dir + "/plain", ""},
	} {
		tool(t, "skopeo", "copy", "-q", src, c.dst)
		got, err := Load(bg, newStore(t), Source{Path: c.path}, LoadOptions{})
		must(t, err)
		if !slices.Equal(got, []Loaded{{Name: c.name, ID: pulled.id()}}) {
			t.Errorf("%s: loaded %+v", c.dst, got)
		}
	}
}
