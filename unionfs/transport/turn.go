package transport

import (
	"runtime"
	"time"
)

// turn reminds a goroutine that does nothing but wait in the kernel and handle
// requests to pass through Go's scheduler now and then.
//
// The scheduler's monitor takes a goroutine for one that keeps others waiting
// when its slot has not changed hands for 10 ms, and then takes the slot away
// whenever it finds it in a system call (retake in runtime/proc.go, Go 1.26).
// That by itself is no change of hands, so the monitor would go on with it every
// 20 µs as long as requests come: a timer interrupt for each request, and a
// search for a free slot at the end of most system calls.
type turn struct {
	last time.Duration // since the pool's start
}

// turnEvery is less than the monitor's 10 ms (forcePreemptNS). Passing through the
// scheduler wakes another thread, so it is not much less.
const turnEvery = 8 * time.Millisecond

// due reports whether the goroutine must pass through the scheduler, and counts on
// it to do so.
func (t *turn) due(now time.Duration) bool {
	if now-t.last < turnEvery {
		return false
	}
	t.last = now
	return true
}

// take passes through the scheduler if that is due.
func (t *turn) take(now time.Duration) {
	if t.due(now) {
		runtime.Gosched()
	}
}
