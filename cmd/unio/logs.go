package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"unio/container"
	"unio/container/jsonlog"
)

func logsCommand() *cli.Command {
	return &cli.Command{
		Name:      "logs",
		Usage:     "Fetch the logs of a container",
		ArgsUsage: "CONTAINER",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "details", Usage: "Show extra details provided to logs"},
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "Follow log output"},
			&cli.StringFlag{Name: "since", Usage: "Show logs since timestamp (e.g. \"2013-01-02T13:23:37Z\") or\nrelative (e.g. \"42m\" for 42 minutes)"},
			&cli.StringFlag{Name: "tail", Aliases: []string{"n"}, Value: "all", Usage: "Number of lines to show from the end of the logs (default\n\"all\")"},
			&cli.BoolFlag{Name: "timestamps", Aliases: []string{"t"}, Usage: "Show timestamps"},
			&cli.StringFlag{Name: "until", Usage: "Show logs before a timestamp (e.g. \"2013-01-02T13:23:37Z\") or\nrelative (e.g. \"42m\" for 42 minutes)"},
		},
		Before: exactArgs(1),
		Action: showLogs,
	}
}

func showLogs(c *cli.Context) error {
	e := envOf(c)
	cs := e.containers()
	found, err := cs.Lookup(c.Args().First())
	if err != nil {
		return err
	}
	if found.Host.LogConfig.Type == "none" {
		return errors.New("configured logging driver does not support reading")
	}
	o, err := logOptions(c)
	if err != nil {
		return err
	}
	if c.Bool("follow") {
		o.Follow = func() bool { return stillRuns(cs, found) }
	}
	err = jsonlog.Read(c.Context, found.OutputPath(), *o, func(entry jsonlog.Entry) error {
		return printEntry(c, e, &entry)
	})
	if c.Context.Err() != nil {
		return silentCode(exitInterrupted)
	}
	return err
}

// stillRuns reports whether a container may print more.
func stillRuns(cs *container.Store, c *container.Container) bool {
	fresh, err := cs.Fresh(c)
	return err == nil && fresh.State.Active()
}

func logOptions(c *cli.Context) (*jsonlog.ReadOptions, error) {
	o := &jsonlog.ReadOptions{Tail: -1}
	if n, err := strconv.Atoi(c.String("tail")); err == nil {
		o.Tail = n
	}
	now := time.Now()
	for name, to := range map[string]*time.Time{"since": &o.Since, "until": &o.Until} {
		text := c.String(name)
		if text == "" {
			continue
		}
		t, err := parseMoment(text, now)
		if err != nil {
			return nil, plainly(fmt.Errorf("invalid value for %q: %w", name, err))
		}
		*to = t
	}
	return o, nil
}

// logTime is the form of docker's timestamps: nine digits behind the second.
const logTime = "2006-01-02T15:04:05.000000000Z07:00"

func printEntry(c *cli.Context, e *env, entry *jsonlog.Entry) error {
	w := e.stdout
	if entry.Stream == "stderr" {
		w = e.stderr
	}
	text := entry.Log
	if c.Bool("details") {
		text = entry.Details() + " " + text
	}
	if c.Bool("timestamps") {
		text = entry.Time.Format(logTime) + " " + text
	}
	_, err := io.WriteString(w, text)
	return err
}
