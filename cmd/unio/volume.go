package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/urfave/cli/v2"

	"unio/container/volume"
)

// volumeGroup is "unio volume".
func volumeGroup() *cli.Command {
	return group("volume", "Manage volumes",
		volumeCreateCommand(), volumeInspectCommand(), volumeListCommand(), volumePruneCommand(), volumeRemoveCommand())
}

// volumeUsers lists the containers, by ID, that need a volume.
func (e *env) volumeUsers() (map[string][]string, error) {
	list, err := e.containers().ListIntact()
	if err != nil {
		return nil, err
	}
	users := map[string][]string{}
	for _, c := range list {
		for _, m := range c.Mounts {
			if m.Type == "volume" {
				users[m.Name] = append(users[m.Name], c.ID)
			}
		}
	}
	return users, nil
}

func volumeCreateCommand() *cli.Command {
	return &cli.Command{
		Name: "create", Usage: "Create a volume", ArgsUsage: "[VOLUME]", Before: maxArgs(1),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "driver", Aliases: []string{"d"}, Value: "local", Usage: "Specify volume driver name (default \"local\")"},
			&cli.StringSliceFlag{Name: "label", Usage: "Set metadata for a volume"},
			&cli.StringFlag{Name: "name", Hidden: true},
			&cli.StringSliceFlag{Name: "opt", Aliases: []string{"o"}, Usage: "Set driver specific options: none are known"},
		},
		Action: func(c *cli.Context) error {
			name := c.Args().First()
			if name == "" {
				name = c.String("name")
			}
			if d := c.String("driver"); d != "local" {
				return fmt.Errorf("create %s: error looking up volume plugin %s: plugin %q not found", name, d, d)
			}
			for _, o := range c.StringSlice("opt") {
				key, _, _ := strings.Cut(o, "=")
				return fmt.Errorf("create %s: invalid option: %q", name, key)
			}
			v, err := volume.Open(envOf(c).root).Create(volume.CreateOptions{Name: name, Labels: keyValues(c.StringSlice("label"))})
			if err == nil {
				_, err = fmt.Fprintln(envOf(c).stdout, v.Name)
			}
			return err
		},
	}
}

// inspectedVolume is a volume with docker's field names.
type inspectedVolume struct {
	CreatedAt  string
	Driver     string
	Labels     map[string]string
	Mountpoint string
	Name       string
	Options    map[string]string
	Scope      string
}

func volumeInspectCommand() *cli.Command {
	return &cli.Command{
		Name: "inspect", Usage: "Display detailed information on one or more volumes",
		ArgsUsage: "VOLUME [VOLUME...]", Before: minArgs(1), Flags: []cli.Flag{inspectFormat()},
		Action: func(c *cli.Context) error {
			e, format := envOf(c), c.String("format")
			var tmpl *template.Template
			if format != "" && format != "json" {
				var err error
				if tmpl, err = template.New("").Funcs(templateFuncs()).Parse(format); err != nil {
					return withCode(exitTemplate, fmt.Errorf("template parsing error: %w", err))
				}
			}
			found := []any{}
			err := each(c.Context, c.Args().Slice(), func(name string) error {
				v, err := volume.Open(e.root).Get(name)
				if err == nil {
					found = append(found, inspectVolume(v))
				}
				return err
			})
			return errors.Join(printInspected(e.stdout, format, tmpl, found), err)
		},
	}
}

func inspectVolume(v *volume.Volume) *inspectedVolume {
	return &inspectedVolume{
		CreatedAt: v.Created.Format(time.RFC3339), Driver: "local", Labels: v.Labels,
		Mountpoint: v.Mountpoint(), Name: v.Name, Options: v.Options, Scope: "local",
	}
}

func volumeListCommand() *cli.Command {
	return &cli.Command{
		Name: "ls", Aliases: []string{"list"}, Usage: "List volumes", Before: noArgs,
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "filter", Aliases: []string{"f"}, Usage: "Provide filter values (e.g. \"dangling=true\")"},
			&cli.StringFlag{Name: "format", Usage: "Format output: \"table\", \"table TEMPLATE\", \"json\", or a Go\ntemplate"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "Only display volume names"},
		},
		Action: listVolumes,
	}
}

