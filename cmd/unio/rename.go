package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"
)

func renameCommand() *cli.Command {
	return &cli.Command{
		Name:      "rename",
		Usage:     "Rename a container",
		ArgsUsage: "CONTAINER NEW_NAME",
		Before:    exactArgs(2),
		Action: func(c *cli.Context) error {
			cs := envOf(c).containers()
			old, name := c.Args().Get(0), c.Args().Get(1)
			if old == "" || name == "" {
				return errors.New("Neither old nor new names may be empty") //lint:ignore ST1005 docker's words
			}
			found, err := cs.Lookup(old)
			if err == nil {
				err = cs.Rename(found, name)
			}
			if err != nil {
				return errors.Join(err, fmt.Errorf("failed to rename container named %s", old))
			}
			return nil
		},
	}
}
