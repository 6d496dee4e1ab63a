package main

import (
	"cmp"
	"fmt"
	"strconv"

	"github.com/urfave/cli/v2"

	"unio/imagestore/registry"
)

func searchCommand() *cli.Command {
	return &cli.Command{
		Name:      "search",
		Usage:     "Search Docker Hub, or the registry that TERM begins with, for images",
		ArgsUsage: "TERM",
		Before:    exactArgs(1),
		Action:    search,
		Flags: append(registryFlags(),
			&cli.StringSliceFlag{Name: "filter", Aliases: []string{"f"}, Usage: "Filter output based on conditions provided"},
			&cli.StringFlag{Name: "format", Usage: "Pretty-print search using a Go template"},
			&cli.IntFlag{Name: "limit", Usage: "Max number of search results"},
			&cli.BoolFlag{Name: "no-trunc", Usage: "Don't truncate output"},
		),
	}
}

const (
	defaultFound = 25
	mostFound    = 100
)

func search(c *cli.Context) error {
	keep, err := searchFilter(c)
	if err != nil {
		return err
	}
	limit := cmp.Or(c.Int("limit"), defaultFound)
	if limit < 1 || limit > mostFound {
		return fmt.Errorf("limit %d is outside the range of [1, %d]", limit, mostFound)
	}
	e := envOf(c)
	client, err := registryClient(c, nil)
	if err != nil {
		return err
	}
	found, err := client.Search(c.Context, c.Args().First(), limit)
	if err != nil {
		return err
	}
	var rows []any
	for _, f := range found {
		if keep(&f) {
			rows = append(rows, &foundRow{f, c.Bool("no-trunc")})
		}
	}
	l := &listing{
		standard: "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}",
		headers: map[string]string{
			"Name": "NAME", "Description": "DESCRIPTION", "StarCount": "STARS", "IsOfficial": "OFFICIAL",
		},
		whole: c.Bool("no-trunc"),
	}
	return l.print(e.stdout, c.String("format"), false, rows)
}

// searchFilter understands docker's filters of searches.
func searchFilter(c *cli.Context) (keep func(*registry.Found) bool, err error) {
	f, err := parseFilters(c, "is-official", "is-automated", "stars")
	if err != nil {
		return nil, err
	}
	stars := 0
	for _, v := range f["stars"] {
		n, err := strconv.Atoi(v)
		if err != nil {
			return nil, fmt.Errorf("invalid filter 'stars=%s'", v)
		}
		stars = max(stars, n)
	}
	if len(f["is-automated"]) > 0 {
		envOf(c).warn(`WARNING: the "is-automated" filter is deprecated, and searching for "is-automated=true" will not yield any results in future.`)
	}
	flags := map[string]*bool{}
	for _, name := range []string{"is-official", "is-automated"} {
		for _, v := range f[name] {
			b, err := strconv.ParseBool(v)
			if err != nil {
				return nil, fmt.Errorf("invalid filter '%s=[%s]'", name, v)
			}
			flags[name] = &b
		}
	}
	is := func(name string, have bool) bool { return flags[name] == nil || *flags[name] == have }
	return func(r *registry.Found) bool {
		return r.StarCount >= stars && is("is-official", r.IsOfficial) && is("is-automated", r.IsAutomated)
	}, nil
}

// foundRow is one row; its methods are what templates may use.
type foundRow struct {
	f    registry.Found
	long bool
}

const descriptionWidth = 45

func (r *foundRow) Name() string      { return r.f.Name }
func (r *foundRow) StarCount() string { return strconv.Itoa(r.f.StarCount) }
func (r *foundRow) Description() string {
	if r.long {
		return r.f.Description
	}
	return ellipsis(r.f.Description, descriptionWidth)
}

func (r *foundRow) IsOfficial() string {
	if r.f.IsOfficial {
		return "[OK]"
	}
	return ""
}

// fields are docker's, where a flag is a word.
func (r *foundRow) fields() map[string]any {
	return map[string]any{
		"Name": r.Name(), "Description": r.Description(), "StarCount": r.StarCount(),
		"IsOfficial": strconv.FormatBool(r.f.IsOfficial),
	}
}
