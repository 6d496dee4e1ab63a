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
	var killed []int
	for none := 0; none < 3; { // one that is just being started has no command line for a moment
		found := processesOf(ts.Getenv("UNIO_ROOT"), roles[args[0]])
		if none++; len(found) > 0 {
			none = 0
		}
		for _, pid := range found {
			_ = unix.Kill(pid, unix.SignalNum("SIG"+args[0])) // it may just have ended
		}
		killed = append(killed, found...)
		time.Sleep(20 * time.Millisecond)
	}
	// What is ending has no command line any more, but keeps what it has open for a moment.
	for _, pid := range killed {
		for runs(pid) {
			time.Sleep(20 * time.Millisecond)
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

// runs tells whether there is a process that has not ended (field 3 of proc_pid_stat(5)).
func runs(pid int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	rest := string(text[strings.LastIndexByte(string(text), ')')+1:])
	return !strings.HasPrefix(strings.TrimSpace(rest), "Z")
}
