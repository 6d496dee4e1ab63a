package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"unio/container"
)

func rmCommand() *cli.Command {
	return &cli.Command{
		Name:      "rm",
		Usage:     "Remove one or more containers",
		ArgsUsage: "CONTAINER [CONTAINER...]",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "Unmount a container that is mounted, and remove it"},
		},
		Before: minArgs(1),
		Action: func(c *cli.Context) error {
			e := envOf(c)
			return each(c.Context, c.Args().Slice(), func(name string) error {
				return removeContainer(c, e, name)
			})
		},
	}
}

// removeContainer removes one container and echoes its name. A missing one is
// told about, but no failure, with --force.
func removeContainer(c *cli.Context, e *env, name string) error {
	cs, force := e.containers(), c.Bool("force")
	found, err := cs.Lookup(name)
	if errors.Is(err, container.ErrNotFound) && force {
		fmt.Fprintln(e.stderr, errorText(err))
		return nil
	}
	if err != nil {
		return err
	}
	if err := cs.Remove(c.Context, found, container.RemoveOptions{Force: force}); err != nil {
		return err
	}
	_, err = fmt.Fprintln(e.stdout, name)
	return err
}
