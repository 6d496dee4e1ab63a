package container

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// process names a process so that another one that later gets the same number
// is not taken for it.
type process struct {
	Pid   int
	Start uint64 // start time in clock ticks since boot: /proc/PID/stat, field 22 (proc(5))
}

// self is the calling process.
func self() (process, error) { return processOf(os.Getpid()) }

// processOf looks up the start time of a running process.
func processOf(pid int) (process, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	// The second field is the command in parentheses and may hold anything.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	const startTime = 22 - 3 // fields counts from the third
	if len(fields) <= startTime {
		return process{}, fmt.Errorf("/proc/%d/stat: only %d fields", pid, len(fields))
	}
	start, err := strconv.ParseUint(fields[startTime], 10, 64)
	return process{Pid: pid, Start: start}, err
}

// alive reports whether the process still runs. One that has ended and waits
// for its parent does not.
func (p process) alive() bool {
	if p.Pid <= 0 {
		return false
	}
	now, err := processOf(p.Pid)
	if err != nil || now != p {
		return false
	}
	done, err := p.wait(context.Background(), 0)
	return err == nil && !done
}

// waitStep is how often wait looks at its context.
const waitStep = 100 * time.Millisecond

// wait waits until the process has ended, at most for the given time, and
// reports whether it has.
func (p process) wait(ctx context.Context, atMost time.Duration) (ended bool, err error) {
	fd, err := unix.PidfdOpen(p.Pid, 0)
	if err == unix.ESRCH {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("wait for process %d: %w", p.Pid, err)
	}
	defer unix.Close(fd)
	if now, err := processOf(p.Pid); err != nil || now != p {
		return true, nil // the number belongs to another one now
	}
	for deadline := time.Now().Add(atMost); ; {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		step := max(0, min(waitStep, time.Until(deadline)))
		n, err := unix.Poll(poll, int(step.Milliseconds()))
		switch {
		case n > 0:
			return true, nil
		case err != nil && err != unix.EINTR:
			return false, fmt.Errorf("wait for process %d: %w", p.Pid, err)
		case ctx.Err() != nil:
			return false, context.Cause(ctx)
		case !time.Now().Before(deadline):
			return false, nil
		}
	}
}
