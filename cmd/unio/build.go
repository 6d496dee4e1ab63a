package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/urfave/cli/v2"

	"unio/build/dockerfile"
	"unio/cmd/unio/progress"
	"unio/imagestore"
	"unio/imagestore/registry"
)

func buildCommand() *cli.Command {
	return &cli.Command{
		Name:      "build",
		Usage:     "Build an image from a Dockerfile",
		ArgsUsage: "PATH | URL | -",
		Before:    buildArgsCount,
		Action:    buildImage,
		Flags:     append(buildFlags(), registryFlags()...),
	}
}

// buildArgsCount wants one argument, in docker's words.
func buildArgsCount(c *cli.Context) error { return exactArgs(1)(c) }

// buildFlags are docker's.
func buildFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringSliceFlag{Name: "build-arg", Usage: "Set build-time variables"},
		&cli.StringSliceFlag{Name: "cache-from", Usage: "Images to consider as cache sources"},
		&cli.StringFlag{Name: "file", Aliases: []string{"f"}, Usage: "Name of the Dockerfile (default \"PATH/Dockerfile\")"},
		&cli.StringFlag{Name: "iidfile", Usage: "Write the image ID to the file"},
		&cli.StringSliceFlag{Name: "label", Usage: "Set metadata for an image"},
		&cli.StringFlag{Name: "network", Usage: "Set the networking mode for the RUN instructions during build: host (the default) or none"},
		&cli.BoolFlag{Name: "no-cache", Usage: "Do not use cache when building the image"},
		&cli.StringSliceFlag{Name: "output", Aliases: []string{"o"}, Usage: "Output destination: DIR, or type=local|tar|oci|docker,dest=PATH"},
		&cli.StringFlag{Name: "platform", EnvVars: []string{"DOCKER_DEFAULT_PLATFORM"}, Usage: "Set platform, as os/arch[/variant]"},
		&cli.StringFlag{Name: "progress", EnvVars: []string{"BUILDKIT_PROGRESS"}, Usage: "Set type of progress output: auto, plain, tty, quiet"},
		&cli.BoolFlag{Name: "pull", Usage: "Always attempt to pull a newer version of the image"},
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "Suppress the build output and print image ID on success"},
		&cli.StringSliceFlag{Name: "secret", Usage: "Secret to expose to the build: id=mysecret[,src=/local/secret]"},
		&cli.BoolFlag{Name: "squash", Usage: "Squash newly built layers into a single new layer"},
		&cli.StringSliceFlag{Name: "ssh", Usage: "Not supported: no agent is forwarded"},
		&cli.StringSliceFlag{Name: "tag", Aliases: []string{"t"}, Usage: "Name and optionally a tag in the \"name:tag\" format"},
		&cli.StringFlag{Name: "target", Usage: "Set the target build stage to build"},
	}, append(buildRunFlags(), idleBuildFlags()...)...)
}

// idleBuildFlags are accepted for the sake of scripts: they are about sending
// the context to a daemon, its content trust, and containers that stay behind,
// of which there are none here.
func idleBuildFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "compress", Usage: "Compress the build context using gzip"},
		&cli.BoolFlag{Name: "disable-content-trust", Usage: "Skip image verification (default true)"},
		&cli.BoolFlag{Name: "force-rm", Usage: "Always remove intermediate containers"},
		&cli.BoolFlag{Name: "rm", Usage: "Remove intermediate containers after a successful build (default true)"},
		&cli.StringFlag{Name: "isolation", Usage: "Container isolation technology"},
	}
}

// buildImage runs a Dockerfile and prints what happens.
func buildImage(c *cli.Context) error {
	e := envOf(c)
	o, err := buildOptions(c)
	if err != nil {
		return err
	}
	outputs, err := buildOutputs(c, o)
	if err != nil {
		return err
	}
	show, err := newBuildPrinter(c, outputs)
	if err != nil {
		return err
	}
	st, err := e.store()
	if err != nil {
		return err
	}
	in, err := openBuildContext(c)
	if err != nil {
		return err
	}
	defer in.close()
	o.Dockerfile, o.Context = in.dockerfile, in.tree
	o.Report = show.event
	res, err := dockerfile.Build(c.Context, st, *o)
	if err != nil {
		show.failed(err, in.name)
		return err
	}
	if len(res.UnusedArgs) > 0 {
		show.note(fmt.Sprintf("[Warning] One or more build-args %v were not consumed", res.UnusedArgs))
	}
	if err := e.writeOutputs(c.Context, res, outputs); err != nil {
		return err
	}
	return show.built(c, res.Image, len(outputs) == 0 || len(o.Tags) > 0)
}

// buildOptions reads the command line.
func buildOptions(c *cli.Context) (*dockerfile.Options, error) {
	e := envOf(c)
	o := &dockerfile.Options{
		Tags: c.StringSlice("tag"), Target: c.String("target"), Platform: c.String("platform"),
		BuildArgs: map[string]*string{}, Labels: map[string]string{}, Network: c.String("network"),
		NoCache: c.Bool("no-cache"), Squash: c.Bool("squash"), CacheFrom: c.StringSlice("cache-from"),
		Image: e.buildBase(c), MountServer: e.command("build-mounts"), RunRoot: e.runRoot, Log: e.log,
	}
	var err error
	if o.Run, err = e.buildRunner(c); err != nil {
		return nil, err
	}
	for _, tag := range o.Tags {
		if _, err := imagestore.ParseTag(tag); err != nil {
			return nil, badFlagValue(c, tag, "-t, --tag", err)
		}
	}
	for _, arg := range c.StringSlice("build-arg") {
		if err := addBuildArg(o, arg); err != nil {
			return nil, badFlagValue(c, arg, "--build-arg", err)
		}
	}
	for _, label := range c.StringSlice("label") {
		name, value, _ := strings.Cut(label, "=")
		o.Labels[name] = value
	}
	switch o.Network {
	case "", "default", "host", "none":
	default:
		return nil, fmt.Errorf("network %s not found: there are the networks host (the default) and none", o.Network)
	}
	if len(c.StringSlice("ssh")) > 0 {
		return nil, errors.New("--ssh is not supported: unio forwards no agent to a build")
	}
	return o, errors.Join(addSecrets(o, c.StringSlice("secret")), setEpoch(o), checkPlatform(o.Platform))
}

