// Package archive moves images between a store and files. [Load] reads
//
//   - docker archives ("docker save" of any version since 1.10, "podman save",
//     skopeo's docker-archive:): manifest.json, configs, layer tars, with
//     links between equal layers;
//   - OCI image layouts, as a folder or in a tar ("oci-archive:"), with nested
//     indexes;
//   - skopeo's "dir:" folders;
//   - archives that are both, as docker 25 and [Save] write them.
//
// An archive may be compressed as a whole and may come from a pipe, with its
// entries in any order: layers then go straight into the store as they pass
// by, and nothing but small JSON documents is held in memory. From a file,
// layers are read where they lie, several at once.
//
// Nothing of an archive is unpacked to paths of the host: its names are keys,
// looked up exactly. A load first brings in all layers of all images, then
// adds the images; when anything is wrong, no image is added.
package archive

import (
	"errors"
	"io"
	"log/slog"

	"github.com/opencontainers/go-digest"

	"unio/imagestore"
)

// Sentinels, for errors.Is. Damaged content also answers to
// imagestore.ErrCorrupt or imagestore.ErrInvalid.
var (
	// ErrEmpty says that there was nothing to read at all.
	ErrEmpty = errors.New("the archive is empty")
	// ErrFormat says that the source is no image archive.
	ErrFormat = errors.New("not an image archive")
	// ErrMissing says that an archive lacks something that it refers to.
	ErrMissing = errors.New("the archive is incomplete")
)

// Source is where to load from: a path of a file or folder, or a stream.
type Source struct {
	Path   string
	Reader io.Reader // used when Path is empty; a regular *os.File is read as a file
}

// LoadOptions of [Load]. The zero value works.
type LoadOptions struct {
	Log      *slog.Logger
	Progress imagestore.Progress // told of each layer, "Loading layer"
}

// Loaded is one image that was loaded, once per name.
type Loaded struct {
	Name string // as users type it; empty when the image came without one
	ID   digest.Digest
	// Replaced is the image that had the name before, if it was another.
	Replaced digest.Digest
}

// SaveOptions of [Save]. The zero value works.
type SaveOptions struct {
	Progress imagestore.Progress // told of each layer, "Saving layer"
}
