package imagestore

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// maxUploadNote bounds what is read of a note, in bytes.
const maxUploadNote = 64 << 10

// UploadNote remembers how far an upload to a registry has come, so that a
// push after a kill or a reboot goes on instead of beginning anew. It is a file
// in state/uploads that one process at a time has (flock). Losing it loses
// nothing but time; so it is not synced, and a damaged one counts as none.
type UploadNote struct{ f *os.File }

// UploadNote opens the note of an upload. what names it: registry, repository,
// blob and form. It returns nil if another process is at this upload.
func (s *Store) UploadNote(what string) (*UploadNote, error) {
	if err := os.MkdirAll(s.uploadsDir(), dirMode); err != nil {
		return nil, fmt.Errorf("open note of an upload: %w", err)
	}
	sum := sha256.Sum256([]byte(what))
	f, err := os.OpenFile(filepath.Join(s.uploadsDir(), hex.EncodeToString(sum[:])), os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, fmt.Errorf("open note of an upload: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
		return nil, f.Close()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock note of an upload: %w", err), f.Close())
	}
	return &UploadNote{f}, nil
}

// Read decodes what was written last into v, and reports whether there was
// anything.
func (n *UploadNote) Read(v any) bool {
	raw, err := io.ReadAll(io.NewSectionReader(n.f, 0, maxUploadNote))
	return err == nil && json.Unmarshal(raw, v) == nil
}

// Write replaces what is noted. A kill in the middle leaves no JSON, which
// counts as nothing.
func (n *UploadNote) Write(v any) error {
	raw, err := json.Marshal(v)
	if err == nil {
		err = n.f.Truncate(0)
	}
	if err == nil {
		_, err = n.f.WriteAt(raw, 0)
	}
	if err != nil {
		return fmt.Errorf("note upload: %w", err)
	}
	return nil
}

// Forget removes the note: the upload is done, or cannot go on.
func (n *UploadNote) Forget() error {
	if err := os.Remove(n.f.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget upload: %w", err)
	}
	return nil
}

// Close lets others have the note. One without any content goes.
func (n *UploadNote) Close() error {
	fi, err := n.f.Stat()
	if err == nil && fi.Size() == 0 {
		err = n.Forget()
	}
	return errors.Join(err, n.f.Close())
}

func (s *Store) uploadsDir() string { return filepath.Join(s.stateDir(), "uploads") }

// sweepUploads removes notes of uploads that nobody went on with: registries
// forget such sessions, too.
func (s *Store) sweepUploads(age time.Duration) (freed int64, err error) {
	freed, err = sweepFolder(s.uploadsDir(), func(name string) bool {
		fi, err := os.Stat(filepath.Join(s.uploadsDir(), name))
		return err == nil && time.Since(fi.ModTime()) < age
	})
	if errors.Is(err, fs.ErrNotExist) {
		return freed, nil
	}
	return freed, err
}
