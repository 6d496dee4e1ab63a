package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/urfave/cli/v2"

	"unio/imagestore"
	"unio/unionfs/transport"
)

// env is what every command works with: where things lie, the streams, the
// logger. openEnv makes it before the command runs; envOf finds it.
type env struct {
	root    string // the store, absolute
	runRoot string // mounts and other state that a reboot ends, absolute
	debug   bool

	transport transport.Kind // how requests are to reach the servers of mounts

	stdin          io.Reader
	stdout, stderr io.Writer
	log            *slog.Logger

	mu     sync.Mutex        // guards what follows: a server of mounts opens several at once
	images *imagestore.Store // opened by store
}

const envKey = "env"

func globalFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{
			Name: "root", EnvVars: []string{"UNIO_ROOT"},
			Usage: "`folder` of the store (default: /var/lib/unio, or\nunio in $XDG_DATA_HOME when not root)",
		},
		&cli.StringFlag{
			Name: "runroot", EnvVars: []string{"UNIO_RUNROOT"},
			Usage: "`folder` of the state of mounts (default: /run/unio, or\nunio in $XDG_RUNTIME_DIR when not root)",
		},
		&cli.StringFlag{Name: "transport", EnvVars: []string{transportVariable}, Hidden: true, Usage: transportUsage},
		&cli.BoolFlag{Name: "debug", Usage: "Log to stderr what is done"},
		&cli.BoolFlag{Name: "version", Aliases: []string{"v"}, Usage: "Print version information and quit"},
	}
}

// openEnv is the application's Before. It touches no file.
func openEnv(c *cli.Context) error {
	e := &env{
		debug:  c.Bool("debug"),
		stdin:  c.App.Reader,
		stdout: c.App.Writer,
		stderr: c.App.ErrWriter,
	}
	var err error
	if e.root, err = storeRoot(c.String("root")); err != nil {
		return err
	}
	if e.runRoot, err = runRoot(c.String("runroot")); err != nil {
		return err
	}
	if e.transport, err = transportKind(c.String("transport")); err != nil {
		return err
	}
	level := slog.LevelError
	if e.debug {
		level = slog.LevelDebug
	}
	e.log = slog.New(slog.NewTextHandler(e.stderr, &slog.HandlerOptions{Level: level}))
	if c.App.Metadata == nil {
		c.App.Metadata = map[string]any{}
	}
	c.App.Metadata[envKey] = e
	return nil
}

// envOf returns the environment that openEnv made.
func envOf(c *cli.Context) *env { return c.App.Metadata[envKey].(*env) }

// storeRoot is the folder of the store: as given, or the user's default.
func storeRoot(given string) (string, error) {
	if given != "" {
		return filepath.Abs(given)
	}
	if os.Geteuid() == 0 {
		return "/var/lib/unio", nil
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "unio"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no folder for the store: %w (give one with --root)", err)
	}
	return filepath.Join(home, ".local/share/unio"), nil
}

// runRoot is the folder of the state of mounts: as given, or the user's
// default, which a reboot empties.
func runRoot(given string) (string, error) {
	if given != "" {
		return filepath.Abs(given)
	}
	if os.Geteuid() == 0 {
		return "/run/unio", nil
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "unio"), nil
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("unio-%d", os.Getuid())), nil
}

// each runs do for every name and goes on after an error, as docker does with
// several arguments. The errors are joined.
func each(ctx context.Context, names []string, do func(name string) error) error {
	var errs []error
	for _, name := range names {
		if ctx.Err() != nil {
			return errors.Join(append(errs, context.Cause(ctx))...)
		}
		if err := do(name); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
