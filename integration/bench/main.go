// Bench times what unio does beside the tools that do the same: docker,
// podman, umoci, the kernel's overlayfs and fuse-overlayfs. All contestants of
// a contest run in turn, round by round, on the same image in the same scratch
// folder, so that what the machine does meanwhile hits all of them; medians
// are compared. A peer that cannot run here is left out with a line.
//
// It needs root, and the unio to measure in $UNIO (default: unio in the path).
//
//	UNIO=bin/unio go run ./integration/bench -rounds 5 -json out.json
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime"

	"golang.org/x/sys/unix"
)

// report is the JSON form of a run.
type report struct {
	Kernel  string   `json:"kernel"`
	CPUs    int      `json:"cpus"`
	Rounds  int      `json:"rounds"`
	Image   string   `json:"image"`
	Results []result `json:"results"`
}

func main() {
	rounds := flag.Int("rounds", 5, "how often each contestant runs")
	out := flag.String("json", "", "also write the figures to this file")
	only := flag.String("only", "", "contests to run, a regular expression")
	dir := flag.String("dir", "", "scratch folder (default: a temporary one)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := bench(ctx, options{rounds: *rounds, json: *out, only: *only, dir: *dir}); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	rounds          int
	json, only, dir string
}

func bench(ctx context.Context, o options) (err error) {
	only, err := regexp.Compile(o.only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	s, err := setUp(o.dir)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := s.close(); err == nil {
			err = closeErr
		}
	}()
	r := report{Kernel: kernel(), CPUs: runtime.NumCPU(), Rounds: o.rounds}
	fmt.Printf("Linux %s, %d CPUs; median of %d rounds\n\n", r.Kernel, r.CPUs, o.rounds)
	for _, c := range s.contests() {
		if !only.MatchString(c.name) {
			continue
		}
		res, err := c.run(ctx, o.rounds)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		res.print(os.Stdout)
		r.Results = append(r.Results, res)
	}
	r.Image = s.describe()
	return r.save(o.json)
}

func (r report) save(path string) error {
	if path == "" {
		return nil
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}
