package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote/auth"

	"unio/imagestore"
)

func noCredentials(context.Context, string) (auth.Credential, error) {
	return auth.EmptyCredential, nil
}

func short(d digest.Digest) string { return imagestore.ShortID(d) }

func TestPullSaysWhatDockerSays(t *testing.T) {
	f, st := newFake(t), newStore(t)
	im := imageOf(t, "", map[string]string{"a": "1"}, map[string]string{"b": "2"})
	desc := f.publish(t, "latest", im)
	c, rec := newClient(t, func(o *Options) { o.Parallel = 1 })
	got, err := c.Pull(t.Context(), st, f.host+"/library/x", PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	one, two := short(im.manifest.Layers[0].Digest), short(im.manifest.Layers[1].Digest)
	want := "latest: Pulling from library/x\n" +
		one + ": Pulling fs layer\n" + two + ": Pulling fs layer\n" + two + ": Waiting\n" +
		one + ": Verifying Checksum\n" + one + ": Download complete\n" + one + ": Pull complete\n" +
		two + ": Verifying Checksum\n" + two + ": Download complete\n" + two + ": Pull complete\n" +
		"Digest: " + desc.Digest.String() + "\n" +
		"Status: Downloaded newer image for " + f.host + "/library/x:latest\n"
	if rec.text() != want {
		t.Errorf("got\n%s\nwant\n%s", rec.text(), want)
	}
	if len(got) != 1 || !got[0].Updated || got[0].Digest != desc.Digest || got[0].Name != f.host+"/library/x:latest" {
		t.Errorf("result is %+v", got)
	}
	img, err := st.Lookup(t.Context(), f.host+"/library/x:latest")
	if err != nil {
		t.Fatal(err)
	}
	if img.Manifest.Digest != desc.Digest || img.ID != im.manifest.Config.Digest || img.Local {
		t.Errorf("image is %+v", img)
	}

	c, rec = newClient(t)
	if got, err = c.Pull(t.Context(), st, f.host+"/library/x:latest", PullOptions{}); err != nil || got[0].Updated {
		t.Errorf("second pull: %+v, %v", got, err)
	}
	want = "latest: Pulling from library/x\nDigest: " + desc.Digest.String() + "\n" +
		"Status: Image is up to date for " + f.host + "/library/x:latest\n"
	if rec.text() != want {
		t.Errorf("second pull says\n%s\nwant\n%s", rec.text(), want)
	}
}

func TestPullFetchesOnlyWhatIsMissing(t *testing.T) {
	f, st := newFake(t), newStore(t)
	base := map[string]string{"base": noise(100_000)}
	f.publish(t, "1", imageOf(t, "", base))
	im := imageOf(t, "", base, map[string]string{"new": "x"}, map[string]string{"new": "x"})
	f.publish(t, "2", im)
	mustPull(t, st, f.host+"/x:1")
	rec := mustPull(t, st, f.host+"/x:2")
	if !strings.Contains(rec.text(), short(im.manifest.Layers[0].Digest)+": Already exists\n") {
		t.Errorf("the base was not found:\n%s", rec.text())
	}
	for _, l := range im.manifest.Layers {
		if n := f.count("GET /v2/x/blobs/" + l.Digest.String()); n != 1 {
			t.Errorf("layer %s fetched %d times", l.Digest, n)
		}
	}
}

// mustPull pulls with a fresh client and returns what it said.
func mustPull(t *testing.T, st *imagestore.Store, ref string, o ...PullOptions) *recorder {
	t.Helper()
	c, rec := newClient(t)
	opt := PullOptions{}
	if len(o) > 0 {
		opt = o[0]
	}
	if _, err := c.Pull(t.Context(), st, ref, opt); err != nil {
		t.Fatalf("pull %s: %v", ref, err)
	}
	return rec
}

func TestPullByDigest(t *testing.T) {
	f, st := newFake(t), newStore(t)
	desc := f.publish(t, "1", imageOf(t, "", map[string]string{"a": "1"}))
	name := f.host + "/x@" + desc.Digest.String()
	rec := mustPull(t, st, name)
	if !strings.HasPrefix(rec.text(), name+": Pulling from x\n") {
		t.Errorf("says\n%s", rec.text())
	}
	img, err := st.Lookup(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if len(img.Names) != 0 || len(img.Digests) != 1 || img.Digests[0] != name {
		t.Errorf("names %q, digests %q", img.Names, img.Digests)
	}
}

func TestPullAllTags(t *testing.T) {
	f, st := newFake(t), newStore(t)
	for _, tag := range []string{"b", "a"} {
		f.publish(t, tag, imageOf(t, "", map[string]string{tag: tag}))
	}
	rec := mustPull(t, st, f.host+"/x", PullOptions{AllTags: true})
	text := rec.text()
	if a, b := strings.Index(text, "a: Pulling from x"), strings.Index(text, "b: Pulling from x"); a < 0 || b < a {
		t.Errorf("says\n%s", text)
	}
	if !strings.HasSuffix(text, "\nStatus: Downloaded newer image for "+f.host+"/x\n") {
		t.Errorf("ends with\n%s", text)
	}
	c, _ := newClient(t)
	_, err := c.Pull(t.Context(), st, f.host+"/x:a", PullOptions{AllTags: true})
	if err == nil || err.Error() != "tag can't be used with --all-tags/-a" {
		t.Errorf("a tag with all tags: %v", err)
	}
}

func TestPullChoosesPlatform(t *testing.T) {
	f := newFake(t)
	publish := func(platform string) ocispec.Descriptor {
		return f.publish(t, "", imageOf(t, platform, map[string]string{"for": platform}))
	}
	amd, arm6, arm64 := publish("linux/amd64"), publish("linux/arm/v6"), publish("linux/arm64")
	attest := publish("linux/s390x")
	attest.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	odd := ocispec.Descriptor{MediaType: "application/x-future", Digest: digest.FromString("odd"), Size: 3}
	inner := f.publishIndex(t, "", forPlatform(t, arm64, "linux/arm64"))
	index := f.publishIndex(t, "1", odd,
		forPlatform(t, attest, "linux/s390x"), forPlatform(t, amd, "linux/amd64"), forPlatform(t, arm6, "linux/arm/v6"), inner)
	for platform, want := range map[string]ocispec.Descriptor{
		"linux/amd64": amd, "amd64": amd, "x86_64": amd, "linux/arm/v7": arm6, "linux/arm64/v8": arm64, "aarch64": arm64,
	} {
		st := newStore(t)
		mustPull(t, st, f.host+"/x:1", PullOptions{Platform: platform})
		img, err := st.Lookup(t.Context(), f.host+"/x:1")
		if err != nil {
			t.Fatal(err)
		}
		if img.Manifest.Digest != want.Digest {
			t.Errorf("%s: manifest %s, want %s", platform, img.Manifest.Digest, want.Digest)
		}
		if pinned := f.host + "/x@" + index.Digest.String(); len(img.Digests) != 1 || img.Digests[0] != pinned {
			t.Errorf("%s: digests %q, want %q", platform, img.Digests, pinned)
		}
	}
	for _, platform := range []string{"linux/s390x", "windows/amd64", "linux/arm/v5"} {
		_, err := pullError1(t, f.host+"/x:1", PullOptions{Platform: platform})
		if !errors.Is(err, ErrPlatform) || err.Error() != "no matching manifest for "+platform+" in the manifest list entries: there is linux/amd64, linux/arm/v6" {
			t.Errorf("%s: %v", platform, err)
		}
	}
}

// pullError1 pulls into an empty store and checks that nothing is left there.
func pullError1(t *testing.T, ref string, o PullOptions, change ...func(*Options)) (*recorder, error) {
	t.Helper()
	st := newStore(t)
	c, rec := newClient(t, change...)
	_, err := c.Pull(t.Context(), st, ref, o)
	if err == nil {
		t.Errorf("pull of %s succeeded", ref)
	}
	if images, lerr := st.List(t.Context()); lerr != nil || len(images) > 0 {
		t.Errorf("after a failed pull there are images: %v, %v", images, lerr)
	}
	if temps, terr := st.Blobs().Temps(); terr != nil || len(temps) > 0 {
		t.Errorf("after a failed pull there are temporary files: %v, %v", temps, terr)
	}
	return rec, err
}

// The same index digest, then the same tag, for another platform.
func TestPullSwitchesPlatform(t *testing.T) {
	f, st := newFake(t), newStore(t)
	amd := f.publish(t, "", imageOf(t, "linux/amd64", map[string]string{"for": "amd"}))
	arm := f.publish(t, "", imageOf(t, "linux/arm64", map[string]string{"for": "arm"}))
	f.publishIndex(t, "1", forPlatform(t, amd, "linux/amd64"), forPlatform(t, arm, "linux/arm64"))
	for _, want := range []struct {
		platform string
		desc     ocispec.Descriptor
	}{{"linux/amd64", amd}, {"linux/arm64", arm}, {"linux/amd64", amd}} {
		rec := mustPull(t, st, f.host+"/x:1", PullOptions{Platform: want.platform})
		img, err := st.Lookup(t.Context(), f.host+"/x:1")
		if err != nil || img.Manifest.Digest != want.desc.Digest {
			t.Errorf("%s: got %v, %v", want.platform, img, err)
		}
		if !strings.Contains(rec.text(), "Downloaded newer image") {
			t.Errorf("%s: %s", want.platform, rec.text())
		}
	}
}

func TestPullOnePlatformImage(t *testing.T) {
	f := newFake(t)
	f.publish(t, "1", imageOf(t, "linux/riscv64", map[string]string{"a": "1"}))
	mustPull(t, newStore(t), f.host+"/x:1") // without alternatives: taken as it is
	_, err := pullError1(t, f.host+"/x:1", PullOptions{Platform: "linux/amd64"})
	if !errors.Is(err, ErrPlatform) || !strings.Contains(err.Error(), "does not provide the specified platform (linux/amd64)") {
		t.Errorf("got %v", err)
	}
}

func TestPullNotFound(t *testing.T) {
	f := newFake(t)
	_, err := pullError1(t, f.host+"/x:nope", PullOptions{})
	if want := "manifest for " + f.host + "/x:nope not found: manifest unknown: manifest unknown"; err.Error() != want || !errors.Is(err, ErrNotFound) {
		t.Errorf("got %q", err)
	}
	f.on("GET", "/manifests/", func(w http.ResponseWriter, _ *http.Request) bool {
		apiError(w, http.StatusForbidden, "DENIED", "requested access to the resource is denied")
		return true
	})
	_, err = pullError1(t, f.host+"/x:nope", PullOptions{})
	want := "pull access denied for " + f.host + "/x, repository does not exist or may require 'unio login': " +
		"denied: requested access to the resource is denied"
	if err.Error() != want {
		t.Errorf("got  %q\nwant %q", err, want)
	}
	f.on("GET", "/manifests/", func(w http.ResponseWriter, _ *http.Request) bool {
		apiError(w, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry\x1b[2J")
		return true
	})
	_, err = pullError1(t, f.host+"/x:nope", PullOptions{})
	if want := "repository " + f.host + "/x not found: name unknown: repository name not known to registry [2J"; err.Error() != want {
		t.Errorf("got  %q\nwant %q", err, want)
	}
}

func TestPullBadReference(t *testing.T) {
	for _, ref := range []string{"", "UPPER", "x:", "x@sha256:12", "x:a b", "http://x/y"} {
		c, _ := newClient(t)
		if _, err := c.Pull(t.Context(), nil, ref, PullOptions{}); !errors.Is(err, ErrReference) {
			t.Errorf("%q: %v", ref, err)
		}
	}
	c, _ := newClient(t)
	if _, err := c.Pull(t.Context(), nil, "x", PullOptions{Platform: "a/b/c/d"}); !errors.Is(err, ErrPlatform) {
		t.Errorf("platform: %v", err)
	}
}

// What a registry sends must agree with itself and with what was asked for.
func TestPullRefuses(t *testing.T) {
	files := map[string]string{"a": noise(5000)}
	cases := map[string]struct {
		change func(t *testing.T, f *fakeRegistry, im *testImage)
		want   error
		text   string
	}{
		"layer digest": {func(_ *testing.T, f *fakeRegistry, im *testImage) {
			f.on("GET", im.manifest.Layers[0].Digest.String(), serveBytes(append(im.blobs[0][:len(im.blobs[0])-1:len(im.blobs[0])-1], 'x')))
		}, imagestore.ErrCorrupt, "filesystem layer verification failed for digest"},
		"diffID": {func(_ *testing.T, _ *fakeRegistry, im *testImage) {
			im.config["rootfs"].(map[string]any)["diff_ids"] = []digest.Digest{digest.FromString("other")}
		}, imagestore.ErrCorrupt, "verification failed"},
		"size too small": {func(_ *testing.T, _ *fakeRegistry, im *testImage) { im.manifest.Layers[0].Size-- }, ErrVerify, ""},
		"size too large": {func(_ *testing.T, _ *fakeRegistry, im *testImage) { im.manifest.Layers[0].Size++ }, ErrVerify, ""},
		"negative size":  {func(_ *testing.T, _ *fakeRegistry, im *testImage) { im.manifest.Layers[0].Size = -1 }, ErrVerify, ""},
		"layer type":     {func(_ *testing.T, _ *fakeRegistry, im *testImage) { im.manifest.Layers[0].MediaType = "text/x" }, ErrUnsupported, ""},
		"path as digest": {func(_ *testing.T, _ *fakeRegistry, im *testImage) {
			im.manifest.Layers[0].Digest = "sha256:../../../../etc/passwd"
		}, ErrVerify, ""},
		"config type": {func(_ *testing.T, f *fakeRegistry, im *testImage) {
			im.manifest.Config = ocispec.Descriptor{MediaType: "application/vnd.cncf.helm.config.v1+json", Digest: f.addBlob([]byte("{}")), Size: 2}
		}, ErrUnsupported, "application/vnd.cncf.helm.config.v1+json"},
		"huge config": {func(_ *testing.T, _ *fakeRegistry, im *testImage) {
			im.manifest.Config = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromString("x"), Size: 5 << 20}
		}, ErrTooLarge, ""},
		"config with a wrong digest": {func(_ *testing.T, f *fakeRegistry, im *testImage) {
			d := f.addBlob([]byte("{}"))
			im.manifest.Config = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: d, Size: 2}
			f.on("GET", d.String(), serveBytes([]byte("[]")))
		}, ErrVerify, ""},
		"too few layers in the config": {func(_ *testing.T, _ *fakeRegistry, im *testImage) {
			im.config["rootfs"].(map[string]any)["diff_ids"] = []string{}
		}, ErrVerify, "1 layers in the manifest, 0 in the config"},
		"nil rootfs": {func(_ *testing.T, _ *fakeRegistry, im *testImage) { delete(im.config, "rootfs") }, imagestore.ErrInvalid, ""},
		"two contents": {func(_ *testing.T, _ *fakeRegistry, im *testImage) {
			l := im.manifest.Layers[0]
			im.manifest.Layers = append(im.manifest.Layers, l)
			d := im.config["rootfs"].(map[string]any)["diff_ids"].([]digest.Digest)
			im.config["rootfs"].(map[string]any)["diff_ids"] = append(d, digest.FromString("second"))
		}, ErrVerify, "listed twice"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			im := imageOf(t, "", files)
			tc.change(t, f, im)
			f.publish(t, "1", im)
			_, err := pullError1(t, f.host+"/x:1", PullOptions{})
			if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v, want %v with %q", err, tc.want, tc.text)
			}
		})
	}
}

