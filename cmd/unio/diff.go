package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"unio/build"
)

func diffCommand() *cli.Command {
	return &cli.Command{
		Name:      "diff",
		Usage:     "Inspect changes to files or directories on a container's filesystem",
		ArgsUsage: "CONTAINER|DIR",
		Before:    exactArgs(1),
		Action: func(c *cli.Context) error {
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
		},
	}
}
