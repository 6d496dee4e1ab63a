package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

type unixRusage = syscall.Rusage

// sample is what one run came to.
type sample struct {
	wall      time.Duration
	clientCPU time.Duration
	serverCPU time.Duration
	clientRSS int64 // bytes; 0: less than can be told
	serverRSS int64 // bytes; 0: no server
	requests  int64 // -1: not counted
	byOp      map[string]int64
	disk      int64 // bytes of new disk
	ops       int64
	bytes     int64
}

// readings are the counters around a run.
type readings struct {
	cpu      map[int]time.Duration // of each server process
	memory   int64                 // peak, of all server processes together
	requests map[string]int64
	disk     int64
}

// readings reads the counters; before a run it also resets the peaks.
func (c contestant) readings(ctx context.Context, before bool) (r readings, err error) {
	r.cpu = map[int]time.Duration{}
	if c.requests != nil {
		if r.requests, err = c.requests(ctx); err != nil {
			return r, err
		}
	}
	if c.disk != nil {
		if r.disk, err = c.disk(); err != nil {
			return r, err
		}
	}
	if c.servers == nil {
		return r, nil
	}
	for _, pid := range c.servers(ctx) {
		r.cpu[pid] = cpuTime(pid)
		r.memory += peakMemory(pid)
		if before {
			resetPeak(pid)
		}
	}
	return r, nil
}

func (t *trial) sample(before, after readings) sample {
	s := sample{
		wall: t.wall, clientCPU: t.used.cpu, clientRSS: t.used.memory, serverRSS: after.memory,
		disk: after.disk - before.disk, ops: t.ops, bytes: t.bytes, requests: -1,
	}
	for pid, cpu := range after.cpu {
		s.serverCPU += cpu - before.cpu[pid]
	}
	if after.requests != nil {
		s.requests, s.byOp = caused(before.requests, after.requests)
	}
	return s
}

// caused are the requests between two counts, without those that the kernel
// sends in its own time.
func caused(before, after map[string]int64) (sum int64, byOp map[string]int64) {
	byOp = map[string]int64{}
	for op, n := range after {
		n -= before[op]
		if n == 0 || op == "FORGET" || op == "BATCH_FORGET" || op == "INTERRUPT" {
			continue
		}
		byOp[op] = n
		sum += n
	}
	return sum, byOp
}

// cpuTime is what a process and the children it has waited for have used.
func cpuTime(pid int) time.Duration {
	// The clock of a process to the nanosecond, where stat counts ticks:
	// MAKE_PROCESS_CPUCLOCK and CPUCLOCK_SCHED of include/linux/posix-timers.h.
	var now unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &now); err != nil {
		return 0
	}
	return time.Duration(now.Nano()) + waitedFor(pid)
}

// tick is what /proc counts CPU time in: USER_HZ is 100 on all machines that Go knows.
const tick = 10 * time.Millisecond

// waitedFor is what children that have ended used: cutime and cstime, fields
// 16 and 17 of proc_pid_stat(5).
func waitedFor(pid int) time.Duration {
	fields := statFields(pid)
	if len(fields) < 15 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[13], 10, 64)
	system, _ := strconv.ParseInt(fields[14], 10, 64)
	return time.Duration(user+system) * tick
}

// statFields are the fields of /proc/PID/stat after the program's name, which may
// have spaces: the first is the third of the manual page. None: no such process.
func statFields(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
}

// peakMemory is the largest resident set since the last reset, in bytes.
func peakMemory(pid int) int64 {
	return sizeIn(fmt.Sprintf("/proc/%d/status", pid), "VmHWM:")
}

// sizeIn is a value of a file of lines "KEY: NUMBER kB", in bytes; 0: it is not there.
func sizeIn(path, key string) int64 {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, key); ok {
			kib, _ := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			return kib << 10
		}
	}
	return 0
}

// resetPeak makes the peak what is resident now (5: proc_pid_clear_refs(5)).
// A process that has just ended has none.
func resetPeak(pid int) {
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

// ownMemory makes this process small and returns its size, in bytes. A program's
// peak (ru_maxrss) begins with that of the process it was started by: exec_mmap of
// fs/exec.c. So what is not above ours is not known.
func ownMemory() int64 {
	debug.FreeOSMemory()
	resetPeak(os.Getpid())
	return peakMemory(os.Getpid())
}

// processesWith finds the processes that have an argument in their command line:
// servers of FUSE mounts name the folder they serve.
func processesWith(arg string) (pids []int) {
	found, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is right
	for _, path := range found {
		text, err := os.ReadFile(path)
		if err != nil || !slices.Contains(strings.Split(string(text), "\x00"), arg) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// withChildren is a process and all that it has started, and so on.
func withChildren(root int) []int {
	children := map[int][]int{}
	found, _ := filepath.Glob("/proc/[0-9]*") // the pattern is right
	for _, path := range found {
		pid, _ := strconv.Atoi(filepath.Base(path))
		if fields := statFields(pid); len(fields) > 1 {
			parent, _ := strconv.Atoi(fields[1])
			children[parent] = append(children[parent], pid)
		}
	}
	all := []int{root}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all
}
