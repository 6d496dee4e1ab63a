package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/docker/go-units"
	"github.com/urfave/cli/v2"

	"unio/container"
)

func statsCommand() *cli.Command {
	return &cli.Command{
		Name:      "stats",
		Usage:     "Display a live stream of container(s) resource usage statistics",
		ArgsUsage: "[CONTAINER...]",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "Show all containers (default shows just running)"},
			&cli.StringFlag{Name: "format", Usage: "Format output: \"table\", \"table TEMPLATE\", \"json\", or a Go\ntemplate"},
			&cli.BoolFlag{Name: "no-stream", Usage: "Disable streaming stats and only pull the first result"},
			&cli.BoolFlag{Name: "no-trunc", Usage: "Do not truncate output"},
		},
		Action: showStats,
	}
}

// statsStep is how far apart two looks are, between which processor time is
// counted.
const statsStep = time.Second

// clearScreen makes a terminal show the next table in the place of the last one.
const clearScreen = "\033[H\033[J"

// showStats shows what containers use, again and again until it is interrupted.
func showStats(c *cli.Context) error {
	w := &watcher{e: envOf(c), all: c.Bool("all"), whole: c.Bool("no-trunc"), names: c.Args().Slice()}
	before, err := w.look()
	if err != nil {
		return err
	}
	for {
		select {
		case <-c.Context.Done():
			return nil // docker, too, ends without a word
		case <-time.After(statsStep):
		}
		now, err := w.look()
		if err != nil {
			return err
		}
		if !c.Bool("no-stream") {
			if _, err := io.WriteString(w.e.stdout, clearScreen); err != nil {
				return err
			}
		}
		if err := w.print(c.String("format"), before, now); err != nil || c.Bool("no-stream") {
			return err
		}
		before = now
	}
}

// watcher looks at containers: those that are named, or all that run.
type watcher struct {
	e          *env
	all, whole bool
	names      []string
}

// sample is what one container used at a moment.
type sample struct {
	c     *container.Container
	at    time.Time
	usage *container.Usage
}

func (w *watcher) look() ([]sample, error) {
	cs := w.e.containers()
	var list []*container.Container
	var err error
	if len(w.names) == 0 {
		list, err = cs.List()
		list = slices.DeleteFunc(list, func(c *container.Container) bool { return !w.all && !c.State.Running() })
	}
	for _, name := range w.names {
		found, lookupErr := cs.Lookup(name)
		list, err = append(list, found), errors.Join(err, lookupErr)
	}
	if err != nil {
		return nil, err
	}
	var samples []sample
	for _, c := range list {
		usage, err := c.Usage()
		if err != nil {
			return nil, err
		}
		samples = append(samples, sample{c: c, at: time.Now(), usage: usage})
	}
	return samples, nil
}

// print writes a table of what was used between two looks.
func (w *watcher) print(format string, before, now []sample) error {
	rows := []any{}
	for _, s := range now {
		row := &statsRow{sample: s, whole: w.whole}
		i := slices.IndexFunc(before, func(b sample) bool { return b.c.ID == s.c.ID })
		if i >= 0 && s.usage.CPU > before[i].usage.CPU {
			row.busy = float64(s.usage.CPU-before[i].usage.CPU) / float64(s.at.Sub(before[i].at))
		}
		rows = append(rows, row)
	}
	return (&listing{
		standard: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
		whole:    w.whole,
		headers: map[string]string{
			"Container": "CONTAINER", "ID": "CONTAINER ID", "Name": "NAME", "CPUPerc": "CPU %", "MemUsage": "MEM USAGE / LIMIT",
			"MemPerc": "MEM %", "NetIO": "NET I/O", "BlockIO": "BLOCK I/O", "PIDs": "PIDS",
		},
	}).print(w.e.stdout, format, false, rows)
}

// statsRow is one container; its methods are what templates may use.
type statsRow struct {
	sample
	whole bool
	busy  float64 // processors, on average
}

// Container is what the user called it.
func (r *statsRow) Container() string { return r.ID() }

// ID is the container's, cut to what is shown.
func (r *statsRow) ID() string {
	if r.whole {
		return r.c.ID
	}
	return r.c.ShortID()
}

// Name is the container's name.
func (r *statsRow) Name() string { return r.c.Name }

// CPUPerc is the use of processors; 100 % is one.
func (r *statsRow) CPUPerc() string { return fmt.Sprintf("%.2f%%", r.busy*100) }

// MemUsage is memory with the limit.
func (r *statsRow) MemUsage() string {
	return units.BytesSize(float64(r.usage.Memory)) + " / " + units.BytesSize(float64(r.usage.Limit))
}

// MemPerc is memory as a part of the limit.
func (r *statsRow) MemPerc() string {
	if r.usage.Limit == 0 {
		return "0.00%"
	}
	return fmt.Sprintf("%.2f%%", 100*float64(r.usage.Memory)/float64(r.usage.Limit))
}

// NetIO is nothing, as docker has it for containers with the host's network or
// none.
func (r *statsRow) NetIO() string { return "0B / 0B" }

// BlockIO is what was read from disks and written to them.
func (r *statsRow) BlockIO() string {
	size := func(n uint64) string { return units.HumanSizeWithPrecision(float64(n), 3) }
	return size(r.usage.Read) + " / " + size(r.usage.Written)
}

// PIDs is the number of processes and their threads.
func (r *statsRow) PIDs() string { return strconv.Itoa(r.usage.Tasks) }
