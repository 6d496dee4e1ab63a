package main

import (
	"fmt"

	"github.com/docker/go-units"
	"github.com/urfave/cli/v2"

	"unio/imagestore"
)

func fsckCommand() *cli.Command {
	return &cli.Command{
		Name:   "fsck",
		Usage:  "Check the image store",
		Before: noArgs,
		Action: fsck,
		Description: "Verifies every reference, blob, index and view. What is damaged and cannot be\n" +
			"made again is an error; what is left over from interrupted commands is not.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "repair", Usage: "Make again what can be made again, and remove what is damaged\nor left over"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "Only show problems"},
		},
	}
}

func fsck(c *cli.Context) error {
	e := envOf(c)
	st, err := e.store()
	if err != nil {
		return err
	}
	rep, err := st.Fsck(c.Context, imagestore.FsckOptions{Repair: c.Bool("repair")})
	if err != nil {
		return err
	}
	for _, p := range rep.Problems {
		fmt.Fprintln(e.stdout, p)
	}
	if !c.Bool("quiet") {
		fmt.Fprintf(e.stdout, "%d images, %d blobs, %s verified\n", rep.Images, rep.Blobs, units.HumanSize(float64(rep.Bytes)))
		if rep.Freed > 0 {
			fmt.Fprintf(e.stdout, "Total reclaimed space: %s\n", units.HumanSize(float64(rep.Freed)))
		}
	}
	if n := rep.Damaged(); n > 0 {
		return fmt.Errorf("the image store is damaged: %d problems", n)
	}
	return nil
}
