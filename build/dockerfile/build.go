package dockerfile

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"unio/container/layermount"
	"unio/imagestore"
)

// build is one run of a plan.
type build struct {
	o    *Options
	st   *imagestore.Store
	plan *plan
	now  func() time.Time

	outcomes  []*outcome // by stage
	cacheFrom []*imagestore.Image

	imagesMu sync.Mutex
	images   map[string]*pulled // by name and platform

	scratchMu sync.Mutex // guards both; they are made when they are needed
	scratch   *scratch
	mounter   *layermount.Mounter

	slots chan struct{} // one for each program that runs
}

func numCPU() int { return runtime.NumCPU() }

// outcome is what a stage came to, once done is closed.
type outcome struct {
	done  chan struct{}
	state *state
	err   error
}

// pulled is an image that stages ask for.
type pulled struct {
	once sync.Once
	img  *imagestore.Image
	err  error
}

// run runs all stages that are needed and returns the state of the last one.
// The first error ends everything.
func (b *build) run(ctx context.Context) (*state, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for range b.plan.stages {
		b.outcomes = append(b.outcomes, &outcome{done: make(chan struct{})})
	}
	b.tellMetaArgs()
	var all sync.WaitGroup
	var mu sync.Mutex
	var first error // that is not only the echo of another
	for _, s := range b.plan.stages {
		if !s.needed {
			b.o.Report(Event{Kind: StageSkips, Stage: s.index, Name: s.Name})
			continue
		}
		all.Go(func() {
			out := b.outcomes[s.index]
			out.state, out.err = b.runStage(ctx, s)
			close(out.done)
			if out.err == nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if first == nil {
				first = out.err
			}
			cancel()
		})
	}
	all.Wait()
	if first != nil {
		return nil, first
	}
	return b.outcomes[b.plan.last].state, nil
}

// tellMetaArgs tells of the ARGs before the first FROM, which are steps, too.
func (b *build) tellMetaArgs() {
	for _, s := range b.plan.stages {
		if s.needed {
			for i, code := range b.plan.args.code {
				b.o.Report(Event{Kind: StepBegins, Stage: s.index, Step: i + 1, Total: b.plan.total, Text: code})
			}
			return
		}
	}
}

// errWaits says that a stage has failed that another waited for.
var errWaits = errors.New("another stage failed")

// stageState waits for a stage and returns its state.
func (b *build) stageState(ctx context.Context, i int) (*state, error) {
	select {
	case <-b.outcomes[i].done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if b.outcomes[i].err != nil {
		return nil, errWaits
	}
	return b.outcomes[i].state, nil
}

// stageRun is a stage that is being run.
type stageRun struct {
	*build
	stage *stage
	lex   *shell.Lex
	s     *state
	n     int    // steps of the stage so far
	code  string // of the instruction that is being carried out
	tail  *tail  // the end of what its program printed; nil: it has none
}

// runStage runs one stage.
func (b *build) runStage(ctx context.Context, st *stage) (*state, error) {
	r := &stageRun{build: b, stage: st, lex: shell.NewLex(b.plan.escape)}
	where := st.Location
	err := r.from(ctx)
	for i := 0; err == nil && i < len(st.Commands); i++ {
		if err = ctx.Err(); err != nil {
			break
		}
		where = st.Commands[i].Location()
		err = r.instruction(ctx, st.Commands[i])
	}
	if err == nil {
		r.tell(Event{Kind: StageEnds})
		return r.s, nil
	}
	r.tell(Event{Kind: StepFails})
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return nil, r.located(err, where)
}

// located puts an error at the instruction, with the end of its output.
func (r *stageRun) located(err error, where []parser.Range) error {
	err = r.plan.atLines(err, where)
	var at *LineError
	if errors.As(err, &at) && r.tail != nil {
		at.Output = r.tail.String()
	}
	return err
}

// tell reports an event of this stage.
func (r *stageRun) tell(e Event) {
	e.Stage, e.Name = r.stage.index, r.stage.Name
	e.Step, e.Total = r.stage.first+r.n, r.plan.total
	e.StageStep, e.StageTotal = r.n+1, 1+len(r.stage.Commands)
	r.o.Report(e)
}

// instruction carries out one instruction as a step of its own.
func (r *stageRun) instruction(ctx context.Context, cmd instructions.Command) error {
	r.n++
	r.code = fmt.Sprint(cmd)
	r.tell(Event{Kind: StepBegins, Text: r.code})
	if err := r.step(ctx, cmd); err != nil {
		return err
	}
	return r.tellImage()
}

func (r *stageRun) tellImage() error {
	id, err := r.s.imageID()
	if err == nil {
		r.tell(Event{Kind: StepEnds, ID: id})
	}
	return err
}
