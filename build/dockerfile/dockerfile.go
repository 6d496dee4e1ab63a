// Package dockerfile builds images from Dockerfiles. The language is read by
// buildkit's parser; stages, cache, layers and configs are this package's own.
//
// A stage is a state ([state]: layers and a config) that instructions change
// one after the other. Stages are run at the same time where they do not wait
// for each other; a stage that nothing needs is not run. RUN sees the layers so
// far as a mounted union and what it changes is the next layer; COPY and ADD
// write a layer without a mount (package build/place); all others change the
// config alone.
//
// # Cache
//
// The key of a step is the digest of the state before it (layers and config),
// the instruction with its variables replaced, and the content of what it
// reads. A record under that key (imagestore.CacheRecord) names the layer that
// the step gave and when it was made, so that a build that finds all its steps
// gives the same image, bit by bit. No step is found behind one that gave
// another result than before, because the state before it differs.
//
// The package does not print: it tells what happens by events.
package dockerfile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/opencontainers/go-digest"

	"unio/build/source"
	"unio/imagestore"
)

// Options describe a build.
type Options struct {
	Dockerfile []byte
	Context    source.Tree // nil: there is none
	Tags       []string    // NAME[:TAG]
	Target     string      // name or number of the last stage to build; empty: the last
	Platform   string      // os/arch[/variant]; empty: this machine's

	// BuildArgs are the values of --build-arg; nil: given without a value that
	// could be found.
	BuildArgs map[string]*string
	Labels    map[string]string
	Secrets   map[string]Secret // by ID
	Network   string            // of RUN: "host", "none"; empty: the host's

	NoCache   bool
	CacheFrom []string // images whose steps are as good as the cache's
	Squash    bool     // make one layer of the new ones
	// Epoch, if not nil, is the time of all that the build makes, and the
	// latest time a file in its layers may have (SOURCE_DATE_EPOCH).
	Epoch *time.Time

	// Image finds an image by the name that FROM or --from gives; it pulls it
	// if it must. What it writes is shown as part of the step.
	Image func(ctx context.Context, name, platform string, say func(string)) (*imagestore.Image, error)
	// Run runs the program of a RUN; MountServer is the command line of a
	// process that calls layermount.Serve.
	Run         Runner
	MountServer []string
	RunRoot     string // folder for mount points

	Report func(Event) // called by several goroutines; nil: nothing is told
	Log    *slog.Logger
}

// Secret is a value for RUN --mount=type=secret.
type Secret struct {
	File string // read when it is needed
	Env  string // or the name of a variable of this process
}

// Result is what a build made.
type Result struct {
	Image *imagestore.Image
	// Existed says that the same image was in the store before.
	Existed bool
	// UnusedArgs are the names of build arguments that no ARG took.
	UnusedArgs []string
}

// ErrDockerfile is what errors wrap that are the Dockerfile's fault.
var ErrDockerfile = errors.New("bad Dockerfile")

// Build runs a Dockerfile and adds the image to the store. Errors about a
// certain line are of type [*LineError]. Nothing refers to the new image, and
// no name moves, before everything is complete.
//
// The store is held meanwhile: collection waits for the end of the build.
func Build(ctx context.Context, st *imagestore.Store, o Options) (*Result, error) {
	for _, tag := range o.Tags {
		if _, err := imagestore.ParseTag(tag); err != nil {
			return nil, fmt.Errorf("invalid argument %q for \"-t, --tag\" flag: %w", tag, err)
		}
	}
	if o.Report == nil {
		o.Report = func(Event) {}
	}
	if o.Context == nil {
		o.Context = emptyFolder{}
	}
	p, err := parse(&o)
	if err != nil {
		return nil, err
	}
	release, err := st.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	Sweep(st.Root(), o.RunRoot)
	b := &build{o: &o, st: st, plan: p, images: map[string]*pulled{}, slots: make(chan struct{}, runSlots())}
	if o.Epoch == nil {
		b.now = func() time.Time { return time.Now().UTC() }
	} else {
		b.now = func() time.Time { return o.Epoch.UTC() }
	}
	if b.cacheFrom, err = b.sources(ctx); err != nil {
		return nil, err
	}
	last, err := b.run(ctx)
	if err = errors.Join(err, b.close()); err != nil {
		return nil, err
	}
	res := &Result{UnusedArgs: p.args.unused()}
	return res, b.publish(ctx, last, res)
}

// publish adds the image of a finished stage.
func (b *build) publish(ctx context.Context, s *state, res *Result) error {
	if len(s.history) == 0 && len(s.layers) == 0 {
		return fmt.Errorf("%w: No image was generated. Is your Dockerfile empty?", ErrDockerfile)
	}
	if b.o.Squash {
		if err := b.squash(ctx, s); err != nil {
			return err
		}
	}
	config, err := s.marshal()
	if err != nil {
		return err
	}
	id := digest.FromBytes(config)
	_, err = b.st.Get(ctx, id)
	res.Existed = err == nil
	a := imagestore.NewImage{Config: config, Names: b.o.Tags}
	if s.base != nil && s.base.ID != id {
		a.Parent = s.base.ID
	}
	res.Image, err = b.st.AddImage(ctx, a)
	return err
}

// runSlots is how many programs of RUN may run at the same time.
func runSlots() int { return max(2, numCPU()) }

// close removes what the build needed while it ran.
func (b *build) close() error {
	var errs []error
	if b.mounter != nil {
		errs = append(errs, b.mounter.Close())
	}
	if b.scratch != nil {
		errs = append(errs, b.scratch.close())
	}
	return errors.Join(errs...)
}

func (b *build) logFile() *os.File {
	if b.o.Log != nil && b.o.Log.Enabled(context.Background(), slog.LevelDebug) {
		return os.Stderr
	}
	return nil
}
