package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// workloads are all there are, in the order of the table.
func (s *stage) workloads() []workload {
	var list []workload
	for _, w := range slices.Concat(s.readWorks(), s.writeWorks()) {
		list = append(list, s.filesystemWork(w))
	}
	return slices.Concat(s.mountWorks(), list, s.toolWorks())
}

// bench runs the workloads that are asked for and prints the table.
func bench(ctx context.Context, o options, w io.Writer) (err error) {
	s, err := newStage(o, w)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	r, err := s.runAll(ctx, w)
	return errors.Join(err, r.save(o)) // what there is, when it was interrupted
}

// runAll shares out the time: what a workload does not need, those after it
// have. The making of images, which are kept, is not counted.
func (s *stage) runAll(ctx context.Context, w io.Writer) (*report, error) {
	r := &report{Machine: thisMachine(s.scratch), Started: time.Now().UTC(), Rounds: s.rounds, Quick: s.quick}
	r.Unio, _ = s.unio(ctx, s.path("none"), "--version") // without it the report says nothing of it
	r.Tools = peerVersions(ctx)
	list := slices.DeleteFunc(s.workloads(), func(w workload) bool { return !s.only.MatchString(w.name) || s.quick && w.long })
	if len(list) == 0 {
		return r, fmt.Errorf("no workload of this form is called %s; there are: %s", s.only, strings.Join(s.names(), " "))
	}
	fmt.Fprintf(w, "%s\n%s\n", r.Machine, r.Unio)
	if s.quick {
		fmt.Fprintln(w, "the quick form: some workloads and peers are left out")
	}
	for i, work := range list {
		s.note("%s", work.name)
		res, err := s.timed(ctx, work, func() (limit, hard time.Duration) {
			left, part := s.limit-s.used(r.Started), time.Duration(weightOf(list[i:]))
			return left * time.Duration(work.weight()) / part, (left + s.limit/4) / part
		})
		if err != nil {
			return r, err
		}
		res.print(w)
		r.Results = append(r.Results, res)
		r.Seconds = s.used(r.Started).Seconds()
	}
	r.Image = s.describeImages()
	fmt.Fprintf(w, "%d workloads in %.0f s\n", len(list), r.Seconds)
	if n := r.idle(); n > 0 {
		return r, fmt.Errorf("%d workloads could not run", n)
	}
	return r, nil
}

// names are those of the workloads of this form of the run.
func (s *stage) names() (names []string) {
	for _, w := range s.workloads() {
		if !s.quick || !w.long {
			names = append(names, w.name)
		}
	}
	return names
}

// printNames says what there is to choose from.
func (s *stage) printNames(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, work := range s.workloads() {
		if !s.quick || !work.long {
			fmt.Fprintf(t, "%s\t%s\n", work.name, work.title)
		}
	}
	_ = t.Flush() // a terminal that is gone needs no names
}

// used is the time since the start without that for making images.
func (s *stage) used(start time.Time) time.Duration { return time.Since(start) - s.making }

// tight is a share of all time there is, a quarter more than what is given out, that is not enough for three rounds of most workloads.
const tight = 7 * time.Second

// weight is how much of the time a workload has, compared with others: tools take long.
func (w workload) weight() int {
	if w.heavy {
		return 2
	}
	return 1
}

func weightOf(list []workload) (sum int) {
	for _, w := range list {
		sum += w.weight()
	}
	return sum
}

// cannotRun is the result of a workload that could not be prepared.
func (w workload) cannotRun(ctx context.Context, why error) (*result, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%s: %w", w.name, why)
	}
	r := newResult(w)
	for _, who := range w.contestants {
		r.leaveOut(who.name, why)
	}
	return r, nil
}

// timed prepares and runs a workload, in its share of the time.
func (s *stage) timed(ctx context.Context, w workload, share func() (limit, hard time.Duration)) (*result, error) {
	start, making := time.Now(), s.making
	defer func() {
		if err := w.close(); err != nil { // what stays is unmounted at the end
			s.note("%s: %s", w.name, reason(err))
		}
	}()
	if w.prepare != nil {
		if err := w.prepare(ctx); err != nil {
			return w.cannotRun(ctx, err)
		}
	}
	ready := time.Since(start) - (s.making - making)
	limit, hard := share()
	p := pace{rounds: s.rounds, least: s.least, limit: limit, hasty: s.tiny}
	switch { // where the machine is slow: all workloads rather than all rounds
	case hard <= 0:
		p.least = 1
	case hard < tight:
		p.least = min(p.least, 2)
	}
	r, err := w.run(ctx, p)
	if r != nil {
		r.Ready = ready.Seconds()
		r.Took = (time.Since(start) - (s.making - making)).Seconds()
	}
	return r, err
}
