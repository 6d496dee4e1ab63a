package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/distribution/reference"
	"github.com/urfave/cli/v2"

	"unio/cmd/unio/progress"
	"unio/imagestore/registry"
)

func pushCommand() *cli.Command {
	return &cli.Command{
		Name:      "push",
		Usage:     "Upload an image to a registry",
		ArgsUsage: "NAME[:TAG]",
		Before:    exactArgs(1),
		Action:    push,
		Flags: slices.Concat(registryFlags(), progressFlags("Suppress verbose output"), []cli.Flag{
			&cli.BoolFlag{Name: "all-tags", Aliases: []string{"a"}, Usage: "Push all tags of an image to the repository"},
			&cli.StringFlag{Name: "compression", Usage: "Compression of layers made here: gzip (default) or zstd"},
			parallelFlag("max-concurrent-uploads", "upload"),
			&cli.BoolFlag{Name: "disable-content-trust", Hidden: true},
		}),
	}
}

// push uploads an image; when quiet it prints the full reference and no more.
func push(c *cli.Context) error {
	e := envOf(c)
	ref, err := remoteName(c)
	if err != nil {
		return err
	}
	if _, ok := ref.(reference.Digested); ok {
		return plainly(errors.New("cannot push a digest reference"))
	}
	st, err := e.store()
	if err != nil {
		return err
	}
	p, err := transferProgress(c, ref)
	if err != nil {
		return err
	}
	defer p.Done()
	client, err := registryClient(c, p)
	if err != nil {
		return err
	}
	_, err = client.Push(c.Context, st, ref.String(), registry.PushOptions{
		AllTags: c.Bool("all-tags"), Compression: c.String("compression"),
	})
	if err != nil {
		return p.failed(err)
	}
	if mode, _ := progressMode(c); mode != progress.Quiet {
		return nil
	}
	_, err = fmt.Fprintln(e.stdout, ref)
	return err
}
