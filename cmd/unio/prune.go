package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/urfave/cli/v2"

	"unio/build/dockerfile"
	"unio/container"
	"unio/container/volume"
	"unio/imagestore"
)

// pruneFlags are those of every prune command.
func pruneFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "filter", Usage: "Provide `filter` values (e.g. \"until=<timestamp>\")"},
		&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "Do not prompt for confirmation"},
	}
}

func imagePruneCommand() *cli.Command {
	return &cli.Command{
		Name:   "prune",
		Usage:  "Remove unused images",
		Before: noArgs,
		Flags: append(pruneFlags(),
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "Remove all unused images, not just dangling ones"}),
		Action: func(c *cli.Context) error {
			what := "all dangling images."
			if c.Bool("all") {
				what = "all images without at least one container associated to them."
			}
			p, err := newPruner(c, "dangling", "label", "label!", "until")
			if err != nil {
				return err
			}
			return p.ask("WARNING! This will remove "+what+"\n", p.images)
		},
	}
}

func containerPruneCommand() *cli.Command {
	return &cli.Command{
		Name:   "prune",
		Usage:  "Remove all stopped containers",
		Before: noArgs,
		Flags:  pruneFlags(),
		Action: func(c *cli.Context) error {
			p, err := newPruner(c, "label", "label!", "until")
			if err != nil {
				return err
			}
			return p.ask("WARNING! This will remove all stopped containers.\n", p.containers)
		},
	}
}

func systemPruneCommand() *cli.Command {
	return &cli.Command{
		Name:   "prune",
		Usage:  "Remove unused data",
		Before: noArgs,
		Flags: append(pruneFlags(),
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "Remove all unused images not just dangling ones"},
			&cli.BoolFlag{Name: "volumes", Usage: "Prune anonymous volumes"}),
		Action: systemPrune,
	}
}

func systemPrune(c *cli.Context) error {
	p, err := newPruner(c, "label", "label!", "until")
	if err != nil {
		return err
	}
	if c.Bool("volumes") && len(p.f["until"]) > 0 {
		return refuse(`ERROR: The "until" filter is not supported with "--volumes"`)
	}
	steps := []func(context.Context) error{p.containers, p.images, p.buildCache}
	if c.Bool("volumes") {
		steps = slices.Insert(steps, 1, p.anonymousVolumes)
	}
	return p.ask(systemPruneWarning(c), steps...)
}

// systemPruneWarning lists what is about to go, in docker's words.
func systemPruneWarning(c *cli.Context) string {
	lines := []string{"WARNING! This will remove:", "  - all stopped containers"}
	if c.Bool("volumes") {
		lines = append(lines, "  - all anonymous volumes not used by at least one container")
	}
	if c.Bool("all") {
		lines = append(lines, "  - all images without at least one container associated to them", "  - all build cache")
	} else {
		lines = append(lines, "  - all dangling images", "  - unused build cache")
	}
	if given := c.StringSlice("filter"); len(given) > 0 {
		lines = append(lines, "", "  Items to be pruned will be filtered with:")
		for _, f := range given {
			lines = append(lines, "  - "+f)
		}
	}
	return strings.Join(lines, "\n") + "\n\n"
}

// pruner removes what is not needed and counts what that frees.
type pruner struct {
	c     *cli.Context
	e     *env
	all   bool
	f     filters
	until time.Time
	freed int64
}

func newPruner(c *cli.Context, allowed ...string) (*pruner, error) {
	f, err := parseFilters(c, allowed...)
	if err != nil {
		return nil, err
	}
	p := &pruner{c: c, e: envOf(c), all: c.Bool("all"), f: f}
	if len(f["until"]) > 1 {
		return nil, errors.New("more than one until filter specified")
	}
	for _, v := range f["until"] {
		if p.until, err = parseMoment(v, time.Now()); err != nil {
			return nil, err
		}
	}
	dangling, err := f.yesOrNo("dangling")
	if dangling != nil && !*dangling {
		p.all = true
	}
	return p, err
}

// ask runs the steps if the user agrees, and prints what they have freed.
func (p *pruner) ask(warning string, steps ...func(context.Context) error) error {
	if !p.c.Bool("force") {
		ok, err := confirm(p.c.Context, p.e, warning)
		if !ok || err != nil {
			return err
		}
	}
	var errs []error
	for _, step := range steps {
		errs = append(errs, step(p.c.Context))
	}
	fmt.Fprintln(p.e.stdout, "Total reclaimed space:", units.HumanSize(float64(p.freed)))
	return errors.Join(errs...)
}

