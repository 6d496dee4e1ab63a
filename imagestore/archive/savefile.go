package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"unio/imagestore"
	"unio/imagestore/blob"
)

// SaveFile is [Save] into a file, mode 0600, that appears under its name when
// it is whole and on disk, and not at all after an error. A file that is
// there is replaced. A path that names something else, a folder, device or
// pipe, is refused, as is one in a folder that is not there.
func SaveFile(ctx context.Context, st *imagestore.Store, names []string, path string, o SaveOptions) error {
	return WriteFile(path, func(w io.Writer) error { return Save(ctx, st, names, w, o) })
}

// WriteFile gives whatever write writes a file as [SaveFile] does.
func WriteFile(path string, write func(io.Writer) error) error {
	if err := checkOutput(path); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".unio-save-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails after the rename, as it should
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return blob.SyncDir(filepath.Dir(path))
}

// checkOutput refuses what docker refuses, in its words.
func checkOutput(path string) error {
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return fmt.Errorf("invalid output path: %w", err)
	}
	fi, err := os.Stat(path)
	if err != nil {
		return nil // there is nothing yet
	}
	switch mode := fi.Mode(); {
	case mode.IsDir():
		return errors.New("cannot write to a directory")
	case mode&fs.ModeCharDevice != 0:
		return errors.New("cannot write to a character device file")
	case !mode.IsRegular():
		return fmt.Errorf("cannot write to %s: it is not a regular file", path)
	}
	return nil
}
