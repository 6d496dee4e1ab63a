package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
	"github.com/urfave/cli/v2"

	"unio/container"
)

func psCommand() *cli.Command {
	return &cli.Command{
		Name:  "ps",
		Usage: "List containers",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "Show all containers (default shows just running)"},
			&cli.StringSliceFlag{Name: "filter", Aliases: []string{"f"}, Usage: "Filter output based on conditions provided"},
			&cli.StringFlag{Name: "format", Usage: "Format output: \"table\", \"table TEMPLATE\", \"json\", or a Go\ntemplate"},
			&cli.IntFlag{Name: "last", Aliases: []string{"n"}, Value: -1, Usage: "Show n last created containers (includes all states)\n(default -1)"},
			&cli.BoolFlag{Name: "latest", Aliases: []string{"l"}, Usage: "Show the latest created container (includes all states)"},
			&cli.BoolFlag{Name: "no-trunc", Usage: "Don't truncate output"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "Only display container IDs"},
			&cli.BoolFlag{Name: "size", Aliases: []string{"s"}, Usage: "Display total file sizes"},
		},
		Before: noArgs,
		Action: listContainers,
	}
}

// isContainerList knows the commands that list containers or volumes.
func isContainerList(c *cli.Command) bool {
	return c.Usage == "List containers" || c.Usage == "List volumes"
}

func listContainers(c *cli.Context) error {
	e := envOf(c)
	given, err := parseFilters(c, "ancestor", "before", "exited", "expose", "health", "id", "is-task", "label",
		"name", "network", "publish", "since", "status", "volume")
	if err != nil {
		return err
	}
	if err := tryTemplate(c.String("format")); err != nil {
		return err
	}
	list, err := e.containers().List()
	if err != nil {
		return err
	}
	f, err := newContainerFilter(c.Context, e, given, list)
	if err != nil {
		return err
	}
	last := c.Int("last")
	if c.Bool("latest") {
		last = 1
	}
	l := &containerLister{
		e: e, all: c.Bool("all") || last > 0 || f.anyState, last: last, whole: c.Bool("no-trunc"),
		sizes: c.Bool("size") || strings.Contains(c.String("format"), ".Size"),
	}
	rows, err := l.rows(c.Context, list, f)
	if err != nil {
		return err
	}
	standard := "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"
	if c.Bool("size") {
		standard += "\t{{.Size}}"
	}
	return (&listing{
		standard: standard, quiet: "{{.ID}}", whole: c.Bool("no-trunc"),
		raw: "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{.State}}\n" +
			"status: {{.Status}}\nnames: {{.Names}}\nlabels: {{.Labels}}\nports: {{.Ports}}\n",
		rawQuiet: "container_id: {{.ID}}",
		headers: map[string]string{
			"ID": "CONTAINER ID", "Names": "NAMES", "Image": "IMAGE", "Command": "COMMAND", "CreatedAt": "CREATED AT",
			"RunningFor": "CREATED", "Ports": "PORTS", "State": "STATE", "Status": "STATUS", "Size": "SIZE",
			"Labels": "LABELS", "Mounts": "MOUNTS", "LocalVolumes": "LOCAL VOLUMES", "Networks": "NETWORKS", "Platform": "PLATFORM",
		},
	}).print(e.stdout, c.String("format"), c.Bool("quiet"), rows)
}

// tryTemplate runs a template on an empty row before anything is looked up, as
// docker's client does to see whether it asks for sizes.
func tryTemplate(format string) error {
	text, _ := strings.CutPrefix(format, "table ")
	tmpl, err := template.New("").Funcs(templateFuncs()).Parse(text)
	if err != nil {
		return nil //nolint:nilerr // the list itself will say so
	}
	row := &containerRow{c: &container.Container{Record: container.Record{ID: strings.Repeat("0", 64), Image: digest.FromString("")}}}
	if err := tmpl.Execute(io.Discard, row); err != nil {
		return plainly(fmt.Errorf("failed to execute template: %w", err))
	}
	return nil
}

// containerLister makes the rows of "ps".
type containerLister struct {
	e                 *env
	all, whole, sizes bool
	last              int // how many at most; less than 1: all
}

func (l *containerLister) rows(ctx context.Context, list []*container.Container, f *containerFilter) ([]any, error) {
	cs := l.e.containers()
	mounts, err := cs.Mounts()
	if err != nil {
		return nil, err
	}
	mounted := map[string]*container.Mount{}
	for _, m := range mounts {
		mounted[m.Container] = m
	}
	rows := []any{}
	for _, one := range list {
		m := mounted[one.ID]
		if !l.all && !one.State.Active() && m == nil || !f.matches(one) {
			continue
		}
		row := &containerRow{c: one, mount: m, whole: l.whole, sizes: l.sizes, moved: l.moved(ctx, one)}
		if l.sizes {
			if row.changed, row.image, err = l.sizeOf(ctx, one); err != nil {
				return nil, err
			}
		}
		if rows = append(rows, row); len(rows) == l.last {
			break
		}
	}
	return rows, nil
}

