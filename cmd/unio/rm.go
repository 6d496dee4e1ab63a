package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"unio/container"
	"unio/container/volume"
)

func rmCommand() *cli.Command {
	return &cli.Command{
		Name:      "rm",
		Usage:     "Remove one or more containers",
		ArgsUsage: "CONTAINER [CONTAINER...]",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "Force the removal of a running container (uses SIGKILL), or\nof one that is mounted"},
			&cli.BoolFlag{Name: "link", Aliases: []string{"l"}, Usage: "Accepted for docker's sake: there are no links"},
			&cli.BoolFlag{Name: "volumes", Aliases: []string{"v"}, Usage: "Remove anonymous volumes associated with the container"},
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
	if c.Bool("volumes") {
		if err := e.removeAnonymous(found); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintln(e.stdout, name)
	return err
}

// removeAnonymous removes the volumes without a name of a container that is
// gone, but those that others have taken over.
func (e *env) removeAnonymous(gone *container.Container) error {
	users, err := e.volumeUsers()
	if err != nil {
		return err
	}
	volumes := volume.Open(e.root)
	var errs []error
	for _, m := range gone.Mounts {
		if !m.Anonymous || len(users[m.Name]) > 0 {
			continue
		}
		if err := volumes.Remove(m.Name, nil); !errors.Is(err, volume.ErrNotFound) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
