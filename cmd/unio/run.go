package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/urfave/cli/v2"

	"unio/container"
	"unio/container/runner"
	"unio/container/runspec"
	"unio/container/supervise"
	"unio/imagestore"
	"unio/imagestore/registry"
)

func runCommand() *cli.Command {
	return &cli.Command{
		Name:      "run",
		Usage:     "Create and run a new container from an image",
		ArgsUsage: "IMAGE [COMMAND] [ARG...]",
		Flags: append(createFlags(),
			&cli.BoolFlag{Name: "detach", Aliases: []string{"d"}, Usage: "Run container in background and print container ID"},
			detachKeysFlag(),
			&cli.BoolFlag{Name: "sig-proxy", Value: true, Usage: "Proxy received signals to the process (default true)"},
		),
		Before: minArgs(1),
		Action: runContainer,
	}
}

func createCommand() *cli.Command {
	return &cli.Command{
		Name:      "create",
		Usage:     "Create a new container",
		ArgsUsage: "IMAGE [COMMAND] [ARG...]",
		Flags:     createFlags(),
		Before:    minArgs(1),
		Action: func(c *cli.Context) error {
			w, err := readWanted(c)
			if err != nil {
				return failedCreate(c, err)
			}
			w.attach(c)
			made, err := createContainer(c, w)
			if err != nil {
				return failedCreate(c, err)
			}
			fmt.Fprintln(envOf(c).stdout, made.ID)
			return nil
		},
	}
}

// failedRun ends with docker's code for what is not the program's fault, and
// docker's hint.
func failedRun(c *cli.Context, err error) error {
	if err == nil {
		return nil
	}
	code := runner.CodeFailed
	var start *supervise.StartError
	if errors.As(err, &start) {
		code = start.Code
	}
	return &exitError{code: code, err: err, hint: fmt.Sprintf("Run '%s --help' for more information", c.Command.HelpName)}
}

// failedCreate is docker's code for a daemon that refuses to create.
func failedCreate(_ *cli.Context, err error) error { return withCode(exitFailure, err) }

// attach decides which streams a container is attached to.
func (w *wanted) attach(c *cli.Context) {
	cfg := &w.config
	streams := c.StringSlice("attach")
	has := func(name string) bool {
		return slices.ContainsFunc(streams, func(s string) bool { return strings.EqualFold(s, name) })
	}
	cfg.AttachStdin, cfg.AttachStdout, cfg.AttachStderr = has("stdin"), has("stdout"), has("stderr")
	if len(streams) == 0 && !c.Bool("detach") {
		cfg.AttachStdout, cfg.AttachStderr = true, true
	}
	if cfg.OpenStdin && !c.Bool("detach") { // -i says so by itself
		cfg.AttachStdin = true
	}
	cfg.StdinOnce = cfg.OpenStdin && cfg.AttachStdin
}

// checkTerminal refuses -t with -i when the input is no terminal.
func checkTerminal(e *env, attachStdin, tty bool) error {
	if attachStdin && tty && !isTerminalFile(e.stdin) {
		return plainly(errors.New("the input device is not a TTY"))
	}
	return nil
}

func runContainer(c *cli.Context) error {
	e := envOf(c)
	if c.Bool("detach") && len(c.StringSlice("attach")) > 0 {
		return plainly(errors.New("conflicting options: cannot specify both --attach and --detach"))
	}
	keys, err := detachKeys(c)
	if err != nil {
		return failedRun(c, err)
	}
	w, err := readWanted(c)
	if err != nil {
		return failedRun(c, err)
	}
	w.attach(c)
	if !c.Bool("detach") {
		if err := checkTerminal(e, w.config.AttachStdin, w.config.Tty); err != nil {
			return err
		}
	}
	made, err := createContainer(c, w)
	if err != nil {
		return failedRun(c, err)
	}
	a := attachment{
		e: e, container: made, keys: keys, proxy: c.Bool("sig-proxy") && !w.config.Tty,
		stdin: made.Config.AttachStdin, stdout: made.Config.AttachStdout, stderr: made.Config.AttachStderr,
	}
	if c.Bool("detach") {
		session, err := e.start(c.Context, made, supervise.Attach{})
		if err != nil {
			return failedRun(c, err)
		}
		fmt.Fprintln(e.stdout, made.ID)
		return session.Close()
	}
	code, err := a.start(c.Context)
	if errors.Is(err, errForced) {
		return err
	}
	if err != nil {
		return failedRun(c, err)
	}
	return silentCode(code)
}

// silentCode ends the program with a code that says all.
func silentCode(code int) error {
	if code == 0 {
		return nil
	}
	return &exitError{code: code}
}

// start starts a container; the terminal, if there is one, is the caller's
// affair.
func (e *env) start(ctx context.Context, c *container.Container, a supervise.Attach) (*supervise.Session, error) {
	session, err := supervise.Start(ctx, c, supervise.StartOptions{
		Supervisor: e.command("supervise", c.Name), Runner: runnerLine(),
		Server: e.command("serve", c.Name), Keeper: e.command("keep", c.Name), Attach: a, Debug: e.debug,
	})
	if err != nil {
		return nil, err
	}
	for _, warning := range session.Warnings {
		fmt.Fprintln(e.stderr, "WARNING:", warning)
	}
	return session, nil
}

