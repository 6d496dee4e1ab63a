package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"unio/build/source"
	"unio/imagestore"
)

// maxDockerfile bounds the size of a Dockerfile, in bytes.
const maxDockerfile = 64 << 20

// defaultDockerfile is the name of the Dockerfile if -f gives none.
const defaultDockerfile = "Dockerfile"

// buildContext is what a build reads.
type buildContext struct {
	tree       source.Tree // nil: nothing but the Dockerfile
	dockerfile []byte
	name       string // of the Dockerfile, for messages
	closers    []io.Closer
}

func (b *buildContext) close() {
	for _, c := range b.closers {
		c.Close()
	}
}

// openBuildContext opens what the command's argument names: a folder, a tar, a
// URL, or "-" for a tar or a Dockerfile on stdin.
func openBuildContext(c *cli.Context) (*buildContext, error) {
	b := &buildContext{}
	arg, file := c.Args().First(), c.String("file")
	err := b.open(c, arg, file)
	if err == nil && len(b.dockerfile) == 0 {
		err = fmt.Errorf("the Dockerfile (%s) cannot be empty", b.name)
	}
	if err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *buildContext) open(c *cli.Context, arg, file string) error {
	e := envOf(c)
	switch {
	case arg == "-" && file == "-":
		return errors.New("invalid argument: can't use stdin for both build context and dockerfile")
	case arg == "-":
		return b.fromStream(c.Context, e.stdin, file)
	case source.IsGit(arg):
		return b.fromGit(c.Context, arg, file)
	case isURL(arg):
		return b.fromURL(c.Context, arg, file)
	}
	st, err := os.Stat(arg)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("unable to prepare context: path %q not found", arg)
	case err != nil:
		return fmt.Errorf("unable to prepare context: %w", err)
	case st.Mode().IsRegular():
		return b.fromFile(c.Context, arg, file)
	case !st.IsDir():
		return fmt.Errorf("unable to prepare context: context must be a directory: %s", arg)
	}
	return b.fromFolder(e.stdin, arg, file)
}

func isURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https")
}

// fromGit checks a commit out.
func (b *buildContext) fromGit(ctx context.Context, remote, file string) error {
	g, err := source.OpenGit(ctx, remote, source.Options{})
	if err != nil {
		return fmt.Errorf("unable to prepare context: %w", err)
	}
	b.closers = append(b.closers, g)
	return b.fromTree(g, file)
}

func (b *buildContext) fromURL(ctx context.Context, arg, file string) error {
	u, err := url.Parse(arg)
	if err != nil {
		return err
	}
	body, _, err := openURL(ctx, u)
	if err != nil {
		return fmt.Errorf("unable to prepare context: %w", err)
	}
	defer body.Close()
	return b.fromStream(ctx, body, file)
}

func (b *buildContext) fromFile(ctx context.Context, path, file string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("unable to prepare context: %w", err)
	}
	defer f.Close()
	return b.fromStream(ctx, f, file)
}

// fromStream reads a tar, or else a Dockerfile without a context.
func (b *buildContext) fromStream(ctx context.Context, r io.Reader, file string) error {
	const magic = 512 // one block of a tar
	in := bufio.NewReaderSize(r, 64<<10)
	head, err := in.Peek(magic)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("failed to peek context header from STDIN: %w", err)
	}
	if !isArchive(head) {
		b.name = defaultDockerfile
		b.dockerfile, err = readDockerfile(in)
		return err
	}
	raw, err := source.OpenTar(ctx, in, source.Options{})
	if err != nil {
		return fmt.Errorf("unable to prepare context: %w", err)
	}
	b.closers = append(b.closers, raw)
	return b.fromTree(raw, file)
}

// isArchive reports whether a stream begins as a tar or as something
// compressed does.
func isArchive(head []byte) bool {
	if imagestore.DetectCompression(head) != imagestore.Uncompressed {
		return true
	}
	const at, ustar = 257, "ustar" // POSIX.1, ustar interchange format
	return len(head) > at+len(ustar) && string(head[at:at+len(ustar)]) == ustar
}

func readDockerfile(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxDockerfile+1))
	if err == nil && len(data) > maxDockerfile {
		err = fmt.Errorf("the Dockerfile is larger than %d bytes", maxDockerfile)
	}
	return data, err
}

// fromTree finds the Dockerfile in the context itself.
func (b *buildContext) fromTree(tree source.Tree, file string) (err error) {
	b.name = file
	if file == "" {
		b.name = defaultDockerfile
	}
	b.dockerfile, err = source.ReadFile(tree, b.name, maxDockerfile)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("Cannot locate specified Dockerfile: %s", b.name)
	}
	if err != nil {
		return err
	}
	patterns, err := source.ReadIgnore(tree, b.name)
	if err != nil {
		return err
	}
	b.tree, err = source.Filter(tree, patterns)
	return err
}

// fromFolder opens a folder. A Dockerfile that -f names is looked for from
// where the user stands, and may lie elsewhere.
func (b *buildContext) fromFolder(stdin io.Reader, dir, file string) (err error) {
	inContext := ""
	switch file {
	case "-":
		b.name = "-"
		b.dockerfile, err = readDockerfile(stdin)
	case "":
		b.name, inContext = defaultDockerfile, defaultDockerfile
		b.dockerfile, err = readDockerfileAt(filepath.Join(dir, defaultDockerfile))
	default:
		b.name = filepath.Base(file)
		b.dockerfile, err = readDockerfileAt(file)
		inContext = within(dir, file)
	}
	if err != nil {
		return err
	}
	raw, err := source.OpenFolder(dir, source.Options{})
	if err != nil {
		return fmt.Errorf("unable to prepare context: %w", err)
	}
	defer raw.Close()
	o := source.Options{}
	if o.Ignore, err = source.ReadIgnore(raw, inContext); err != nil {
		return err
	}
	tree, err := source.OpenFolder(dir, o)
	if err != nil {
		return fmt.Errorf("unable to prepare context: %w", err)
	}
	b.closers = append(b.closers, tree)
	b.tree = tree
	return nil
}

// within is the name of a file in a folder; "" if it lies elsewhere.
func within(dir, file string) string {
	absDir, err1 := filepath.Abs(dir)
	absFile, err2 := filepath.Abs(file)
	rel, err := filepath.Rel(absDir, absFile)
	if errors.Join(err1, err2, err) != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return ""
	}
	return rel
}

// readDockerfileAt reads a Dockerfile of the host. The words are those of
// docker's client.
func readDockerfileAt(path string) ([]byte, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(abs)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("unable to prepare context: unable to evaluate symlinks in Dockerfile path: lstat %s: no such file or directory", abs)
	}
	if err != nil {
		return nil, fmt.Errorf("unable to prepare context: %w", err)
	}
	defer f.Close()
	return readDockerfile(f)
}
