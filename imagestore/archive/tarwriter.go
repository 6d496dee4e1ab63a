package archive

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"unio/imagestore"
	"unio/imagestore/blob"
)

const (
	tarBlock = 512
	// copyStep is how much is copied between two looks at the context.
	copyStep = 32 << 20
)

// tarWriter writes a tar whose bytes depend on nothing but its content. It
// writes content beside archive/tar, whose writer hides the file from
// io.Copy: from file to file the kernel can copy by itself. The first error
// stays.
type tarWriter struct {
	w   io.Writer
	err error
}

func newTarWriter(w io.Writer) *tarWriter { return &tarWriter{w: w} }

// header writes a header. Each one has a tar.Writer of its own, as that knows
// nothing of content that passed it by.
func (t *tarWriter) header(h *tar.Header) {
	if t.err != nil {
		return
	}
	h.ModTime = time.Unix(0, 0)
	h.Format = tar.FormatUSTAR
	if h.Size >= 1<<33 { // what ustar's octal digits hold
		h.Format = tar.FormatPAX
	}
	if err := tar.NewWriter(t.w).WriteHeader(h); err != nil {
		t.err = fmt.Errorf("write archive: %w", err)
	}
}

func (t *tarWriter) bytes(p []byte) {
	if t.err != nil {
		return
	}
	if _, err := t.w.Write(p); err != nil {
		t.err = fmt.Errorf("write archive: %w", err)
	}
}

// pad fills the last block of an entry of n bytes.
func (t *tarWriter) pad(n int64) {
	if rest := n % tarBlock; rest != 0 {
		t.bytes(make([]byte, tarBlock-rest))
	}
}

func (t *tarWriter) folder(name string) {
	t.header(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755})
}

func (t *tarWriter) document(d document) {
	t.header(&tar.Header{Typeflag: tar.TypeReg, Name: d.name, Mode: 0o644, Size: int64(len(d.content))})
	t.bytes(d.content)
	t.pad(int64(len(d.content)))
}

// copy writes a blob as an entry.
func (t *tarWriter) copy(ctx context.Context, name string, b *blob.Blob, report func(n int64)) error {
	t.header(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: b.Size()})
	for done := int64(0); t.err == nil && done < b.Size(); {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.CopyN(t.w, b.File, min(copyStep, b.Size()-done))
		done += n
		t.writeBehind()
		if err == io.EOF {
			err = fmt.Errorf("%w: blob %s is cut short", imagestore.ErrCorrupt, name)
		}
		if err != nil {
			t.err = fmt.Errorf("write archive: %w", err)
		}
		report(done)
	}
	t.pad(b.Size())
	return t.err
}

// writeBehind lets the kernel begin to put on disk what has been copied into a
// file, so that the sync at its end has little left. It is a hint: whatever
// fails shows again at the sync.
func (t *tarWriter) writeBehind() {
	if f, ok := t.w.(*os.File); ok {
		_ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
	}
}

// close writes the end of the archive.
func (t *tarWriter) close() error {
	t.bytes(make([]byte, 2*tarBlock))
	return t.err
}