// createContainer makes a container of an image, which is pulled first if it
// is missing or the user says so.
func createContainer(c *cli.Context, w *wanted) (*container.Container, error) {
	e := envOf(c)
	name := c.Args().First()
	if err := checkCidFile(w.host.ContainerIDFile); err != nil {
		return nil, err
	}
	img, err := e.imageForRun(c, name)
	if err != nil {
		return nil, err
	}
	w.merge(&img.Config.Config)
	if len(w.config.Entrypoint)+len(w.config.Cmd) == 0 {
		return nil, errors.New("No command specified") //lint:ignore ST1005 docker's words
	}
	// What is wrong now would be found when it is started, with a container in the way.
	made := &container.Container{Record: container.Record{Config: w.config, Host: w.host}}
	if err := runspec.Check(supervise.Options(made, "", nil)); err != nil {
		return nil, err
	}
	w.warnOfPlatform(img, c.String("platform"))
	mounts, err := w.mountPoints(e)
	if err != nil {
		return nil, err
	}
	for _, warning := range w.warnings {
		fmt.Fprintln(e.stderr, warning)
	}
	made, err = e.holdAndCreate(c.Context, img, container.CreateOptions{
		Name: c.String("name"), Image: img.ID, ImageName: name, Config: w.config, Host: w.host, Mounts: mounts,
	})
	if err != nil {
		return nil, errors.Join(err, e.removeAnonymous(&container.Container{Record: container.Record{Mounts: mounts}}))
	}
	if file := w.host.ContainerIDFile; file != "" {
		if err := os.WriteFile(file, []byte(made.ID), 0o644); err != nil {
			return nil, fmt.Errorf("failed to write the container ID to the file: %w", err)
		}
	}
	return made, nil
}

// warnOfPlatform says that an image is for another machine, unless the user knows.
func (w *wanted) warnOfPlatform(img *imagestore.Image, asked string) {
	p := img.Platform()
	if asked != "" || p.Architecture == "" || p.OS == runtime.GOOS && p.Architecture == runtime.GOARCH {
		return
	}
	w.warnings = append(w.warnings, fmt.Sprintf("WARNING: The requested image's platform (%s) does not match the detected host platform (%s/%s) "+
		"and no specific platform was requested", platformText(p), runtime.GOOS, runtime.GOARCH))
}

// holdAndCreate makes the record while the store is held, so that the image is
// not collected before the record is there.
func (e *env) holdAndCreate(ctx context.Context, img *imagestore.Image, o container.CreateOptions) (*container.Container, error) {
	st, err := e.store()
	if err != nil {
		return nil, err
	}
	release, err := st.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if _, err := st.Get(ctx, img.ID); err != nil {
		return nil, err
	}
	return e.containers().Create(o)
}

func checkCidFile(file string) error {
	if file == "" {
		return nil
	}
	_, err := os.Stat(file)
	if err == nil {
		return fmt.Errorf("container ID file found, make sure the other container isn't running or delete %s", file)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("failed to create the container ID file: %w", err)
	}
	return nil
}

// imageForRun finds the image of a new container, or pulls it.
func (e *env) imageForRun(c *cli.Context, name string) (*imagestore.Image, error) {
	st, err := e.store()
	if err != nil {
		return nil, err
	}
	policy, platform := c.String("pull"), c.String("platform")
	if platform != "" {
		if _, err := registry.ParsePlatform(platform); err != nil {
			return nil, err
		}
	}
	switch policy {
	case "always":
	case "missing", "never", "":
		img, err := st.Lookup(c.Context, name)
		if err == nil && wantPlatform(img, name, platform) != nil {
			if policy == "never" {
				return nil, fmt.Errorf("image with reference %s was found but does not match the specified platform: wanted %s, actual: %s",
					name, platform, platformText(img.Platform()))
			}
			err = imagestore.ErrNotFound
		}
		if err == nil || !errors.Is(err, imagestore.ErrNotFound) || policy == "never" {
			return img, err
		}
		ref, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(e.stderr, "Unable to find image '%s' locally\n", reference.FamiliarString(reference.TagNameOnly(ref)))
	default:
		return nil, fmt.Errorf("invalid pull option: '%s': must be one of %q, %q or %q", policy, "always", "missing", "never")
	}
	if err := e.pullForRun(c, st, name); err != nil {
		return nil, err
	}
	return st.Lookup(c.Context, name)
}

func (e *env) pullForRun(c *cli.Context, st *imagestore.Store, name string) error {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return err
	}
	p, err := showProgress(c, e.stderr)
	if err != nil {
		return err
	}
	defer p.Done()
	client, err := registryClient(c, p)
	if err != nil {
		return err
	}
	_, err = client.Pull(c.Context, st, reference.TagNameOnly(ref).String(), registry.PullOptions{Platform: c.String("platform")})
	return err
}