func serveBytes(b []byte) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.Write(b)
		return true
	}
}

func TestPullRefusesManifests(t *testing.T) {
	image, index := ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex
	const both = `{"schemaVersion":2,"config":{},"layers":[],"manifests":[]}`
	cases := map[string]struct {
		mediaType, raw string
		want           error
	}{
		"schema 1":             {"application/vnd.docker.distribution.manifest.v1+prettyjws", `{"schemaVersion":1,"fsLayers":[{}]}`, ErrUnsupported},
		"schema 1, other type": {"application/json", `{"schemaVersion":1,"fsLayers":[{}]}`, ErrUnsupported},
		"no JSON":              {image, `nonsense`, ErrVerify},
		"index and manifest":   {image, both, ErrVerify},
		"manifest as index":    {index, `{"schemaVersion":2,"config":{},"layers":[]}`, ErrVerify},
		"index as manifest":    {image, `{"schemaVersion":2,"manifests":[]}`, ErrVerify},
		"two types":            {image, `{"schemaVersion":2,"mediaType":"` + index + `","config":{}}`, ErrVerify},
		"unknown type":         {"application/x-what", `{"schemaVersion":2}`, ErrUnsupported},
		"nothing in it":        {"application/json", `{}`, ErrUnsupported},
		"no config":            {image, `{"schemaVersion":2,"layers":[]}`, ErrVerify},
		"null":                 {image, `null`, ErrVerify},
		"huge":                 {image, `{"x":"` + strings.Repeat("x", MaxMetadata) + `"}`, ErrTooLarge},
		"empty index":          {index, `{"schemaVersion":2,"manifests":[]}`, ErrPlatform},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.addManifest("1", tc.mediaType, []byte(tc.raw))
			if _, err := pullError1(t, f.host+"/x:1", PullOptions{}); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

func TestPullManifestWithoutType(t *testing.T) {
	f := newFake(t)
	im := imageOf(t, "", map[string]string{"a": "1"})
	im.manifest.MediaType = ""
	f.publish(t, "1", im)
	m := f.manifests["1"]
	f.on("GET", "/manifests/1", func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Write(m.raw)
		return true
	})
	mustPull(t, newStore(t), f.host+"/x:1")
}

func TestPullWrongDigests(t *testing.T) {
	f := newFake(t)
	good := f.publish(t, "1", imageOf(t, "", map[string]string{"a": "1"}))
	other := f.publish(t, "2", imageOf(t, "", map[string]string{"a": "2"}))
	serve := f.manifests["2"]
	f.on("GET", good.Digest.String(), func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", serve.mediaType)
		w.Header().Set("Docker-Content-Digest", other.Digest.String())
		w.Write(serve.raw)
		return true
	})
	if _, err := pullError1(t, f.host+"/x@"+good.Digest.String(), PullOptions{}); !errors.Is(err, ErrVerify) {
		t.Errorf("another manifest than the one asked for: %v", err)
	}
	f.on("GET", "/manifests/1", func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", serve.mediaType)
		w.Header().Set("Docker-Content-Digest", good.Digest.String())
		w.Write(serve.raw)
		return true
	})
	if _, err := pullError1(t, f.host+"/x:1", PullOptions{}); !errors.Is(err, ErrVerify) {
		t.Errorf("another digest in the header than in the body: %v", err)
	}
	wrong := other
	wrong.Size++
	f.publishIndex(t, "3", wrong)
	if _, err := pullError1(t, f.host+"/x:3", PullOptions{}); !errors.Is(err, ErrVerify) {
		t.Errorf("another size than in the index: %v", err)
	}
}

