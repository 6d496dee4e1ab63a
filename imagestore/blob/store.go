// Package blob keeps content-addressed files: each is named by the digest of
// its bytes, as in an OCI image layout (image-layout.md, "Blobs"):
//
//	ROOT/blobs/sha256/<hex>
//
// A blob is either there, whole and durable, or not there at all: it is
// written to a temporary file, hashed on the way, synced, renamed to its name,
// and the folder is synced. What a crash leaves behind are temporary files,
// which [Store.RemoveTemp] collects. A digest is checked before a path is made
// of it, so no digest, whoever sent it, names a file elsewhere.
//
// The package does not know what blobs mean, nor which are still needed, and
// takes no locks: package imagestore does.
package blob

import (
	"bytes"
	// The hash functions that digests may name.
	_ "crypto/sha256"
	_ "crypto/sha512"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Sentinels, for errors.Is.
var (
	// ErrNotFound says that the store has no such blob.
	ErrNotFound = errors.New("blob not found")
	// ErrDigest says that a digest is malformed or of an unknown algorithm.
	ErrDigest = errors.New("bad digest")
	// ErrMismatch says that content is not what its digest or size promised.
	ErrMismatch = errors.New("content does not match its digest")
	// ErrExist says that another has finished the blob meanwhile.
	ErrExist = errors.New("blob exists")
	// ErrTooBig says that a blob is larger than the reader allows.
	ErrTooBig = errors.New("blob too big")
)

const (
	dirMode  = 0o700
	fileMode = 0o600
)

// Store is a folder of blobs. It has no state of its own and may be used by
// several goroutines and processes at once.
type Store struct {
	dir string // holds one folder per algorithm
	tmp string // temporary files, on the same filesystem
}

// Open opens the blobs below root, creating ROOT/blobs/sha256 and the folder
// for temporary files where they are missing.
func Open(root, tmp string) (*Store, error) {
	s := &Store{dir: filepath.Join(root, "blobs"), tmp: tmp}
	for _, d := range []string{filepath.Join(s.dir, string(digest.SHA256)), tmp} {
		if err := os.MkdirAll(d, dirMode); err != nil {
			return nil, fmt.Errorf("create blob folder: %w", err)
		}
	}
	return s, nil
}

// Check tells whether d is a digest that this store can hold: sha256 or
// sha512, with the right number of lower-case hex digits. Errors wrap
// [ErrDigest]. A mount asks for every layer several times, so it is done without
// the regular expression that a digest's own Validate takes.
func Check(d digest.Digest) error {
	name, hex, _ := strings.Cut(string(d), ":")
	a := digest.Algorithm(name)
	if a != digest.SHA256 && a != digest.SHA512 {
		return fmt.Errorf("%w: algorithm of %q", ErrDigest, string(d))
	}
	if len(hex) != 2*a.Size() || strings.Trim(hex, "0123456789abcdef") != "" {
		return fmt.Errorf("%w: %q", ErrDigest, string(d))
	}
	return nil
}

// Path returns where the blob lies, or would lie.
func (s *Store) Path(d digest.Digest) (string, error) {
	if err := Check(d); err != nil {
		return "", err
	}
	name, hex, _ := strings.Cut(string(d), ":") // both checked: nothing for Join to clean
	return s.dir + "/" + name + "/" + hex, nil
}

// Size returns the length of a blob in bytes, or [ErrNotFound].
func (s *Store) Size(d digest.Digest) (int64, error) {
	path, err := s.Path(d)
	if err != nil {
		return 0, err
	}
	fi, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, fmt.Errorf("%w: %s", ErrNotFound, d)
	case err != nil:
		return 0, fmt.Errorf("look for blob: %w", err)
	case !fi.Mode().IsRegular():
		return 0, fmt.Errorf("%w: %s is not a regular file", ErrMismatch, d)
	}
	return fi.Size(), nil
}

// Has reports whether the blob is there. Its content is not read.
func (s *Store) Has(d digest.Digest) bool {
	_, err := s.Size(d)
	return err == nil
}

// Blob is an open blob. The embedded file is for ReadAt, and for copying from
// its descriptor.
type Blob struct {
	*os.File
	size int64
}

// Size returns the length in bytes.
func (b *Blob) Size() int64 { return b.size }

// Open opens a blob for reading. The content is not verified; [Store.Verify]
// does that.
func (s *Store) Open(d digest.Digest) (*Blob, error) {
	size, err := s.Size(d)
	if err != nil {
		return nil, err
	}
	path, err := s.Path(d)
	if err != nil {
		return nil, err
	}
	// os.Open would offer the file to the runtime's poller, which takes none on
	// a disk: five system calls more, for each layer of a mount.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	for err == unix.EINTR {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	}
	if err == unix.ENOENT {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, d)
	}
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", path, err)
	}
	return &Blob{File: os.NewFile(uintptr(fd), path), size: size}, nil
}

