package main

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"
)

func topCommand() *cli.Command {
	return &cli.Command{
		Name:      "top",
		Usage:     "Display the running processes of a container",
		ArgsUsage: "CONTAINER [ps OPTIONS]",
		Before:    minArgs(1),
		Action:    topContainer,
	}
}

// topContainer runs the host's ps, as docker does, and shows what it says of
// the container's processes.
func topContainer(c *cli.Context) error {
	e := envOf(c)
	found, err := e.containers().Lookup(c.Args().First())
	if err != nil {
		return err
	}
	if !found.State.Running() {
		return fmt.Errorf("Container %s is not running", found.ID) //lint:ignore ST1005 docker's words
	}
	pids, err := found.Processes()
	if err != nil {
		return err
	}
	args := c.Args().Tail()
	if len(args) == 0 {
		args = []string{"-ef"}
	}
	out, err := exec.CommandContext(c.Context, "ps", args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("ps: %s", strings.TrimSpace(string(exit.Stderr)))
	}
	if err != nil {
		return fmt.Errorf("ps: %w", err)
	}
	rows, err := rowsOf(string(out), pids)
	if err != nil {
		return err
	}
	// docker's layout: columns of 20 characters at least.
	w := tabwriter.NewWriter(e.stdout, 20, 1, 3, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

// rowsOf picks the heading and the lines of some processes out of what ps
// printed. The last column takes what is left of a line.
func rowsOf(out string, pids []int) ([][]string, error) {
	lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
	heading := strings.Fields(lines[0])
	at := slices.Index(heading, "PID")
	if at < 0 {
		return nil, errors.New("Couldn't find PID field in ps output") //lint:ignore ST1005 docker's words
	}
	rows := [][]string{heading}
	for _, line := range lines[1:] {
		fields := strings.Fields(line)
		if len(fields) <= at {
			continue
		}
		pid, err := strconv.Atoi(fields[at])
		if err != nil || !slices.Contains(pids, pid) {
			continue
		}
		last := len(heading) - 1
		if len(fields) > last {
			fields = append(fields[:last:last], strings.Join(fields[last:], " "))
		}
		rows = append(rows, fields)
	}
	return rows, nil
}
