package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/docker/go-units"
	"github.com/urfave/cli/v2"

	"unio/container"
	"unio/container/volume"
	"unio/imagestore"
)

func systemDfCommand() *cli.Command {
	return &cli.Command{
		Name:   "df",
		Usage:  "Show the disk usage of images and containers",
		Before: noArgs,
		Action: systemDf,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "format", Usage: "Format output: \"table\", \"table TEMPLATE\", \"json\", or a Go\ntemplate"},
			&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "Show detailed information on space usage"},
		},
	}
}

// systemDf shows what is on disk, compressed and uncompressed forms of layers
// and their indexes included.
func systemDf(c *cli.Context) error {
	e := envOf(c)
	u, err := e.diskUsage(c.Context)
	if err != nil {
		return err
	}
	format := c.String("format")
	switch {
	case !c.Bool("verbose"):
		return u.summary().print(e.stdout, format, false, u.summaryRows())
	case format == "" || format == "table":
		return u.printTables(e.stdout)
	case format == "json":
		format = "{{json .}}"
	}
	return u.printAll(e.stdout, format)
}

func size(n int64) string { return units.HumanSize(float64(n)) }

// diskUsage is what images and containers take.
type diskUsage struct {
	*imagestore.DiskUsage
	store      *imagestore.Store
	containers []containerUsage
	volumes    []volumeUsage
}

type containerUsage struct {
	*container.Container
	disk, changed int64
	mount         *container.Mount // nil: not mounted
}

func (e *env) diskUsage(ctx context.Context) (*diskUsage, error) {
	st, err := e.store()
	if err != nil {
		return nil, err
	}
	u := &diskUsage{store: st}
	if u.DiskUsage, err = st.DiskUsage(ctx); err != nil {
		return nil, err
	}
	cs := e.containers()
	list, err := cs.List()
	if err != nil {
		return nil, err
	}
	mounts, err := cs.Mounts()
	if err != nil {
		return nil, err
	}
	mounted := map[string]*container.Mount{}
	for _, m := range mounts {
		mounted[m.Container] = m
	}
	for _, c := range list {
		one := containerUsage{Container: c, mount: mounted[c.ID]}
		if one.disk, one.changed, err = cs.Size(c); err != nil {
			return nil, err
		}
		u.containers = append(u.containers, one)
	}
	u.volumes, err = e.volumeUsage()
	return u, err
}

// volumeUsage is what one volume takes, and how many containers have it.
type volumeUsage struct {
	*volume.Volume
	bytes int64
	links int
}

func (e *env) volumeUsage() ([]volumeUsage, error) {
	users, err := e.volumeUsers()
	if err != nil {
		return nil, err
	}
	list, err := volume.Open(e.root).List()
	if err != nil {
		return nil, err
	}
	var usage []volumeUsage
	for _, v := range list {
		n, err := v.Size()
		if err != nil {
			return nil, err
		}
		usage = append(usage, volumeUsage{v, n, len(users[v.Name])})
	}
	return usage, nil
}

// dfRow is one kind of thing in the summary.
type dfRow struct {
	kind                    string
	total, active           int
	bytes, reclaimableBytes int64
}

func (r *dfRow) Type() string       { return r.kind }
func (r *dfRow) TotalCount() string { return strconv.Itoa(r.total) }
func (r *dfRow) Active() string     { return strconv.Itoa(r.active) }
func (r *dfRow) Size() string       { return size(r.bytes) }
func (r *dfRow) Reclaimable() string {
	if r.bytes == 0 {
		return size(r.reclaimableBytes)
	}
	return fmt.Sprintf("%s (%d%%)", size(r.reclaimableBytes), r.reclaimableBytes*100/r.bytes)
}

func (u *diskUsage) summary() *listing {
	return &listing{
		standard: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
		headers: map[string]string{
			"Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE",
		},
	}
}

// summaryRows are docker's four kinds of things, and what belongs to none of
// them, if there is any.
func (u *diskUsage) summaryRows() []any {
	images := &dfRow{kind: "Images", total: len(u.Images), bytes: u.Total, reclaimableBytes: u.Total - u.Active}
	for _, i := range u.Images {
		if i.Containers > 0 {
			images.active++
		}
	}
	containers := &dfRow{kind: "Containers", total: len(u.containers)}
	for _, c := range u.containers {
		containers.add(c.disk, c.mount != nil || c.State.Active())
	}
	volumes := &dfRow{kind: "Local Volumes", total: len(u.volumes)}
	for _, v := range u.volumes {
		volumes.add(v.bytes, v.links > 0)
	}
	cache := &dfRow{kind: "Build Cache", total: len(u.Cache.Records), bytes: u.Cache.Bytes, reclaimableBytes: u.Cache.Bytes}
	rows := []any{images, containers, volumes, cache}
	if u.Loose > 0 {
		rows = append(rows, &dfRow{kind: "Garbage", bytes: u.Loose, reclaimableBytes: u.Loose})
	}
	return rows
}

// add counts one thing, which nothing reclaims while it is active.
func (r *dfRow) add(bytes int64, active bool) {
	r.bytes += bytes
	if active {
		r.active++
	} else {
		r.reclaimableBytes += bytes
	}
}