// ReadAll returns the whole of a blob of at most limit bytes, verified.
// Errors: [ErrNotFound], [ErrTooBig], [ErrMismatch].
func (s *Store) ReadAll(d digest.Digest, limit int64) ([]byte, error) {
	b, err := s.Open(d)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	if b.size > limit {
		return nil, fmt.Errorf("%w: %s has %d bytes, at most %d are allowed", ErrTooBig, d, b.size, limit)
	}
	p, err := ReadSized(b, b.size, limit+1)
	if err != nil {
		return nil, fmt.Errorf("read blob %s: %w", d, err)
	}
	if d.Algorithm().FromBytes(p) != d {
		return nil, fmt.Errorf("%w: %s", ErrMismatch, d)
	}
	return p, nil
}

// ReadSized reads a file that should have size bytes, all of it but no more than
// limit bytes: of a file of another size what there is. It takes two calls.
func ReadSized(r io.Reader, size, limit int64) ([]byte, error) {
	buf := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead))
	_, err := buf.ReadFrom(io.LimitReader(r, limit))
	return buf.Bytes(), err
}

// Verify reads a whole blob and compares it with its digest.
func (s *Store) Verify(d digest.Digest) error {
	b, err := s.Open(d)
	if err != nil {
		return err
	}
	defer b.Close()
	v := d.Verifier()
	if _, err := io.CopyBuffer(v, onlyReader{b}, make([]byte, 1<<20)); err != nil {
		return fmt.Errorf("read blob %s: %w", d, err)
	}
	if !v.Verified() {
		return fmt.Errorf("%w: %s", ErrMismatch, d)
	}
	return nil
}

// onlyReader hides WriteTo, which would ignore the caller's buffer.
type onlyReader struct{ io.Reader }

// Remove deletes a blob. One that is not there is no error.
func (s *Store) Remove(d digest.Digest) error {
	path, err := s.Path(d)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove blob: %w", err)
	}
	return nil
}

// Info describes one file found by [Store.Walk].
type Info struct {
	Digest digest.Digest // empty when the file's name is no digest
	Path   string
	Size   int64
}

// Walk yields every file in the blob folders, also those that do not belong
// there (with an empty Digest). It stops at the first error.
func (s *Store) Walk() iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
			if !s.walkFolder(alg, yield) {
				return
			}
		}
	}
}

func (s *Store) walkFolder(alg digest.Algorithm, yield func(Info, error) bool) bool {
	dir := filepath.Join(s.dir, string(alg))
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	if err != nil {
		return yield(Info{}, fmt.Errorf("read blob folder: %w", err))
	}
	for _, e := range entries {
		info := Info{Path: filepath.Join(dir, e.Name())}
		if d := digest.NewDigestFromEncoded(alg, e.Name()); Check(d) == nil && e.Type().IsRegular() {
			info.Digest = d
		}
		fi, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			info.Size = fi.Size()
		}
		if !yield(info, err) {
			return false
		}
	}
	return true
}

// Temps returns the temporary files that are there, those of running writers
// included; unfinished blobs that a later writer goes on with are none.
func (s *Store) Temps() ([]Info, error) {
	entries, err := os.ReadDir(s.tmp)
	if err != nil {
		return nil, fmt.Errorf("read temporary folder: %w", err)
	}
	var list []Info
	for _, e := range entries {
		fi, err := e.Info()
		if err != nil || isPartial(e.Name()) {
			continue // gone meanwhile: a writer has finished
		}
		list = append(list, Info{Path: filepath.Join(s.tmp, e.Name()), Size: fi.Size()})
	}
	return list, nil
}

// RemoveTemp deletes the temporary files, except unfinished blobs that were
// written to within the time given, and returns how many bytes of disk that
// freed. The caller makes sure that nobody is writing.
func (s *Store) RemoveTemp(partials time.Duration) (int64, error) {
	entries, err := os.ReadDir(s.tmp)
	if err != nil {
		return 0, fmt.Errorf("read temporary folder: %w", err)
	}
	var freed int64
	var errs []error
	for _, e := range entries {
		fi, err := e.Info()
		if err != nil || isPartial(e.Name()) && time.Since(fi.ModTime()) < partials {
			continue
		}
		if err := os.RemoveAll(filepath.Join(s.tmp, e.Name())); err != nil {
			errs = append(errs, err)
			continue
		}
		if st, ok := fi.Sys().(*syscall.Stat_t); ok {
			freed += st.Blocks * 512 // its unit, whatever the filesystem (stat(2))
		}
	}
	return freed, errors.Join(errs...)
}