func listVolumes(c *cli.Context) error {
	e := envOf(c)
	f, err := parseFilters(c, "dangling", "driver", "label", "name")
	if err != nil {
		return err
	}
	dangling, err := f.yesOrNo("dangling")
	if err != nil {
		return err
	}
	users, err := e.volumeUsers()
	if err != nil {
		return err
	}
	list, err := volume.Open(e.root).List()
	if err != nil {
		return err
	}
	rows := []any{}
	for _, v := range list {
		used := len(users[v.Name]) > 0
		if dangling != nil && *dangling == used || !hasLabels(v.Labels, f["label"]) ||
			len(f["driver"]) > 0 && !slices.Contains(f["driver"], "local") || !anyMatches(f["name"], v.Name) {
			continue
		}
		rows = append(rows, &volumeRow{v: v, links: len(users[v.Name])})
	}
	return (&listing{
		standard: "{{.Driver}}\t{{.Name}}", quiet: "{{.Name}}", raw: "name: {{.Name}}\ndriver: {{.Driver}}\n", rawQuiet: "name: {{.Name}}",
		headers: map[string]string{
			"Driver": "DRIVER", "Name": "VOLUME NAME", "Labels": "LABELS", "Mountpoint": "MOUNTPOINT",
			"Scope": "SCOPE", "Links": "LINKS", "Size": "SIZE", "Availability": "AVAILABILITY", "Group": "GROUP", "Status": "STATUS",
		},
	}).print(e.stdout, c.String("format"), c.Bool("quiet"), rows)
}

// volumeRow is one volume; its methods are what templates may use.
type volumeRow struct {
	v     *volume.Volume
	links int
}

// Name is the volume's.
func (r *volumeRow) Name() string { return r.v.Name }

// Driver is docker's name for volumes of this kind.
func (r *volumeRow) Driver() string { return "local" }

// Scope is docker's word for volumes of this machine.
func (r *volumeRow) Scope() string { return "local" }

// Mountpoint is the folder that containers see.
func (r *volumeRow) Mountpoint() string { return r.v.Mountpoint() }

// Labels lists all labels.
func (r *volumeRow) Labels() string { return joinLabels(r.v.Labels) }

// Label is the value of one label.
func (r *volumeRow) Label(name string) string { return r.v.Labels[name] }

// Links and Size are known to system df only, as in docker.
func (r *volumeRow) Links() string { return "N/A" }

// Size see Links.
func (r *volumeRow) Size() string { return "N/A" }

// Availability is for clusters.
func (r *volumeRow) Availability() string { return "N/A" }

// Group is for clusters.
func (r *volumeRow) Group() string { return "N/A" }

// Status is for clusters.
func (r *volumeRow) Status() string { return "N/A" }

// joinLabels is how lists show labels.
func joinLabels(labels map[string]string) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		list = append(list, name+"="+labels[name])
	}
	return strings.Join(list, ",")
}

func volumeRemoveCommand() *cli.Command {
	return &cli.Command{
		Name: "rm", Aliases: []string{"remove"},
		Usage:       "Remove one or more volumes",
		Description: "You cannot remove a volume that is in use by a container.",
		ArgsUsage:   "VOLUME [VOLUME...]", Before: minArgs(1),
		Flags: []cli.Flag{&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "Force the removal of one or more volumes"}},
		Action: func(c *cli.Context) error {
			e := envOf(c)
			users, err := e.volumeUsers()
			if err != nil {
				return err
			}
			return each(c.Context, c.Args().Slice(), func(name string) error {
				err := volume.Open(e.root).Remove(name, users[name])
				if errors.Is(err, volume.ErrNotFound) && c.Bool("force") {
					err = nil
				}
				if err == nil {
					_, err = fmt.Fprintln(e.stdout, name)
				}
				return err
			})
		},
	}
}

func volumePruneCommand() *cli.Command {
	return &cli.Command{
		Name: "prune", Usage: "Remove unused local volumes", Before: noArgs,
		Flags: append(pruneFlags(), &cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "Remove all unused volumes, not just anonymous ones"}),
		Action: func(c *cli.Context) error {
			p, err := newPruner(c, "all", "label", "label!")
			if err != nil {
				return err
			}
			p.all = c.Bool("all")
			for _, v := range p.f["all"] {
				if p.all, err = strconv.ParseBool(v); err != nil {
					return fmt.Errorf("invalid filter 'all=[%s]'", v)
				}
			}
			what := "anonymous local volumes not used by at least one container."
			if p.all {
				what = "all local volumes not used by at least one container."
			}
			return p.ask("WARNING! This will remove "+what+"\n", p.volumes)
		},
	}
}
