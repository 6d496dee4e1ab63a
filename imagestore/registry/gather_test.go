package registry

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"unio/imagestore"
)

// about publishes a manifest with one blob that refers to another one, as
// signing tools do.
func (f *fakeRegistry) about(t testing.TB, subject ocispec.Descriptor, artifact, content string) ocispec.Descriptor {
	t.Helper()
	config := []byte("{}")
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: artifact,
		Config:      ocispec.Descriptor{MediaType: ocispec.MediaTypeEmptyJSON, Digest: f.addBlob(config), Size: int64(len(config))},
		Layers:      []ocispec.Descriptor{{MediaType: artifact, Digest: f.addBlob([]byte(content)), Size: int64(len(content))}},
		Subject:     &subject,
		Annotations: map[string]string{"org.example.about": content[:1]},
	}
	return f.addManifest("", m.MediaType, mustJSON(t, m))
}

// lists makes the registry answer the API for referrers.
func (f *fakeRegistry) lists(t testing.TB, subject digest.Digest, pages ...[]ocispec.Descriptor) {
	t.Helper()
	f.on("GET", "/referrers/"+subject.String(), func(w http.ResponseWriter, r *http.Request) bool {
		n := 0
		fmt.Sscan(r.URL.Query().Get("page"), &n)
		if n+1 < len(pages) {
			w.Header().Set("Link", fmt.Sprintf("<%s?page=%d>; rel=\"next\"", r.URL.Path, n+1))
		}
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		w.Write(mustJSON(t, ocispec.Index{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: pages[n],
		}))
		return true
	})
}

// What is about an image comes with it and goes with it bit by bit, listed by
// the API, on several pages, or by the tag that stands in for it; what is about
// that comes, too.
func TestReferrersTravel(t *testing.T) {
	t.Parallel()
	for name, api := range map[string]bool{"with the API": true, "without": false} {
		from, st := newFake(t), newStore(t)
		image := from.publish(t, "1", imageOf(t, "", map[string]string{"a": "1"}))
		signature := from.about(t, image, "application/x-signature", "signed")
		contents := from.about(t, image, "application/x-sbom", "contents")
		signed := from.about(t, contents, "application/x-signature", "these contents")
		if api {
			from.lists(t, image.Digest, []ocispec.Descriptor{signature}, []ocispec.Descriptor{contents})
			from.lists(t, contents.Digest, []ocispec.Descriptor{signed})
		} else {
			from.publishIndex(t, referrersTag(image.Digest), signature, contents)
			from.publishIndex(t, referrersTag(contents.Digest), signed)
		}
		mustPull(t, st, from.host+"/x:1")
		if _, err := st.Prune(t.Context(), imagestore.PruneOptions{}); err != nil {
			t.Fatal(err)
		}

		to := newFake(t)
		to.on("PUT", "/manifests/", func(w http.ResponseWriter, _ *http.Request) bool {
			if api {
				w.Header().Set("OCI-Subject", image.Digest.String())
			}
			return false
		})
		if err := st.Tag(t.Context(), from.host+"/x:1", to.host+"/y:1"); err != nil {
			t.Fatal(err)
		}
		mustPush(t, st, to.host+"/y:1")
		for _, d := range []ocispec.Descriptor{signature, contents, signed} {
			got := to.manifests[d.Digest.String()]
			if !bytes.Equal(got.raw, from.manifests[d.Digest.String()].raw) || got.mediaType != d.MediaType {
				t.Errorf("%s: manifest %s went as %+v", name, d.Digest, got)
			}
		}
		for d, b := range from.blobs {
			if !bytes.Equal(to.blobs[d], b) {
				t.Errorf("%s: blob %s was not pushed", name, d)
			}
		}
		lists := string(to.manifests[referrersTag(image.Digest)].raw) + string(to.manifests[referrersTag(contents.Digest)].raw)
		for _, d := range []ocispec.Descriptor{signature, contents, signed} {
			if api == strings.Contains(lists, d.Digest.String()) {
				t.Errorf("%s: lists in tags: %s", name, lists)
			}
		}
		if !api {
			checkReferrersByTag(t, to, image.Digest, contents.Digest)
		}
		checkGoneWithImage(t, st, from.host+"/x:1", to.host+"/y:1")
	}
}

// checkReferrersByTag pulls what was pushed to a registry without the API.
func checkReferrersByTag(t *testing.T, f *fakeRegistry, subjects ...digest.Digest) {
	t.Helper()
	st := newStore(t)
	c, rec := newClient(t)
	if _, err := c.Pull(t.Context(), st, f.host+"/y", PullOptions{AllTags: true}); err != nil {
		t.Fatalf("%v\n%s", err, rec.text()) // the tags of the lists are no images
	}
	for i, d := range subjects {
		if got := st.Referrers(d); len(got) != 2-i || got[0].ArtifactType == "" {
			t.Errorf("referrers of %s: %+v", d, got)
		}
	}
}

