package main

import (
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
	"github.com/urfave/cli/v2"

	"unio/container"
)

func psCommand() *cli.Command {
	return &cli.Command{
		Name:      "ps",
		Usage:     "List containers",
		ArgsUsage: "",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "Show all containers (default shows just those in use)"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "Only display container IDs"},
			&cli.BoolFlag{Name: "no-trunc", Usage: "Don't truncate output"},
		},
		Before: noArgs,
		Action: listContainers,
	}
}

func listContainers(c *cli.Context) error {
	e := envOf(c)
	cs := e.containers()
	list, err := cs.List()
	if err != nil {
		return err
	}
	mounts, err := cs.Mounts()
	if err != nil {
		return err
	}
	mounted := map[string]*container.Mount{}
	for _, m := range mounts {
		mounted[m.Container] = m
	}
	w := tabwriter.NewWriter(e.stdout, 0, 0, 3, ' ', 0)
	if !c.Bool("quiet") {
		fmt.Fprintln(w, "CONTAINER ID\tIMAGE\tCOMMAND\tCREATED\tSTATUS\tPORTS\tNAMES")
	}
	for _, one := range list {
		if c.Bool("all") || mounted[one.ID] != nil {
			fmt.Fprintln(w, containerRow(one, mounted[one.ID], c.Bool("no-trunc"), c.Bool("quiet")))
		}
	}
	return w.Flush()
}

// containerRow is one line of the list, its columns separated by tabs.
func containerRow(c *container.Container, m *container.Mount, whole, quiet bool) string {
	id, command := c.ShortID(), commandText(c, whole)
	if whole {
		id = c.ID
	}
	if quiet {
		return id
	}
	return strings.Join([]string{
		id, imageTitle(c.ImageName, c.Image), command, ago(c.Created) + " ago", statusText(m), "", c.Name,
	}, "\t")
}

// statusText says whether a container is mounted; m is its mount, if any.
func statusText(m *container.Mount) string {
	switch {
	case m == nil:
		return "Created"
	case m.Dead:
		return "Dead"
	}
	return "Up " + ago(m.Created) + " (mounted)"
}

func ago(t time.Time) string { return units.HumanDuration(time.Since(t)) }

// commandText is a container's command in quotes, cut as docker cuts it.
func commandText(c *container.Container, whole bool) string {
	const most = 20 // characters, quotes included
	text := strings.Join(append(append([]string{}, c.Config.Entrypoint...), c.Config.Cmd...), " ")
	if !whole && utf8.RuneCountInString(text) > most-2 {
		text = string([]rune(text)[:most-3]) + "…"
	}
	return strconv.Quote(text)
}

// imageTitle is an image as the user called it, or the short form of its ID.
func imageTitle(name string, id digest.Digest) string {
	if id == "" { // plain folders
		return name
	}
	if name != "" && !strings.HasPrefix(id.Encoded(), name) && !strings.HasPrefix(id.String(), name) {
		return name
	}
	return id.Encoded()[:12]
}
