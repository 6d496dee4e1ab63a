package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"unio/imagestore/archive"
)

func saveCommand() *cli.Command {
	return &cli.Command{
		Name:      "save",
		Usage:     "Save one or more images to a tar archive (streamed to STDOUT by default)",
		ArgsUsage: "IMAGE [IMAGE...]",
		Before:    minArgs(1),
		Action:    save,
		Description: "The archive is a docker archive and an OCI image layout at the same time. A\n" +
			"name without a tag stands for all tags of its repository.",
		Flags: append(progressFlags("Suppress the progress output"),
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "Write to a `file`, instead of STDOUT"},
		),
	}
}

func save(c *cli.Context) error {
	e := envOf(c)
	output := c.String("output")
	if output == "" && isTerminal(e.stdout) {
		return refuse("cowardly refusing to save to a terminal. Use the -o flag or redirect")
	}
	st, err := e.store()
	if err != nil {
		return err
	}
	p, err := showOwnProgress(c, e.stderr)
	if err != nil {
		return err
	}
	defer p.Done()
	names, o := c.Args().Slice(), archive.SaveOptions{Progress: p}
	if output == "" {
		return archive.Save(c.Context, st, names, e.stdout, o)
	}
	if err := archive.CheckOutput(output); err != nil {
		return plainly(fmt.Errorf("failed to save image: %w", err))
	}
	return archive.SaveFile(c.Context, st, names, output, o)
}
