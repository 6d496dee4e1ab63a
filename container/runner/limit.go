package runner

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"unio/container/inroot"
	"unio/container/seccomp"
)

// limit is one thing that a container may use only so much of.
type limit struct {
	controller string
	v1, v2     []setting
	warning    string // docker's, where it cannot be set
}

// setting is a value for a file of a cgroup.
type setting struct{ file, value string }

// limitsOf lists what a spec limits.
func limitsOf(r *specs.LinuxResources) []limit {
	if r == nil {
		return nil
	}
	var list []limit
	if r.Memory != nil {
		list = append(list, memoryLimits(r.Memory)...)
	}
	if r.CPU != nil {
		list = append(list, cpuLimits(r.CPU)...)
	}
	if r.Pids != nil && r.Pids.Limit != nil {
		value := unlimited(*r.Pids.Limit)
		list = append(list, limit{
			controller: pidsController, v1: []setting{{"pids.max", value}}, v2: []setting{{"pids.max", value}},
			warning: "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.",
		})
	}
	if r.BlockIO != nil && r.BlockIO.Weight != nil {
		value := strconv.Itoa(int(*r.BlockIO.Weight))
		list = append(list, limit{
			controller: "blkio", v1: []setting{{"blkio.weight", value}},
			warning: "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.",
		})
	}
	return list
}

func unlimited(v int64) string {
	if v <= 0 {
		return "max"
	}
	return strconv.FormatInt(v, 10)
}

func memoryLimits(m *specs.LinuxMemory) []limit {
	var list []limit
	if m.Limit != nil {
		list = append(list, limit{
			controller: "memory",
			v1:         []setting{{"memory.limit_in_bytes", strconv.FormatInt(*m.Limit, 10)}},
			v2:         []setting{{"memory.max", unlimited(*m.Limit)}},
			warning:    "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.",
		})
	}
	if m.Limit != nil && m.Swap != nil {
		// Version 1 counts memory and swap together, version 2 swap alone.
		swapOnly := "max"
		if *m.Swap >= 0 {
			swapOnly = strconv.FormatInt(max(0, *m.Swap-*m.Limit), 10)
		}
		list = append(list, limit{
			controller: "memory",
			v1:         []setting{{"memory.memsw.limit_in_bytes", strconv.FormatInt(*m.Swap, 10)}},
			v2:         []setting{{"memory.swap.max", swapOnly}},
			warning:    "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.",
		})
	}
	if m.Reservation != nil {
		value := strconv.FormatInt(*m.Reservation, 10)
		list = append(list, limit{
			controller: "memory", v1: []setting{{"memory.soft_limit_in_bytes", value}}, v2: []setting{{"memory.low", value}},
			warning: "Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.",
		})
	}
	return append(list, memoryHabits(m)...)
}

// memoryHabits are what version 2 of cgroups has nothing for.
func memoryHabits(m *specs.LinuxMemory) []limit {
	var list []limit
	if m.Swappiness != nil {
		list = append(list, limit{
			controller: "memory", v1: []setting{{"memory.swappiness", strconv.FormatUint(*m.Swappiness, 10)}},
			warning: "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.",
		})
	}
	if m.DisableOOMKiller != nil && *m.DisableOOMKiller {
		list = append(list, limit{
			controller: "memory", v1: []setting{{"memory.oom_control", "1"}},
			warning: "Your kernel does not support OomKillDisable. OomKillDisable discarded.",
		})
	}
	return list
}

