package blob

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// writeBehind is how many bytes are written before the kernel is asked to
// start putting them on disk, so that the sync at the end has little left.
const writeBehind = 16 << 20

// Writer takes the bytes of one new blob. It is finished by [Writer.Commit]
// or [Writer.Abort], exactly once; Abort after Commit does nothing, so it may
// be deferred. A writer is for one goroutine, except that Data and Hash may
// be fed by one goroutine each.
type Writer struct {
	s       *Store
	ctx     context.Context
	f       *os.File
	alg     digest.Algorithm
	hash    hash.Hash
	written int64 // bytes in the file
	hashed  int64 // bytes in the hash
	started int64 // bytes whose write-back has been asked for
	kept    bool  // the file belongs to a [Partial]
}

// Writer starts a new blob, addressed by sha256. Writing fails once ctx is
// done.
func (s *Store) Writer(ctx context.Context) (*Writer, error) {
	return s.WriterFor(ctx, digest.SHA256)
}

// WriterFor is Writer with another algorithm.
func (s *Store) WriterFor(ctx context.Context, alg digest.Algorithm) (*Writer, error) {
	if !alg.Available() {
		return nil, fmt.Errorf("%w: algorithm %q", ErrDigest, string(alg))
	}
	if err := os.MkdirAll(filepath.Join(s.dir, string(alg)), dirMode); err != nil {
		return nil, fmt.Errorf("create blob folder: %w", err)
	}
	f, err := os.CreateTemp(s.tmp, "blob-*") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("create temporary blob: %w", err)
	}
	return &Writer{s: s, ctx: ctx, f: f, alg: alg, hash: alg.Hash()}, nil
}

// Write appends to the blob.
func (w *Writer) Write(p []byte) (int, error) {
	if _, err := w.Hash().Write(p); err != nil {
		return 0, err
	}
	return w.Data().Write(p)
}

// Data and Hash are the two halves of Write, for callers who run them at the
// same time. Both must be given the same bytes; Commit refuses otherwise.
func (w *Writer) Data() io.Writer { return writerFunc(w.writeData) }

// Hash is described with Data.
func (w *Writer) Hash() io.Writer { return writerFunc(w.writeHash) }

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func (w *Writer) writeHash(p []byte) (int, error) {
	n, err := w.hash.Write(p)
	w.hashed += int64(n)
	return n, err
}

func (w *Writer) writeData(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := w.f.Write(p)
	w.written += int64(n)
	if err != nil {
		return n, fmt.Errorf("write blob: %w", err)
	}
	if w.written-w.started >= writeBehind {
		// Only a hint: an error here shows again at Sync.
		_ = unix.SyncFileRange(int(w.f.Fd()), w.started, w.written-w.started, unix.SYNC_FILE_RANGE_WRITE)
		w.started = w.written
	}
	return n, nil
}

// Size returns how many bytes were written so far.
func (w *Writer) Size() int64 { return w.written }

// Digest returns the digest of what was written so far.
func (w *Writer) Digest() digest.Digest { return digest.NewDigest(w.alg, w.hash) }

// File returns the temporary file, for reading back what was written.
func (w *Writer) File() *os.File { return w.f }

// Commit verifies the content against expected (empty: anything goes), makes
// it durable and visible, and returns its digest. A blob that is there
// already is left as it is. After an error nothing is left but, at worst, a
// temporary file.
func (w *Writer) Commit(expected digest.Digest) (digest.Digest, error) {
	defer w.Abort()
	if w.f == nil {
		return "", errors.New("blob is already committed")
	}
	if w.hashed != w.written {
		return "", fmt.Errorf("%w: %d bytes hashed, %d written", ErrMismatch, w.hashed, w.written)
	}
	d := w.Digest()
	if expected != "" && d != expected {
		return "", fmt.Errorf("%w: want %s, got %s", ErrMismatch, expected, d)
	}
	if err := w.ctx.Err(); err != nil {
		return "", err
	}
	if size, err := w.s.Size(d); err == nil && size == w.written {
		return d, nil
	}
	return d, w.publish(d)
}

func (w *Writer) publish(d digest.Digest) error {
	path, err := w.s.Path(d)
	if err != nil {
		return err
	}
	if err := w.f.Sync(); err != nil {
		return fmt.Errorf("sync blob %s: %w", d, err)
	}
	if err := os.Rename(w.f.Name(), path); err != nil {
		return fmt.Errorf("name blob %s: %w", d, err)
	}
	if !w.kept {
		if err := w.f.Close(); err != nil {
			return fmt.Errorf("close blob %s: %w", d, err)
		}
	}
	w.f = nil
	return SyncDir(filepath.Dir(path))
}

// Abort throws away what was written, unless it belongs to a [Partial].
func (w *Writer) Abort() {
	if w.f != nil && !w.kept {
		w.f.Close()
		os.Remove(w.f.Name()) // what stays behind is collected with the garbage
	}
	w.f = nil
}

// Put stores p and returns its digest.
func (s *Store) Put(ctx context.Context, p []byte) (digest.Digest, error) {
	w, err := s.Writer(ctx)
	if err != nil {
		return "", err
	}
	defer w.Abort()
	if _, err := w.Write(p); err != nil {
		return "", err
	}
	return w.Commit("")
}

// SyncDir makes the names in a folder durable.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync folder %s: %w", dir, err)
	}
	return nil
}
