package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"oras.land/oras-go/v2/registry/remote/errcode"
	"oras.land/oras-go/v2/registry/remote/retry"
)

// What is tried again, and where: a request that a busy or restarting server
// turns away is repeated by the transport, if its body can be sent twice
// (policy); a transfer that breaks on the way goes on where it stood, or begins
// anew, by whoever reads or sends it (patience). So no failure is multiplied
// by both.

const (
	// maxRetryWait is the longest pause between two tries that is ours to
	// choose; a registry may ask for more, up to maxRetryAfter.
	maxRetryWait  = 30 * time.Second
	maxRetryAfter = 2 * time.Minute
	// maxBreaks is how often a transfer may break without getting on. With
	// pauses that double from a quarter of a second they bridge half a minute,
	// as long as a network takes to come back.
	maxBreaks = 8
)

// errBroken says that a connection ended in the middle of a transfer, for
// whatever reason: net/http has a type of its own for each.
var errBroken = errors.New("connection broken")

// policy repeats requests that a server turned away.
type policy struct{ first time.Duration }

// Retry returns the pause before the next try, negative for none.
func (p *policy) Retry(attempt int, resp *http.Response, err error) (time.Duration, error) {
	again, err := retryable(resp, err)
	if err != nil || !again || attempt >= maxTries-1 {
		return -1, err
	}
	if resp != nil {
		if d, ok := retryAfter(resp.Header, time.Now()); ok {
			if d > maxRetryAfter {
				return -1, nil // the user decides whether to wait so long
			}
			return d, nil
		}
	}
	return pause(p.first, attempt), nil
}

// retryAfter reads the header of this name: seconds, or a time (RFC 9110,
// section 10.2.3).
func retryAfter(h http.Header, now time.Time) (time.Duration, bool) {
	v := h.Get("Retry-After")
	if n, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(n) * time.Second, true
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0, false
	}
	return max(0, at.Sub(now)), true
}

// pause doubles with each try, give or take a tenth, so that many clients do
// not come back at the same moment.
func pause(first time.Duration, try int) time.Duration {
	d := min(first<<min(try, 16), maxRetryWait)
	return d - d/10 + rand.N(d/5+1)
}

// retryable says which outcomes of a request deserve another try: those of an
// overloaded or restarting server and of a connection that broke.
func retryable(resp *http.Response, err error) (bool, error) {
	if err != nil {
		if errors.Is(err, io.EOF) { // closed before it answered
			return true, nil
		}
		return retry.DefaultPredicate(resp, err)
	}
	switch resp.StatusCode {
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported, http.StatusInsufficientStorage:
		return false, nil
	}
	return retry.DefaultPredicate(resp, nil)
}

// transient reports whether an error of a transfer may go away by itself.
func transient(err error) bool {
	var status *errcode.ErrorResponse
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, ErrUnsafe), errors.Is(err, ErrVerify):
		return false
	case errors.Is(err, errStalled), errors.Is(err, errBroken), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), brokenHTTP2(err):
		return true
	case errors.As(err, &status):
		// What can be sent twice has been, by the transport.
		again, _ := retryable(&http.Response{StatusCode: status.StatusCode}, nil)
		return again && status.Method == http.MethodPatch
	}
	var broken *net.OpError
	if errors.As(err, &broken) {
		return !unreachable(err) // then the connection was there
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	again, _ := retryable(nil, err)
	return again
}

// brokenHTTP2 reports whether a server or proxy ended an HTTP/2 stream or
// connection before it answered. net/http does not export the types of these
// errors; each says "http2" or "stream error".
func brokenHTTP2(err error) bool {
	var ue *url.Error
	return errors.As(err, &ue) &&
		(strings.HasPrefix(ue.Err.Error(), "http2: ") || strings.HasPrefix(ue.Err.Error(), "stream error: "))
}

// refused reports whether a registry answered, and not with what was wanted.
func refused(err error) bool {
	var status *errcode.ErrorResponse
	return errors.As(err, &status)
}

// unreachable reports whether a host could not be reached at all. That is
// final for the first request, and a passing trouble of the network in the
// middle of a transfer.
func unreachable(err error) bool {
	var broken *net.OpError
	return errors.As(err, &broken) && (broken.Op == "dial" || broken.Op == "proxyconnect") // net/http's own Op
}

// patience counts the failures of one piece of work.
type patience struct {
	c     *Client
	max   int
	tries int
	// id, if there is one, is the layer whose progress tells of longer pauses.
	id string
}

// next waits before the work is tried again. If that makes no sense it returns
// why: err, or the end of ctx.
func (p *patience) next(ctx context.Context, err error, again bool) error {
	p.tries++
	if errors.Is(err, errStalled) {
		p.tries++ // that took long already
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if !again || p.tries >= p.max {
		return err
	}
	d := pause(p.c.o.RetryWait, p.tries-1)
	p.c.log.Debug("trying again", "after", d, "error", err)
	p.tell(d)
	return sleep(ctx, d)
}

// tell says in docker's words that nothing moves for a while.
func (p *patience) tell(d time.Duration) {
	switch n := int(d.Round(time.Second).Seconds()); {
	case p.id == "" || n == 0:
	case n == 1:
		p.c.step(p.id, "Retrying in 1 second")
	default:
		p.c.step(p.id, fmt.Sprintf("Retrying in %d seconds", n))
	}
}

// forgive forgets earlier failures, since the work got on.
func (p *patience) forgive() { p.tries = 0 }

// again runs try until it succeeds, fails for good, or has had maxTries.
func (c *Client) again(ctx context.Context, try func() error) error {
	p := patience{c: c, max: maxTries}
	for {
		err := try()
		if err == nil {
			return nil
		}
		if err := p.next(ctx, err, transient(err)); err != nil {
			return err
		}
	}
}

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
