package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/urfave/cli/v2"

	"unio/container"
	"unio/unionfs/transport"
)

// printStats prints the figures of the servers of one mount or of all. No
// mount is touched for it.
func printStats(e *env, c *cli.Context) error {
	if c.NArg() > 1 {
		return maxArgs(1)(c)
	}
	write, err := statsWriter(c.String("format"), isTerminal(e.stdout))
	if err != nil {
		return err
	}
	if c.NArg() == 0 {
		all, err := e.containers().AllStats()
		return cmp.Or(write(e.stdout, all), err)
	}
	stats, err := e.containers().Stats(c.Args().First())
	if err != nil {
		return err
	}
	return write(e.stdout, []*container.Stats{stats})
}

// statsWriter returns what writes figures in a format; without one, people get
// a table and programs JSON.
func statsWriter(format string, terminal bool) (func(io.Writer, []*container.Stats) error, error) {
	switch {
	case format == "table" || format == "" && terminal:
		return writeStatsTables, nil
	case format == "json" || format == "":
		return writeStatsJSON, nil
	case format == "prometheus":
		return container.WritePrometheus, nil
	}
	return nil, fmt.Errorf("unknown format %q of figures: json, prometheus or table", format)
}

// writeStatsJSON writes an object a line.
func writeStatsJSON(w io.Writer, all []*container.Stats) error {
	enc := json.NewEncoder(w)
	for _, s := range all {
		if err := enc.Encode(s); err != nil {
			return err
		}
	}
	return nil
}

func writeStatsTables(w io.Writer, all []*container.Stats) error {
	for i, s := range all {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := writeStatsTable(w, s); err != nil {
			return err
		}
	}
	return nil
}

func writeStatsTable(w io.Writer, s *container.Stats) error {
	fmt.Fprintf(w, "%s on %s\n\n", s.Target, s.Dir)
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "REQUEST\tCOUNT\tERRORS\tMEAN\t50 %\t99 %\t100 %\t")
	for _, op := range busiestFirst(s.Ops) {
		o := s.Ops[op]
		fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%s\t%s\t%s\t\n", op, o.Requests, o.Errors, meanTime(o),
			atMost(o, 0.5), atMost(o, 0.99), atMost(o, 1))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	bytes := func(n uint64) string { return units.HumanSize(float64(n)) }
	fmt.Fprintf(w, "\n%d requests; %s read, %s written\n", s.Total, bytes(s.BytesRead), bytes(s.BytesWritten))
	if u := s.Upper; u != nil {
		fmt.Fprintf(w, "copy-ups: %d of metadata, %d partial, %d whole; %s copied\n",
			u.CopyUps.Metadata, u.CopyUps.Partial, u.CopyUps.Whole, bytes(u.CopiedBytes))
		fmt.Fprintf(w, "upper: %d nodes, %d whiteouts and %d redirects made\n", u.Nodes, u.Whiteouts, u.Redirects)
	}
	p := s.Process
	_, err := fmt.Fprintf(w, "server %d by %s: %s resident, %d descriptors, %d goroutines, up %s, %d restarts\n", p.Pid, transportName(p.Transport), bytes(p.Resident),
		p.Descriptors, p.Goroutines, (time.Duration(p.Uptime) * time.Second).String(), p.Restarts)
	return err
}

// busiestFirst orders operations by how much time they took.
func busiestFirst(ops map[string]transport.OpStats) []string {
	var names []string
	for name := range ops {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(ops[b].Seconds, ops[a].Seconds), cmp.Compare(a, b))
	})
	return names
}

func meanTime(o transport.OpStats) string {
	if o.Answered == 0 {
		return "-"
	}
	mean := o.Seconds / float64(o.Answered) * float64(time.Second)
	return time.Duration(mean).Round(100 * time.Nanosecond).String()
}

// atMost tells the time that so large a part of the requests kept to, as
// exactly as the histogram knows it.
func atMost(o transport.OpStats, part float64) string {
	want, sum := part*float64(o.Answered), uint64(0)
	for i, n := range o.Buckets {
		sum += n
		if sum == 0 || float64(sum) < want {
			continue
		}
		bound, ok := transport.BucketBound(i)
		if !ok {
			longest, _ := transport.BucketBound(i - 1)
			return ">" + longest.String()
		}
		return "≤" + bound.String()
	}
	return "-"
}
