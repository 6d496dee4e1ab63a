package source

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"unio/imagestore"
	"unio/imagestore/layer"
	"unio/unionfs/merge"
	"unio/whiteout"
)

// Tar is the tree of a tar archive. Its bytes are in a file without a name
// until it is closed; no file of it is ever made on the host.
type Tar struct {
	Tree
	data *os.File
}

// OpenTar reads a tar, plain or compressed with gzip, bzip2, xz or zstd, to its
// end. Names that lead above the root stay at the root, and a later entry
// takes the place of an earlier one of the same name. Errors wrap ErrInvalid
// or those of imagestore for what is damaged or grows beyond all measure.
func OpenTar(ctx context.Context, r io.Reader, o Options) (_ *Tar, err error) {
	plain, err := imagestore.GuardedDecompress(imagestore.ContextReader(ctx, r))
	if err != nil {
		return nil, fmt.Errorf("read archive: %w", err)
	}
	defer plain.Close()
	data, err := tempFile(o.Temp)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, data.Close())
		}
	}()
	index, err := layer.Scan(ctx, io.TeeReader(plain, data), layer.Limits{})
	if err != nil {
		return nil, fmt.Errorf("%w: archive: %w", ErrInvalid, err)
	}
	defer index.Close()
	view, err := viewOf(index, data)
	if err != nil {
		return nil, err
	}
	t := &Tar{Tree: OpenLower(view), data: data}
	if !o.KeepOwners {
		t.Tree = rootOwned{t.Tree}
	}
	t.Tree, err = Filter(t.Tree, o.Ignore)
	return t, err
}

// Close removes the file that holds the bytes.
func (t *Tar) Close() error { return t.data.Close() }

// viewOf makes a tree of one tar. A name that readers of layers take for a
// whiteout cannot go into an image.
func viewOf(index *layer.Index, data io.ReaderAt) (merge.Lower, error) {
	for e := range index.Entries() {
		if e.Whiteout != whiteout.None || e.Opaque {
			return nil, fmt.Errorf("archive: whiteout in /%s: %w", e.Path, layer.ErrReservedName)
		}
	}
	if err := index.Err(); err != nil {
		return nil, err
	}
	view, err := layer.BuildView([]*layer.Index{index})
	if err != nil {
		return nil, fmt.Errorf("%w: archive: %w", ErrInvalid, err)
	}
	return view.Open([]io.ReaderAt{data})
}

// tempFile makes a file that goes away with its last descriptor.
func tempFile(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "unio-build-")
	if err != nil {
		return nil, fmt.Errorf("keep archive: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// IsTar reports whether a file of a tree is a tar, plain or compressed: what
// ADD unpacks. Like docker it looks at the content, not at the name.
func IsTar(t Tree, name string) bool {
	f, err := t.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	plain, _, err := imagestore.Decompress(f)
	if err != nil {
		return false
	}
	defer plain.Close()
	_, err = tar.NewReader(plain).Next()
	return err == nil
}

// rootOwned shows a tree as root's, as files of a build context are.
type rootOwned struct{ Tree }

func (r rootOwned) Lstat(name string) (Entry, error) {
	e, err := r.Tree.Lstat(name)
	e.UID, e.GID = 0, 0
	return e, err
}

func (r rootOwned) ReadDir(name string) ([]Entry, error) {
	list, err := r.Tree.ReadDir(name)
	for i := range list {
		list[i].UID, list[i].GID = 0, 0
	}
	return list, err
}
