// Package imagestore keeps container images in one folder that is itself a
// valid OCI image layout (image-spec, image-layout.md):
//
//	oci-layout, index.json            the references
//	blobs/sha256/<hex>                configs, manifests, layers: compressed as they came, and as tar
//	layers/<diffID hex>.idx           the index of one layer
//	views/<chainID hex>.idx           the merged view of a chain of layers
//	state/                            locks, pairs of compressed digest and diffID, temporary files
//
// Blobs and index.json are the truth. Indexes, views and pairs are derived:
// whatever of them is missing or damaged is made anew from the blobs.
//
// # References
//
// Every name of an image is one descriptor in index.json. Its annotation
// org.opencontainers.image.ref.name holds what a user types ("debian:12",
// "localhost:5000/app:1"), so that "skopeo copy oci:STORE:debian:12 …" finds
// it; io.containerd.image.name holds the full name
// ("docker.io/library/debian:12"). What a name resolved to at a registry is
// kept in the same way, as NAME@DIGEST. An image without a name is a
// descriptor without these annotations.
//
// # Order of writes, and locks
//
// Everything is written to a temporary file, synced, renamed, and its folder
// synced; blob before index before manifest before reference. A crash at any
// point leaves the old state and some garbage, which [Store.Collect] removes.
//
// Two locks (flock, in state/), always taken in this order:
//
//	lock        shared by whoever adds something, from the first blob to the
//	            reference ([Store.Hold]); exclusive for collection
//	index.lock  exclusive, for each change of index.json, for milliseconds
//
// Readers take no lock: what they have opened stays readable after removal.
package imagestore

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"unio/imagestore/blob"
)

const (
	dirMode  = 0o700
	fileMode = 0o600
)

// Use says that something outside of the store, a container, needs an image.
type Use struct {
	ImageID   digest.Digest
	Container string // the container's ID, for messages
	Running   bool
}

// Options of a store. The zero value works.
type Options struct {
	// Log receives what is done; nil: nothing is logged.
	Log *slog.Logger
	// InUse lists the containers that need an image; nil: none does.
	InUse func() ([]Use, error)
}

// Store is an open image store. It may be used by several goroutines, and by
// several processes, at once.
type Store struct {
	root  string
	opt   Options
	log   *slog.Logger
	blobs *blob.Store

	ratioFree int64 // see guard.go; lower in tests

	mu        sync.Mutex
	manifests map[digest.Digest]*manifestInfo // parsed manifests; their content never changes
}

// Open opens the store in folder root and creates what is missing of it.
func Open(root string, o Options) (*Store, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{root: root, opt: o, log: o.Log, ratioFree: ratioFree, manifests: map[digest.Digest]*manifestInfo{}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	for _, d := range []string{s.root, s.layersDir(), s.viewsDir(), s.stateDir(), s.pairsDir()} {
		if err := os.MkdirAll(d, dirMode); err != nil {
			return nil, fmt.Errorf("open store: %w", err)
		}
	}
	if s.blobs, err = blob.Open(s.root, s.tempDir()); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return s, s.ensureLayout()
}

// Root returns the folder of the store.
func (s *Store) Root() string { return s.root }

// Blobs returns the content-addressed files of the store, for those who move
// blobs in and out. Who writes holds the store ([Store.Hold]).
func (s *Store) Blobs() *blob.Store { return s.blobs }

func (s *Store) layersDir() string { return filepath.Join(s.root, "layers") }
func (s *Store) viewsDir() string  { return filepath.Join(s.root, "views") }
func (s *Store) stateDir() string  { return filepath.Join(s.root, "state") }
func (s *Store) pairsDir() string  { return filepath.Join(s.stateDir(), "pairs") }
func (s *Store) tempDir() string   { return filepath.Join(s.stateDir(), "tmp") }
func (s *Store) indexFile() string { return filepath.Join(s.root, ocispec.ImageIndexFile) }

const layoutContent = `{"imageLayoutVersion":"` + ocispec.ImageLayoutVersion + `"}`

// ensureLayout writes oci-layout and an empty index.json where they are
// missing.
func (s *Store) ensureLayout() error {
	layout := filepath.Join(s.root, ocispec.ImageLayoutFile)
	if _, err := os.Lstat(layout); errors.Is(err, fs.ErrNotExist) {
		if err := s.writeFile(layout, []byte(layoutContent)); err != nil {
			return err
		}
	}
	if _, err := os.Lstat(s.indexFile()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Linked, not renamed, into place: another process may be the first.
	return s.writeNew(s.indexFile(), []byte(emptyIndex))
}

const emptyIndex = `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[]}`