func checkPlatform(s string) error {
	if s == "" {
		return nil
	}
	_, err := registry.ParsePlatform(s)
	return err
}

// badFlagValue is the error for a flag's value, in docker's words.
func badFlagValue(c *cli.Context, value, flag string, err error) error {
	return &usageError{
		code: exitBadFlag, app: c.App, command: c.Command,
		msg: fmt.Sprintf("invalid argument %q for %q flag: %v", value, flag, err),
	}
}

// addBuildArg reads NAME=VALUE, or NAME, which takes the value of the
// environment.
func addBuildArg(o *dockerfile.Options, arg string) error {
	name, value, given := strings.Cut(arg, "=")
	if name == "" {
		return fmt.Errorf("invalid environment variable: %s", arg)
	}
	if !given {
		var ok bool
		if value, ok = os.LookupEnv(name); !ok {
			o.BuildArgs[name] = nil
			return nil
		}
	}
	o.BuildArgs[name] = &value
	return nil
}

// addSecrets reads values of --secret: id=X[,src=FILE|,env=NAME].
func addSecrets(o *dockerfile.Options, specs []string) error {
	o.Secrets = map[string]dockerfile.Secret{}
	for _, spec := range specs {
		var s dockerfile.Secret
		id, kind := "", ""
		for field := range strings.SplitSeq(spec, ",") {
			key, value, ok := strings.Cut(field, "=")
			if !ok {
				return fmt.Errorf("invalid field '%s' must be a key=value pair", field)
			}
			switch strings.ToLower(key) {
			case "type":
				if kind = value; kind != "file" && kind != "env" {
					return fmt.Errorf("unsupported secret type %q", value)
				}
			case "id":
				id = value
			case "source", "src":
				s.File = value
			case "env":
				s.Env = value
			default:
				return fmt.Errorf("unexpected key '%s' in '%s'", key, field)
			}
		}
		if kind == "env" && s.Env == "" {
			s.Env, s.File = s.File, ""
		}
		if s.File == "" && s.Env == "" { // as in BuildKit: a variable of that name, or a file
			if _, ok := os.LookupEnv(id); ok {
				s.Env = id
			} else {
				s.File = id
			}
		}
		o.Secrets[id] = s
	}
	return nil
}

// setEpoch reads SOURCE_DATE_EPOCH, of the build arguments or of the
// environment: seconds since 1970.
func setEpoch(o *dockerfile.Options) error {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if arg := o.BuildArgs["SOURCE_DATE_EPOCH"]; arg != nil {
		text = *arg
	}
	if text == "" {
		return nil
	}
	sec, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return fmt.Errorf("invalid SOURCE_DATE_EPOCH: %s", text)
	}
	t := time.Unix(sec, 0).UTC()
	o.Epoch = &t
	return nil
}

// buildBase returns what finds the images of a Dockerfile: in the store, or at
// a registry if they are not there or --pull asks for it.
func (e *env) buildBase(c *cli.Context) func(context.Context, string, string, func(string)) (*imagestore.Image, error) {
	return func(ctx context.Context, name, platform string, say func(string)) (*imagestore.Image, error) {
		st, err := e.store()
		if err != nil {
			return nil, err
		}
		img, err := st.Lookup(ctx, name)
		if err != nil && !errors.Is(err, imagestore.ErrNotFound) {
			return nil, err
		}
		ref, refErr := reference.ParseNormalizedNamed(name)
		if refErr != nil && err != nil {
			return nil, refErr
		}
		isID := refErr != nil || img != nil && strings.HasPrefix(img.ID.Encoded(), strings.TrimPrefix(name, "sha256:"))
		if img != nil && (isID || !c.Bool("pull")) && fitsPlatform(img, platform) {
			return img, nil
		}
		lines := progress.New(sayWriter(say), progress.Plain)
		defer lines.Done()
		client, err := registryClient(c, lines)
		if err != nil {
			return nil, err
		}
		full := reference.TagNameOnly(ref).String()
		if _, err := client.Pull(ctx, st, full, registry.PullOptions{Platform: platform}); err != nil {
			return nil, err
		}
		return st.Lookup(ctx, full)
	}
}

// fitsPlatform reports whether an image is for a platform, where one is asked
// for.
func fitsPlatform(img *imagestore.Image, platform string) bool {
	if platform == "" {
		return true
	}
	parts := strings.Split(platform, "/")
	p := img.Platform()
	have := []string{p.OS, p.Architecture, p.Variant}
	return len(parts) <= len(have) && slices.Equal(parts, have[:len(parts)])
}

// sayWriter hands what is written to a function.
type sayWriter func(string)

func (s sayWriter) Write(p []byte) (int, error) {
	s(string(p))
	return len(p), nil
}
