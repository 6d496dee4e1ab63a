package imagestore

import (
	"os"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Finding an image opens no manifest but its own, however many others there
// are: a damaged one of another image is not noticed.
func TestLookupReadsOneManifest(t *testing.T) {
	s := newStore(t)
	img := addImage(t, s, "a", "x:1")
	other := addImage(t, s, "b", "y:1")
	must(t, os.Remove(blobPath(t, s, other.Manifest.Digest)))
	s = open(t, s.Root())
	for _, by := range []string{"x:1", img.ID.String(), img.ID.Encoded()[:20]} {
		if got, err := s.Lookup(bg, by); err != nil || got.ID != img.ID {
			t.Errorf("by %s: %v, %v", by, got, err)
		}
	}
	if len(s.manifests) != 1 {
		t.Errorf("%d manifests were read", len(s.manifests))
	}
}

// A note that belongs to another manifest, or is none, is not believed.
func TestOtherImage(t *testing.T) {
	d := ocispec.Descriptor{Digest: "sha256:aa"}
	for note, want := range map[string]bool{
		"": false, "sha256:aa": false, "sha256:aa ": false, "sha256:aa x": false, "sha256:bb sha256:cc": false,
		"sha256:aa sha256:cc": true, "sha256:aa sha256:dd11": false,
	} {
		d.Annotations = map[string]string{annotationID: note}
		if got := otherImage(d, "dd"); got != want {
			t.Errorf("%q: %v", note, got)
		}
	}
}
