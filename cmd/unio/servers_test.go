package main

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// cmdKillServers is "killservers KILL|TERM": it kills the servers of this script's mounts and
// waits until they are gone; with KILL also their keepers, which would start others.
func cmdKillServers(ts *testscript.TestScript, neg bool, args []string) {
	roles := map[string][]string{"KILL": {"serve", "keep"}, "TERM": {"serve"}}
	if neg || len(args) != 1 || roles[args[0]] == nil {
		ts.Fatalf("usage: killservers KILL|TERM")
	}
	for none := 0; none < 3; { // one that is just being started has no command line for a moment
		found := processesOf(ts.Getenv("UNIO_ROOT"), roles[args[0]])
		if none++; len(found) > 0 {
			none = 0
		}
		var fds []int
		for _, pid := range found {
			fd, err := unix.PidfdOpen(pid, 0)
			if err == unix.ESRCH {
				continue // it has just ended
			}
			ts.Check(err)
			_ = unix.PidfdSendSignal(fd, unix.SignalNum("SIG"+args[0]), nil, 0)
			fds = append(fds, fd)
		}
		for _, fd := range fds {
			ts.Check(ended(fd))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// ended waits until a process has ended with all its threads: the first of them
// may be gone from lists while others still hold what the process had open.
func ended(pidfd int) error {
	defer unix.Close(pidfd)
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, -1)
		if n > 0 {
			return nil
		}
		if err != nil && err != unix.EINTR {
			return err
		}
	}
}

// processesOf finds the processes of a store that have one of these roles.
func processesOf(root string, roles []string) (pids []int) {
	found, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is right
	for _, path := range found {
		text, _ := os.ReadFile(path) // none: it has ended
		args := strings.Split(string(text), "\x00")
		isRole := func(arg string) bool { return slices.Contains(roles, arg) }
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil && slices.Contains(args, "--root="+root) && slices.ContainsFunc(args, isRole) {
			pids = append(pids, pid)
		}
	}
	return pids
}
