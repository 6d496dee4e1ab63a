package container

import (
	"fmt"
	"os"
	"slices"
	"strconv"

	"unio/container/runner"
)

// Processes lists the processes of a container that runs, as the host numbers
// them: those in its PID namespace, or in its cgroup if it shares the host's
// namespace. Those of namespaces that its programs have made are not listed.
func (c *Container) Processes() ([]int, error) {
	want, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", c.State.Pid()))
	if err != nil {
		return nil, fmt.Errorf("find the container's processes: %w", err)
	}
	if own, err := os.Readlink("/proc/self/ns/pid"); err == nil && own == want {
		return runner.Members(c.ID), nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("find the container's processes: %w", err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if ns, err := os.Readlink("/proc/" + e.Name() + "/ns/pid"); err == nil && ns == want {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}
