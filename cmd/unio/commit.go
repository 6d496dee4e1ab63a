package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"unio/build"
)

func commitCommand() *cli.Command {
	return &cli.Command{
		Name:      "commit",
		Usage:     "Create a new image from a container's changes",
		ArgsUsage: "CONTAINER|DIR [REPOSITORY[:TAG]]",
		Flags: append(progressFlags("Show no progress"),
			&cli.StringFlag{Name: "author", Aliases: []string{"a"}, Usage: "Author (e.g., \"John Hannibal Smith\n<hannibal@a-team.com>\")"},
			&cli.StringSliceFlag{Name: "change", Aliases: []string{"c"}, Usage: "Apply Dockerfile instruction to the created image"},
			&cli.StringFlag{Name: "message", Aliases: []string{"m"}, Usage: "Commit message"},
			&cli.BoolFlag{Name: "pause", Aliases: []string{"p"}, Value: true, Usage: "Accepted for docker's sake: a mount is flushed, and\nnot paused"},
		),
		Before: rangeArgs(1, 2),
		Action: commitContainer,
	}
}

// commitContainer makes an image and prints its ID.
func commitContainer(c *cli.Context) error {
	e := envOf(c)
	if err := checkNewName(c.Args().Get(1)); err != nil {
		return plainly(err)
	}
	from, err := e.source(c.Context, c.Args().First())
	if err != nil {
		return err
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
	done, err := build.Commit(c.Context, st, build.CommitOptions{
		Source: *from, Name: c.Args().Get(1), Author: c.String("author"), Message: c.String("message"),
		Changes: c.StringSlice("change"), Progress: p,
	})
	if err != nil {
		return err
	}
	p.Done()
	if done.Torn != nil {
		e.warn(fmt.Sprint("Warning: ", done.Torn))
	}
	_, err = fmt.Fprintln(e.stdout, done.Image.ID)
	return err
}
