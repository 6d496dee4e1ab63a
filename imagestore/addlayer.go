package imagestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"unio/imagestore/blob"
	"unio/imagestore/layer"
)

// LayerOptions say what is known of a layer that comes in. The zero value
// takes any layer as it is.
type LayerOptions struct {
	// Digest and Size are those of the stream as it comes, compressed or not.
	// Empty and 0: unknown. A stream that differs is refused.
	Digest digest.Digest
	Size   int64
	// DiffID is the digest that the uncompressed tar must have; empty: any.
	DiffID digest.Digest
	// MediaType of the stream, kept for the manifest; empty: OCI's type for
	// the compression found. What the stream is, its content tells.
	MediaType string
	// KeepCompressed stores the stream as it comes beside the tar, so that a
	// push can send it again bit by bit.
	KeepCompressed bool
	// Limits bound what the tar may hold; zero: the defaults.
	Limits layer.Limits

	// Progress is told of the bytes read, with this ID and Action.
	Progress Progress
	ID       string
	Action   string
}

// Layer is a layer that the store has.
type Layer struct {
	DiffID digest.Digest
	Size   int64 // of the uncompressed tar, bytes
	// Blob describes the stream as it came, if it was kept, and else the tar.
	Blob ocispec.Descriptor
	// Existed is true when the layer was there before.
	Existed bool
}

// tar describes the uncompressed tar as a blob.
func (l Layer) tar() ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: l.DiffID, Size: l.Size}
}

// AddLayer takes a layer from r in one pass: it finds out how the stream is
// compressed, verifies it as it came and as a tar, stores the tar as a blob
// and makes its index. A layer that is there already is verified and not
// written again. After an error nothing is left but garbage.
//
// Errors wrap [ErrCorrupt] (also for a wrong digest or length), [ErrLimit],
// layer.ErrBadTar, layer.ErrLimit, or are those of r and of the disk. Without
// a [Store.Hold] of the caller the new layer may be collected before an image
// refers to it.
func (s *Store) AddLayer(ctx context.Context, r io.Reader, o LayerOptions) (Layer, error) {
	release, err := s.Hold(ctx)
	if err != nil {
		return Layer{}, err
	}
	defer release()
	return s.addLayer(ctx, r, o)
}

// addLayer does the work of AddLayer.
//
// Preconditions: the store is held.
func (s *Store) addLayer(ctx context.Context, r io.Reader, o LayerOptions) (Layer, error) {
	return s.take(&intake{s: s, ctx: ctx, o: o}, r)
}

// take runs an intake.
func (s *Store) take(in *intake, r io.Reader) (Layer, error) {
	defer in.abort()
	l, err := in.run(r)
	if err != nil {
		return Layer{}, fmt.Errorf("layer %s: %w", in.name(), mismatchIsCorrupt(err))
	}
	return l, nil
}

