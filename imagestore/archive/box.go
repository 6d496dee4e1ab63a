package archive

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"

	"unio/imagestore"
	"unio/imagestore/blob"
)

// box is an open archive: entries by clean, relative name.
type box interface {
	// metadata returns a JSON document of at most imagestore.MetadataLimit
	// bytes. An entry that is not there gives ErrMissing.
	metadata(name string) ([]byte, error)
	// has reports whether there is an entry of that name.
	has(name string) bool
	// layer brings an entry into the store as a layer.
	layer(ctx context.Context, name string, o imagestore.LayerOptions) (imagestore.Layer, error)
	// parallel is how many layers may be read at once.
	parallel() int
	Close() error
}

func missing(name string) error { return fmt.Errorf("%w: it has no %s", ErrMissing, name) }

// clean makes a name of an entry a key: relative, without "." and "..".
func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// blobName is where an image layout has a blob.
func blobName(d digest.Digest) string {
	return "blobs/" + string(d.Algorithm()) + "/" + d.Encoded()
}

// digestOf returns the digest that the name of an entry promises: blobs of a
// layout, and the configs of docker archives, <hex>.json. Else it is empty.
func digestOf(name string) digest.Digest {
	base := strings.TrimSuffix(path.Base(name), ".json")
	alg := digest.SHA256
	switch dir := path.Dir(name); {
	case strings.HasPrefix(dir, "blobs/"):
		alg = digest.Algorithm(path.Base(dir))
	case dir != ".":
		return ""
	}
	if d := digest.NewDigestFromEncoded(alg, base); blob.Check(d) == nil {
		return d
	}
	return ""
}

// checkContent compares a document with the digest that its name promises.
func checkContent(name string, p []byte) error {
	d := digestOf(name)
	if d == "" || d.Algorithm().FromBytes(p) == d {
		return nil
	}
	return fmt.Errorf("%w: %s does not match its digest", imagestore.ErrCorrupt, name)
}

// open opens a source, whatever it is.
func open(ctx context.Context, st *imagestore.Store, src Source, o LoadOptions) (box, error) {
	if src.Path == "" {
		return openReader(ctx, st, src.Reader, o)
	}
	f, err := os.Open(src.Path)
	if err != nil {
		return nil, err
	}
	if fi, err := f.Stat(); err == nil && fi.IsDir() {
		f.Close()
		return openFolder(st, src.Path)
	}
	b, err := openReader(ctx, st, f, o)
	if err != nil {
		f.Close()
		return nil, err
	}
	return &withFile{box: b, f: f}, nil
}

// withFile closes the file below a box.
type withFile struct {
	box
	f *os.File
}

func (w *withFile) Close() error {
	err := w.box.Close()
	if cerr := w.f.Close(); err == nil {
		err = cerr
	}
	return err
}

// openReader opens a stream. An uncompressed tar in a regular file is read
// where its parts lie; anything else as it comes.
func openReader(ctx context.Context, st *imagestore.Store, r io.Reader, o LoadOptions) (box, error) {
	f, ok := r.(*os.File)
	if !ok {
		return openStream(ctx, st, r, o)
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	start, err := f.Seek(0, io.SeekCurrent)
	if err != nil || !fi.Mode().IsRegular() {
		return openStream(ctx, st, r, o)
	}
	head := make([]byte, 512)
	n, err := f.ReadAt(head, start)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if n == 0 {
		return nil, ErrEmpty
	}
	if imagestore.DetectCompression(head[:n]) != imagestore.Uncompressed {
		return openStream(ctx, st, r, o)
	}
	b, err := openTar(st, io.NewSectionReader(f, start, fi.Size()-start))
	if err == errSparse {
		return openStream(ctx, st, r, o)
	}
	return b, err
}
