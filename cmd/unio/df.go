package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/docker/go-units"
	"github.com/urfave/cli/v2"

	"unio/container"
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
	if !c.Bool("verbose") {
		return u.summary().print(e.stdout, format, false, u.summaryRows())
	}
	if format == "json" {
		return u.printJSON(e)
	}
	fmt.Fprint(e.stdout, "Images space usage:\n\n")
	if err := u.imageTable().print(e.stdout, format, false, u.imageRows()); err != nil {
		return err
	}
	fmt.Fprint(e.stdout, "\nContainers space usage:\n\n")
	if err := u.containerTable().print(e.stdout, format, false, u.containerRows()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(e.stdout, "\nGarbage: %s\n", size(u.Loose))
	return err
}

func size(n int64) string { return units.HumanSize(float64(n)) }

// diskUsage is what images and containers take.
type diskUsage struct {
	*imagestore.DiskUsage
	containers []containerUsage
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
	u := &diskUsage{}
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
	return u, nil
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

func (u *diskUsage) summaryRows() []any {
	images := &dfRow{kind: "Images", total: len(u.Images), bytes: u.Total, reclaimableBytes: u.Total - u.Active}
	for _, i := range u.Images {
		if i.Containers > 0 {
			images.active++
		}
	}
	containers := &dfRow{kind: "Containers", total: len(u.containers)}
	for _, c := range u.containers {
		containers.bytes += c.disk
		if c.mount != nil {
			containers.active++
		} else {
			containers.reclaimableBytes += c.disk
		}
	}
	garbage := &dfRow{kind: "Garbage", bytes: u.Loose, reclaimableBytes: u.Loose}
	cache := &dfRow{kind: "Build Cache", total: len(u.Cache.Records), bytes: u.Cache.Bytes, reclaimableBytes: u.Cache.Bytes}
	return []any{images, containers, cache, garbage}
}

// dfImage is a row of the image table.
type dfImage struct {
	imageRow
	use *imagestore.ImageUsage
}

func (r *dfImage) Size() string       { return size(r.use.Shared + r.use.Unique) }
func (r *dfImage) SharedSize() string { return size(r.use.Shared) }
func (r *dfImage) UniqueSize() string { return size(r.use.Unique) }
func (r *dfImage) Containers() string { return strconv.Itoa(r.use.Containers) }

func (u *diskUsage) imageTable() *listing {
	return &listing{
		standard: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
		headers:  imageHeaders(),
	}
}

func (u *diskUsage) imageRows() []any {
	var rows []any
	for i := range u.Images {
		use := &u.Images[i]
		row := imageRow{img: use.Image, repo: missing, tag: missing, digest: missing}
		if len(use.Names) > 0 {
			row.repo, row.tag = splitName(use.Names[0])
		}
		rows = append(rows, &dfImage{row, use})
	}
	return rows
}

// dfContainer is a row of the container table.
type dfContainer struct{ use *containerUsage }

func (r *dfContainer) ID() string         { return r.use.ShortID() }
func (r *dfContainer) Image() string      { return imageTitle(r.use.ImageName, r.use.Container.Image) }
func (r *dfContainer) Command() string    { return commandText(r.use.Container, false) }
func (r *dfContainer) Size() string       { return size(r.use.changed) }
func (r *dfContainer) CreatedAt() string  { return r.use.Created.String() }
func (r *dfContainer) RunningFor() string { return ago(r.use.Created) + " ago" }
func (r *dfContainer) Status() string     { return statusText(r.use.Container, r.use.mount) }
func (r *dfContainer) Names() string      { return r.use.Name }

func (u *diskUsage) containerTable() *listing {
	return &listing{
		standard: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
		headers: map[string]string{
			"ID": "CONTAINER ID", "Image": "IMAGE", "Command": "COMMAND", "Size": "SIZE",
			"CreatedAt": "CREATED AT", "RunningFor": "CREATED", "Status": "STATUS", "Names": "NAMES",
		},
	}
}

func (u *diskUsage) containerRows() []any {
	var rows []any
	for i := range u.containers {
		rows = append(rows, &dfContainer{&u.containers[i]})
	}
	return rows
}

// printJSON writes everything as one object.
func (u *diskUsage) printJSON(e *env) error {
	all := map[string]any{"Images": []any{}, "Containers": []any{}, "Garbage": size(u.Loose)}
	for name, rows := range map[string][]any{"Images": u.imageRows(), "Containers": u.containerRows()} {
		list := []any{}
		for _, r := range rows {
			list = append(list, fieldsOf(r))
		}
		all[name] = list
	}
	text, err := toJSON(all)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(e.stdout, text)
	return err
}
