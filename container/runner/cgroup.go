package runner

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A container has a cgroup if something of it is limited: unio/<ID>, in version
// 2 or in each hierarchy of version 1 whose controller is needed (kernel,
// Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/).

// hierarchy is a mounted tree of cgroups.
type hierarchy struct {
	dir         string
	controllers []string // of version 1; empty: version 2
}

func (h *hierarchy) unified() bool { return len(h.controllers) == 0 }

// hierarchies lists what is mounted below /sys/fs/cgroup.
func hierarchies() []hierarchy {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	defer f.Close()
	var list []hierarchy
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// proc(5): fields, " - ", type, source, options of the superblock
		left, right, ok := strings.Cut(lines.Text(), " - ")
		fields, super := strings.Fields(left), strings.Fields(right)
		if !ok || len(fields) < 5 || len(super) < 3 || fields[3] != "/" || !strings.HasPrefix(fields[4], "/sys/fs/cgroup") {
			continue
		}
		switch super[0] {
		case "cgroup2":
			list = append(list, hierarchy{dir: fields[4]})
		case "cgroup":
			list = append(list, hierarchy{dir: fields[4], controllers: controllersOf(super[2])})
		}
	}
	return list
}

// controllersOf picks the controllers out of the options of a hierarchy; one
// without any has a name.
func controllersOf(options string) []string {
	var list []string
	for _, o := range strings.Split(options, ",") {
		if o != "rw" && o != "ro" && o != "xattr" && o != "clone_children" && !strings.HasPrefix(o, "release_agent=") {
			list = append(list, o)
		}
	}
	return list
}

// findController finds who has a controller.
func findController(list []hierarchy, name string) *hierarchy {
	for i := range list {
		h := &list[i]
		if slices.Contains(h.controllers, name) {
			return h
		}
		if !h.unified() {
			continue
		}
		data, _ := os.ReadFile(filepath.Join(h.dir, "cgroup.controllers"))
		if slices.Contains(strings.Fields(string(data)), name) {
			return h
		}
	}
	return nil
}

// cgroups are those of one container; nil: it has none.
type cgroups struct {
	dirs []string // to be in
	made bool     // by us, and to be removed
	late []late   // set by the child
}

// makeCgroups makes the cgroups that the limits of a spec need. What cannot be
// limited here is logged, as [Warnings] told before.
func makeCgroups(o *Options) (*cgroups, error) {
	limits := limitsOf(o.Spec.Linux.Resources)
	if !hasOwnPIDs(o.Spec) {
		// The end of its first process does not end such a container.
		limits = append(limits, limit{controller: pidsController})
	}
	if len(limits) == 0 || o.ID == "" {
		return nil, nil
	}
	g := &cgroups{made: true}
	list := hierarchies()
	for _, l := range limits {
		h := findController(list, l.controller)
		if h == nil {
			logOf(o).Warn("limit discarded: no such cgroup controller", "controller", l.controller)
			continue
		}
		dir, err := g.enter(h, o.ID, l.controller)
		if err == nil {
			err = l.set(h, dir)
		}
		if err == nil && l.controller == pidsController {
			err = g.postpone(dir, l.settings(h))
		}
		switch {
		case err == nil:
		case impossible(err):
			logOf(o).Warn("limit discarded", "controller", l.controller, "err", err)
		default:
			g.remove()
			return nil, err
		}
	}
	return g, nil
}

// impossible tells limits that cannot be set here from wrong ones: EBUSY is a
// group with processes of its own, as the root of another container.
func impossible(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) || errors.Is(err, unix.EBUSY)
}

// hasOwnPIDs reports whether a container has a PID namespace of its own.
func hasOwnPIDs(spec *specs.Spec) bool {
	return slices.ContainsFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool {
		return n.Type == specs.PIDNamespace && n.Path == ""
	})
}

func logOf(o *Options) *slog.Logger {
	if o.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return o.Log
}

// groupName is the folder of all our cgroups in a hierarchy.
const groupName = "unio"

// enter makes sure that the container's cgroup of a hierarchy is there.
func (g *cgroups) enter(h *hierarchy, id, controller string) (string, error) {
	parent := filepath.Join(h.dir, groupName)
	dir := filepath.Join(parent, id)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", err
	}
	for _, up := range []string{h.dir, parent} {
		if h.unified() {
			if err := os.WriteFile(filepath.Join(up, "cgroup.subtree_control"), []byte("+"+controller), 0); err != nil {
				return "", err
			}
		} else if controller == "cpuset" && up == parent {
			inheritCPUs(h.dir, up)
		}
	}
	if slices.Contains(g.dirs, dir) {
		return dir, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if controller == "cpuset" && !h.unified() {
		inheritCPUs(parent, dir)
	}
	g.dirs = append(g.dirs, dir)
	return dir, nil
}