// checkGoneWithImage removes the image by all its names: nothing may be left.
func checkGoneWithImage(t *testing.T, st *imagestore.Store, names ...string) {
	t.Helper()
	rep, err := st.Fsck(t.Context(), imagestore.FsckOptions{})
	if err != nil || len(rep.Problems) > 0 {
		t.Errorf("fsck: %v, %v", rep, err)
	}
	for _, name := range names {
		if _, err := st.Remove(t.Context(), name, imagestore.RemoveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for info, err := range st.Blobs().Walk() {
		t.Errorf("left: %+v, %v", info, err)
	}
}

// Signatures are often made after the image: a pull of what is there already
// brings them.
func TestReferrersComeLater(t *testing.T) {
	t.Parallel()
	f, st := newFake(t), newStore(t)
	image := f.publish(t, "1", imageOf(t, "", map[string]string{"a": "1"}))
	mustPull(t, st, f.host+"/x:1")
	signature := f.about(t, image, "application/x-signature", "signed")
	f.publishIndex(t, referrersTag(image.Digest), signature)
	for range 2 {
		mustPull(t, st, f.host+"/x:1")
		if got := st.Referrers(image.Digest); len(got) != 1 || got[0].Digest != signature.Digest {
			t.Errorf("%+v", got)
		}
	}
	if n := f.count("GET /v2/x/manifests/" + signature.Digest.String()); n != 1 {
		t.Errorf("what was there was fetched %d times", n)
	}
}

// No pull fails for what is said to be about an image, and nothing of it is
// believed.
func TestReferrersHostile(t *testing.T) {
	t.Parallel()
	f, st := newFake(t), newStore(t)
	image := f.publish(t, "1", imageOf(t, "", map[string]string{"a": "1"}))
	good := f.about(t, image, "application/x-good", "good")
	other := f.about(t, good, "application/x-other", "about something else")
	wrong := f.about(t, image, "application/x-wrong", "wrong blob")
	f.blobs[digest.FromString("wrong blob")] = []byte("changed!!!")
	huge := f.about(t, image, "application/x-huge", "huge")
	huge = f.addManifest("", huge.MediaType, bytes.Replace(f.manifests[huge.Digest.String()].raw, []byte(`"size":4`), []byte(`"size":4000000000000`), 1))
	list := []ocispec.Descriptor{
		other, wrong, huge,
		{MediaType: "application/x-new", Digest: digest.FromString("new kind"), Size: 8},
		{MediaType: ocispec.MediaTypeImageManifest, Digest: "sha256:../../etc/passwd", Size: 8},
		{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("not there"), Size: 8},
		good,
	}
	f.publishIndex(t, referrersTag(image.Digest), list...)
	mustPull(t, st, f.host+"/x:1")
	if got := st.Referrers(image.Digest); len(got) != 1 || got[0].Digest != good.Digest {
		t.Errorf("kept: %+v", got)
	}

	// A registry that never ends its list, and one that answers everything
	// with a page for people.
	for what, answer := range map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"endless": func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Link", fmt.Sprintf("<%s?page=2>; rel=\"next\"", r.URL.Path))
			w.Write(mustJSON(t, ocispec.Index{Manifests: list[:3]}))
			return true
		},
		"people": func(w http.ResponseWriter, _ *http.Request) bool {
			fmt.Fprint(w, "<html>welcome</html>")
			return true
		},
		"forbidden": func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusForbidden)
			return true
		},
	} {
		g, st := newFake(t), newStore(t)
		g.publish(t, "1", imageOf(t, "", map[string]string{"a": "1"}))
		g.on("GET", "/referrers/", answer)
		c, _ := newClient(t)
		if _, err := c.Pull(t.Context(), st, g.host+"/x:1", PullOptions{}); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if n := g.count("GET /v2/x/referrers/"); n > 40 {
			t.Errorf("%s: asked %d times", what, n)
		}
	}
}

// A registry that takes no referrers has the image all the same.
func TestReferrersRefused(t *testing.T) {
	t.Parallel()
	from, to, st := newFake(t), newFake(t), newStore(t)
	image := from.publish(t, "1", imageOf(t, "", map[string]string{"a": "1"}))
	signature := from.about(t, image, "application/x-signature", "signed")
	from.publishIndex(t, referrersTag(image.Digest), signature)
	mustPull(t, st, from.host+"/x:1")
	to.on("PUT", "/manifests/"+signature.Digest.String(), func(w http.ResponseWriter, _ *http.Request) bool {
		apiError(w, http.StatusBadRequest, "MANIFEST_INVALID", "manifest invalid")
		return true
	})
	if err := st.Tag(t.Context(), from.host+"/x:1", to.host+"/y:1"); err != nil {
		t.Fatal(err)
	}
	got, rec := mustPush(t, st, to.host+"/y:1")
	if got.Digest != image.Digest || to.manifests["1"].raw == nil {
		t.Errorf("pushed %+v", got)
	}
	if want := "application/x-signature about this image is not pushed: manifest invalid: manifest invalid\n"; !strings.Contains(rec.text(), want) {
		t.Errorf("said\n%s", rec.text())
	}
}

func TestReferrersTags(t *testing.T) {
	t.Parallel()
	hex := strings.Repeat("a", 64)
	for tag, want := range map[string]bool{
		"sha256-" + hex: true, "sha256-" + hex + ".sig": true, "sha512-" + hex + hex: true,
		"latest": false, "sha256-abc": false, "sha256-" + strings.ToUpper(hex): false, "md5-" + hex: false, hex: false,
	} {
		if got := isReferrersTag(tag); got != want {
			t.Errorf("%s: %v", tag, got)
		}
	}
}
