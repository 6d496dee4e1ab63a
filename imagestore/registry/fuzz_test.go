package registry

import (
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"unio/imagestore"
)

// Whatever a registry sends as a manifest: no panic, and what is accepted has
// digests that are safe in paths and URLs.
func FuzzManifest(f *testing.F) {
	im := imageOf(f, "", map[string]string{"a": "1"})
	im.manifest.Config = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromString("x"), Size: 1}
	for _, raw := range []string{
		string(mustJSON(f, im.manifest)), string(mustJSON(f, im.config)), `{}`, `null`, `[]`,
		`{"schemaVersion":1,"fsLayers":[]}`, `{"manifests":[{"platform":null}]}`, `{"config":{},"layers":null}`,
		`{"config":{"digest":"sha256:../../x","size":-1},"layers":[{}]}`,
	} {
		f.Add([]byte(raw), ocispec.MediaTypeImageManifest)
		f.Add([]byte(raw), imagestore.MediaTypeDockerManifestList)
		f.Add([]byte(raw), "text/plain; charset")
	}
	want, err := ParsePlatform("linux/arm/v7")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte, contentType string) {
		_, _ = parseConfig(raw, 1)
		doc, err := parseDocument(raw, contentType, "")
		if err != nil {
			return
		}
		for _, entry := range doc.body.Manifests {
			_ = entryRank(entry, want)
		}
		if kindOf(doc.desc.MediaType) != kindManifest || doc.checkImage() != nil {
			return
		}
		for _, l := range append(doc.body.Layers, *doc.body.Config) {
			if err := l.Digest.Validate(); err != nil || l.Size < 0 {
				t.Errorf("accepted %q of %d bytes: %v", l.Digest, l.Size, err)
			}
		}
	})
}

func FuzzPlatform(f *testing.F) {
	for _, s := range []string{"", "linux", "amd64", "linux/arm/v7", "LINUX/aarch64", "a/b/c/d", "//"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePlatform(s)
		if err != nil {
			return
		}
		if rank(p, p) == 0 {
			t.Errorf("%q does not fit itself: %+v", s, p)
		}
		again, err := ParsePlatform(platformName(p))
		if err != nil || platformName(again) != platformName(p) {
			t.Errorf("%q reads as %s, that reads as %s, %v", s, platformName(p), platformName(again), err)
		}
	})
}
