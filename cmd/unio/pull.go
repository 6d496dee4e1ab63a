package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"

	"github.com/distribution/reference"
	"github.com/urfave/cli/v2"

	"unio/cmd/unio/progress"
	"unio/imagestore"
	"unio/imagestore/registry"
)

func pullCommand() *cli.Command {
	return &cli.Command{
		Name:      "pull",
		Usage:     "Download an image from a registry",
		ArgsUsage: "NAME[:TAG|@DIGEST]",
		Before:    exactArgs(1),
		Action:    pull,
		Flags: slices.Concat(registryFlags(), progressFlags("Suppress verbose output"), []cli.Flag{
			&cli.BoolFlag{Name: "all-tags", Aliases: []string{"a"}, Usage: "Download all tagged images in the repository"},
			parallelFlag("max-concurrent-downloads", "download"),
			&cli.StringFlag{
				Name: "platform", EnvVars: []string{"DOCKER_DEFAULT_PLATFORM"},
				Usage: "Set platform, as os/arch[/variant], if the image has several",
			},
			&cli.BoolFlag{Name: "disable-content-trust", Hidden: true},
		}),
	}
}

// registryFlags are the flags of all commands that talk to a registry.
func registryFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{
			Name: "insecure-registry", EnvVars: []string{"UNIO_INSECURE_REGISTRIES"},
			Usage: "`host[:port]` or network of registries to speak to without a\nvalid certificate, or without TLS",
		},
		&cli.StringFlag{
			Name: "registries", EnvVars: []string{"UNIO_REGISTRIES"},
			Usage: "`file` that names mirrors, see 'unio help registries'",
		},
		&cli.StringFlag{Name: "tls-ca", Usage: "`file` with certificates of authorities to trust"},
	}
}

// parallelFlag bounds how much moves at once.
func parallelFlag(name, what string) cli.Flag {
	return &cli.IntFlag{Name: name, Usage: "Layers to " + what + " at once (default 4)"}
}

// registrySettings are the files where mirrors are named, the first that
// exists.
func registrySettings(c *cli.Context) []string {
	if file := c.String("registries"); file != "" {
		return []string{file}
	}
	files := []string{"/etc/unio/registries.toml"}
	if dir, err := os.UserConfigDir(); err == nil {
		files = append([]string{filepath.Join(dir, "unio/registries.toml")}, files...)
	}
	return files
}

// registryClient is a client for the command's flags that shows progress on p.
func registryClient(c *cli.Context, p imagestore.Progress) (*registry.Client, error) {
	conf, err := registry.ReadConfig(registrySettings(c)...)
	if err != nil {
		return nil, err
	}
	o := registry.Options{
		Log: envOf(c).log, Progress: p, UserAgent: "unio/" + version,
		Insecure: c.StringSlice("insecure-registry"), Config: conf, CertsDir: "/etc/docker/certs.d",
	}
	for _, name := range []string{"max-concurrent-downloads", "max-concurrent-uploads"} {
		if !c.IsSet(name) {
			continue
		}
		if o.Parallel = c.Int(name); o.Parallel < 1 {
			return nil, fmt.Errorf("--%s: want at least 1, got %d", name, o.Parallel)
		}
	}
	if file := c.String("tls-ca"); file != "" {
		if o.TLS, err = registry.TrustFile(file); err != nil {
			return nil, err
		}
	}
	return registry.New(o), nil
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
	p, err := transferProgress(c, ref)
	if err != nil {
		return err
	}
	defer p.Done()
	client, err := registryClient(c, p)
	if err != nil {
		return err
	}
	_, err = client.Pull(c.Context, st, ref.String(), registry.PullOptions{
		Platform: c.String("platform"),
		AllTags:  c.Bool("all-tags"),
	})
	if err != nil {
		return p.failed(err)
	}
	if mode, _ := progressMode(c); mode == progress.JSON {
		p.Update(imagestore.Event{Action: ref.String()})
		return nil
	}
	p.Done()
	_, err = fmt.Fprintln(e.stdout, ref)
	return err
}

// transfer is the progress of a pull or push. What goes wrong once steps have
// been shown belongs to them, as docker has it, and gets no "Error: ".
type transfer struct {
	progress.Display
	began atomic.Bool
}

// Update shows a step.
func (t *transfer) Update(e imagestore.Event) {
	t.began.Store(true)
	t.Display.Update(e)
}

// failed is the error of a transfer as it is to be shown.
func (t *transfer) failed(err error) error {
	if t.began.Load() {
		return plainly(err)
	}
	return err
}

// transferProgress shows the progress of a pull or push, beginning with the
// tag that was filled in.
func transferProgress(c *cli.Context, ref reference.Named) (*transfer, error) {
	shown, err := showProgress(c, envOf(c).stdout)
	if err != nil {
		return nil, err
	}
	p := &transfer{Display: shown}
	given, _ := reference.ParseNormalizedNamed(c.Args().First()) // remoteName has read it
	if tagged, ok := ref.(reference.Tagged); ok && reference.IsNameOnly(given) {
		shown.Update(imagestore.Event{Action: "Using default tag: " + tagged.Tag()})
	}
	return p, nil
}

// remoteName reads the command's argument as docker's client does: the tag
// "latest" is filled in.
func remoteName(c *cli.Context) (reference.Named, error) {
	e := envOf(c)
	if c.IsSet("disable-content-trust") {
		e.warn("WARNING: --disable-content-trust does nothing: unio has no content trust, digests are always verified")
	}
	name, err := reference.ParseNormalizedNamed(c.Args().First())
	switch {
	case err != nil:
		return nil, plainly(err)
	case c.Bool("all-tags") && !reference.IsNameOnly(name):
		return nil, plainly(errors.New("tag can't be used with --all-tags/-a"))
	case c.Bool("all-tags") || !reference.IsNameOnly(name):
		return name, nil
	}
	return reference.TagNameOnly(name), nil
}
