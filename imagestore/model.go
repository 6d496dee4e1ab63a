package imagestore

import (
	"slices"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is one image of the store. Its identity is the digest of its config.
type Image struct {
	// ID is the digest of the config.
	ID digest.Digest
	// Manifest describes the manifest: the one that the name given to Lookup
	// stands for, or the first one when an ID was given. Images of one ID may
	// have several (layers compressed or not).
	Manifest ocispec.Descriptor
	// Names are the tags in the short form that users type, "debian:12",
	// sorted.
	Names []string
	// Digests are the names with a registry's digest, "debian@sha256:…", in
	// the same form, sorted.
	Digests []string
	// Parent is the image that this one was committed or built from on this
	// machine; empty when it came from elsewhere.
	Parent digest.Digest
	// Local is true when the manifest was made here for want of another, so
	// that a push may send a different one over compressed layers.
	Local bool
	// Tagged is when a name was last given to this image here; zero when
	// unknown.
	Tagged time.Time

	Config      ImageConfig
	RawConfig   []byte
	RawManifest []byte
	Layers      []LayerRef // bottom first
}

// LayerRef is one layer of an image.
type LayerRef struct {
	DiffID digest.Digest
	// Blob describes the layer as the manifest has it, compressed or not.
	Blob ocispec.Descriptor
	// Size is the length of the uncompressed tar in bytes, or -1 when the tar
	// is not in the store.
	Size int64
}

// DiffIDs returns the digests of the uncompressed layers, bottom first.
func (m *Image) DiffIDs() []digest.Digest { return m.Config.RootFS.DiffIDs }

// Platform returns what the image runs on.
func (m *Image) Platform() ocispec.Platform { return m.Config.Platform }

// Dangling reports whether the image has no name at all.
func (m *Image) Dangling() bool { return len(m.Names) == 0 && len(m.Digests) == 0 }

// ImageConfig is the config of an image: OCI's fields (image-spec, config.md)
// and those that docker adds (moby docker-image-spec; docker's own v1.2).
type ImageConfig struct {
	Created *time.Time `json:"created,omitempty"`
	Author  string     `json:"author,omitempty"`
	ocispec.Platform
	Config  RunConfig         `json:"config"`
	RootFS  ocispec.RootFS    `json:"rootfs"`
	History []ocispec.History `json:"history,omitempty"`

	// Docker's own.
	Comment         string        `json:"comment,omitempty"`
	Container       string        `json:"container,omitempty"`
	ContainerConfig *RunConfig    `json:"container_config,omitempty"`
	DockerVersion   string        `json:"docker_version,omitempty"`
	Parent          digest.Digest `json:"parent,omitempty"`
}

// RunConfig says how containers of an image run.
type RunConfig struct {
	dockerspec.DockerOCIImageConfig

	Hostname        string `json:"Hostname,omitempty"`
	Domainname      string `json:"Domainname,omitempty"`
	AttachStdin     bool   `json:"AttachStdin,omitempty"`
	AttachStdout    bool   `json:"AttachStdout,omitempty"`
	AttachStderr    bool   `json:"AttachStderr,omitempty"`
	Tty             bool   `json:"Tty,omitempty"`
	OpenStdin       bool   `json:"OpenStdin,omitempty"`
	StdinOnce       bool   `json:"StdinOnce,omitempty"`
	Image           string `json:"Image,omitempty"`
	NetworkDisabled bool   `json:"NetworkDisabled,omitempty"`
	MacAddress      string `json:"MacAddress,omitempty"`
	StopTimeout     *int   `json:"StopTimeout,omitempty"`
}

// CreatedAt returns when the image was made; 1970 when the config does not
// say.
func (c *ImageConfig) CreatedAt() time.Time {
	if c.Created == nil {
		return time.Unix(0, 0).UTC()
	}
	return *c.Created
}

// FullHistory returns the history of an image for one that is made from it:
// as it is, with an entry without words for each layer that it does not tell
// of, so that the new history tells of every layer.
func (c *ImageConfig) FullHistory() []ocispec.History {
	missing := max(0, len(c.RootFS.DiffIDs)-c.toldLayers())
	return append(slices.Clone(c.History), make([]ocispec.History, missing)...)
}

// toldLayers is how many layers the history tells of.
func (c *ImageConfig) toldLayers() int {
	n := 0
	for _, h := range c.History {
		if !h.EmptyLayer {
			n++
		}
	}
	return n
}