func TestPullEndlessIndexes(t *testing.T) {
	f := newFake(t)
	desc := f.publish(t, "", imageOf(t, "", map[string]string{"a": "1"}))
	for range maxNesting + 1 {
		desc = f.publishIndex(t, "1", desc)
	}
	if _, err := pullError1(t, f.host+"/x:1", PullOptions{}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("got %v", err)
	}
}

func TestPullZstdAndPlainLayers(t *testing.T) {
	f, st := newFake(t), newStore(t)
	im := imageOf(t, "", map[string]string{"a": noise(1000)})
	im.blobs[0] = im.tars[0]
	im.manifest.Layers[0] = ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(im.tars[0]), Size: int64(len(im.tars[0])),
	}
	desc := f.publish(t, "1", im)
	mustPull(t, st, f.host+"/x:1")
	img, err := st.Lookup(t.Context(), f.host+"/x:1")
	if err != nil || img.Manifest.Digest != desc.Digest {
		t.Fatalf("got %v, %v", img, err)
	}
	r, err := st.Blob(img.Layers[0].DiffID)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size())); err != nil || string(b) != string(im.tars[0]) {
		t.Errorf("layer differs, %v", err)
	}
}

// Several pulls of the same image into the same store at once.
func TestPullAtOnce(t *testing.T) {
	f, st := newFake(t), newStore(t)
	im := imageOf(t, "", map[string]string{"a": noise(500_000)}, map[string]string{"b": "2"})
	desc := f.publish(t, "1", im)
	errs := make(chan error)
	for range 6 {
		other, err := imagestore.Open(st.Root(), imagestore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		c, _ := newClient(t)
		go func() {
			_, err := c.Pull(context.Background(), other, f.host+"/x:1", PullOptions{})
			errs <- err
		}()
	}
	for range 6 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	img, err := st.Lookup(t.Context(), f.host+"/x:1")
	if err != nil || img.Manifest.Digest != desc.Digest {
		t.Errorf("got %v, %v", img, err)
	}
	rep, err := st.Fsck(t.Context(), imagestore.FsckOptions{})
	if err != nil || len(rep.Problems) > 0 {
		t.Errorf("fsck: %v, %+v", err, rep)
	}
}
