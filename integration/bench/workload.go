package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"unio/integration/peers"
)

// workload is one piece of work that several contestants do.
type workload struct {
	name, title string
	cold        bool                            // nothing is in the page cache, or known to the kernel, when work begins
	rounds      int                             // at most; 0: the run's
	memory      int64                           // bytes that a run will fill, about; 0: little
	long        bool                            // left out of the quick form
	heavy       bool                            // it takes longer than most
	warm        bool                            // getting ready has read what a run needs: the first counts
	prepare     func(ctx context.Context) error // once, before the first round; may be nil
	contestants []contestant                    // ours first: ratios are against the first that runs
	goals       []goal
}

// step is a part of a contestant's round.
type step func(ctx context.Context, t *trial) error

// contestant is one filesystem or tool. Only work is measured; prepare and
// cleanUp, which may be nil, make every round start alike. cleanUp is called
// also when prepare or work failed.
type contestant struct {
	name                   string
	missing                error // why it cannot run here
	prepare, work, cleanUp step
	close                  func(ctx context.Context) error // after the last round; may be nil
	// servers are the processes that serve it; what they take is measured, too.
	// It is asked before and after work; may be nil.
	servers func(ctx context.Context) []int
	// requests are those that the server has answered, by operation; nil: not counted.
	requests func(ctx context.Context) (map[string]int64, error)
	disk     func() (int64, error) // bytes it takes of the disk, before and after work; may be nil
}

// one runs one contestant once and notes what came of it. One that fails may
// try again in the next round: some servers do not outlive every round.
func (w workload) one(ctx context.Context, r *result, round int, who contestant, hasty bool) {
	if who.missing != nil {
		r.leaveOut(who.name, who.missing)
		return
	}
	s, err := who.once(ctx, w, hasty)
	if err == nil {
		r.add(who.name, round, s)
		return
	}
	if who.close != nil {
		err = errors.Join(err, who.close(context.WithoutCancel(ctx)))
	}
	r.failed(who.name, err)
}

func (w workload) close() error {
	var errs []error
	for _, who := range w.contestants {
		if who.close != nil {
			errs = append(errs, who.close(context.Background()))
		}
	}
	return errors.Join(errs...)
}

// once makes one run.
func (c contestant) once(ctx context.Context, w workload, hasty bool) (s sample, err error) {
	t := &trial{}
	if c.cleanUp != nil {
		defer func() {
			err = errors.Join(err, c.cleanUp(context.WithoutCancel(ctx), t))
		}()
	}
	if c.prepare != nil {
		if err := c.prepare(ctx, t); err != nil {
			return s, err
		}
	}
	if !hasty {
		if err := settle(ctx, w); err != nil {
			return s, err
		}
	}
	return c.measure(ctx, t)
}

// settle ends what came before: its data is on the disk, and not the contestant's to
// write; what is to be cold is; and there is memory.
func settle(ctx context.Context, w workload) error {
	unix.Sync()
	if w.cold {
		if err := dropCaches(); err != nil {
			return err
		}
	}
	if w.memory == 0 {
		w.memory = someMemory
	}
	return settleMemory(ctx, w.memory)
}

func (c contestant) measure(ctx context.Context, t *trial) (s sample, err error) {
	before, err := c.readings(ctx, true)
	if err != nil {
		return s, err
	}
	*t = trial{dir: t.dir, upper: t.upper} // what getting ready took does not count
	floor := ownMemory()
	start := time.Now()
	if err := c.work(ctx, t); err != nil {
		return s, err
	}
	took := time.Since(start)
	if t.used.memory <= max(floor, peakMemory(os.Getpid())) {
		t.used.memory = 0
	}
	if t.wall == 0 {
		t.wall = took
	}
	after, err := c.readings(ctx, false)
	if err != nil {
		return s, err
	}
	return t.sample(before, after), nil
}

// dropCaches makes the kernel forget what it has read (proc_sys_vm(5)).
func dropCaches() error {
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
}

// steps does steps in order.
func steps(list ...step) step {
	return func(ctx context.Context, t *trial) error {
		for _, s := range list {
			if err := s(ctx, t); err != nil {
				return err
			}
		}
		return nil
	}
}

func reason(err error) string {
	if errors.Is(err, peers.ErrMissing) {
		return "not available here"
	}
	text := strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' }), "; ")
	return text[:min(len(text), 300)]
}
