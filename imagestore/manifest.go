package imagestore

import (
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"unio/imagestore/blob"
)

// MetadataLimit is how large a manifest, config or image index may be, in
// bytes.
const MetadataLimit = 4 << 20

// Docker's media types (distribution, manifest/schema2).
const (
	MediaTypeDockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	MediaTypeDockerConfig       = "application/vnd.docker.container.image.v1+json"
	MediaTypeDockerLayer        = "application/vnd.docker.image.rootfs.diff.tar"
	MediaTypeDockerLayerGzip    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	MediaTypeDockerLayerZstd    = "application/vnd.docker.image.rootfs.diff.tar.zstd"
	MediaTypeDockerForeignLayer = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
)

// maxLayers is how many layers an image may have. Docker allows 127.
const maxLayers = 1024

// IsManifest reports whether a media type is that of an image manifest.
func IsManifest(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageManifest || mediaType == MediaTypeDockerManifest
}

// IsIndex reports whether a media type is that of an image index or of
// docker's manifest list.
func IsIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == MediaTypeDockerManifestList
}

// IsConfig reports whether a media type is that of an image config.
func IsConfig(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageConfig || mediaType == MediaTypeDockerConfig
}

// IsLayer reports whether a media type is that of a filesystem layer.
func IsLayer(mediaType string) bool {
	switch mediaType {
	case ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerZstd,
		MediaTypeDockerLayer, MediaTypeDockerLayerGzip, MediaTypeDockerLayerZstd, MediaTypeDockerForeignLayer,
		// Spelt out, as the package deprecates its constants: these may be
		// read, and are never made.
		"application/vnd.oci.image.layer.nondistributable.v1.tar",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd":
		return true
	}
	return false
}

// ParseManifest decodes and checks an image manifest, OCI's or docker's
// schema 2: media types, digests, sizes. Errors wrap [ErrInvalid].
func ParseManifest(raw []byte) (*ocispec.Manifest, error) {
	var m struct {
		ocispec.Manifest
		Manifests json.RawMessage `json:"manifests"`
		FSLayers  json.RawMessage `json:"fsLayers"`
	}
	if err := decode(raw, "manifest", &m); err != nil {
		return nil, err
	}
	switch {
	case m.SchemaVersion != 2:
		return nil, invalid("manifest: schema version %d is not supported", m.SchemaVersion)
	case m.MediaType != "" && !IsManifest(m.MediaType):
		return nil, invalid("manifest: unknown media type %q", m.MediaType)
	case m.Manifests != nil || m.FSLayers != nil:
		return nil, invalid("manifest: it is another kind of document at the same time")
	case !IsConfig(m.Config.MediaType):
		return nil, invalid("manifest: unknown media type of the config %q", m.Config.MediaType)
	case len(m.Layers) > maxLayers:
		return nil, invalid("manifest: %d layers, at most %d are allowed", len(m.Layers), maxLayers)
	}
	if err := checkDescriptor("manifest: config", m.Config); err != nil {
		return nil, err
	}
	for _, l := range m.Layers {
		if !IsLayer(l.MediaType) {
			return nil, invalid("manifest: unknown media type of layer %s: %q", l.Digest, l.MediaType)
		}
		if err := checkDescriptor("manifest: layer", l); err != nil {
			return nil, err
		}
	}
	return &m.Manifest, nil
}

// ParseIndex decodes and checks an image index or docker manifest list.
// Errors wrap [ErrInvalid].
func ParseIndex(raw []byte) (*ocispec.Index, error) {
	var x struct {
		ocispec.Index
		Config json.RawMessage `json:"config"`
		Layers json.RawMessage `json:"layers"`
	}
	if err := decode(raw, "image index", &x); err != nil {
		return nil, err
	}
	switch {
	case x.SchemaVersion != 2:
		return nil, invalid("image index: schema version %d is not supported", x.SchemaVersion)
	case x.MediaType != "" && !IsIndex(x.MediaType):
		return nil, invalid("image index: unknown media type %q", x.MediaType)
	case x.Config != nil || x.Layers != nil:
		return nil, invalid("image index: it is another kind of document at the same time")
	}
	for _, d := range x.Manifests {
		if err := checkDescriptor("image index: manifest", d); err != nil {
			return nil, err
		}
	}
	return &x.Index, nil
}

