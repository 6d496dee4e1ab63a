package registry_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"unio/imagestore"
	"unio/imagestore/registry"
	"unio/imagestore/registry/registrytest"
)

// These tests run against Debian's docker-registry, with skopeo as the other
// client.

// skopeo runs the program and returns its output.
func skopeo(t testing.TB, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Skip("skopeo is not installed")
	}
	cmd := exec.Command("skopeo", args...)
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+t.TempDir())
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("skopeo %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return out.Bytes()
}

// rawManifest is what a registry has under a reference, bit by bit.
func rawManifest(t testing.TB, ref string) []byte {
	t.Helper()
	return skopeo(t, "inspect", "--raw", "--tls-verify=false", "docker://"+ref)
}

func openStore(t testing.TB) *imagestore.Store {
	t.Helper()
	st, err := imagestore.Open(t.TempDir(), imagestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func randomBytes(n int, seed uint64) []byte {
	b := make([]byte, n)
	src := rand.NewChaCha8([32]byte{byte(seed)})
	_, _ = src.Read(b)
	return b
}

// layerTar is a layer with these files.
func layerTar(t testing.TB, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for name, data := range files {
		if err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data))}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// localImage adds an amd64 image with one layer for each tar.
func localImage(t testing.TB, st *imagestore.Store, name string, tars ...[]byte) *imagestore.Image {
	t.Helper()
	return localImageFor(t, st, platformName{name, "amd64"}, tars...)
}

// platformName is an image's name and what it runs on.
type platformName struct{ name, arch string }

func localImageFor(t testing.TB, st *imagestore.Store, as platformName, tars ...[]byte) *imagestore.Image {
	t.Helper()
	var layers []imagestore.Layer
	ids := []digest.Digest{}
	for _, raw := range tars {
		l, err := st.AddLayer(t.Context(), bytes.NewReader(raw), imagestore.LayerOptions{})
		if err != nil {
			t.Fatal(err)
		}
		layers, ids = append(layers, l), append(ids, l.DiffID)
	}
	config, err := json.Marshal(map[string]any{
		"architecture": as.arch, "os": "linux", "config": map[string]any{"Cmd": []string{"sh"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": ids},
	})
	if err != nil {
		t.Fatal(err)
	}
	img, err := st.AddImage(t.Context(), imagestore.NewImage{Config: config, Layers: layers, Names: []string{as.name}})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

type steps struct{ bytes.Buffer }

func (s *steps) Update(e imagestore.Event) {
	if e.Current == 0 {
		fmt.Fprintf(s, "%s: %s\n", e.ID, e.Action)
	}
}

func pull(t testing.TB, st *imagestore.Store, ref string) registry.Pulled {
	t.Helper()
	got, err := registry.New(registry.Options{}).Pull(t.Context(), st, ref, registry.PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return got[0]
}

func push(t testing.TB, st *imagestore.Store, ref string) (registry.Pushed, string) {
	t.Helper()
	var s steps
	got, err := registry.New(registry.Options{Progress: &s, Parallel: 1}).Push(t.Context(), st, ref, registry.PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return got[0], s.String()
}

// content is a layer's tar as the store has it.
func content(t testing.TB, st *imagestore.Store, d digest.Digest) []byte {
	t.Helper()
	f, err := st.Blob(d)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func clean(t testing.TB, st *imagestore.Store) {
	t.Helper()
	rep, err := st.Fsck(t.Context(), imagestore.FsckOptions{})
	if err != nil || rep.Damaged() > 0 {
		t.Fatalf("fsck: %v, %+v", err, rep)
	}
}

// busyboxLayout makes an OCI layout with busybox in it and returns "oci:…".
func busyboxLayout(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	st, err := imagestore.Open(dir, imagestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	box, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("busybox is not installed (Debian package busybox-static)")
	}
	localImage(t, st, "busybox:1", layerTar(t, map[string][]byte{"bin/busybox": box}),
		layerTar(t, map[string][]byte{"etc/motd": []byte("hello"), "bin/.wh.sh": nil}))
	return "oci:" + dir + ":busybox:1"
}

// An image that another client pushed goes through our store, to another
// repository and another registry, and keeps every digest.
func TestRealRoundTrip(t *testing.T) {
	layout := busyboxLayout(t)
	for name, args := range map[string][]string{
		"docker": {"--format", "v2s2"},
		"oci":    {"--format", "oci", "--dest-compress-format", "gzip"},
		"zstd":   {"--format", "oci", "--dest-compress-format", "zstd"},
	} {
		t.Run(name, func(t *testing.T) {
			// Fresh ones: skopeo remembers in what forms a registry has a layer.
			first, second := registrytest.Start(t), registrytest.Start(t)
			src := first + "/" + name + ":1"
			args = append([]string{"copy", "-q", "--dest-tls-verify=false"}, args...)
			skopeo(t, append(args, layout, "docker://"+src)...)
			want := rawManifest(t, src)
			st := openStore(t)
			if got := pull(t, st, src); got.Digest != digest.FromBytes(want) {
				t.Errorf("pulled %s, registry has %s", got.Digest, digest.FromBytes(want))
			}
			clean(t, st)
			for _, dst := range []string{first + "/copy/" + name + ":2", second + "/" + name + ":3"} {
				if err := st.Tag(t.Context(), src, dst); err != nil {
					t.Fatal(err)
				}
				_, said := push(t, st, dst)
				if got := rawManifest(t, dst); !bytes.Equal(got, want) {
					t.Errorf("%s: manifest is %s, want %s", dst, got, want)
				}
				if mounts := strings.Count(said, "Mounted from "+name); strings.HasPrefix(dst, first) && mounts != 2 {
					t.Errorf("%d layers mounted:\n%s", mounts, said)
				}
				other := openStore(t)
				a, b := pull(t, other, dst), pull(t, other, src)
				if a.Digest != b.Digest || a.ImageID != b.ImageID {
					t.Errorf("pulled again: %+v and %+v", a, b)
				}
				clean(t, other)
			}
		})
	}
}

func TestRealPushOfLocalImage(t *testing.T) {
	addr := registrytest.Start(t)
	st := openStore(t)
	ref := addr + "/made/here:1"
	img := localImage(t, st, ref, layerTar(t, map[string][]byte{"big": randomBytes(5<<20, 1)}), layerTar(t, map[string][]byte{"a": []byte("1")}))
	got, said := push(t, st, ref)
	if strings.Count(said, ": Pushed\n") != 2 {
		t.Errorf("says\n%s", said)
	}
	if d := digest.FromBytes(rawManifest(t, ref)); d != got.Digest {
		t.Errorf("registry has %s, pushed %s", d, got.Digest)
	}
	if again, said := push(t, st, ref); again != got || strings.Count(said, "Layer already exists") != 2 {
		t.Errorf("again: %+v\n%s", again, said)
	}
	// Another client reads it, to the same image.
	dir := t.TempDir()
	skopeo(t, "copy", "-q", "--src-tls-verify=false", "docker://"+ref, "oci:"+dir+":x")
	var conf ocispec.Image
	if err := json.Unmarshal(skopeo(t, "inspect", "--config", "oci:"+dir+":x"), &conf); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(conf.RootFS.DiffIDs) != fmt.Sprint(img.DiffIDs()) {
		t.Errorf("layers are %v, want %v", conf.RootFS.DiffIDs, img.DiffIDs())
	}
	other := openStore(t)
	if pulled := pull(t, other, ref); pulled.ImageID != img.ID || pulled.Digest != got.Digest {
		t.Errorf("pulled %+v, image is %s", pulled, img.ID)
	}
	for _, d := range img.DiffIDs() {
		if !bytes.Equal(content(t, st, d), content(t, other, d)) {
			t.Errorf("layer %s differs", d)
		}
	}
	clean(t, other)
}

func TestRealIndex(t *testing.T) {
	addr := registrytest.Start(t)
	st := openStore(t)
	var entries []ocispec.Descriptor
	for _, arch := range []string{"s390x", "amd64", "arm64", "riscv64"} {
		ref := fmt.Sprintf("%s/multi:%s", addr, arch)
		localImageFor(t, st, platformName{ref, arch}, layerTar(t, map[string][]byte{"arch": []byte(arch)}))
		got, _ := push(t, st, ref)
		entries = append(entries, ocispec.Descriptor{
			MediaType: imagestore.MediaTypeDockerManifest, Digest: got.Digest, Size: got.Size,
			Platform: &ocispec.Platform{OS: "linux", Architecture: arch},
		})
	}
	list, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": imagestore.MediaTypeDockerManifestList, "manifests": entries,
	})
	if err != nil {
		t.Fatal(err)
	}
	putManifest(t, addr, "multi", "all", list)
	for i, arch := range []string{"s390x", "amd64", "arm64", "riscv64"} {
		other := openStore(t)
		got, err := registry.New(registry.Options{}).Pull(t.Context(), other, addr+"/multi:all", registry.PullOptions{Platform: "linux/" + arch})
		if err != nil {
			t.Fatal(err)
		}
		img, err := other.Lookup(t.Context(), addr+"/multi:all")
		if err != nil || img.Manifest.Digest != entries[i].Digest || got[0].Digest != digest.FromBytes(list) {
			t.Errorf("%s: %+v, %v", arch, got, err)
		}
	}
}

// putManifest stores a manifest with curl, as no client here makes lists.
func putManifest(t testing.TB, addr, repo, tag string, raw []byte) {
	t.Helper()
	cmd := exec.Command("curl", "-sSf", "-X", "PUT", "--data-binary", "@-",
		"-H", "Content-Type: "+imagestore.MediaTypeDockerManifestList, "http://"+addr+"/v2/"+repo+"/manifests/"+tag)
	cmd.Stdin = bytes.NewReader(raw)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("put manifest: %v\n%s", err, out)
	}
}

// The credentials lie where docker keeps them: in config.json, or with a
// helper that it names.
func TestRealCredentials(t *testing.T) {
	addr := registrytest.StartPrivate(t)
	st := openStore(t)
	ref := addr + "/private:1"
	localImage(t, st, ref, layerTar(t, map[string][]byte{"a": []byte("1")}))

	folder := t.TempDir()
	t.Setenv("DOCKER_CONFIG", folder)
	_, err := registry.New(registry.Options{}).Push(t.Context(), st, ref, registry.PushOptions{})
	if !errors.Is(err, registry.ErrNotFound) || err.Error() != "no basic auth credentials" {
		t.Errorf("without credentials: %v", err)
	}

	// base64 of someone:correct-horse
	writeConfig(t, folder, `{"auths":{"`+addr+`":{"auth":"c29tZW9uZTpjb3JyZWN0LWhvcnNl"}}}`)
	push(t, st, ref)
	pull(t, openStore(t), ref)

	writeConfig(t, folder, `{"credHelpers":{"`+addr+`":"uniotest"}}`)
	bin := t.TempDir()
	helper := "#!/bin/sh\nread host\n[ \"$1 $host\" = \"get " + addr + "\" ] || exit 1\n" +
		`echo '{"Username":"someone","Secret":"correct-horse"}'` + "\n"
	if err := os.WriteFile(filepath.Join(bin, "docker-credential-uniotest"), []byte(helper), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	pull(t, openStore(t), ref)

	writeConfig(t, folder, `{"auths":{"`+addr+`":{"auth":"c29tZW9uZTp3cm9uZw=="}}}`)
	_, err = registry.New(registry.Options{}).Pull(t.Context(), openStore(t), ref, registry.PullOptions{})
	if !errors.Is(err, registry.ErrNotFound) || strings.Contains(err.Error(), "wrong") {
		t.Errorf("with a wrong password: %v", err)
	}

	writeConfig(t, folder, `nonsense`)
	_, err = registry.New(registry.Options{}).Pull(t.Context(), openStore(t), ref, registry.PullOptions{})
	if err == nil || !strings.Contains(err.Error(), "config.json") {
		t.Errorf("with a damaged config.json: %v", err)
	}
}

func writeConfig(t *testing.T, folder, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(folder, "config.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// killed is the environment of this test binary when it is to pull, or push,
// and be killed meanwhile: the store's folder, the reference, and what to do.
const (
	killedStore = "UNIO_TEST_PULL_STORE"
	killedRef   = "UNIO_TEST_PULL_REF"
	killedVerb  = "UNIO_TEST_PULL_VERB" // "push", or empty
)

func TestMain(m *testing.M) {
	root := os.Getenv(killedStore)
	if root == "" {
		os.Exit(m.Run())
	}
	st, err := imagestore.Open(root, imagestore.Options{})
	switch {
	case err != nil:
	case os.Getenv(killedVerb) == "push":
		_, err = registry.New(registry.Options{Chunk: killedChunk}).Push(context.Background(), st, os.Getenv(killedRef), registry.PushOptions{})
	default:
		_, err = registry.New(registry.Options{}).Pull(context.Background(), st, os.Getenv(killedRef), registry.PullOptions{})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// A pull that is killed at any moment leaves a store that opens, holds no half
// image and no damage, and takes the same pull.
func TestKilledPull(t *testing.T) {
	addr := registrytest.Start(t)
	src := openStore(t)
	ref := addr + "/big:1"
	var tars [][]byte
	for i := range uint64(5) {
		tars = append(tars, layerTar(t, map[string][]byte{fmt.Sprint("f", i): randomBytes(2<<20, i)}))
	}
	localImage(t, src, ref, tars...)
	want, _ := push(t, src, ref)

	start := time.Now()
	if out, err := pullProcess(t.TempDir(), ref).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	whole := time.Since(start)
	finished := 0
	for range 25 {
		root := t.TempDir()
		for range 2 { // the second one starts from what the first one left
			if killPull(t, root, ref, rand.N(whole*4/5)) {
				finished++
			}
			checkStore(t, root, ref)
		}
		st, err := imagestore.Open(root, imagestore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := pull(t, st, ref); got.Digest != want.Digest {
			t.Fatalf("pulled %s, want %s", got.Digest, want.Digest)
		}
		if _, err := st.Fsck(t.Context(), imagestore.FsckOptions{Repair: true}); err != nil {
			t.Fatal(err)
		}
		rep, err := st.Fsck(t.Context(), imagestore.FsckOptions{})
		if err != nil || len(rep.Problems) > 0 || rep.Images != 1 {
			t.Fatalf("after the repeated pull: %v, %+v", err, rep)
		}
	}
	t.Logf("%d of 50 pulls were over before they were killed; a whole one takes %v", finished, whole)
}

func pullProcess(root, ref string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killedStore+"="+root, killedRef+"="+ref)
	return cmd
}

// killPull kills a pull after a while and reports whether it had finished.
func killPull(t *testing.T, root, ref string, after time.Duration) bool {
	t.Helper()
	cmd := pullProcess(root, ref)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(after)
	_ = cmd.Process.Kill()
	return cmd.Wait() == nil
}

// checkStore opens a store after a crash: what it shows is whole.
func checkStore(t *testing.T, root, ref string) {
	t.Helper()
	st, err := imagestore.Open(root, imagestore.Options{})
	if err != nil {
		t.Fatalf("the store does not open: %v", err)
	}
	clean(t, st)
	img, err := st.Lookup(t.Context(), ref)
	switch {
	case errors.Is(err, imagestore.ErrNotFound):
	case err != nil:
		t.Fatal(err)
	default:
		view, err := st.View(t.Context(), img)
		if err != nil {
			t.Fatalf("an image that cannot be opened: %v", err)
		}
		view.Close()
	}
}