func cpuLimits(c *specs.LinuxCPU) []limit {
	var list []limit
	if c.Shares != nil {
		// The two scales, 2 to 262144 and 1 to 10000, are mapped end to end.
		weight := 1 + ((max(*c.Shares, 2)-2)*9999)/262142
		list = append(list, limit{
			controller: "cpu",
			v1:         []setting{{"cpu.shares", strconv.FormatUint(*c.Shares, 10)}},
			v2:         []setting{{"cpu.weight", strconv.FormatUint(weight, 10)}},
			warning:    "Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.",
		})
	}
	if c.Quota != nil || c.Period != nil {
		list = append(list, cpuQuota(c))
	}
	if c.Cpus != "" || c.Mems != "" {
		l := limit{
			controller: "cpuset",
			warning:    "Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.",
		}
		for _, s := range []setting{{"cpuset.cpus", c.Cpus}, {"cpuset.mems", c.Mems}} {
			if s.value != "" {
				l.v1, l.v2 = append(l.v1, s), append(l.v2, s)
			}
		}
		list = append(list, l)
	}
	return list
}

func cpuQuota(c *specs.LinuxCPU) limit {
	period, quota := uint64(100_000), int64(-1) // µs; the kernel's own
	l := limit{
		controller: "cpu",
		warning:    "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.",
	}
	if c.Period != nil {
		period = *c.Period
		l.v1 = append(l.v1, setting{"cpu.cfs_period_us", strconv.FormatUint(period, 10)})
	}
	if c.Quota != nil {
		quota = *c.Quota
		l.v1 = append(l.v1, setting{"cpu.cfs_quota_us", strconv.FormatInt(quota, 10)})
	}
	l.v2 = []setting{{"cpu.max", unlimited(quota) + " " + strconv.FormatUint(period, 10)}}
	return l
}

// settings are those for the version of a hierarchy.
func (l *limit) settings(h *hierarchy) []setting {
	if h.unified() {
		return l.v2
	}
	return l.v1
}

// set writes a limit into a cgroup.
func (l *limit) set(h *hierarchy, dir string) error {
	for _, s := range l.settings(h) {
		if err := os.WriteFile(filepath.Join(dir, s.file), []byte(s.value), 0); err != nil {
			return fmt.Errorf("set %s to %s: %w", s.file, s.value, errors.Unwrap(err))
		}
	}
	return nil
}

// Warnings says in docker's words what of a spec cannot be had here.
func Warnings(linux *specs.Linux) []string {
	var list []string
	if linux.Seccomp != nil && !seccomp.Supported() {
		list = append(list, "seccomp is not enabled in your kernel, running container without default profile")
	}
	all := hierarchies()
	for _, l := range limitsOf(linux.Resources) {
		if h := findController(all, l.controller); h == nil || !l.possible(h) {
			list = append(list, l.warning)
		}
	}
	return list
}

// possible looks for the file of a limit. The root of a hierarchy has no file
// for the number of processes, but where there is the controller, there is that.
func (l *limit) possible(h *hierarchy) bool {
	settings := l.settings(h)
	if len(settings) == 0 || unix.Access(h.dir, unix.W_OK) != nil {
		return false
	}
	if h.unified() || l.controller == pidsController {
		return true
	}
	_, err := os.Stat(filepath.Join(h.dir, settings[0].file))
	return !errors.Is(err, fs.ErrNotExist)
}

// mountHierarchies makes a folder with a mount of each hierarchy.
func (r *rootfs) mountHierarchies(dest string, target int, list []hierarchy, o mountOptions) error {
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("cgroup", inroot.FDPath(target), "tmpfs", flags, "mode=755"); err != nil {
		return ignoreRootless(err, r.rootless)
	}
	for _, h := range list {
		name := filepath.Join(dest, filepath.Base(h.dir))
		fd, _, err := inroot.MkdirAll(r.fd, name)
		if err != nil {
			return err
		}
		kind, data := "cgroup", strings.Join(h.controllers, ",")
		if h.unified() {
			kind, data = "cgroup2", ""
		}
		err = unix.Mount("cgroup", inroot.FDPath(fd), kind, o.flags, data)
		unix.Close(fd)
		if err != nil && !r.rootless {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	top, err := inroot.Open(r.fd, dest, unix.O_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(top)
	return restrict(top, mountOptions{flags: o.flags & unix.MS_RDONLY})
}

func ignoreRootless(err error, rootless bool) error {
	if rootless {
		return nil
	}
	return err
}