// sizeOf is what a container changed, and the size of its image, in bytes.
func (l *containerLister) sizeOf(ctx context.Context, c *container.Container) (changed, image int64, err error) {
	if _, changed, err = l.e.containers().Size(c); err != nil {
		return 0, 0, err
	}
	st, err := l.e.store()
	if err != nil {
		return 0, 0, err
	}
	img, err := st.Get(ctx, c.Image)
	if err != nil {
		return changed, 0, nil //nolint:nilerr // an image that was removed by force has no size
	}
	image, err = st.ImageSize(ctx, img)
	return changed, image, err
}

// moved reports whether the name that a container was made by is no longer that
// of its image.
func (l *containerLister) moved(ctx context.Context, c *container.Container) bool {
	if c.Image == "" || c.ImageName == "" {
		return false
	}
	st, err := l.e.store()
	if err != nil {
		return false
	}
	img, err := st.Lookup(ctx, c.ImageName)
	return err != nil || img.ID != c.Image
}

// containerRow is one container; its methods are what templates may use.
type containerRow struct {
	c              *container.Container
	mount          *container.Mount // nil: not mounted
	whole, sizes   bool
	moved          bool // the name of the image stands for another one now, or for none
	changed, image int64
}

// ID is the container's, cut to what is shown.
func (r *containerRow) ID() string {
	if r.whole {
		return r.c.ID
	}
	return r.c.ShortID()
}

// Names is the container's name.
func (r *containerRow) Names() string { return r.c.Name }

// Image is the image as the user called it, or its ID if the name has moved.
func (r *containerRow) Image() string {
	switch {
	case !r.moved:
		return imageTitle(r.c.ImageName, r.c.Image)
	case r.whole:
		return r.c.Image.String()
	}
	return imageTitle("", r.c.Image)
}

// Command is the program with its arguments, in quotes.
func (r *containerRow) Command() string { return commandText(r.c, r.whole) }

// commandText is a container's command in quotes, cut as docker cuts it.
func commandText(c *container.Container, whole bool) string {
	text := commandLine(c)
	if !whole {
		text = ellipsis(text, commandWidth)
	}
	return strconv.Quote(text)
}

// commandWidth is how many characters of a command are shown.
const commandWidth = 20

// CreatedAt is the time in full.
func (r *containerRow) CreatedAt() string {
	return r.c.Created.Local().Format("2006-01-02 15:04:05 -0700 MST")
}

// RunningFor is how long ago it was created.
func (r *containerRow) RunningFor() string { return ago(r.c.Created) + " ago" }

// Ports is empty: there is no network of containers whose ports could be
// published.
func (r *containerRow) Ports() string { return "" }

// State is one word.
func (r *containerRow) State() string {
	if !r.c.State.Active() && r.mount != nil {
		return "mounted"
	}
	return r.c.State.Word()
}

// Status is the state in words.
func (r *containerRow) Status() string { return statusText(r.c, r.mount) }

// Size is what the container changed.
func (r *containerRow) Size() string {
	text := units.HumanSizeWithPrecision(float64(r.changed), 3)
	if r.image > 0 {
		text += fmt.Sprintf(" (virtual %s)", units.HumanSizeWithPrecision(float64(r.changed+r.image), 3))
	}
	return text
}

// Labels lists all labels.
func (r *containerRow) Labels() string { return joinLabels(r.c.Config.Labels) }

// Label is the value of one label.
func (r *containerRow) Label(name string) string { return r.c.Config.Labels[name] }

// Mounts lists the volumes and folders that are mounted into it.
func (r *containerRow) Mounts() string {
	var list []string
	for _, m := range r.c.Mounts {
		name := m.Name
		if name == "" {
			name = m.Source
		}
		if !r.whole {
			name = ellipsis(name, 15)
		}
		list = append(list, name)
	}
	return strings.Join(list, ",")
}

// LocalVolumes counts the volumes.
func (r *containerRow) LocalVolumes() string {
	n := 0
	for _, m := range r.c.Mounts {
		if m.Type == "volume" {
			n++
		}
	}
	return strconv.Itoa(n)
}

// Networks is host or none.
func (r *containerRow) Networks() string { return r.c.Host.NetworkMode }

// Platform is what the container was created for, if that is known.
func (r *containerRow) Platform() any { return nil }

// statusText is what a container does, with times; m is its mount, if any.
func statusText(c *container.Container, m *container.Mount) string {
	s := &c.State
	switch {
	case s.Paused:
		return "Up " + ago(s.StartedAt) + " (Paused)"
	case s.Running():
		return "Up " + ago(s.StartedAt)
	case s.Status == container.StatusRestarting:
		return fmt.Sprintf("Restarting (%d) %s ago", s.ExitCode, ago(s.FinishedAt))
	case m != nil && m.Dead:
		return "Dead"
	case m != nil:
		return "Up " + ago(m.Created) + " (mounted)"
	case s.Status == container.StatusExited:
		return fmt.Sprintf("Exited (%d) %s ago", s.ExitCode, ago(s.FinishedAt))
	}
	return "Created"
}

func ago(t time.Time) string { return units.HumanDuration(time.Since(t)) }

// commandLine is what a container runs, with quotes where a shell needs them,
// as docker shows it.
func commandLine(c *container.Container) string {
	words := append(append([]string{}, c.Config.Entrypoint...), c.Config.Cmd...)
	for i, w := range words {
		if strings.ContainsRune(w, ' ') {
			words[i] = "'" + w + "'"
		}
	}
	return strings.Join(words, " ")
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
