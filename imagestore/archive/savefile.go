package archive

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

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

// WriteFile gives whatever write writes a file as [SaveFile] does. A process
// that is killed leaves nothing where the filesystem knows files without a name
// (O_TMPFILE, open(2)), but for the instant in which a file that is there is
// replaced, and a file ".unio-save-…" elsewhere.
func WriteFile(path string, write func(io.Writer) error) error {
	if err := CheckOutput(path); err != nil {
		return err
	}
	o, err := createOutput(path)
	if err != nil {
		return err
	}
	err = write(o.File)
	if err == nil {
		err = o.Sync()
	}
	if err == nil {
		err = o.publish()
	}
	if o.named {
		_ = os.Remove(o.Name()) // fails after the rename, as it should
	}
	if cerr := o.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return blob.SyncDir(filepath.Dir(path))
}

const tempPattern = ".unio-save-*"

// output is a file that does not have its name yet.
type output struct {
	*os.File
	path  string // what it will be
	named bool   // it has a name that has to go
}

func createOutput(path string) (*output, error) {
	o := &output{path: path}
	dir := filepath.Dir(path)
	var err error
	if o.File, err = os.OpenFile(dir, unix.O_TMPFILE|os.O_WRONLY, 0o600); err != nil {
		o.named = true
		o.File, err = os.CreateTemp(dir, tempPattern) // mode 0600
	}
	return o, err
}

// publish gives the file its name. A link replaces nothing, so a file without
// any name gets a passing one first where another file is to be replaced.
func (o *output) publish() error {
	if o.named {
		return os.Rename(o.Name(), o.path)
	}
	err := o.link(o.path)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	name := filepath.Join(filepath.Dir(o.path), strings.ReplaceAll(tempPattern, "*", rand.Text()))
	if err := o.link(name); err != nil {
		return err
	}
	return os.Rename(name, o.path)
}

// link gives a file of O_TMPFILE a name, as open(2) describes it.
func (o *output) link(path string) error {
	old := fmt.Sprintf("/proc/self/fd/%d", o.Fd())
	if err := unix.Linkat(unix.AT_FDCWD, old, unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW); err != nil {
		return &os.LinkError{Op: "link", Old: old, New: path, Err: err}
	}
	return nil
}

// CheckOutput refuses what docker refuses, in its words.
func CheckOutput(path string) error {
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