// confirm shows a warning and reports whether the answer is yes. No answer is
// a no.
func confirm(ctx context.Context, e *env, warning string) (bool, error) {
	answer, err := e.ask(ctx, warning+"Are you sure you want to continue? [y/N] ")
	return strings.EqualFold(strings.TrimSpace(answer), "y"), err
}

// spares reports whether the filters keep something of this age and with
// these labels.
func (p *pruner) spares(created time.Time, labels map[string]string) bool {
	if !p.until.IsZero() && !created.Before(p.until) {
		return true
	}
	if !hasLabels(labels, p.f["label"]) {
		return true
	}
	// As docker has it, what must be absent spares only those that have all of it.
	absent := p.f["label!"]
	return len(absent) > 0 && hasLabels(labels, absent)
}

func (p *pruner) images(ctx context.Context) error {
	st, err := p.e.store()
	if err != nil {
		return err
	}
	done, err := st.Prune(ctx, imagestore.PruneOptions{
		All:  p.all,
		Keep: func(i *imagestore.Image) bool { return p.spares(i.Config.CreatedAt(), i.Config.Config.Labels) },
	})
	if len(done.Removed) > 0 {
		fmt.Fprintln(p.e.stdout, "Deleted Images:")
	}
	for _, r := range done.Removed {
		if r.Untagged != "" {
			fmt.Fprintln(p.e.stdout, "untagged:", r.Untagged)
		} else {
			fmt.Fprintln(p.e.stdout, "deleted:", r.Deleted)
		}
	}
	if len(done.Removed) > 0 {
		fmt.Fprintln(p.e.stdout)
	}
	p.freed += done.Bytes
	return err
}

func (p *pruner) containers(ctx context.Context) error {
	cs := p.e.containers()
	list, err := cs.List()
	if err != nil {
		return err
	}
	var errs []error
	any := false
	for _, one := range list {
		if p.spares(one.Created, one.Config.Labels) {
			continue
		}
		size, _, err := cs.Size(one)
		if err == nil {
			err = cs.Remove(ctx, one, container.RemoveOptions{})
		}
		if errors.Is(err, container.ErrMounted) || errors.Is(err, container.ErrRunning) {
			continue // it is in use
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !any {
			fmt.Fprintln(p.e.stdout, "Deleted Containers:")
		}
		any = true
		p.freed += size
		fmt.Fprintln(p.e.stdout, one.ID)
	}
	if any {
		fmt.Fprintln(p.e.stdout)
	}
	return errors.Join(errs...)
}

// buildCache removes steps of builds: those that no image has, or all.
func (p *pruner) buildCache(ctx context.Context) error {
	st, err := p.e.store()
	if err != nil {
		return err
	}
	o := imagestore.CachePruneOptions{All: p.all}
	if !p.until.IsZero() {
		o.Keep = func(r imagestore.CacheRecord) bool { return !r.Used.Before(p.until) }
	}
	dockerfile.Sweep(p.e.root, p.e.runRoot)
	removed, freed, err := st.PruneCache(ctx, o)
	p.freed += freed
	p.e.printRemovedSteps(removed)
	return err
}

// anonymousVolumes is volumes without those that have a name, --all or not.
func (p *pruner) anonymousVolumes(ctx context.Context) error {
	anonymous := *p
	anonymous.all = false
	err := anonymous.volumes(ctx)
	p.freed = anonymous.freed
	return err
}

// volumes removes the volumes that no container needs.
func (p *pruner) volumes(ctx context.Context) error {
	users, err := p.e.volumeUsers()
	if err != nil {
		return err
	}
	volumes := volume.Open(p.e.root)
	list, err := volumes.List()
	if err != nil {
		return err
	}
	var errs []error
	var done []string
	for _, v := range list {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if len(users[v.Name]) > 0 || !v.Anonymous && !p.all || p.spares(v.Created, v.Labels) {
			continue
		}
		size, err := v.Size()
		if err == nil {
			err = volumes.Remove(v.Name, nil)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		p.freed += size
		done = append(done, v.Name)
	}
	if len(done) > 0 {
		fmt.Fprintf(p.e.stdout, "Deleted Volumes:\n%s\n\n", strings.Join(done, "\n"))
	}
	return errors.Join(errs...)
}
