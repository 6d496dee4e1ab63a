package main

import (
	"fmt"
	"time"

	"github.com/docker/go-units"
	"github.com/urfave/cli/v2"

	"unio/build/dockerfile"
	"unio/imagestore"
)

// builderGroup is "unio builder".
func builderGroup() *cli.Command {
	return group("builder", "Manage builds",
		buildCommand(),
		builderPruneCommand(),
	)
}

func builderPruneCommand() *cli.Command {
	return &cli.Command{
		Name:   "prune",
		Usage:  "Remove build cache",
		Before: noArgs,
		Action: builderPrune,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "Remove all unused build cache, not just dangling ones"},
			&cli.StringSliceFlag{Name: "filter", Usage: "Provide `filter` values (e.g. \"until=24h\")"},
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "Do not prompt for confirmation"},
			&cli.StringFlag{Name: "keep-storage", Usage: "Amount of disk space to keep for cache, in `bytes`"},
		},
	}
}

// builderPrune removes steps of builds that no image has, or all of them.
func builderPrune(c *cli.Context) error {
	e := envOf(c)
	o, err := builderPruneOptions(c)
	if err != nil {
		return err
	}
	if !c.Bool("force") {
		what := "all dangling build cache."
		if o.All {
			what = "all build cache."
		}
		if ok, err := confirm(c.Context, e, "WARNING! This will remove "+what+"\n"); !ok || err != nil {
			return err
		}
	}
	st, err := e.store()
	if err != nil {
		return err
	}
	dockerfile.Sweep(e.root, e.runRoot)
	removed, freed, err := st.PruneCache(c.Context, o)
	e.printRemovedSteps(removed)
	fmt.Fprintln(e.stdout, "Total reclaimed space:", units.HumanSize(float64(freed)))
	return err
}

// printRemovedSteps lists what was removed of the build cache.
func (e *env) printRemovedSteps(removed []imagestore.CacheRecord) {
	if len(removed) == 0 {
		return
	}
	const shown = 25 // hex digits, as many as docker's IDs of build cache have
	fmt.Fprintln(e.stdout, "Deleted build cache objects:")
	for _, r := range removed {
		fmt.Fprintln(e.stdout, r.Key.Encoded()[:shown])
	}
	fmt.Fprintln(e.stdout)
}

func builderPruneOptions(c *cli.Context) (o imagestore.CachePruneOptions, err error) {
	o.All = c.Bool("all")
	f, err := parseFilters(c, "until", "unused-for")
	if err != nil {
		return o, err
	}
	var until time.Time
	for _, v := range append(f["until"], f["unused-for"]...) {
		if until, err = parseMoment(v, time.Now()); err != nil {
			return o, err
		}
	}
	if !until.IsZero() {
		o.Keep = func(r imagestore.CacheRecord) bool { return !r.Used.Before(until) }
	}
	if text := c.String("keep-storage"); text != "" {
		if o.Space, err = units.RAMInBytes(text); err != nil {
			return o, badFlagValue(c, text, "--keep-storage", err)
		}
	}
	return o, nil
}
