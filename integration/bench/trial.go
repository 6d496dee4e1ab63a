package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"unio/integration/peers"
)

// trial is one run of one contestant.
type trial struct {
	dir   string // where the filesystem is mounted
	upper string // where its changes go; empty: none
	// wall is set by work that knows better than the clock around it how long
	// the work took.
	wall  time.Duration
	ops   int64 // operations of the work, for the time of one; 0: not told
	bytes int64 // bytes that were moved, for the throughput; 0: not told
	used  usage // by the programs that were run
	out   string
}

// usage is what processes took.
type usage struct {
	cpu    time.Duration // user and system
	memory int64         // peak resident set in bytes, of the largest process
}

// run runs a program of the host.
func (t *trial) run(ctx context.Context, name string, args ...string) error {
	return t.runIn(ctx, "", name, args...)
}

// runIn is run in a folder. What the program prints is in t.out.
func (t *trial) runIn(ctx context.Context, dir, name string, args ...string) error {
	path, err := exec.LookPath(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, peers.ErrMissing)
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	return t.wait(cmd)
}

// wait runs a command and adds up what it took.
func (t *trial) wait(cmd *exec.Cmd) error {
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if state := cmd.ProcessState; state != nil {
		t.used.cpu += state.UserTime() + state.SystemTime()
		if r, ok := state.SysUsage().(*unixRusage); ok {
			t.used.memory = max(t.used.memory, r.Maxrss<<10) // KiB (getrusage(2))
		}
	}
	t.out = out.String()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, lastLines(problems.String(), 8))
	}
	return nil
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// shell runs a script of the host's shell in the folder under test.
func (t *trial) shell(ctx context.Context, script string) error {
	return t.runIn(ctx, t.dir, "sh", "-ec", script)
}

// client runs one of clientOps in a second process of this program. The time
// is what the client took for it.
func (t *trial) client(ctx context.Context, op string, args ...string) error {
	return t.clientIn(ctx, append([]string{op}, args...))
}

// chroot runs a program of the tree under test in it so many times, with a /tmp and the
// host's /dev of its own, as a container has them.
func (t *trial) chroot(ctx context.Context, times int, args ...string) error {
	return t.clientIn(ctx, append([]string{"chroot", t.dir, fmt.Sprint(times)}, args...))
}

func (t *trial) clientIn(ctx context.Context, args []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.CommandContext(ctx, self, append([]string{clientCommand}, args...)...)
	cmd.ExtraFiles = []*os.File{w} // becomes descriptor 3
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	err = t.wait(cmd)
	if closeErr := w.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return t.take(r)
}

// take reads what a client tells about itself.
func (t *trial) take(r io.Reader) error {
	var told clientReport
	if err := json.NewDecoder(r).Decode(&told); err != nil {
		return fmt.Errorf("what the client tells: %w", err)
	}
	t.wall += told.Took
	t.ops += told.Ops
	t.bytes += told.Bytes
	return nil
}

// does makes a step of a program's command line.
func does(name string, args ...string) step {
	return func(ctx context.Context, t *trial) error { return t.run(ctx, name, args...) }
}
