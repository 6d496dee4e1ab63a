package registry

import (
	"mime"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"unio/imagestore"
)

// dockerSchema1 begins the media types of docker's manifest v2 schema 1, which
// are known only to be refused.
const dockerSchema1 = "application/vnd.docker.distribution.manifest.v1"

// foreign and nonDistributable begin the media types of layers that may live
// somewhere else than in the registry. They are read, and never created.
const (
	foreign          = "application/vnd.docker.image.rootfs.foreign."
	nonDistributable = "application/vnd.oci.image.layer.nondistributable."
)

// acceptManifests is what a registry may answer a manifest request with.
func acceptManifests() string {
	return strings.Join([]string{
		ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest,
		imagestore.MediaTypeDockerManifestList, imagestore.MediaTypeDockerManifest, "*/*;q=0.1",
	}, ", ")
}

// kind is what a document with a media type is.
type kind int

const (
	kindUnknown kind = iota
	kindIndex
	kindManifest
	kindSchema1
)

// kindOf classifies the media type of a manifest.
func kindOf(mediaType string) kind {
	switch {
	case imagestore.IsIndex(mediaType):
		return kindIndex
	case imagestore.IsManifest(mediaType):
		return kindManifest
	case strings.HasPrefix(mediaType, dockerSchema1):
		return kindSchema1
	}
	return kindUnknown
}

// bareType is a Content-Type without its parameters.
func bareType(header string) string {
	t, _, err := mime.ParseMediaType(header)
	if err != nil {
		return strings.TrimSpace(strings.ToLower(header))
	}
	return t
}

// isForeign reports whether a layer may live somewhere else than in the
// registry.
func isForeign(mediaType string) bool {
	return strings.HasPrefix(mediaType, foreign) || strings.HasPrefix(mediaType, nonDistributable)
}

// dockerType is docker's name for a layer's media type; ok is false if docker
// has none, as for zstd, which docker's schema 2 readers do not know.
func dockerType(mediaType string) (string, bool) {
	switch mediaType {
	case imagestore.MediaTypeDockerLayer, ocispec.MediaTypeImageLayer:
		return imagestore.MediaTypeDockerLayer, true
	case imagestore.MediaTypeDockerLayerGzip, ocispec.MediaTypeImageLayerGzip:
		return imagestore.MediaTypeDockerLayerGzip, true
	case imagestore.MediaTypeDockerForeignLayer:
		return mediaType, true
	}
	return "", false
}

// ociType is OCI's name for a layer's media type.
func ociType(mediaType string) string {
	switch mediaType {
	case imagestore.MediaTypeDockerLayer:
		return ocispec.MediaTypeImageLayer
	case imagestore.MediaTypeDockerLayerGzip:
		return ocispec.MediaTypeImageLayerGzip
	case imagestore.MediaTypeDockerLayerZstd:
		return ocispec.MediaTypeImageLayerZstd
	}
	return mediaType
}
