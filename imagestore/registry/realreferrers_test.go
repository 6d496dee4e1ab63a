package registry_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"unio/imagestore/registry/registrytest"
)

// ask sends one request to a registry, as a signing tool would, and returns
// the Location of the answer.
func ask(t testing.TB, method, url, mediaType string, body []byte) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", mediaType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if said, _ := io.ReadAll(resp.Body); resp.StatusCode >= 300 {
		t.Fatalf("%s %s: %s: %s", method, url, resp.Status, said)
	}
	return resp.Header.Get("Location")
}

// putBlob stores a blob in a repository.
func putBlob(t testing.TB, repo, mediaType string, content []byte) ocispec.Descriptor {
	t.Helper()
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}
	at := ask(t, http.MethodPost, repo+"/blobs/uploads/", "", nil)
	ask(t, http.MethodPut, at+"&digest="+d.Digest.String(), "application/octet-stream", content)
	return d
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// docker-registry has no API for referrers, and takes them: a signature in a
// list under a tag travels from one registry to another.
func TestRealReferrers(t *testing.T) {
	t.Parallel()
	first, second := registrytest.Start(t), registrytest.Start(t)
	st := openStore(t)
	localImage(t, st, first+"/x:1", layerTar(t, map[string][]byte{"a": []byte("1")}))
	image, _ := push(t, st, first+"/x:1")

	const artifact = "application/vnd.example.signature"
	repo := "http://" + first + "/v2/x"
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: artifact,
		Config:  putBlob(t, repo, ocispec.MediaTypeEmptyJSON, []byte("{}")),
		Layers:  []ocispec.Descriptor{putBlob(t, repo, artifact, []byte("signed"))},
		Subject: &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: image.Digest, Size: image.Size},
	}
	raw := marshal(t, m)
	signature := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw)), ArtifactType: artifact}
	ask(t, http.MethodPut, repo+"/manifests/"+signature.Digest.String(), m.MediaType, raw)
	list := ocispec.Index{Versioned: m.Versioned, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{signature}}
	tag := strings.Replace(image.Digest.String(), ":", "-", 1)
	ask(t, http.MethodPut, repo+"/manifests/"+tag, list.MediaType, marshal(t, list))

	st = openStore(t)
	pull(t, st, first+"/x:1")
	if err := st.Tag(t.Context(), first+"/x:1", second+"/y:1"); err != nil {
		t.Fatal(err)
	}
	push(t, st, second+"/y:1")
	clean(t, st)
	if got := rawManifest(t, second+"/y@"+signature.Digest.String()); !bytes.Equal(got, raw) {
		t.Errorf("signature went as %s", got)
	}
	if got := rawManifest(t, second+"/y:"+tag); !strings.Contains(string(got), signature.Digest.String()) {
		t.Errorf("list of referrers is %s", got)
	}
}