// mismatchIsCorrupt lets a wrong digest answer to this package's sentinel.
func mismatchIsCorrupt(err error) error {
	if errors.Is(err, blob.ErrMismatch) && !errors.Is(err, ErrCorrupt) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

// intake is one run of AddLayer.
type intake struct {
	s   *Store
	ctx context.Context
	o   LayerOptions

	fetched *blob.Writer // has the stream as it comes already, to be hashed; nil: it has not been written

	known  bool // the layer is in the store: only verify
	comp   Compression
	meter  *meter
	raw    *blob.Writer // the stream as it came; nil when not kept
	rawSum digest.Digester
	tar    *blob.Writer // the tar; nil when known
	tarSum digest.Digester
	size   int64 // of the tar
	index  *layer.Index
}

// name is what errors call the layer.
func (in *intake) name() string {
	switch {
	case in.o.DiffID != "":
		return in.o.DiffID.String()
	case in.o.Digest != "":
		return in.o.Digest.String()
	case in.o.ID != "":
		return in.o.ID
	}
	return "stream"
}

func (in *intake) abort() {
	for _, w := range []*blob.Writer{in.raw, in.tar} {
		if w != nil {
			w.Abort()
		}
	}
	if in.index != nil {
		in.index.Close()
	}
}

func (in *intake) run(r io.Reader) (Layer, error) {
	if err := in.checkOptions(); err != nil {
		return Layer{}, err
	}
	in.known = in.isKnown()
	in.meter = &meter{r: r, o: &in.o}
	head := make([]byte, magicLen)
	n, err := io.ReadFull(in.meter, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return Layer{}, err
	}
	in.comp = DetectCompression(head[:n])
	stream := io.MultiReader(bytes.NewReader(head[:n]), in.meter)
	if in.isTar() {
		err = in.readTar(stream)
	} else {
		err = in.readCompressed(stream)
	}
	if err != nil {
		return Layer{}, err
	}
	return in.commit()
}

// isTar reports whether the stream is the tar itself, under the name that the
// store gives it. A tar that is named by sha512 counts as another form of it.
func (in *intake) isTar() bool {
	return in.comp == Uncompressed && (in.o.Digest == "" || in.o.Digest.Algorithm() == digest.SHA256)
}

func (in *intake) checkOptions() error {
	for _, d := range []digest.Digest{in.o.Digest, in.o.DiffID} {
		if d == "" {
			continue
		}
		if err := blob.Check(d); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	return nil
}

// isKnown reports whether the layer that is announced is in the store. Only
// what the caller demands can be known: the content is verified against it.
func (in *intake) isKnown() bool {
	if in.o.DiffID == "" && in.o.Digest != "" {
		// The digest may be that of a tar, or be paired with one.
		if l, ok := in.s.LayerByBlob(in.o.Digest); ok {
			in.o.DiffID = l.DiffID
		}
	}
	return in.o.DiffID != "" && in.s.HasLayer(in.o.DiffID)
}

// readCompressed verifies the stream as it comes, keeps it when asked to, and
// reads the tar inside, all at the same time.
func (in *intake) readCompressed(stream io.Reader) error {
	alg := digest.SHA256
	if in.o.Digest != "" {
		alg = in.o.Digest.Algorithm()
	}
	in.rawSum = alg.Digester()
	sinks := []sink{
		func(r io.Reader) error { _, err := io.Copy(in.rawSum.Hash(), r); return err },
		in.decompress,
	}
	if in.fetched != nil {
		in.raw = in.fetched
		sinks[0] = func(r io.Reader) error { _, err := io.Copy(in.raw.Hash(), r); return err }
	} else if in.keepsRaw() {
		w, err := in.s.blobs.WriterFor(in.ctx, alg)
		if err != nil {
			return err
		}
		in.raw = w
		sinks[0] = func(r io.Reader) error { _, err := io.Copy(w, r); return err }
	}
	return fanOut(in.ctx, stream, sinks...)
}

// keepsRaw reports whether the compressed stream is to be written. Bzip2 and
// xz have no media type in an image.
func (in *intake) keepsRaw() bool {
	if !in.o.KeepCompressed || in.comp.mediaType() == "" {
		return false
	}
	return in.o.Digest == "" || !in.s.blobs.Has(in.o.Digest)
}

// decompress reads the tar inside of a compressed stream. If stream and tar
// are both known already, the stream's own digest says everything.
func (in *intake) decompress(r io.Reader) error {
	if l, ok := in.s.layerByPair(in.o.Digest); ok && in.known && l.DiffID == in.o.DiffID {
		in.size = l.Size
		return nil
	}
	plain, _, err := Decompress(r)
	if err != nil {
		return err
	}
	defer plain.Close()
	return in.readTar(plain)
}

// readTar hashes the tar and, unless it is known, writes and indexes it.
func (in *intake) readTar(r io.Reader) error {
	guarded := in.s.guard(r, in.meter)
	if in.known {
		in.tarSum = digest.SHA256.Digester()
		n, err := io.Copy(in.tarSum.Hash(), guarded)
		in.size = n
		return err
	}
	if in.isTar() && in.fetched != nil {
		in.tar = in.fetched
		err := fanOut(in.ctx, guarded, in.hashTar, in.scan)
		in.size = in.tar.Size()
		return err
	}
	w, err := in.s.blobs.Writer(in.ctx)
	if err != nil {
		return err
	}
	in.tar = w
	err = fanOut(in.ctx, guarded, in.hashTar, in.scan,
		func(r io.Reader) error { _, err := io.Copy(w.Data(), r); return err })
	in.size = w.Size()
	return err
}

func (in *intake) hashTar(r io.Reader) error {
	_, err := io.Copy(in.tar.Hash(), r)
	return err
}

func (in *intake) scan(r io.Reader) (err error) {
	in.index, err = layer.Scan(in.ctx, r, in.o.Limits)
	return err
}

// commit checks what came against what was announced and publishes it: blob
// before index before pair.
func (in *intake) commit() (Layer, error) {
	if err := in.check(); err != nil {
		return Layer{}, err
	}
	diffID, err := in.commitTar()
	if err != nil {
		return Layer{}, err
	}
	l := Layer{DiffID: diffID, Size: in.size, Existed: in.known}
	l.Blob = l.tar()
	if !in.isTar() {
		return l, in.commitRaw(&l)
	}
	if in.o.MediaType != "" {
		l.Blob.MediaType = in.o.MediaType
	}
	return l, nil
}

// check compares the digests and the length of what came with what was
// announced.
func (in *intake) check() error {
	if err := in.meter.complete(); err != nil {
		return err
	}
	if err := expect("digest", in.rawDigest(), in.o.Digest); err != nil {
		return err
	}
	return expect("diffID", in.tarDigest(), in.o.DiffID)
}

func expect(what string, got, want digest.Digest) error {
	if want == "" || got == want {
		return nil
	}
	return fmt.Errorf("%w: %s is %s, expected %s", ErrCorrupt, what, got, want)
}

// rawDigest is the digest of the stream as it came.
func (in *intake) rawDigest() digest.Digest {
	switch {
	case in.isTar():
		return in.tarDigest()
	case in.raw != nil:
		return in.raw.Digest()
	}
	return in.rawSum.Digest()
}

// tarDigest is the digest of the tar. Where the stream alone was hashed, the
// pair that made that possible tells it.
func (in *intake) tarDigest() digest.Digest {
	switch {
	case in.tar != nil:
		return in.tar.Digest()
	case in.tarSum != nil:
		return in.tarSum.Digest()
	}
	return in.o.DiffID
}

func (in *intake) commitTar() (digest.Digest, error) {
	if in.tar == nil {
		return in.o.DiffID, nil
	}
	diffID, err := in.tar.Commit(in.o.DiffID)
	if err != nil {
		return "", err
	}
	return diffID, in.s.writeFrom(in.s.layerIndexPath(diffID), in.index)
}

// commitRaw publishes the compressed stream and remembers what it holds.
func (in *intake) commitRaw(l *Layer) error {
	desc := ocispec.Descriptor{MediaType: in.comp.mediaType(), Digest: in.rawDigest(), Size: in.meter.n.Load()}
	if desc.MediaType == "" {
		return nil // bzip2 or xz: no manifest can name it
	}
	if in.o.MediaType != "" {
		desc.MediaType = in.o.MediaType
	}
	if in.raw != nil {
		if _, err := in.raw.Commit(in.o.Digest); err != nil {
			return err
		}
	}
	if in.o.KeepCompressed {
		l.Blob = desc
	}
	return in.s.RememberCompressed(l.DiffID, desc)
}
