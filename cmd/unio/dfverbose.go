package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/docker/go-units"

	"unio/imagestore"
)

// printTables is "system df -v": a table for each kind of thing.
func (u *diskUsage) printTables(w io.Writer) error {
	for _, part := range []struct {
		title string
		table *listing
		rows  []any
	}{
		{"Images space usage:", imageUsageTable(), u.imageRows(false)},
		{"\nContainers space usage:", containerUsageTable(), u.containerRows(false)},
		{"\nLocal Volumes space usage:", volumeUsageTable(), u.volumeRows()},
		{"\nBuild cache usage: " + size(u.Cache.Bytes), cacheUsageTable(), u.cacheRows()},
	} {
		fmt.Fprintf(w, "%s\n\n", part.title)
		if err := part.table.print(w, "", false, part.rows); err != nil {
			return err
		}
	}
	if u.Loose == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "\nGarbage: %s\n", size(u.Loose))
	return err
}

// printAll runs a template on everything at once, as docker does; the names
// are docker's.
func (u *diskUsage) printAll(w io.Writer, format string) error {
	text := strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(format)
	tmpl, err := template.New("").Funcs(templateFuncs()).Parse(text)
	if err != nil {
		return templateError(err)
	}
	all := struct{ Images, Containers, Volumes, BuildCache []map[string]any }{
		listFields(u.imageRows(true)), listFields(u.containerRows(true)), listFields(u.volumeRows()), listFields(u.cacheRows()),
	}
	if err := tmpl.Execute(w, all); err != nil {
		return templateError(err)
	}
	return nil
}

func listFields(rows []any) []map[string]any {
	list := []map[string]any{}
	for _, row := range rows {
		list = append(list, fieldsOf(row))
	}
	return list
}

// dfImage is a row of the image table.
type dfImage struct {
	imageRow
	use *imagestore.ImageUsage
}

func (r *dfImage) Size() string        { return size(r.use.Shared + r.use.Unique) }
func (r *dfImage) VirtualSize() string { return r.Size() }
func (r *dfImage) SharedSize() string  { return size(r.use.Shared) }
func (r *dfImage) UniqueSize() string  { return size(r.use.Unique) }
func (r *dfImage) Containers() string  { return strconv.Itoa(r.use.Containers) }

func imageUsageTable() *listing {
	return &listing{
		standard: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
		headers:  imageHeaders(),
	}
}

func (u *diskUsage) imageRows(long bool) []any {
	var rows []any
	for i := range u.Images {
		use := &u.Images[i]
		row := imageRow{img: use.Image, repo: missing, tag: missing, long: long}
		if len(use.Names) > 0 {
			row.repo, row.tag = splitName(use.Names[0])
		}
		rows = append(rows, &dfImage{row, use})
	}
	return rows
}

// dfContainer is a row of the container table.
type dfContainer struct{ containerRow }

// Size is what the container changed.
func (r *dfContainer) Size() string { return size(r.changed) }

func containerUsageTable() *listing {
	return &listing{
		standard: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
		headers: map[string]string{
			"ID": "CONTAINER ID", "Image": "IMAGE", "Command": "COMMAND", "LocalVolumes": "LOCAL VOLUMES", "Size": "SIZE",
			"RunningFor": "CREATED", "Status": "STATUS", "Names": "NAMES",
		},
	}
}

func (u *diskUsage) containerRows(long bool) []any {
	var rows []any
	for _, c := range u.containers {
		rows = append(rows, &dfContainer{containerRow{c: c.Container, mount: c.mount, whole: long, changed: c.changed}})
	}
	return rows
}

// dfVolume is a row of the volume table.
type dfVolume struct {
	volumeRow
	use *volumeUsage
}

// Links is how many containers have the volume.
func (r *dfVolume) Links() string { return strconv.Itoa(r.use.links) }

// Size is what it takes on disk.
func (r *dfVolume) Size() string { return size(r.use.bytes) }

func volumeUsageTable() *listing {
	return &listing{
		standard: "{{.Name}}\t{{.Links}}\t{{.Size}}",
		headers:  map[string]string{"Name": "VOLUME NAME", "Links": "LINKS", "Size": "SIZE"},
	}
}

func (u *diskUsage) volumeRows() []any {
	var rows []any
	for i := range u.volumes {
		use := &u.volumes[i]
		rows = append(rows, &dfVolume{volumeRow{v: use.Volume}, use})
	}
	return rows
}

// dfCache is a row of the table of build steps.
type dfCache struct {
	step  imagestore.CacheRecord
	bytes int64
}

// ID is the short form of the step's key.
func (r *dfCache) ID() string { return imagestore.ShortID(r.step.Key) }

// CacheType is BuildKit's word for the result of a step.
func (r *dfCache) CacheType() string { return "regular" }

// Description is the instruction.
func (r *dfCache) Description() string { return r.step.Title }

// Size is that of the step's layer.
func (r *dfCache) Size() string { return size(r.bytes) }

// CreatedSince says when the step was run.
func (r *dfCache) CreatedSince() string { return since(&r.step.Created) }

// LastUsedSince says when a build last began from it.
func (r *dfCache) LastUsedSince() string {
	return units.HumanDuration(time.Since(r.step.Used)) + " ago"
}

func cacheUsageTable() *listing {
	return &listing{
		standard: "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}",
		headers: map[string]string{
			"ID": "CACHE ID", "CacheType": "CACHE TYPE", "Description": "DESCRIPTION", "Size": "SIZE",
			"CreatedSince": "CREATED", "LastUsedSince": "LAST USED",
		},
	}
}

func (u *diskUsage) cacheRows() []any {
	var rows []any
	for _, step := range u.Cache.Records {
		row := &dfCache{step: step}
		if n, err := u.store.Blobs().Size(step.Layer); step.Layer != "" && err == nil {
			row.bytes = n // a step without a layer, or whose layer is gone, has none
		}
		rows = append(rows, row)
	}
	return rows
}
