package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"unio/imagestore"
)

// folderBox is an image layout, or an unpacked docker archive, in a folder.
// Links that lead out of the folder are refused.
type folderBox struct {
	st   *imagestore.Store
	root *os.Root
}

func openFolder(st *imagestore.Store, dir string) (*folderBox, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &folderBox{st: st, root: root}, nil
}

// find opens a regular file. A FIFO or device must not make us wait, hence
// the look before.
func (b *folderBox) find(name string) (*os.File, int64, error) {
	fi, err := b.root.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, missing(name)
	}
	if err != nil {
		return nil, 0, err
	}
	if !fi.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%w: %s is not a regular file", imagestore.ErrInvalid, name)
	}
	f, err := b.root.Open(name)
	return f, fi.Size(), err
}

func (b *folderBox) has(name string) bool {
	_, err := b.root.Stat(name)
	return err == nil
}

func (b *folderBox) metadata(name string) ([]byte, error) {
	f, size, err := b.find(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readMetadata(name, f, size)
}

func (b *folderBox) layer(ctx context.Context, name string, o imagestore.LayerOptions) (imagestore.Layer, error) {
	f, size, err := b.find(name)
	if err != nil {
		return imagestore.Layer{}, err
	}
	defer f.Close()
	if o.Size == 0 {
		o.Size = size
	}
	return b.st.AddLayer(ctx, f, o)
}

func (b *folderBox) parallel() int { return min(runtime.NumCPU(), maxParallel) }

func (b *folderBox) Close() error { return b.root.Close() }
