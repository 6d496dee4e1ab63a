package build

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"unio/imagestore"
)

// ImportOptions describe an image to make of a root filesystem.
type ImportOptions struct {
	// Reader gives a tar, plain or compressed by gzip, zstd, bzip2 or xz.
	Reader io.Reader
	Size   int64  // of what Reader gives, bytes, for progress; 0: unknown
	From   string // where it comes from, for errors and the history: a path, a URL or "-"

	Name     string           // NAME[:TAG]; empty: the image has only its ID
	Message  string           // comment of the history; empty: "Imported from …"
	Changes  []string         // Dockerfile instructions, see [ApplyChanges]
	Platform ocispec.Platform // zero: Linux on this machine's architecture

	Progress imagestore.Progress // nil: silent
}

// Import makes an image of one layer. Errors: those of the store;
// [ErrChange]; imagestore.ErrInvalid for a bad name. Nothing refers to the
// new image before it is complete.
func Import(ctx context.Context, st *imagestore.Store, o ImportOptions) (*imagestore.Image, error) {
	a := imagestore.NewImage{}
	if o.Name != "" {
		if _, err := imagestore.ParseTag(o.Name); err != nil {
			return nil, err
		}
		a.Names = []string{o.Name}
	}
	c, err := o.config(time.Now().UTC())
	if err != nil {
		return nil, err
	}
	release, err := st.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	in := &sized{r: imagestore.ContextReader(ctx, o.Reader), size: o.Size, to: o.Progress}
	l, err := st.AddLayer(ctx, in, imagestore.LayerOptions{})
	if err != nil {
		return nil, fmt.Errorf("import %s: %w", o.From, err)
	}
	if in.n == 0 {
		return nil, fmt.Errorf("import %s: %w: there is nothing to read", o.From, imagestore.ErrInvalid)
	}
	c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, l.DiffID)
	a.Layers = []imagestore.Layer{l}
	if a.Config, err = json.Marshal(c); err != nil {
		return nil, fmt.Errorf("import %s: write config: %w", o.From, err)
	}
	return st.AddImage(ctx, a)
}

// config is the config of the new image, without the layer.
func (o *ImportOptions) config(now time.Time) (*imagestore.ImageConfig, error) {
	c := &imagestore.ImageConfig{Created: &now, Platform: o.Platform, RootFS: ocispec.RootFS{Type: "layers"}}
	if c.OS == "" {
		c.OS = "linux"
	}
	if c.Architecture == "" {
		c.Architecture = runtime.GOARCH
	}
	comment := o.Message
	if comment == "" {
		comment = "Imported from " + o.From
	}
	c.History = []ocispec.History{{Created: &now, Comment: comment}}
	return c, ApplyChanges(&c.Config.DockerOCIImageConfig, o.Changes)
}

// sized counts what is read and reports it.
type sized struct {
	r       io.Reader
	n, size int64
	to      imagestore.Progress
}

func (s *sized) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.n += int64(n)
	if s.to != nil {
		s.to.Update(imagestore.Event{ID: "import", Action: "Importing", Current: s.n, Total: s.size})
	}
	return n, err
}
