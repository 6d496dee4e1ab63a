package supervise

import (
	"context"
	"errors"
	"time"

	"unio/container"
)

// How long a program that ends at once waits to be started again (moby,
// restartmanager.go): the double each time, unless it has run for a while.
const (
	firstDelay = 100 * time.Millisecond
	mostDelay  = time.Minute
	longRun    = 10 * time.Second
)

// policy decides whether a program is started again.
type policy struct {
	*container.RestartPolicy
	delay time.Duration // before the next start
	count int           // starts by this policy
}

func newPolicy(p *container.RestartPolicy) *policy { return &policy{RestartPolicy: p} }

// again reports whether a program that was started then and ended so is to be
// started again. Who stops it is asked afterwards.
func (p *policy) again(e container.End, started time.Time) bool {
	switch p.Name {
	case "always", "unless-stopped":
	case "on-failure":
		if e.Code == 0 || p.MaximumRetryCount > 0 && p.count >= p.MaximumRetryCount {
			return false
		}
	default:
		return false
	}
	p.count++
	p.delay = min(max(2*p.delay, firstDelay), mostDelay)
	if e.At.Sub(started) >= longRun {
		p.delay = firstDelay
	}
	return true
}

// errStopped says that a user does not want the program to be started again.
var errStopped = errors.New("stopped by a user")

// stopStep is how often a supervisor that waits to start its program again
// looks whether a user has stopped it.
const stopStep = 50 * time.Millisecond

// repeat starts the program once more after a while, and waits for its end.
// Who was attached is told of this one's. A user who stops it meanwhile keeps
// it from being started.
func (s *supervisor) repeat(ctx context.Context, e container.End, delay time.Duration) (container.End, error) {
	if s.run.Stopped() {
		return e, errStopped
	}
	s.hub.exit(Exit{Code: e.Code})
	if err := s.streams.close(); err != nil {
		s.log.Warn("close the streams", "err", err)
	}
	if err := s.run.Restarting(e); err != nil {
		return e, err
	}
	for end := time.Now().Add(delay); time.Now().Before(end); time.Sleep(stopStep) {
		if s.run.Stopped() || s.stopping.Load() {
			return e, errStopped
		}
	}
	durable, err := s.launch(ctx, nil)
	if err != nil {
		return e, err
	}
	s.streams.flow()
	return s.await(durable), nil
}
