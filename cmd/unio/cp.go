package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/docker/go-units"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"unio/container/inroot"
	"unio/container/treetar"
)

func cpCommand() *cli.Command {
	return &cli.Command{
		Name:      "cp",
		Usage:     "Copy files/folders between a container and the local filesystem",
		ArgsUsage: "CONTAINER:SRC_PATH DEST_PATH|-\n\tunio cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
		Description: `Use '-' as the source to read a tar archive from stdin
and extract it to a directory destination in a container.
Use '-' as the destination to stream a tar archive of a
container source to stdout.`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "archive", Aliases: []string{"a"}, Usage: "Archive mode (copy all uid/gid information)"},
			&cli.BoolFlag{Name: "follow-link", Aliases: []string{"L"}, Usage: "Always follow symbol link in SRC_PATH"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "Suppress progress output during copy. Progress output is\nautomatically suppressed if no terminal is attached"},
		},
		Before: exactArgs(2),
		Action: copyFiles,
	}
}

// copyFiles is docker's cp: what is copied to where depends on what is there.
func copyFiles(c *cli.Context) error {
	from, to := splitCopy(c.Args().Get(0)), splitCopy(c.Args().Get(1))
	k := &copier{e: envOf(c), follow: c.Bool("follow-link"), quiet: c.Bool("quiet")}
	switch {
	case from.container != "" && to.container != "":
		return plainly(errors.New("copying between containers is not supported"))
	case from.container != "":
		return k.fromContainer(c.Context, from, to.path)
	case to.container != "":
		return k.toContainer(c.Context, from.path, to)
	}
	return plainly(errors.New("must specify at least one container source"))
}

// copyPlace is one end of a copy.
type copyPlace struct {
	container string // empty: on this machine
	path      string
}

// splitCopy reads CONTAINER:PATH. What begins with / or . is a local path,
// whatever else it holds.
func splitCopy(arg string) copyPlace {
	name, rest, ok := strings.Cut(arg, ":")
	if filepath.IsAbs(arg) || !ok || strings.HasPrefix(name, ".") {
		return copyPlace{path: arg}
	}
	return copyPlace{container: name, path: rest}
}

// copier is one run of cp.
type copier struct {
	e             *env
	follow, quiet bool
	moved         int64 // bytes
}

// side is one end of a copy that is open: a root folder that is never left,
// and a path in it.
type side struct {
	root int
	// devices are the filesystems of what is copied with a folder; nil: all.
	devices []uint64
	path    string // absolute, inside of root, as the user wrote it at the end
	st      unix.Stat_t
	gone    bool // nothing is there
}

// look finds out what is there. A link at the end is looked through if follow
// says so.
func (s *side) look(follow bool) error {
	flags := uint64(unix.O_PATH)
	if !follow {
		flags |= unix.O_NOFOLLOW
	}
	fd, err := inroot.Open(s.root, s.path, flags)
	if errors.Is(err, unix.ENOENT) {
		s.gone = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("lstat %s: %w", s.path, err)
	}
	defer unix.Close(fd)
	return unix.Fstat(fd, &s.st)
}

func (s *side) isDir() bool { return !s.gone && s.st.Mode&unix.S_IFMT == unix.S_IFDIR }

// contentsOnly reports whether a source means what is in the folder, not the
// folder itself.
func (s *side) contentsOnly() bool { return strings.HasSuffix(s.path, "/.") || s.path == "." }

// mustBeDir reports whether a path says by its end that it is a folder.
func mustBeDir(name string) bool {
	return strings.HasSuffix(name, "/") || strings.HasSuffix(name, "/.")
}

// errNoFolder is docker's text.
var errNoFolder = errors.New("no such directory")

// copyTarget decides where a source goes: the folder that takes it, and the name
// it gets there; "." for the contents of a folder.
func copyTarget(from, to *side, toPath string) (dir, name string, err error) {
	clean := path.Clean("/" + to.path)
	switch {
	case to.gone && !from.isDir() && mustBeDir(toPath):
		return "", "", plainly(errNoFolder)
	case to.gone:
		return path.Dir(clean), path.Base(clean), nil
	case to.isDir() && from.isDir() && from.contentsOnly():
		return clean, ".", nil
	case to.isDir():
		return clean, path.Base(path.Clean("/" + from.path)), nil
	case from.isDir():
		return "", "", plainly(errors.New("cannot copy directory"))
	case mustBeDir(toPath):
		return "", "", plainly(errors.New("not a directory"))
	}
	return path.Dir(clean), path.Base(clean), nil
}

