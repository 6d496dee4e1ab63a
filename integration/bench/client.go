package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// clientCommand is the word after which this program is a client.
const clientCommand = "client"

// clientReport is what a client tells, over descriptor 3.
type clientReport struct {
	Took  time.Duration // of the work alone
	Ops   int64
	Bytes int64
}

// clientOp does some work with its arguments. It returns how many operations
// that was, and how many bytes moved; the time it stops before and after
// what should count is up to the clock it is given.
type clientOp func(c *clock, args []string) error

// clientOps are all clients by name.
func clientOps() map[string]clientOp {
	ops := map[string]clientOp{"chroot": inChroot, "touch": touchMemory}
	for _, more := range []map[string]clientOp{readOps(), writeOps(), pieceOps()} {
		for name, op := range more {
			ops[name] = op
		}
	}
	return ops
}

// clock times the part of a client that counts.
type clock struct {
	start  time.Time
	report clientReport
}

// begin starts the time anew.
func (c *clock) begin() { c.start = time.Now() }

// end stops it; ops and bytes are what was done in it.
func (c *clock) end(ops, bytes int64) {
	c.report = clientReport{Took: time.Since(c.start), Ops: ops, Bytes: bytes}
}

// runClient is the main program of a client.
func runClient(args []string) int {
	if err := tryClient(args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func tryClient(args []string) error {
	if len(args) == 0 {
		return errors.New("which client?")
	}
	op := clientOps()[args[0]]
	if op == nil {
		return fmt.Errorf("no client is called %s", args[0])
	}
	c := &clock{}
	c.begin()
	if err := op(c, args[1:]); err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	if c.report.Took == 0 {
		c.end(0, 0)
	}
	told := os.NewFile(3, "report")
	return errors.Join(json.NewEncoder(told).Encode(c.report), told.Close())
}

// inChroot runs a program in the tree DIR, ARGS: as often as a number before
// it says.
func inChroot(c *clock, args []string) error {
	if len(args) < 3 {
		return errors.New("chroot DIR TIMES PROGRAM [ARG...]")
	}
	var times int64
	if _, err := fmt.Sscan(args[1], &times); err != nil {
		return fmt.Errorf("how often: %w", err)
	}
	if err := enterTree(args[0]); err != nil {
		return err
	}
	c.begin()
	for range times {
		cmd := exec.Command(args[2], args[3:]...)
		cmd.Dir, cmd.Env, cmd.Stderr = "/", []string{"PATH=/usr/bin:/bin", "HOME=/tmp", "LC_ALL=C"}, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w", args[2], err)
		}
	}
	c.end(times, 0)
	return nil
}

// enterTree makes dir the root, with a /tmp in memory and the host's /dev.
// The thread has its own mounts from then on and stays the caller's.
func enterTree(dir string) error {
	runtime.LockOSThread()
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"unshare", func() error { return unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS) }},
		{"private mounts", func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }},
		{"/tmp", func() error { return unix.Mount("tmp", dir+"/tmp", "tmpfs", 0, "") }},
		{"/dev", func() error { return unix.Mount("/dev", dir+"/dev", "", unix.MS_BIND, "") }},
		{"chroot", func() error { return unix.Chroot(dir) }},
		{"chdir", func() error { return unix.Chdir("/") }},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("enter %s: %s: %w", dir, step.what, err)
		}
	}
	return nil
}
