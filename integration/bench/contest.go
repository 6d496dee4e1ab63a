package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"unio/integration/peers"
)

// contest is one piece of work that several contestants do.
type contest struct {
	name        string
	prepare     func(ctx context.Context) error // once, before the first round
	contestants []contestant
	goals       []goal
}

// contestant is one tool. Only work is timed; prepare and cleanUp, which may
// be nil, make every round start alike.
type contestant struct {
	name                   string
	prepare, work, cleanUp func(ctx context.Context) error
	disk                   func() (int64, error) // bytes that work has taken; may be nil
}

// goal is a ratio of unio to a peer that should hold or, without a peer, a
// bound on the time or on the disk.
type goal struct {
	ours, peer   string
	atMost       float64
	milliseconds float64
	bytes        int64
}

// result is what a contest came to.
type result struct {
	Contest string            `json:"contest"`
	Times   []timing          `json:"times"`
	Goals   []verdict         `json:"goals,omitempty"`
	Missing map[string]string `json:"missing,omitempty"` // contestant → why it did not run
}

// timing holds milliseconds.
type timing struct {
	Name   string    `json:"name"`
	Median float64   `json:"median_ms"`
	All    []float64 `json:"all_ms"`
	Disk   int64     `json:"new_disk_bytes,omitempty"` // of the last round
}

type verdict struct {
	Ours, Peer, Unit string // without a peer, Unit is what AtMost and Ratio count
	AtMost, Ratio    float64
	Met              bool
}

// run runs the rounds, one contestant after the other in each.
func (c contest) run(ctx context.Context, rounds int) (result, error) {
	r := result{Contest: c.name, Missing: map[string]string{}}
	times, disk := map[string][]float64{}, map[string]int64{}
	if c.prepare != nil {
		if err := c.prepare(ctx); err != nil {
			return r, err
		}
	}
	for range rounds {
		for _, who := range c.contestants {
			if r.Missing[who.name] != "" {
				continue
			}
			ms, used, err := who.once(ctx)
			if ctx.Err() != nil {
				return r, ctx.Err()
			}
			if err != nil {
				r.Missing[who.name] = reason(err)
				continue
			}
			times[who.name], disk[who.name] = append(times[who.name], ms), used
		}
	}
	for _, who := range c.contestants {
		if all := times[who.name]; len(all) == rounds {
			r.Times = append(r.Times, timing{Name: who.name, Median: median(all), All: all, Disk: disk[who.name]})
		}
	}
	for _, g := range c.goals {
		r.judge(g)
	}
	return r, nil
}

func reason(err error) string {
	if errors.Is(err, peers.ErrMissing) {
		return "not available here"
	}
	return err.Error()
}

// once times one run in milliseconds and measures what it took of the disk.
func (c contestant) once(ctx context.Context) (ms float64, used int64, err error) {
	if c.prepare != nil {
		if err := c.prepare(ctx); err != nil {
			return 0, 0, err
		}
	}
	unix.Sync() // what came before is not the contestant's to write
	start := time.Now()
	err = c.work(ctx)
	ms = float64(time.Since(start).Microseconds()) / 1000
	if c.disk != nil && err == nil {
		used, err = c.disk()
	}
	if c.cleanUp != nil {
		err = errors.Join(err, c.cleanUp(ctx))
	}
	return ms, used, err
}

func median(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

func (r *result) of(name string) (timing, bool) {
	i := slices.IndexFunc(r.Times, func(t timing) bool { return t.Name == name })
	if i < 0 {
		return timing{}, false
	}
	return r.Times[i], true
}

func (r *result) judge(g goal) {
	ours, ok := r.of(g.ours)
	if !ok {
		return
	}
	add := func(unit string, atMost, is float64) {
		r.Goals = append(r.Goals, verdict{Ours: g.ours, Peer: g.peer, Unit: unit, AtMost: atMost, Ratio: is, Met: is <= atMost})
	}
	if peer, ok := r.of(g.peer); ok {
		add("× "+g.peer, g.atMost, ours.Median/peer.Median)
	}
	if g.milliseconds > 0 {
		add("ms", g.milliseconds, ours.Median)
	}
	if g.bytes > 0 {
		add("bytes of new disk", float64(g.bytes), float64(ours.Disk))
	}
}

// print writes one block of lines, ratios against the first contestant, which
// is ours.
func (r *result) print(w io.Writer) {
	fmt.Fprintf(w, "%s\n", r.Contest)
	for _, t := range r.Times {
		ratio := t.Median / r.Times[0].Median
		low, high := slices.Min(t.All), slices.Max(t.All)
		fmt.Fprintf(w, "  %-26s %10.1f ms   %6.2f×   (%.1f – %.1f)%s\n", t.Name, t.Median, ratio, low, high, t.onDisk())
	}
	for name, why := range r.Missing {
		fmt.Fprintf(w, "  %-26s left out: %s\n", name, why)
	}
	for _, g := range r.Goals {
		word := "met"
		if !g.Met {
			word = "MISSED"
		}
		fmt.Fprintf(w, "  goal: %s ≤ %.2f %s: %s (%.2f)\n", g.Ours, g.AtMost, g.Unit, word, g.Ratio)
	}
	fmt.Fprintln(w)
}

func (t timing) onDisk() string {
	if t.Disk == 0 {
		return ""
	}
	return fmt.Sprintf("   %d KiB of new disk", t.Disk>>10)
}
