package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/urfave/cli/v2"

	"unio/build"
	"unio/imagestore"
	"unio/unionfs/dirlower"
	"unio/unionfs/merge"
)

func diffCommand() *cli.Command {
	return &cli.Command{
		Name:      "diff",
		Usage:     "Inspect changes to a container's filesystem, or compare two trees",
		ArgsUsage: "CONTAINER|DIR [OTHER]",
		Description: `With one argument: what a container changed, A added, C changed, D deleted.
With two: how the second differs from the first. Each is a container, an image, a layer
(sha256:… as inspect lists them), or a folder (with a slash in it). Files of images are
compared by their digests, which are computed once for each layer. A deleted folder is listed without what was in it.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "format", Usage: "Of two trees: \"table\", \"table TEMPLATE\", \"json\", or a Go\ntemplate"},
		},
		Before: rangeArgs(1, 2),
		Action: func(c *cli.Context) error {
			if c.NArg() == 2 {
				return diffTrees(c)
			}
			if c.IsSet("format") {
				return errors.New("--format is for a comparison of two: give another container, image, layer or folder")
			}
			return diffContainer(c)
		},
	}
}

func diffContainer(c *cli.Context) error {
	e := envOf(c)
	from, err := e.source(c.Context, c.Args().First())
	if err != nil {
		return err
	}
	st, err := e.store()
	if err != nil {
		return err
	}
	changes, err := build.Diff(c.Context, st, *from)
	if err != nil {
		return err
	}
	defer changes.Close()
	for _, change := range changes.List() {
		if _, err := fmt.Fprintf(e.stdout, "%c %s\n", change.Kind, change.Path); err != nil {
			return err
		}
	}
	return nil
}

func diffTrees(c *cli.Context) error {
	e := envOf(c)
	old, err := e.openTree(c.Context, c.Args().Get(0))
	if err != nil {
		return err
	}
	defer old.close()
	now, err := e.openTree(c.Context, c.Args().Get(1))
	if err != nil {
		return err
	}
	defer now.close()
	same, err := e.contents(c.Context, old, now)
	if err != nil {
		return err
	}
	var rows []any
	err = merge.Compare(c.Context, old, now, same, func(d merge.Difference) bool {
		rows = append(rows, &differenceRow{d})
		return true
	})
	if err != nil {
		return err
	}
	format := c.String("format")
	if format == "" {
		return printDifferences(e.stdout, rows)
	}
	l := &listing{
		standard: "{{.Kind}}\t{{.Path}}\t{{.Size}}\t{{.What}}",
		headers:  map[string]string{"Kind": "KIND", "Path": "PATH", "Size": "SIZE", "What": "WHAT", "Bytes": "BYTES"},
	}
	return l.print(e.stdout, format, false, rows)
}

// printDifferences prints the plain listing, without a template: it may have as
// many lines as a tree has files.
func printDifferences(w io.Writer, rows []any) error {
	out := bufio.NewWriter(w)
	for _, one := range rows {
		r := one.(*differenceRow)
		fmt.Fprintf(out, "%c %s", r.d.Kind, r.Path())
		if detail := r.Detail(); detail != "" {
			fmt.Fprintf(out, " (%s)", detail)
		}
		fmt.Fprintln(out)
	}
	return out.Flush()
}

// differenceRow is one difference; its methods are what templates may use.
type differenceRow struct{ d merge.Difference }

func (r *differenceRow) Kind() string { return string(r.d.Kind) }
func (r *differenceRow) Path() string { return printablePath(r.d.Path) }
func (r *differenceRow) What() string { return strings.Join(r.d.What, ",") }
func (r *differenceRow) Bytes() int64 { return r.d.Size }

// Size is how many bytes came or went, with a sign for what changed.
func (r *differenceRow) Size() string {
	switch {
	case r.d.Kind != 'C':
		return size(r.d.Size)
	case r.d.Size < 0:
		return "-" + size(-r.d.Size)
	}
	return "+" + size(r.d.Size)
}

// Detail is what the plain listing puts in brackets.
func (r *differenceRow) Detail() string {
	switch {
	case r.d.Kind == 'C' && r.d.Size != 0:
		return r.What() + ", " + r.Size()
	case r.d.Kind == 'C':
		return r.What()
	case r.d.Size > 0:
		return r.Size()
	}
	return ""
}

// printablePath keeps a path to one line of a terminal.
func printablePath(path string) string {
	if strings.ContainsFunc(path, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return fmt.Sprintf("%q", path)
	}
	return path
}

// tree is one side of a comparison.
type tree struct {
	merge.Lower
	build *build.Tree // nil: a folder
	close func() error
}

// contents knows files that need not be read to be compared.
func (e *env) contents(ctx context.Context, old, now *tree) (func(a, b merge.Ino) (same, known bool), error) {
	if old.build == nil || now.build == nil {
		return nil, nil
	}
	st, err := e.store()
	if err != nil {
		return nil, err
	}
	return build.CompareContents(ctx, st, old.build, now.build).Same, nil
}

// openTree opens what a word names: a folder, a container, an image or a
// layer.
func (e *env) openTree(ctx context.Context, name string) (*tree, error) {
	if fi, err := os.Stat(name); err == nil && fi.IsDir() && strings.ContainsRune(name, '/') || name == "." || name == ".." {
		return openFolder(name)
	}
	st, err := e.store()
	if err != nil {
		return nil, err
	}
	t, err := e.openStored(ctx, st, name)
	if err != nil {
		return nil, err
	}
	return &tree{Lower: t, build: t, close: t.Close}, nil
}

func (e *env) openStored(ctx context.Context, st *imagestore.Store, name string) (*build.Tree, error) {
	if d := digest.Digest(name); d.Validate() == nil && st.HasLayer(d) {
		return build.LayersTree(ctx, st, d)
	}
	found, err := e.findTarget(ctx, name)
	if err != nil {
		return nil, err
	}
	if found.image != nil {
		return build.LayersTree(ctx, st, found.image.DiffIDs()...)
	}
	src, err := e.source(ctx, found.container.ID)
	if err != nil {
		return nil, err
	}
	return build.ContainerTree(ctx, st, *src)
}

func openFolder(name string) (*tree, error) {
	path, err := filepath.Abs(name)
	if err != nil {
		return nil, err
	}
	t, err := dirlower.Open(dirlower.Options{Dirs: []string{path}, Root: os.Geteuid() == 0, HostOwners: true})
	if err != nil {
		return nil, err
	}
	return &tree{Lower: t, close: t.Close}, nil
}
