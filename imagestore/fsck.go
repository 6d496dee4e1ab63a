package imagestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"unio/imagestore/blob"
)

// garbageWait is how long a check that repairs nothing waits to look for
// garbage while others are adding: what they write looks like garbage.
const garbageWait = 100 * time.Millisecond

// FsckOptions of [Store.Fsck].
type FsckOptions struct {
	// Repair makes derived files anew, removes damaged blobs, so that the
	// next load or pull brings them again, and collects garbage.
	Repair   bool
	Progress Progress // told of each blob, "Verifying"
}

// Problem is one thing that Fsck found.
type Problem struct {
	Subject  string // "blob sha256:…", "image debian:12", "index …", "temporary file …"
	What     string // what is wrong with it
	Repaired bool
	// Garbage marks what is only left over: it takes space and harms nothing.
	Garbage bool
}

func (p Problem) String() string {
	line := p.Subject + ": " + p.What
	if p.Repaired {
		line += " (repaired)"
	}
	return line
}

// Report is the result of Fsck.
type Report struct {
	Problems []Problem
	Images   int   // checked
	Blobs    int   // verified
	Bytes    int64 // read to verify them
	Freed    int64 // bytes of garbage removed
}

// Damaged counts the problems that are neither repaired nor mere garbage.
func (r *Report) Damaged() int {
	n := 0
	for _, p := range r.Problems {
		if !p.Repaired && !p.Garbage {
			n++
		}
	}
	return n
}

// Fsck checks the whole store: every reference, the digest of every blob that
// one needs, every index and view, and what is left over. Without Repair it
// changes nothing and runs beside everything else; with it, it waits for
// those who add something, and keeps them waiting.
func (s *Store) Fsck(ctx context.Context, o FsckOptions) (*Report, error) {
	c := &check{s: s, ctx: ctx, o: o, rep: &Report{}, seen: map[digest.Digest]error{}, views: map[string]bool{}}
	if o.Repair {
		release, err := s.exclusive(ctx)
		if err != nil {
			return nil, err
		}
		defer release()
	}
	for _, step := range []func() error{c.layout, c.references, c.strays, c.garbage} {
		if err := step(); err != nil {
			return c.rep, err
		}
	}
	return c.rep, nil
}

// check is one run of Fsck.
type check struct {
	s     *Store
	ctx   context.Context
	o     FsckOptions
	rep   *Report
	seen  map[digest.Digest]error // blobs that were verified
	views map[string]bool         // paths that were checked
	torn  bool                    // an image cannot be read, so nobody knows what is garbage
}

func (c *check) report(subject string, repaired bool, format string, args ...any) {
	c.rep.Problems = append(c.rep.Problems, Problem{Subject: subject, What: fmt.Sprintf(format, args...), Repaired: repaired})
}

// layout checks the two files that make the folder an image layout. Lost
// references are found again in the manifests; their names are not.
func (c *check) layout() error {
	path := filepath.Join(c.s.root, ocispec.ImageLayoutFile)
	if p, err := readLimited(path, 4096); err != nil || string(p) != layoutContent {
		repaired := false
		if c.o.Repair {
			if err := c.s.writeFile(path, []byte(layoutContent)); err != nil {
				return err
			}
			repaired = true
		}
		c.report(ocispec.ImageLayoutFile, repaired, "is missing or damaged")
	}
	_, err := c.s.readRefs()
	if err == nil {
		return nil
	}
	if !c.o.Repair {
		c.report(ocispec.ImageIndexFile, false, "%v", err)
		c.torn = true
		return nil
	}
	n, rerr := c.recoverRefs()
	if rerr != nil {
		return rerr
	}
	c.report(ocispec.ImageIndexFile, true, "%v; found %d images again, without their names", err, n)
	return nil
}

// recoverRefs makes index.json anew from the manifests among the blobs. The
// damaged file is kept beside it.
func (c *check) recoverRefs() (int, error) {
	r := &refs{}
	r.index.SchemaVersion = 2
	for info, err := range c.s.blobs.Walk() {
		if err != nil {
			return 0, err
		}
		if info.Digest == "" || info.Size > MetadataLimit {
			continue
		}
		if d, ok := c.s.asManifest(info); ok {
			r.keep(d)
		}
	}
	p, err := r.encode()
	if err != nil {
		return 0, err
	}
	if err := os.Rename(c.s.indexFile(), c.s.indexFile()+".damaged"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	return len(r.index.Manifests), c.s.writeFile(c.s.indexFile(), p)
}

// asManifest tells whether a blob is the manifest of an image that is there.
func (s *Store) asManifest(info blob.Info) (ocispec.Descriptor, bool) {
	m, err := s.manifest(info.Digest)
	if err != nil || !s.blobs.Has(m.id()) {
		return ocispec.Descriptor{}, false
	}
	mt := m.manifest.MediaType
	if mt == "" {
		mt = ocispec.MediaTypeImageManifest
	}
	return ocispec.Descriptor{MediaType: mt, Digest: info.Digest, Size: info.Size}, true
}

// strays reports files among the blobs that are none, and pairs that cannot
// be read. Nothing of ours makes them; a damaged pair is removed.
func (c *check) strays() error {
	for info, err := range c.s.blobs.Walk() {
		if err != nil {
			return err
		}
		if info.Digest == "" {
			c.rep.Problems = append(c.rep.Problems, Problem{Subject: "file " + info.Path, What: "is no blob", Garbage: true})
		}
	}
	c.s.eachPair(func(_, _ digest.Digest, path string) {
		_, _, err := readPair(path)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return
		}
		repaired := c.o.Repair && os.Remove(path) == nil
		c.report("pair "+strings.TrimSuffix(filepath.Base(path), ".json"), repaired, "%v", err)
	})
	return nil
}

// garbage finds what nothing needs, and collects it when repairing.
func (c *check) garbage() error {
	if c.torn {
		return nil
	}
	if c.o.Repair {
		col, err := c.s.sweep(c.ctx, partialAge)
		c.rep.Freed = col.Bytes
		return err
	}
	ctx, cancel := context.WithTimeoutCause(c.ctx, garbageWait, ErrBusy)
	defer cancel()
	release, err := c.s.exclusive(ctx)
	if errors.Is(err, ErrBusy) {
		return nil
	}
	if err != nil {
		return err
	}
	defer release()
	return c.listGarbage()
}

func (c *check) listGarbage() error {
	m, err := c.s.mark()
	if err != nil {
		return nil // said before, by the check of that image
	}
	add := func(subject string, size int64) {
		c.rep.Problems = append(c.rep.Problems, Problem{Subject: subject, What: fmt.Sprintf("not needed, %d bytes", size), Garbage: true})
	}
	for info, err := range c.s.blobs.Walk() {
		if err != nil {
			return err
		}
		if info.Digest != "" && !m.blobs[info.Digest] {
			add("blob "+info.Digest.String(), info.Size)
		}
	}
	temps, err := c.s.blobs.Temps()
	for _, t := range temps {
		add("temporary file "+filepath.Base(t.Path), t.Size)
	}
	return err
}