// inheritCPUs fills in what a cpuset of version 1 must have before a process
// may be in it.
func inheritCPUs(from, to string) {
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		have, err := os.ReadFile(filepath.Join(to, name))
		if err != nil || strings.TrimSpace(string(have)) != "" {
			continue
		}
		if data, err := os.ReadFile(filepath.Join(from, name)); err == nil {
			_ = os.WriteFile(filepath.Join(to, name), data, 0) // add says so if it matters
		}
	}
}

// add moves a process into the cgroups.
func (g *cgroups) add(pid int) error {
	if g == nil {
		return nil
	}
	for _, dir := range g.dirs {
		if err := os.WriteFile(filepath.Join(dir, procsFile), []byte(strconv.Itoa(pid)), 0); err != nil {
			return fmt.Errorf("enter the cgroup: %w", err)
		}
	}
	return nil
}

// remove removes cgroups that were made; whoever is still in them is killed.
func (g *cgroups) remove() {
	if g == nil || !g.made {
		return
	}
	for _, dir := range g.dirs {
		removeCgroup(dir)
	}
}

// cgroupEnd is how long a cgroup may take to become empty after its processes
// were killed.
const cgroupEnd = time.Second

func removeCgroup(dir string) {
	for end := time.Now().Add(cgroupEnd); ; time.Sleep(5 * time.Millisecond) {
		err := unix.Rmdir(dir)
		if !errors.Is(err, unix.EBUSY) || time.Now().After(end) {
			return
		}
		killCgroup(dir)
	}
}

// killCgroup kills all processes of a cgroup.
func killCgroup(dir string) {
	if os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0) == nil {
		return
	}
	for _, pid := range membersOf(dir) {
		if pid > 1 {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// oomKilled reports whether the kernel has ended a process because the cgroup
// had no memory left.
func (g *cgroups) oomKilled() bool {
	if g == nil || !g.made {
		return false
	}
	for _, dir := range g.dirs {
		for _, name := range []string{"memory.events", "memory.oom_control"} { // versions 2 and 1
			data, _ := os.ReadFile(filepath.Join(dir, name))
			for line := range strings.Lines(string(data)) {
				if n, ok := strings.CutPrefix(line, "oom_kill "); ok && strings.TrimSpace(n) != "0" {
					return true
				}
			}
		}
	}
	return false
}

// killer ends all processes of the cgroups; nil if there are none.
func (g *cgroups) killer() func() error {
	if g == nil || len(g.dirs) == 0 {
		return nil
	}
	return func() error {
		killCgroup(g.dirs[0])
		return nil
	}
}

// RemoveCgroups removes what a container has left in the cgroups when the one
// who ran it was killed, the processes in it included.
func RemoveCgroups(id string) {
	if id == "" || strings.ContainsRune(id, '/') {
		return
	}
	_ = Thaw(id) // what is stopped does not end, with version 1
	for _, h := range hierarchies() {
		removeCgroup(filepath.Join(h.dir, groupName, id))
	}
}

// cgroupsOf finds the cgroups of a process that are not ours.
func cgroupsOf(pid int) *cgroups {
	theirs, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	ours, ownErr := os.ReadFile("/proc/self/cgroup")
	if err != nil || ownErr != nil {
		return nil
	}
	mine := strings.Split(string(ours), "\n")
	g := &cgroups{}
	for line := range strings.Lines(string(theirs)) {
		line = strings.TrimSuffix(line, "\n")
		parts := strings.SplitN(line, ":", 3)
		if slices.Contains(mine, line) || len(parts) < 3 {
			continue
		}
		for _, h := range hierarchies() {
			if strings.Join(h.controllers, ",") == parts[1] {
				g.dirs = append(g.dirs, filepath.Join(h.dir, parts[2]))
			}
		}
	}
	return g
}

// mountCgroup shows a container its cgroups: version 2 as one tree, version 1
// as a folder of hierarchies. Where that cannot be, it has none.
func (r *rootfs) mountCgroup(dest string, o mountOptions) error {
	list := r.hierarchies
	if len(list) == 0 {
		return nil
	}
	target, err := r.target(&specs.Mount{Destination: dest}, false)
	if err != nil {
		return nil //nolint:nilerr // a /sys without a place for it, as in a user namespace
	}
	defer unix.Close(target)
	if len(list) == 1 && list[0].unified() {
		err := unix.Mount("cgroup", fmt.Sprintf("/proc/self/fd/%d", target), "cgroup2", o.flags, "nsdelegate")
		if err != nil && !r.rootless {
			return err
		}
		return nil
	}
	return r.mountHierarchies(dest, target, list, o)
}
