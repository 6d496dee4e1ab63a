package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"unio/container"
)

func mountCommand() *cli.Command {
	return &cli.Command{
		Name:      "mount",
		Usage:     "Mount an image or a container on a folder, or list what is mounted",
		ArgsUsage: "[IMAGE|CONTAINER [DIR]]",
		Description: `An image gets a new container, which keeps what is changed until it is removed;
with --read-only it is mounted by itself. Without DIR the mount appears below the run
root and its folder is printed. The mount stays when the command ends; unio umount
takes it away. Setuid programs and devices work in it with -o suid,dev only.`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "read-only", Aliases: []string{"r"}, Usage: "Refuse changes; an image is mounted without a container"},
			&cli.StringFlag{Name: "name", Usage: "Name of the new container"},
			&cli.StringSliceFlag{Name: "options", Aliases: []string{"o"}, Usage: "Mount options, separated by commas: ro, rw, suid, nosuid,\ndev, nodev, allow_other, writeback, volatile, acl,\nrestart=on|off|remount (what happens when the server dies),\ntransport=auto|dev|uring"},
			&cli.StringFlag{Name: "transport", Usage: transportUsage},
			&cli.BoolFlag{Name: "stats", Usage: "Print what the server of a mount, or of all, has done"},
			&cli.BoolFlag{Name: "reload", Usage: "Let this program serve the mounts named, or all, without unmounting"},
			&cli.StringFlag{Name: "format", Usage: "Format of --stats: json, prometheus or table (default: table\non a terminal, json otherwise)"},
		},
		Before: mountArgs,
		Action: mount,
	}
}

func mount(c *cli.Context) error {
	e := envOf(c)
	switch {
	case c.Bool("stats"):
		return printStats(e, c)
	case c.Bool("reload"):
		return reloadMounts(e, c)
	case c.NArg() == 0:
		return listMounts(e)
	}
	if err := e.setTransport(c); err != nil {
		return err
	}
	o := container.MountOptions{
		Dir: c.Args().Get(1), ReadOnly: c.Bool("read-only"), Debug: e.debug,
	}
	if err := e.mountFlags(&o, c.StringSlice("options")); err != nil {
		return err
	}
	o.Launched = container.Launch(e.command("serve", "--", c.Args().First(), o.Dir))
	defer o.Launched.Abandon()
	t, err := e.findTarget(c.Context, c.Args().First())
	if err != nil {
		return err
	}
	m, err := e.mountTarget(c.Context, t, c.String("name"), o)
	if err != nil {
		return err
	}
	if o.Dir == "" {
		_, err = fmt.Fprintln(e.stdout, m.Dir)
	}
	return err
}

// mountFlags reads the values of -o.
func (e *env) mountFlags(o *container.MountOptions, values []string) error {
	for _, word := range strings.Split(strings.Join(values, ","), ",") {
		switch word {
		case "", "exec", "async", "defaults":
		case "ro":
			o.ReadOnly = true
		case "rw":
			o.ReadOnly = false
		case "suid", "nosuid":
			o.Suid = word == "suid"
		case "dev", "nodev":
			o.Dev = word == "dev"
		case "allow_other":
			o.Others = true
		case "writeback":
			o.Writeback = true
		case "acl", "noacl":
			o.ACL = word == "acl"
		case "volatile":
			o.Volatile = true
		case "restart=on", "restart=off", "restart=remount":
			o.NoKeeper, o.Remount = word == "restart=off", word == "restart=remount"
		default:
			if kind, ok := strings.CutPrefix(word, "transport="); ok {
				var err error
				if e.transport, err = transportKind(kind); err != nil {
					return err
				}
				continue
			}
			return fmt.Errorf("unknown mount option %q", word)
		}
	}
	return nil
}

// mountTarget mounts a container, an image read-only, or a new container of an
// image, which is removed again if it cannot be mounted.
func (e *env) mountTarget(ctx context.Context, t *target, name string, o container.MountOptions) (*container.Mount, error) {
	cs := e.containers()
	fresh := false
	switch {
	case t.container != nil && name != "":
		return nil, fmt.Errorf("--name is for a new container, but %s is one already", t.container.Name)
	case t.container != nil:
		o.Container = t.container
	case o.ReadOnly && name != "":
		return nil, fmt.Errorf("--name is for a new container, and --read-only makes none of an image")
	case o.ReadOnly:
		o.Image, o.ImageName = t.image.ID, t.name
	default:
		made, err := e.newContainer(ctx, t, name)
		if err != nil {
			return nil, err
		}
		o.Container, fresh = made, true
	}
	o.Server = e.command("serve", "--", shownTarget(o), o.Dir)
	o.Keeper = e.command("keep", "--", shownTarget(o), o.Dir)
	m, err := cs.Mount(ctx, o)
	if err != nil && fresh {
		if rmErr := cs.Remove(context.WithoutCancel(ctx), o.Container, container.RemoveOptions{}); rmErr != nil {
			e.log.Warn("the new container stays", "container", o.Container.Name, "err", rmErr)
		}
	}
	return m, err
}

// shownTarget is what the process list shows of a mount's target.
func shownTarget(o container.MountOptions) string {
	if o.Container != nil {
		return o.Container.Name
	}
	return o.ImageName
}

// listMounts prints what is mounted.
func listMounts(e *env) error {
	list, err := e.containers().Mounts()
	if err != nil {
		return err
	}
	return writeTable(e.stdout, false, func(w io.Writer) error {
		fmt.Fprintln(w, "CONTAINER\tIMAGE\tDIR\tMODE\tTRANSPORT\tPID")
		for _, m := range list {
			name, mode, pid := m.Name, "rw", fmt.Sprint(m.Server.Pid)
			if name == "" {
				name = "-"
			}
			if m.ReadOnly {
				mode = "ro"
			}
			if m.Dead {
				pid = "dead"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", name, imageTitle(m.ImageName, m.Image), m.Dir, mode, transportName(m.Transport), pid)
		}
		return nil
	})
}
