// Bench measures unio beside what does the same work: filesystems (native
// ext4, the kernel's overlayfs, fuse-overlayfs, unionfs-fuse) and tools (docker,
// podman, buildah, umoci, skopeo). All contestants of a workload run in turn in one
// run on one machine, A B B A, so that what the machine does meanwhile hits
// all of them; medians are compared, and ratios within a round. A peer that cannot run
// here is left out with a line.
//
// It needs root, and the unio to measure in $UNIO (default: unio in the path).
//
//	UNIO=bin/unio go run ./integration/bench -only copyup -json out.json
//
// # Adding a workload
//
// A filesystem workload is an [fsWork]: what to do in a folder that every
// filesystem shows. It goes into the list of reads or writes.
//
//	{name: "create", title: "create 10,000 files", fresh: true,
//		do:    func(ctx context.Context, t *trial) error { return t.client(ctx, "create", t.dir, "10000") },
//		goals: ratio("fuse-overlayfs", 0.5, 0.5)},
//
// Anything else is a [workload] with its own list of contestants (toolWorks).
// What is timed starts programs only through the [trial] (run, shell, client,
// chroot): it counts their CPU time and memory. Storms of calls are clients: functions
// of [clientOps] which a second process of this program runs, and which tell
// how long they took without the start of the process. Sizes go through
// stage.scale, so that the smoke test stays small.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"time"

	"golang.org/x/sys/unix"
)

// options say what to run, and how long.
type options struct {
	rounds     int            // at most; 0: by the time there is
	least      int            // of unio and the peers its goals name, whatever the time
	limit      time.Duration  // for all workloads together, but not for making images
	only       *regexp.Regexp // matches a whole name
	json, mark string         // files to write; empty: none
	dir, cache string         // scratch; images kept from run to run
	quick      bool
	list       bool     // only say what workloads there are
	tiny       bool     // small images, one round: do all workloads work at all?
	peers      []string // those wanted; nil: all
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == clientCommand {
		os.Exit(runClient(os.Args[2:]))
	}
	o, err := parseFlags()
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
		defer stop()
		if o.list {
			(&stage{options: o}).printNames(os.Stdout)
			return
		}
		err = bench(ctx, o, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parseFlags() (o options, err error) {
	flag.IntVar(&o.rounds, "rounds", 0, "how often each contestant runs at most (default 7, 3 with -quick)")
	flag.DurationVar(&o.limit, "limit", 0, "time for all workloads together (default 12m, 2m20s with -quick); what must be may take a quarter more")
	only := flag.String("only", "", "names of workloads, a regular expression (default: all)")
	flag.StringVar(&o.json, "json", "", "also write the figures to this file")
	flag.StringVar(&o.mark, "markdown", "", "also write the table to this file, as Markdown")
	flag.StringVar(&o.dir, "dir", "", "where to make the scratch folder, on a disk (default: "+os.TempDir()+" if that is on the disk of -cache, or else in -cache)")
	flag.StringVar(&o.cache, "cache", "", "where images are kept (default: unio-bench in the user's cache folder)")
	flag.BoolVar(&o.quick, "quick", false, "three minutes: fewer rounds, workloads and peers")
	flag.BoolVar(&o.list, "list", false, "print the names of the workloads and end")
	flag.BoolVar(&o.tiny, "tiny", false, "small images, one round: whether everything works")
	flag.Parse()
	if o.only, err = regexp.Compile("^(?:" + orElse(*only, ".*") + ")$"); err != nil {
		return o, fmt.Errorf("-only: %w", err)
	}
	return o.normal(), nil
}

// normal fills in what depends on the form of the run.
func (o options) normal() options {
	rounds, least, limit := 7, 3, 12*time.Minute
	switch {
	case o.tiny:
		rounds, least, limit = 1, 1, time.Second
	case o.quick:
		rounds, least, limit = 3, 1, 140*time.Second
		if o.peers == nil {
			o.peers = []string{oursRing, overlayfs, fuseOverlay, "docker", "podman"}
		}
	}
	if o.rounds == 0 {
		o.rounds = rounds
	}
	o.least = min(least, o.rounds)
	if o.limit == 0 {
		o.limit = limit
	}
	return o
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
