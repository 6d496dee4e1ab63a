package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"unio/container/supervise"
)

func startCommand() *cli.Command {
	return &cli.Command{
		Name:      "start",
		Usage:     "Start one or more stopped containers",
		ArgsUsage: "CONTAINER [CONTAINER...]",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "attach", Aliases: []string{"a"}, Usage: "Attach STDOUT/STDERR and forward signals"},
			detachKeysFlag(),
			&cli.BoolFlag{Name: "interactive", Aliases: []string{"i"}, Usage: "Attach container's STDIN"},
		},
		Before: minArgs(1),
		Action: startContainers,
	}
}

func startContainers(c *cli.Context) error {
	e := envOf(c)
	if c.Bool("attach") || c.Bool("interactive") {
		if c.NArg() > 1 {
			return plainly(errors.New("you cannot start and attach multiple containers at once"))
		}
		return startAttached(c)
	}
	var failed []string
	err := each(c.Context, c.Args().Slice(), func(name string) error {
		err := e.startOne(c.Context, name)
		if err != nil {
			failed = append(failed, name)
			return err
		}
		fmt.Fprintln(e.stdout, name)
		return nil
	})
	if len(failed) > 0 {
		err = errors.Join(err, fmt.Errorf("failed to start containers: %s", strings.Join(failed, ", ")))
	}
	return err
}

// startOne starts a container in the background. One that runs stays as it is.
func (e *env) startOne(ctx context.Context, name string) error {
	found, err := e.containers().Lookup(name)
	if err == nil && found.State.Paused {
		err = errors.New("cannot start a paused container, try unpause instead")
	}
	if err != nil || found.State.Active() {
		return err
	}
	session, err := e.start(ctx, found, supervise.Attach{})
	if err != nil {
		if now, freshErr := e.containers().Fresh(found); freshErr == nil && now.State.Active() {
			return nil // somebody else was quicker
		}
		return err
	}
	return session.Close()
}

// startAttached starts one container and stays with it.
func startAttached(c *cli.Context) error {
	e := envOf(c)
	keys, err := detachKeys(c)
	if err != nil {
		return err
	}
	found, err := e.containers().Lookup(c.Args().First())
	if err != nil {
		return err
	}
	stdin := c.Bool("interactive") && found.Config.OpenStdin
	if err := checkTerminal(e, stdin, found.Config.Tty); err != nil {
		return err
	}
	a := attachment{
		e: e, container: found, keys: keys, proxy: c.Bool("attach") && !found.Config.Tty,
		stdin: stdin, stdout: true, stderr: true,
	}
	begin := a.start
	if found.State.Active() {
		begin = a.open
	}
	code, err := begin(c.Context)
	if errors.Is(err, errDetached) {
		return nil
	}
	if err != nil {
		return errors.Join(err, fmt.Errorf("failed to start containers: %s", c.Args().First()))
	}
	return silentCode(code)
}
