package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"runtime"
	"strings"

	"unio/imagestore"
)

// errSparse says that an archive has sparse entries, whose bytes do not lie
// where their header is: it has to be read as a stream.
var errSparse = errors.New("sparse entries")

const (
	maxEntries = 1 << 20 // of an archive
	maxLinks   = 16      // of a chain of links

	maxParallel = 3 // layers that are read at once
)

// place is where an entry lies in a file, or the name that it links to.
type place struct {
	off, size int64
	link      string
}

// tarBox is an uncompressed tar in a file.
type tarBox struct {
	st      *imagestore.Store
	file    *io.SectionReader
	entries map[string]place
}

// openTar reads the headers of an archive and skips over the content.
func openTar(st *imagestore.Store, file *io.SectionReader) (*tarBox, error) {
	b := &tarBox{st: st, file: file, entries: map[string]place{}}
	tr := tar.NewReader(file)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, tarError(err, len(b.entries) == 0)
		}
		if err := b.add(h); err != nil {
			return nil, err
		}
	}
	if len(b.entries) == 0 {
		return nil, ErrFormat
	}
	return b, nil
}

func (b *tarBox) add(h *tar.Header) error {
	if len(b.entries) >= maxEntries {
		return fmt.Errorf("%w: archive of more than %d entries", imagestore.ErrLimit, maxEntries)
	}
	if isSparse(h) {
		return errSparse
	}
	off, err := b.file.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	switch name := clean(h.Name); h.Typeflag {
	case tar.TypeReg:
		b.entries[name] = place{off: off, size: h.Size}
	case tar.TypeLink, tar.TypeSymlink:
		b.entries[name] = place{link: linkTarget(h)}
	}
	return nil
}

func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// linkTarget is the entry that a link names: a hard link from the top of the
// archive, a symbolic link from its own folder.
func linkTarget(h *tar.Header) string {
	if h.Typeflag == tar.TypeLink {
		return clean(h.Linkname)
	}
	return clean(path.Join(path.Dir(clean(h.Name)), h.Linkname))
}

// tarError turns an error of the tar reader into one line that says what is
// wrong with the archive. first: it concerns the first entry.
func tarError(err error, first bool) error {
	switch {
	case errors.Is(err, imagestore.ErrCorrupt), errors.Is(err, imagestore.ErrLimit):
		return err
	case errors.Is(err, tar.ErrHeader) && first:
		return ErrFormat
	case errors.Is(err, io.ErrUnexpectedEOF) && first:
		return fmt.Errorf("%w: it is cut short", ErrFormat)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w archive: it is cut short", imagestore.ErrCorrupt)
	case errors.Is(err, tar.ErrHeader):
		return fmt.Errorf("%w archive: %w", imagestore.ErrCorrupt, err)
	}
	return fmt.Errorf("read archive: %w", err)
}

// find follows links to the entry that holds the bytes.
func (b *tarBox) find(name string) (*io.SectionReader, error) {
	target := name
	for range maxLinks {
		p, ok := b.entries[target]
		if !ok {
			return nil, missing(name)
		}
		if p.link == "" {
			return io.NewSectionReader(b.file, p.off, p.size), nil
		}
		target = p.link
	}
	return nil, fmt.Errorf("%w: %s is a loop of links", imagestore.ErrCorrupt, name)
}

func (b *tarBox) has(name string) bool {
	_, ok := b.entries[name]
	return ok
}

func (b *tarBox) metadata(name string) ([]byte, error) {
	r, err := b.find(name)
	if err != nil {
		return nil, err
	}
	return readMetadata(name, r, r.Size())
}

// readMetadata reads a document of known length.
func readMetadata(name string, r io.Reader, size int64) ([]byte, error) {
	if size > imagestore.MetadataLimit {
		return nil, fmt.Errorf("%w: %s has %d bytes, at most %d are allowed", imagestore.ErrLimit, name, size, imagestore.MetadataLimit)
	}
	p := make([]byte, size)
	if _, err := io.ReadFull(r, p); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, tarError(err, false))
	}
	return p, checkContent(name, p)
}

func (b *tarBox) layer(ctx context.Context, name string, o imagestore.LayerOptions) (imagestore.Layer, error) {
	r, err := b.find(name)
	if err != nil {
		return imagestore.Layer{}, err
	}
	if o.Size == 0 {
		o.Size = r.Size()
	}
	return b.st.AddLayer(ctx, r, o)
}

// parallel: a layer keeps more than one core busy already. Three layers of
// zstd, of 8 MiB windows as most are, stay below 64 MiB of memory.
func (b *tarBox) parallel() int { return min(runtime.NumCPU(), maxParallel) }

func (b *tarBox) Close() error { return nil }
