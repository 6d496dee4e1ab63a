package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"unio/container"
)

// mountArgs checks the number of arguments of mount: a reload may name any
// number of mounts.
func mountArgs(c *cli.Context) error {
	if c.Bool("reload") {
		return nil
	}
	return maxArgs(2)(c)
}

// reloadMounts puts this program below the mounts that are named, or all, and
// prints a line for each. One that fails does not stop the others.
func reloadMounts(e *env, c *cli.Context) error {
	mounts, err := namedMounts(e, c.Args().Slice())
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range mounts {
		now, err := e.containers().Reload(c.Context, m, self)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if _, err := fmt.Fprintf(e.stdout, "%s: process %d took over from %d\n", m.Dir, now.Server.Pid, m.Server.Pid); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

// namedMounts finds mounts by folder or container; no name means all that are
// alive.
func namedMounts(e *env, names []string) (list []*container.Mount, err error) {
	cs := e.containers()
	for _, name := range names {
		m, err := cs.FindMount(name)
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	if len(names) > 0 {
		return list, nil
	}
	all, err := cs.Mounts()
	for _, m := range all {
		if !m.Dead && m.Image != "" { // folders that are mounted by unio overlay stay with their server
			list = append(list, m)
		}
	}
	return list, err
}