// ParseConfig decodes and checks an image config. The history may be missing,
// or tell of fewer layers than there are (umoci's --no-history), but not of
// more. Errors wrap [ErrInvalid].
func ParseConfig(raw []byte) (*ImageConfig, error) {
	var c ImageConfig
	if err := decode(raw, "config", &c); err != nil {
		return nil, err
	}
	if c.RootFS.Type != "layers" {
		return nil, invalid("config: unknown type of rootfs %q", c.RootFS.Type)
	}
	if len(c.RootFS.DiffIDs) > maxLayers {
		return nil, invalid("config: %d layers, at most %d are allowed", len(c.RootFS.DiffIDs), maxLayers)
	}
	for _, d := range c.RootFS.DiffIDs {
		if err := blob.Check(d); err != nil || d.Algorithm() != digest.SHA256 {
			return nil, invalid("config: bad diffID %q", string(d))
		}
	}
	return &c, checkHistory(&c)
}

func checkHistory(c *ImageConfig) error {
	if layers, n := c.toldLayers(), len(c.RootFS.DiffIDs); layers > n {
		return invalid("config: too many non-empty layers in History section (%d for %d layers)", layers, n)
	}
	return nil
}

// decode decodes one JSON document of bounded size.
func decode(raw []byte, what string, into any) error {
	if len(raw) > MetadataLimit {
		return invalid("%s: %d bytes, at most %d are allowed", what, len(raw), MetadataLimit)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("%w %s: %w", ErrInvalid, what, err)
	}
	return nil
}

func checkDescriptor(what string, d ocispec.Descriptor) error {
	if err := blob.Check(d.Digest); err != nil {
		return fmt.Errorf("%w %s: %w", ErrInvalid, what, err)
	}
	if d.Size < 0 {
		return invalid("%s: size %d", what, d.Size)
	}
	return nil
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w "+format, append([]any{ErrInvalid}, args...)...)
}

// checkPair tells whether manifest and config belong together.
func checkPair(m *ocispec.Manifest, c *ImageConfig, config []byte) error {
	if got := m.Config.Digest.Algorithm().FromBytes(config); got != m.Config.Digest {
		return fmt.Errorf("%w: the manifest names config %s, not %s", ErrCorrupt, m.Config.Digest, got)
	}
	if m.Config.Size != int64(len(config)) {
		return fmt.Errorf("%w: config %s has %d bytes, the manifest says %d", ErrCorrupt, m.Config.Digest, len(config), m.Config.Size)
	}
	if len(m.Layers) != len(c.RootFS.DiffIDs) {
		return invalid("image: the manifest has %d layers, the config %d", len(m.Layers), len(c.RootFS.DiffIDs))
	}
	return nil
}

// newManifest makes an OCI manifest over uncompressed layers.
func newManifest(config []byte, layers []Layer) ([]byte, error) {
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config: ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageConfig,
			Digest:    digest.FromBytes(config),
			Size:      int64(len(config)),
		},
		Layers: make([]ocispec.Descriptor, 0, len(layers)),
	}
	for _, l := range layers {
		m.Layers = append(m.Layers, l.tar())
	}
	return json.Marshal(m)
}

// Attestation reports whether a descriptor in an image index stands for
// something about an image, like provenance, and not for an image (buildkit's
// attestation storage).
func Attestation(d ocispec.Descriptor) bool {
	if d.Annotations["vnd.docker.reference.type"] != "" {
		return true
	}
	return d.Platform != nil && d.Platform.OS == "unknown"
}
