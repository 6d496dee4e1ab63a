package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"unio/build"
	"unio/imagestore/archive"
)

func exportCommand() *cli.Command {
	return &cli.Command{
		Name:      "export",
		Usage:     "Export a container's filesystem as a tar archive",
		ArgsUsage: "CONTAINER|DIR",
		Before:    exactArgs(1),
		Action:    export,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "Write to a file, instead of STDOUT"},
		},
	}
}

func export(c *cli.Context) error {
	e := envOf(c)
	output := c.String("output")
	if output == "" && isTerminal(e.stdout) {
		return plainly(errors.New("cowardly refusing to save to a terminal. Use the -o flag or redirect"))
	}
	from, err := e.source(c.Context, c.Args().First())
	if err != nil {
		return err
	}
	st, err := e.store()
	if err != nil {
		return err
	}
	if output == "" {
		return build.Export(c.Context, st, *from, e.stdout)
	}
	err = archive.WriteFile(output, func(w io.Writer) error { return build.Export(c.Context, st, *from, w) })
	if err != nil {
		return plainly(fmt.Errorf("failed to export container: %w", err))
	}
	return nil
}
