package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
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
	if err != nil {
		return err
	}
	return r.save(o)
}

// runAll shares out the time: what a workload does not need, those after it
// have. Setting up is not counted.
func (s *stage) runAll(ctx context.Context, w io.Writer) (*report, error) {
	r := &report{Machine: thisMachine(s.scratch), Started: time.Now().UTC(), Rounds: s.rounds, Quick: s.quick}
	r.Unio, _ = s.unio(ctx, s.path("none"), "--version") // without it the report says nothing of it
	list := slices.DeleteFunc(s.workloads(), func(w workload) bool { return !s.only.MatchString(w.name) })
	if len(list) == 0 {
		return nil, fmt.Errorf("no workload is called %s", s.only)
	}
	fmt.Fprintf(w, "%s\n%s\n", r.Machine, r.Unio)
	var used time.Duration
	for i, work := range list {
		share := (s.limit - used) / time.Duration(len(list)-i)
		s.note("%s", work.name)
		prepared, took, err := s.timed(ctx, work, share)
		if err != nil {
			return nil, err
		}
		used += took
		prepared.print(w)
		r.Results = append(r.Results, prepared)
	}
	r.Seconds = used.Seconds()
	r.Image = s.describeImages()
	fmt.Fprintf(w, "%d workloads in %.0f s\n", len(list), r.Seconds)
	return r, nil
}

// timed prepares and runs a workload, and times the second.
func (s *stage) timed(ctx context.Context, w workload, share time.Duration) (*result, time.Duration, error) {
	if w.prepare != nil {
		if err := w.prepare(ctx); err != nil {
			return nil, 0, errors.Join(fmt.Errorf("%s: %w", w.name, err), w.close())
		}
		w.prepare = nil
	}
	start := time.Now()
	r, err := w.run(ctx, pace{rounds: s.rounds, limit: share, hasty: s.tiny})
	took := time.Since(start)
	if r != nil {
		r.Took = took.Seconds()
	}
	return r, took, err
}
