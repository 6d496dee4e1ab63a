package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"unio/imagestore"
	"unio/imagestore/layer"
)

// maxHeld bounds the documents of an archive that are held in memory, bytes.
const maxHeld = 64 << 20

// streamBox is an archive that passes by once. What looks like a layer goes
// into the store at once, before it is known whether an image needs it; if
// none does, it is garbage. What looks like JSON is held. The rest is skipped.
type streamBox struct {
	st      *imagestore.Store
	o       LoadOptions
	docs    map[string][]byte
	layers  map[string]imagestore.Layer
	broken  map[string]error // layers that could not be read
	links   map[string]string
	held    int
	entries int
}

// openStream reads the whole of an archive.
func openStream(ctx context.Context, st *imagestore.Store, r io.Reader, o LoadOptions) (*streamBox, error) {
	plain, err := imagestore.GuardedDecompress(imagestore.ContextReader(ctx, r))
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	br := bufio.NewReaderSize(plain, 1<<20)
	if _, err := br.Peek(1); err == io.EOF {
		return nil, ErrEmpty
	}
	b := &streamBox{
		st: st, o: o, docs: map[string][]byte{}, layers: map[string]imagestore.Layer{},
		broken: map[string]error{}, links: map[string]string{},
	}
	tr := tar.NewReader(br)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, tarError(err, b.entries == 0)
		}
		if err := b.take(ctx, h, tr); err != nil {
			return nil, err
		}
	}
	if b.entries == 0 {
		return nil, ErrFormat
	}
	// To the very end, so that a checksum behind the archive is looked at.
	if _, err := io.Copy(io.Discard, br); err != nil {
		return nil, tarError(err, false)
	}
	return b, nil
}

// take handles one entry as it passes by.
func (b *streamBox) take(ctx context.Context, h *tar.Header, r io.Reader) error {
	b.entries++
	if b.entries > maxEntries {
		return fmt.Errorf("%w: archive of more than %d entries", imagestore.ErrLimit, maxEntries)
	}
	name := clean(h.Name)
	switch h.Typeflag {
	case tar.TypeLink, tar.TypeSymlink:
		b.links[name] = linkTarget(h)
		return nil
	case tar.TypeReg, tar.TypeGNUSparse:
	default:
		return nil
	}
	head := make([]byte, min(h.Size, 512))
	if _, err := io.ReadFull(r, head); err != nil {
		return tarError(err, false)
	}
	content := io.MultiReader(bytes.NewReader(head), r)
	switch {
	case looksLikeJSON(head) && h.Size <= imagestore.MetadataLimit:
		return b.hold(name, content, h.Size)
	case looksLikeLayer(head):
		return b.store(ctx, name, content, h.Size)
	}
	return nil
}

func looksLikeJSON(head []byte) bool {
	head = bytes.TrimLeft(head, " \t\r\n")
	return len(head) > 0 && (head[0] == '{' || head[0] == '[')
}

// looksLikeLayer accepts compressed streams, tar headers of any age, and the
// end of an empty tar. The first header alone decides: it may be an extended
// one, whose text lies behind it.
func looksLikeLayer(head []byte) bool {
	if imagestore.DetectCompression(head) != imagestore.Uncompressed {
		return true
	}
	return len(head) == tarBlock && (layer.IsHeader(head) || [tarBlock]byte(head) == [tarBlock]byte{})
}

func (b *streamBox) hold(name string, r io.Reader, size int64) error {
	if b.held += int(size); b.held > maxHeld {
		return fmt.Errorf("%w: archive with more than %d bytes of JSON", imagestore.ErrLimit, maxHeld)
	}
	p, err := readMetadata(name, r, size)
	if err != nil {
		return err
	}
	b.docs[name] = p
	return nil
}

// store adds a layer. One that is no layer after all only matters if an image
// refers to it; an archive that ends in the middle matters always.
func (b *streamBox) store(ctx context.Context, name string, r io.Reader, size int64) error {
	o := imagestore.LayerOptions{
		Size: size, Digest: digestOf(name), KeepCompressed: digestOf(name) != "",
		Progress: b.o.Progress, ID: shortName(name), Action: actionLoad,
	}
	l, err := b.st.AddLayer(ctx, r, o)
	if err == nil {
		b.layers[name] = l
		return nil
	}
	if _, derr := io.Copy(io.Discard, r); derr != nil {
		return tarError(derr, false)
	}
	if !isContentError(err) {
		return err
	}
	b.broken[name] = err
	return nil
}

// isContentError tells damage of a layer from trouble of this machine.
func isContentError(err error) bool {
	for _, kind := range []error{imagestore.ErrCorrupt, layer.ErrBadTar} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// shortName is what progress calls a layer whose diffID is not known yet.
func shortName(name string) string {
	if d := digestOf(name); d != "" {
		return imagestore.ShortID(d)
	}
	if len(name) > 12 {
		name = name[:12]
	}
	return name
}

// resolve follows links.
func (b *streamBox) resolve(name string) string {
	for range maxLinks {
		target, ok := b.links[name]
		if !ok {
			break
		}
		name = target
	}
	return name
}

func (b *streamBox) has(name string) bool {
	name = b.resolve(name)
	_, doc := b.docs[name]
	_, l := b.layers[name]
	_, bad := b.broken[name]
	return doc || l || bad
}

func (b *streamBox) metadata(name string) ([]byte, error) {
	p, ok := b.docs[b.resolve(name)]
	if !ok {
		return nil, missing(name)
	}
	return p, nil
}

// layer checks what is in the store already against what is expected.
func (b *streamBox) layer(_ context.Context, name string, o imagestore.LayerOptions) (imagestore.Layer, error) {
	name = b.resolve(name)
	if err := b.broken[name]; err != nil {
		return imagestore.Layer{}, err
	}
	l, ok := b.layers[name]
	if !ok {
		return l, missing(name)
	}
	if o.DiffID != "" && l.DiffID != o.DiffID {
		return l, fmt.Errorf("%w: layer %s is %s, expected %s", imagestore.ErrCorrupt, name, l.DiffID, o.DiffID)
	}
	if o.Digest != "" && l.Blob.Digest != o.Digest && digest.Digest(l.DiffID) != o.Digest {
		return l, fmt.Errorf("%w: layer %s has digest %s, expected %s", imagestore.ErrCorrupt, name, l.Blob.Digest, o.Digest)
	}
	return l, nil
}

func (b *streamBox) parallel() int { return 1 }

func (b *streamBox) Close() error { return nil }
