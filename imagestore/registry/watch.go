package registry

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"
)

// errStalled is why a watch ends a transfer.
var errStalled = errors.New("transfer stalled")

// watch ends a transfer that stands still: it cancels the transfer's context
// unless it is touched often enough.
type watch struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	limit  atomic.Int64 // nanoseconds
}

// watched starts a watch. The first touch is due within limit.
func watched(ctx context.Context, limit time.Duration) (context.Context, *watch) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watch{ctx: ctx, cancel: cancel}
	w.limit.Store(int64(limit))
	w.timer = time.AfterFunc(limit, func() { cancel(errStalled) })
	return ctx, w
}

// touch says that the transfer moved.
func (w *watch) touch() { w.timer.Reset(time.Duration(w.limit.Load())) }

// rest suspends the watch until the next touch: nobody waits for the network.
func (w *watch) rest() { w.timer.Stop() }

// patience changes the limit, from now on.
func (w *watch) patience(limit time.Duration) {
	w.limit.Store(int64(limit))
	w.touch()
}

// stop ends the watch and the transfer.
func (w *watch) stop() {
	w.timer.Stop()
	w.cancel(context.Canceled)
}

// explain turns the bare "context canceled" of a transfer that the watch ended
// into the reason.
func (w *watch) explain(err error) error {
	if err == nil || w.ctx.Err() == nil {
		return err
	}
	return context.Cause(w.ctx)
}

// reader touches the watch with every read that brings something.
func (w *watch) reader(r io.Reader) io.Reader { return &watchedReader{w, r} }

type watchedReader struct {
	w *watch
	r io.Reader
}

func (r *watchedReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if n > 0 {
		r.w.touch()
	}
	return n, err
}
