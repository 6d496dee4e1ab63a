package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"unio/imagestore"
)

func rmiCommand() *cli.Command {
	return &cli.Command{
		Name:      "rmi",
		Usage:     "Remove one or more images",
		ArgsUsage: "IMAGE [IMAGE...]",
		Before:    minArgs(1),
		Action:    rmi,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "Force removal of the image"},
			&cli.BoolFlag{Name: "no-prune", Usage: "Do not delete untagged parents"},
			&cli.StringSliceFlag{Name: "platform", Usage: "Remove only images of these platforms, as\nos[/arch[/variant]]"},
		},
	}
}

// rmi goes on after an error. With --force, an image that is not there is
// told of but is no failure.
func rmi(c *cli.Context) error {
	e := envOf(c)
	st, err := e.store()
	if err != nil {
		return err
	}
	o := imagestore.RemoveOptions{Force: c.Bool("force"), NoPrune: c.Bool("no-prune")}
	failed := false
	err = each(c.Context, c.Args().Slice(), func(name string) error {
		if err := onPlatforms(c, st, name); err != nil {
			return err
		}
		done, err := st.Remove(c.Context, name, o)
		for _, d := range done {
			if d.Untagged != "" {
				fmt.Fprintln(e.stdout, "Untagged:", d.Untagged)
			} else {
				fmt.Fprintln(e.stdout, "Deleted:", d.Deleted)
			}
		}
		failed = failed || err != nil && !errors.Is(err, imagestore.ErrNotFound)
		return err
	})
	if err != nil && o.Force && !failed {
		fmt.Fprintln(e.stderr, colored(e.stderr, errorText(err)))
		return nil
	}
	return err
}

// onPlatforms fails if an image is for none of the platforms that were given.
func onPlatforms(c *cli.Context, st *imagestore.Store, name string) error {
	var problem error
	for _, p := range c.StringSlice("platform") {
		img, err := st.Lookup(c.Context, name)
		if err != nil {
			return err
		}
		if problem = wantPlatform(img, name, p); problem == nil {
			return nil
		}
	}
	return problem
}
