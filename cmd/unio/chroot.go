package main

import (
	"context"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/urfave/cli/v2"

	"unio/container"
	"unio/imagestore"
)

func chrootCommand() *cli.Command {
	return &cli.Command{
		Name:      "chroot",
		Usage:     "Run a program in a container or mounted folder",
		ArgsUsage: "CONTAINER|DIR|IMAGE [COMMAND] [ARG...]",
		Description: `The program sees the mount as its root folder, with /proc, /sys, a small /dev, and
copies of the host's /etc/resolv.conf and /etc/hosts; setuid programs work. It is no
sandbox: root in there is root. Without a command the image's shell is started. A
container that is not mounted is mounted meanwhile. An image gets a new container,
whose name is printed on stderr. Environment variables are the image's.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "user", Aliases: []string{"u"}, Usage: "`NAME|UID[:GROUP|GID]` of the image's own tables (default: root)"},
			&cli.StringFlag{Name: "workdir", Aliases: []string{"w"}, Usage: "Working `folder` inside the container (default: /)"},
			&cli.StringSliceFlag{Name: "env", Aliases: []string{"e"}, Usage: "Set an environment variable, or pass one on (-e NAME)"},
			&cli.BoolFlag{Name: "rm", Usage: "Remove the container afterwards"},
		},
		Before: minArgs(1),
		Action: chroot,
	}
}

// place is where a program is to run.
type place struct {
	dir    string
	config imagestore.RunConfig
	leave  func(context.Context) error // undoes what was done to get there
}

func chroot(c *cli.Context) error {
	e := envOf(c)
	at, err := e.enter(c.Context, c.Args().First(), c.Bool("rm"))
	if err != nil {
		return withCode(container.CodeFailed, err)
	}
	args := c.Args().Tail()
	if len(args) == 0 {
		args = shellOf(&at.config)
	}
	code, err := container.Chroot(c.Context, container.ChrootOptions{
		Root: at.dir, Args: args, Env: chrootEnv(at.config.Env, c.StringSlice("env")),
		Dir: c.String("workdir"), User: c.String("user"),
		Runner: runnerLine(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	})
	// A signal that ended the program must not keep us from cleaning up.
	leaveErr := at.leave(context.WithoutCancel(c.Context))
	if leaveErr != nil {
		// As when the program left others behind. Its own code counts.
		e.warn(fmt.Sprint("Warning: ", leaveErr))
	}
	if code != 0 {
		return &exitError{code: code, err: err}
	}
	return nil
}

// enter finds a mount, or mounts a container for the time being.
func (e *env) enter(ctx context.Context, ref string, remove bool) (*place, error) {
	cs := e.containers()
	if m, err := cs.FindMount(ref); err == nil && !m.Dead {
		config, err := e.mountConfig(ctx, m)
		if err != nil {
			return nil, err
		}
		return &place{dir: m.Dir, config: *config, leave: e.leaveMounted(m, remove)}, nil
	} else if err != nil && strings.ContainsRune(ref, '/') && isFolder(ref) {
		return nil, err
	}
	server := container.Launch(e.command("serve", "--", ref, ""))
	defer server.Abandon()
	t, err := e.findTarget(ctx, ref)
	if err != nil {
		return nil, err
	}
	fresh := t.container == nil
	m, err := e.mountTarget(ctx, t, "", container.MountOptions{Debug: e.debug, Launched: server})
	if err != nil {
		return nil, err
	}
	found, err := cs.Lookup(m.Container)
	if err != nil {
		return nil, err
	}
	if fresh && !remove {
		fmt.Fprintln(e.stderr, "container", found.Name)
	}
	leave := func(ctx context.Context) error {
		if err := cs.Unmount(ctx, m.Dir, container.UnmountOptions{}); err != nil {
			return err
		}
		if remove {
			return cs.Remove(ctx, found, container.RemoveOptions{})
		}
		return nil
	}
	return &place{dir: m.Dir, config: found.Config, leave: leave}, nil
}

// leaveMounted leaves a mount that was there before as it is, or removes its
// container.
func (e *env) leaveMounted(m *container.Mount, remove bool) func(context.Context) error {
	return func(ctx context.Context) error {
		if !remove || m.Container == "" {
			return nil
		}
		cs := e.containers()
		found, err := cs.Lookup(m.Container)
		if err != nil {
			return err
		}
		return cs.Remove(ctx, found, container.RemoveOptions{Force: true})
	}
}

// mountConfig is the config of what is mounted.
func (e *env) mountConfig(ctx context.Context, m *container.Mount) (*imagestore.RunConfig, error) {
	if m.Container != "" {
		found, err := e.containers().Lookup(m.Container)
		if err != nil {
			return nil, err
		}
		return &found.Config, nil
	}
	if m.Image == "" { // plain folders
		return &imagestore.RunConfig{}, nil
	}
	st, err := e.store()
	if err != nil {
		return nil, err
	}
	img, err := st.Get(ctx, m.Image)
	if err != nil {
		return nil, err
	}
	return &img.Config.Config, nil
}

func isFolder(name string) bool {
	st, err := os.Stat(name)
	return err == nil && st.IsDir()
}

// shellOf is what chroot starts when no command is given: the image's command
// if that is a shell, as of base images, else the shell that every system has.
func shellOf(config *imagestore.RunConfig) []string {
	if len(config.Entrypoint) == 0 && len(config.Cmd) == 1 {
		switch path.Base(config.Cmd[0]) {
		case "sh", "bash", "ash", "dash", "zsh", "fish", "ksh", "busybox":
			return config.Cmd
		}
	}
	return []string{"/bin/sh"}
}

// chrootEnv is the image's environment, changed by -e; the terminal's type
// comes from here.
func chrootEnv(env, changes []string) []string {
	set := func(entry string) {
		name, _, _ := strings.Cut(entry, "=")
		for i, old := range env {
			if strings.HasPrefix(old, name+"=") {
				env[i] = entry
				return
			}
		}
		env = append(env, entry)
	}
	env = append([]string{}, env...)
	if term := os.Getenv("TERM"); term != "" {
		changes = append([]string{"TERM=" + term}, changes...)
	}
	for _, change := range changes {
		if strings.ContainsRune(change, '=') {
			set(change)
		} else if value, ok := os.LookupEnv(change); ok {
			set(change + "=" + value)
		}
	}
	return env
}
