package registry

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An image that refers to another one, as a signed or described copy does,
// keeps its subject, and registries without the referrers API get the list
// that stands in for it.
func TestSubject(t *testing.T) {
	from, st := newFake(t), newStore(t)
	subject := from.publish(t, "base", imageOf(t, "", map[string]string{"a": "1"}))
	im := imageOf(t, "", map[string]string{"b": "2"})
	im.manifest.Subject = &subject
	im.manifest.Annotations = map[string]string{"org.example.kind": "signed"}
	desc := from.publish(t, "1", im)
	mustPull(t, st, from.host+"/x:1")

	for name, linked := range map[string]bool{"with the API": true, "without": false} {
		to := newFake(t)
		to.on("PUT", "/manifests/", func(w http.ResponseWriter, _ *http.Request) bool {
			if linked {
				w.Header().Set("OCI-Subject", subject.Digest.String())
			}
			return false
		})
		ref := to.host + "/y:1"
		if err := st.Tag(t.Context(), from.host+"/x:1", ref); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if got, _ := mustPush(t, st, ref); got.Digest != desc.Digest {
				t.Errorf("%s: pushed %s, want %s", name, got.Digest, desc.Digest)
			}
		}
		raw := to.manifests[referrersTag(subject.Digest)].raw
		if linked {
			if raw != nil {
				t.Errorf("%s: a list was written: %s", name, raw)
			}
			continue
		}
		var list ocispec.Index
		if err := json.Unmarshal(raw, &list); err != nil {
			t.Fatalf("%s: list of referrers: %v: %s", name, err, raw)
		}
		if len(list.Manifests) != 1 || list.Manifests[0].Digest != desc.Digest ||
			list.Manifests[0].ArtifactType != ocispec.MediaTypeImageConfig || list.Manifests[0].Annotations["org.example.kind"] != "signed" {
			t.Errorf("%s: list of referrers: %s", name, raw)
		}
	}
}

// What others have listed stays.
func TestSubjectAmongOthers(t *testing.T) {
	f := newFake(t)
	c, _ := newClient(t)
	name, err := parseReference(f.host+"/x:1", false)
	if err != nil {
		t.Fatal(err)
	}
	repo, ctx := c.repository(t.Context(), name, "pull", "push")
	subject := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("subject"), Size: 7}
	other := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("other"), Size: 5, ArtifactType: "application/x-sbom"}
	f.publishIndex(t, referrersTag(subject.Digest), other)
	doc := &document{desc: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("new"), Size: 3}}
	doc.body.Subject, doc.body.ArtifactType = &subject, "application/x-signature"
	if err := repo.listReferrer(ctx, doc); err != nil {
		t.Fatal(err)
	}
	list, err := repo.manifest(ctx, referrersTag(subject.Digest))
	if err != nil || len(list.body.Manifests) != 2 || list.body.Manifests[0].ArtifactType != "application/x-sbom" ||
		list.body.Manifests[1].ArtifactType != "application/x-signature" {
		t.Errorf("%+v, %v", list, err)
	}
	f.addManifest(referrersTag(subject.Digest), ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"config":{}}`))
	if err := repo.listReferrer(ctx, doc); err == nil {
		t.Error("a list that is none was replaced")
	}
}
