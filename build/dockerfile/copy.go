package dockerfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/opencontainers/go-digest"

	"unio/build/place"
	"unio/build/source"
	"unio/imagestore"
)

// files is a COPY or an ADD.
type files struct {
	name string // of the instruction
	from string // --from; empty: the build context
	in   instructions.SourcesAndDest
	copy place.Copy // what does not depend on the state
	flag string     // all flags, for the key

	quick []string    // see change.quick
	open  []io.Closer // what was fetched
}

// copyOf reads a COPY whose variables have been replaced.
func copyOf(in *instructions.CopyCommand) *files {
	f := &files{name: "COPY", from: in.From, in: in.SourcesAndDest}
	f.copy = place.Copy{
		Chown: in.Chown, Chmod: in.Chmod, Link: in.Link, Parents: in.Parents, Exclude: in.ExcludePatterns,
	}
	f.flag = fmt.Sprintf("%q %q %t %t %q", in.Chown, in.Chmod, in.Link, in.Parents, in.ExcludePatterns)
	return f
}

// copy carries out a COPY or ADD.
func (r *stageRun) copy(ctx context.Context, before digest.Digest, f *files) error {
	c := &f.copy
	c.Sources, c.Dest, c.Workdir = f.in.SourcePaths, f.in.DestPath, r.s.config.WorkingDir
	c.Time = r.now()
	if r.o.Epoch != nil {
		c.Latest = *r.o.Epoch
	}
	for _, text := range f.in.SourceContents {
		t := source.Text{Name: text.Path, Content: text.Data, ModTime: r.now()}
		c.More = append(c.More, place.Part{Tree: source.OpenText(t), Name: t.Name})
	}
	if f.from == "" {
		c.From = r.o.Context
		return r.copyFrom(ctx, before, f)
	}
	chain, err := r.chain(ctx, f.from)
	if err != nil {
		return err
	}
	// What a layer holds never changes: its name says as much as its content,
	// and nothing has to be read to find the step again.
	quick := []string{"by chain", imagestore.StateID(chain).String(), f.text(), f.flag}
	if found, err := r.findQuick(ctx, before, quick); found || err != nil {
		return err
	}
	view, err := r.st.ViewOf(ctx, chain)
	if err != nil {
		return err
	}
	defer view.Close()
	c.From, c.Stage = source.OpenView(view), true
	f.quick = quick
	return r.copyFrom(ctx, before, f)
}

// text is the instruction without its flags.
func (f *files) text() string {
	return fmt.Sprintf("%s %q %q %q", f.name, f.from, f.in.SourcePaths, f.in.DestPath)
}

// copyFrom carries out a copy whose sources are open.
func (r *stageRun) copyFrom(ctx context.Context, before digest.Digest, f *files) error {
	c := &f.copy
	sum, err := c.Digest(ctx)
	if err != nil {
		return err
	}
	chown := ""
	if c.Chown != "" {
		chown = "--chown=" + c.Chown + " "
	}
	text := fmt.Sprintf("%s %s%s:%s in %s ", f.name, chown, f.kind(), sum.Encoded(), c.Dest)
	return r.commit(ctx, change{
		before: before, createdBy: r.comment(text), extra: []string{f.flag}, quick: f.quick,
		hidden: c.Chmod != "" || c.Link || c.Parents || len(c.Exclude) > 0,
		make: func(ctx context.Context) (digest.Digest, error) {
			return r.addLayerOver(ctx, func(below *imagestore.View, w io.Writer) error { return c.WriteTar(ctx, below, w) })
		},
	})
}

// kind is what docker's builder calls the sources in the history.
func (f *files) kind() string {
	list := f.in.SourcePaths
	if len(list) == 0 && len(f.copy.More) == 1 && f.copy.More[0].Name != "" {
		return "file"
	}
	if len(list) != 1 || len(f.copy.More) > 0 || source.HasWildcard(list[0]) {
		return "multi"
	}
	if f.copy.From != nil {
		if at, err := source.Resolve(f.copy.From, list[0]); err == nil {
			if e, err := f.copy.From.Lstat(at); err == nil && e.IsDir() {
				return "dir"
			}
		}
	}
	return "file"
}

// addLayerOver is addLayer for what looks at the layers below.
func (r *stageRun) addLayerOver(ctx context.Context, write func(*imagestore.View, io.Writer) error) (digest.Digest, error) {
	var view *imagestore.View
	if len(r.s.layers) > 0 {
		var err error
		if view, err = r.st.ViewOf(ctx, r.s.layers); err != nil {
			return "", err
		}
		defer view.Close()
	}
	return r.addLayer(ctx, func(w io.Writer) error { return write(view, w) })
}

// chain is the layers of what a --from names: a stage or an image.
func (r *stageRun) chain(ctx context.Context, from string) ([]digest.Digest, error) {
	i, err := r.plan.reference(from, r.stage.index)
	if err != nil {
		return nil, err
	}
	if i >= 0 {
		if !r.plan.stages[i].needed || i == r.stage.index {
			// Only a trigger of the base image can name a stage that nobody saw.
			return nil, bad("invalid from flag value %s: the stage is not built", from)
		}
		s, err := r.stageState(ctx, i)
		if err != nil {
			return nil, err
		}
		return s.layers, nil
	}
	img, err := r.image(ctx, from, r.o.Platform)
	if err != nil {
		return nil, &textError{fmt.Sprintf("invalid from flag value %s: %v", from, err), err}
	}
	return img.DiffIDs(), nil
}

// folderMode is that of what WORKDIR makes.
const folderMode = "0755"

// findFolder looks for a folder in the layers so far. All links are followed.
func (r *stageRun) findFolder(ctx context.Context, dir string) (view *imagestore.View, there bool, err error) {
	if view, err = r.st.ViewOf(ctx, r.s.layers); err != nil {
		return nil, false, err
	}
	below := source.OpenView(view)
	at, err := source.ResolveMissing(below, dir)
	if err != nil {
		return view, false, fmt.Errorf("working folder %s: %w", dir, err)
	}
	e, err := below.Lstat(at)
	if err == nil && !e.IsDir() {
		err = bad("Cannot mkdir: %s is not a directory", dir)
	} else if errors.Is(err, fs.ErrNotExist) {
		return view, false, nil
	}
	return view, err == nil, err
}

// checkFolder refuses a folder that is something else.
func (r *stageRun) checkFolder(ctx context.Context, dir string) error {
	view, _, err := r.findFolder(ctx, dir)
	if view != nil {
		err = errors.Join(err, view.Close())
	}
	return err
}

// makeFolder makes the layer of a folder that is missing, "" if it is there.
func (r *stageRun) makeFolder(ctx context.Context, dir string) (d digest.Digest, err error) {
	view, there, err := r.findFolder(ctx, dir)
	if view != nil {
		defer func() { err = errors.Join(err, view.Close()) }()
	}
	if there || err != nil {
		return "", err
	}
	c := place.Copy{
		More: []place.Part{{Tree: emptyFolder{}}}, Dest: strings.TrimSuffix(dir, "/") + "/",
		Chmod: folderMode, Time: r.now(),
	}
	if r.o.Epoch != nil {
		c.Latest = *r.o.Epoch
	}
	if _, err := c.Digest(ctx); err != nil {
		return "", err
	}
	return r.addLayer(ctx, func(w io.Writer) error { return c.WriteTar(ctx, view, w) })
}
