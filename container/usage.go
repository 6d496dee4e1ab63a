package container

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what the processes of a container use at a moment.
type Usage struct {
	CPU           time.Duration // of all processors, since the processes began
	Memory, Limit uint64        // bytes; the limit is the machine's where there is no other
	Read, Written uint64        // bytes from and to disks
	Tasks         int           // processes and their threads
}

// Usage adds up what /proc tells of each process, since a container without limits
// has no cgroup. Memory is shared out among those who share it (Pss). Processes
// that have ended count for their parents. One that does not run uses nothing.
func (c *Container) Usage() (*Usage, error) {
	u := &Usage{}
	if !c.State.Running() {
		return u, nil
	}
	pids, err := c.Processes()
	if errors.Is(err, fs.ErrNotExist) {
		return u, nil // it has ended just now
	}
	if err != nil {
		return nil, err
	}
	u.Limit = machineMemory()
	if limit := c.Host.Memory; limit > 0 {
		u.Limit = min(u.Limit, uint64(limit))
	}
	for _, pid := range pids {
		u.add(pid)
	}
	return u, nil
}

// machineMemory is the memory that there is, in bytes.
func machineMemory() uint64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return uint64(info.Totalram) * uint64(info.Unit)
}

// ticks is how many times a second the kernel counts in /proc (USER_HZ, on all
// architectures that Go knows).
const ticks = 100

// Fields of /proc/PID/stat behind the command's name (proc_pid_stat(5)).
const (
	statFirst     = 3
	statUserTime  = 14 - statFirst
	statChildTime = 17 - statFirst // the last of four times
	statThreads   = 20 - statFirst
)

// add adds one process; what cannot be read, as of one that has just ended, is
// nothing.
func (u *Usage) add(pid int) {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) <= statThreads {
		return
	}
	for _, field := range fields[statUserTime : statChildTime+1] {
		n, _ := strconv.ParseInt(field, 10, 64)
		u.CPU += time.Duration(n) * time.Second / ticks
	}
	threads, _ := strconv.Atoi(fields[statThreads])
	u.Tasks += threads
	u.Memory += field(pid, "smaps_rollup", "Pss:") << 10 // it is in KiB
	u.Read += field(pid, "io", "read_bytes:")
	u.Written += field(pid, "io", "write_bytes:")
}

// field is the number behind a word at the start of a line of a file of a process.
func field(pid int, file, word string) uint64 {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, word); ok {
			n, _ := strconv.ParseUint(strings.Fields(rest)[0], 10, 64)
			return n
		}
	}
	return 0
}
