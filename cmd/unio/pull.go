package main

import (
	"fmt"

	"github.com/distribution/reference"
	"github.com/urfave/cli/v2"

	"unio/imagestore/registry"
)

func pullCommand() *cli.Command {
	return &cli.Command{
		Name:      "pull",
		Usage:     "Download an image from a registry",
		ArgsUsage: "NAME[:TAG|@DIGEST]",
		Before:    exactArgs(1),
		Action:    pull,
		Flags: append(registryFlags(),
			&cli.BoolFlag{Name: "all-tags", Aliases: []string{"a"}, Usage: "Download all tagged images in the repository"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "Suppress verbose output"},
			&cli.StringFlag{
				Name: "platform", EnvVars: []string{"DOCKER_DEFAULT_PLATFORM"},
				Usage: "Set platform, as os/arch[/variant], if the image has several",
			},
			&cli.BoolFlag{Name: "disable-content-trust", Hidden: true},
		),
	}
}

// registryFlags are the flags of all commands that talk to a registry.
func registryFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{
			Name: "insecure-registry", EnvVars: []string{"UNIO_INSECURE_REGISTRIES"},
			Usage: "`host[:port]` of a registry to speak to without a valid\ncertificate, or without TLS",
		},
	}
}

// registryClient is a client for the command's flags that shows progress on p.
func registryClient(c *cli.Context, p progress) *registry.Client {
	return registry.New(registry.Options{
		Log:       envOf(c).log,
		Progress:  p,
		Insecure:  c.StringSlice("insecure-registry"),
		UserAgent: "unio/" + version,
	})
}

// pull downloads an image and prints its full reference last.
func pull(c *cli.Context) error {
	e := envOf(c)
	ref, err := remoteName(c)
	if err != nil {
		return err
	}
	st, err := e.store()
	if err != nil {
		return err
	}
	p := newProgress(e.stdout, c.Bool("quiet"))
	defer p.Done()
	_, err = registryClient(c, p).Pull(c.Context, st, ref.String(), registry.PullOptions{
		Platform: c.String("platform"),
		AllTags:  c.Bool("all-tags"),
	})
	if err != nil {
		return err
	}
	p.Done()
	_, err = fmt.Fprintln(e.stdout, ref)
	return err
}

// remoteName reads the command's argument as docker's client does: the tag
// "latest" is filled in, and said so.
func remoteName(c *cli.Context) (reference.Named, error) {
	e := envOf(c)
	if c.IsSet("disable-content-trust") {
		fmt.Fprintln(e.stderr, "WARNING: --disable-content-trust does nothing: unio has no content trust, digests are always verified")
	}
	name, err := reference.ParseNormalizedNamed(c.Args().First())
	switch {
	case err != nil:
		return nil, err
	case c.Bool("all-tags") && !reference.IsNameOnly(name):
		return nil, fmt.Errorf("tag can't be used with --all-tags/-a")
	case c.Bool("all-tags") || !reference.IsNameOnly(name):
		return name, nil
	}
	name = reference.TagNameOnly(name)
	if tagged, ok := name.(reference.Tagged); ok && !c.Bool("quiet") {
		fmt.Fprintf(e.stdout, "Using default tag: %s\n", tagged.Tag())
	}
	return name, nil
}
