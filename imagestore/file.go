package imagestore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"unio/imagestore/blob"
)

// writeFile replaces a file of the store, atomically and durably.
func (s *Store) writeFile(path string, p []byte) error {
	return s.writeFrom(path, bytes.NewReader(p))
}

// writeFrom is writeFile for what writes itself, like an index.
func (s *Store) writeFrom(path string, src io.WriterTo) error {
	release, err := s.lockTemp(unix.LOCK_SH)
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	defer release()
	temp, err := s.writeTemp(src)
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	if err := os.Rename(temp, path); err != nil {
		os.Remove(temp)
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return blob.SyncDir(filepath.Dir(path))
}

// writeNew is writeFile for a file that must not be there yet; if it is, it
// stays as it is.
func (s *Store) writeNew(path string, p []byte) error {
	release, err := s.lockTemp(unix.LOCK_SH)
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	defer release()
	temp, err := s.writeTemp(bytes.NewReader(p))
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	defer os.Remove(temp)
	if err := os.Link(temp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return blob.SyncDir(filepath.Dir(path))
}

// writeTemp writes and syncs a temporary file, mode 0600, and returns its
// path.
func (s *Store) writeTemp(src io.WriterTo) (path string, err error) {
	f, err := os.CreateTemp(s.tempDir(), "file-*")
	if err != nil {
		return "", err
	}
	_, err = src.WriteTo(f)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

// readLimited reads a file of at most limit bytes.
func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	p, err := blob.ReadSized(f, min(st.Size(), limit), limit+1)
	if err == nil && int64(len(p)) > limit {
		err = fmt.Errorf("%w: %s is larger than %d bytes", ErrInvalid, filepath.Base(path), limit)
	}
	return p, err
}