// fromContainer copies out of a container to a local path or, as a tar, to the
// standard output.
func (k *copier) fromContainer(ctx context.Context, from copyPlace, local string) error {
	if local != "-" {
		abs, err := filepath.Abs(local)
		if err != nil {
			return err
		}
		dir := filepath.Dir(abs)
		if st, err := os.Stat(dir); err != nil || !st.IsDir() {
			return plainly(fmt.Errorf("invalid output path: directory %q does not exist", dir))
		}
	}
	src, leave, err := k.e.openSide(ctx, from)
	if err != nil {
		return err
	}
	defer leave()
	if err := src.look(k.follow); err != nil {
		return err
	}
	if src.gone {
		return fmt.Errorf("Could not find the file %s in container %s", from.path, from.container) //lint:ignore ST1005 docker's words
	}
	o := treetar.WriteOptions{Root: src.root, Path: src.path, Follow: k.follow, Devices: src.devices}
	if local == "-" {
		if isTerminal(k.e.stdout) {
			return plainly(errors.New("cowardly refusing to save to a terminal. Use the -o flag or redirect"))
		}
		if o.Name = path.Base(path.Clean("/" + src.path)); src.contentsOnly() || o.Name == "/" {
			o.Name = "."
		}
		return treetar.Write(ctx, o, k.e.stdout)
	}
	return k.toLocal(ctx, src, o, local)
}

// toLocal writes below a local folder, which links in what comes do not leave.
func (k *copier) toLocal(ctx context.Context, src *side, o treetar.WriteOptions, local string) error {
	abs, err := filepath.Abs(local)
	if err != nil {
		return err
	}
	host, err := inroot.Dir("/")
	if err != nil {
		return err
	}
	defer unix.Close(host)
	dst := &side{root: host, path: abs}
	if err := dst.look(true); err != nil {
		return err
	}
	dir, name, err := copyTarget(src, dst, local)
	if err != nil {
		return err
	}
	root, err := inroot.Dir(dir)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	o.Name = name
	x := treetar.ExtractOptions{Root: root, Path: "/", Uid: os.Geteuid(), Gid: os.Getegid()}
	return k.pipe(ctx, o, x, local)
}

// toContainer copies a local path or, as a tar, the standard input into a
// container.
func (k *copier) toContainer(ctx context.Context, local string, to copyPlace) error {
	dst, leave, err := k.e.openSide(ctx, to)
	if err != nil {
		return err
	}
	defer leave()
	if err := dst.look(true); err != nil {
		return err
	}
	if local == "-" {
		if !dst.isDir() {
			return plainly(fmt.Errorf("destination \"%s:%s\" must be a directory", to.container, to.path))
		}
		return treetar.Extract(ctx, treetar.ExtractOptions{Root: dst.root, Path: dst.path, Owners: true}, k.e.stdin)
	}
	abs, err := filepath.Abs(local)
	if err != nil {
		return err
	}
	if mustBeDir(local) && !strings.HasSuffix(abs, "/") {
		abs += local[len(strings.TrimRight(local, "/.")):]
	}
	host, err := inroot.Dir("/")
	if err != nil {
		return err
	}
	defer unix.Close(host)
	src := &side{root: host, path: abs}
	if err := src.look(k.follow); err != nil {
		return err
	}
	if src.gone {
		return plainly(fmt.Errorf("lstat %s: no such file or directory", abs))
	}
	dir, name, err := copyTarget(src, dst, to.path)
	if err != nil {
		return err
	}
	if fd, err := inroot.Open(dst.root, dir, unix.O_PATH|unix.O_DIRECTORY); err == nil {
		unix.Close(fd)
	} else {
		return fmt.Errorf("Could not find the file %s in container %s", dir, to.container) //lint:ignore ST1005 docker's words
	}
	o := treetar.WriteOptions{Root: src.root, Path: src.path, Name: name, Follow: k.follow}
	return k.pipe(ctx, o, treetar.ExtractOptions{Root: dst.root, Path: dir, Owners: true}, to.container+":"+to.path)
}

// pipe copies from one side to the other.
func (k *copier) pipe(ctx context.Context, from treetar.WriteOptions, to treetar.ExtractOptions, shown string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, w := io.Pipe()
	wrote := make(chan error, 1)
	go func() {
		err := treetar.Write(ctx, from, w)
		w.CloseWithError(err)
		wrote <- err
	}()
	err := treetar.Extract(ctx, to, io.TeeReader(r, (*byteCounter)(&k.moved)))
	r.CloseWithError(errors.Join(err, io.ErrClosedPipe))
	writeErr := <-wrote
	if err == nil {
		err = writeErr
	}
	if err == nil && !k.quiet && isTerminal(k.e.stdout) {
		fmt.Fprintf(k.e.stderr, "Successfully copied %s to %s\n", units.HumanSizeWithPrecision(float64(k.moved), 3), shown)
	}
	return err
}

// byteCounter counts what is written to it.
type byteCounter int64

func (n *byteCounter) Write(p []byte) (int, error) {
	*n += byteCounter(len(p))
	return len(p), nil
}
