package runspec

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"unio/imagestore"
)

// Mount is what a user mounts into a container.
type Mount struct {
	Type   string // bind or tmpfs; volumes are binds of their folder
	Source string // of a bind: absolute, on the host
	Target string // absolute, in the container

	ReadOnly bool
	// Propagation of a bind: rprivate (also ""), private, rshared, shared,
	// rslave or slave.
	Propagation string
	NoRecursive bool     // a bind leaves out what is mounted below its source
	Options     []string // of a tmpfs, as in mount(8)
}

// defaultShm is the size of /dev/shm in bytes, docker's.
const defaultShm = 64 << 20

// defaultMounts are the filesystems that every container has (moby,
// oci/defaults.go).
func defaultMounts(o *Options, shm int64) []specs.Mount {
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: ptsOptions(o)},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid", "noexec", "nodev"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{
			Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
			Options: []string{"nosuid", "noexec", "nodev", "mode=1777", fmt.Sprintf("size=%d", shm)},
		},
	}
}

// ptsOptions name the group tty of every Linux system, where there is one: a
// user namespace may have no fifth group.
func ptsOptions(o *Options) []string {
	options := []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}
	if o.Rootless != nil && !mapped(o.Rootless.GIDs, 5) {
		return options
	}
	return append(options, "gid=5")
}

// mapped reports whether a user namespace has an ID.
func mapped(maps []specs.LinuxIDMapping, id uint32) bool {
	return slices.ContainsFunc(maps, func(m specs.LinuxIDMapping) bool {
		return id >= m.ContainerID && id-m.ContainerID < m.Size
	})
}

// setMounts lists what is mounted, in the order of mounting: docker's own
// filesystems, but those that the user replaces, then the user's by depth.
func setMounts(spec *specs.Spec, _ *imagestore.RunConfig, o *Options) error {
	shm := o.ShmSize
	if shm == 0 {
		shm = defaultShm
	}
	replaced := map[string]bool{}
	users := slices.Clone(o.Mounts)
	for i := range users {
		if err := users[i].check(replaced); err != nil {
			return err
		}
	}
	slices.SortStableFunc(users, func(a, b Mount) int { return depth(a.Target) - depth(b.Target) })
	for _, m := range defaultMounts(o, shm) {
		switch {
		case replaced[m.Destination]:
			continue
		case m.Destination == "/dev/mqueue" && !hasOwn(spec, specs.IPCNamespace),
			m.Destination == "/dev/shm" && !hasOwn(spec, specs.IPCNamespace):
			m = specs.Mount{Destination: m.Destination, Type: "bind", Source: m.Destination, Options: []string{"rbind", "rprivate"}}
		}
		spec.Mounts = append(spec.Mounts, m)
	}
	for _, m := range users {
		spec.Mounts = append(spec.Mounts, m.spec())
	}
	if o.Privileged {
		openUp(spec)
		return nil
	}
	spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths = MaskedPaths(), ReadonlyPaths()
	return nil
}

func depth(target string) int { return strings.Count(path.Clean(target), "/") }

// check refuses what docker refuses, and collects targets.
func (m *Mount) check(seen map[string]bool) error {
	if !path.IsAbs(m.Target) {
		return fmt.Errorf("invalid mount config for type %q: invalid mount path: '%s' mount path must be absolute", m.Type, m.Target)
	}
	m.Target = path.Clean(m.Target)
	if m.Target == "/" {
		return fmt.Errorf("invalid mount config for type %q: invalid specification: destination can't be '/'", m.Type)
	}
	if seen[m.Target] {
		return fmt.Errorf("Duplicate mount point: %s", m.Target) //nolint:staticcheck // docker's words
	}
	seen[m.Target] = true
	return nil
}

// spec is the mount as runtimes are told of it.
func (m *Mount) spec() specs.Mount {
	if m.Type == "tmpfs" {
		options := slices.Concat([]string{"noexec", "nosuid", "nodev"}, m.Options)
		if m.ReadOnly {
			options = append(options, "ro")
		}
		return specs.Mount{Destination: m.Target, Type: "tmpfs", Source: "tmpfs", Options: options}
	}
	options := []string{"rbind"}
	if m.NoRecursive {
		options = []string{"bind"}
	}
	if m.ReadOnly {
		options = append(options, "ro")
	}
	propagation := m.Propagation
	if propagation == "" {
		propagation = "rprivate"
	}
	return specs.Mount{Destination: m.Target, Type: "bind", Source: m.Source, Options: append(options, propagation)}
}

// openUp gives a privileged container /sys and cgroups to write to.
func openUp(spec *specs.Spec) {
	for i := range spec.Mounts {
		switch spec.Mounts[i].Type {
		case "sysfs", "cgroup":
			spec.Mounts[i].Options = without(spec.Mounts[i].Options, []string{"ro"})
		}
	}
}

// MaskedPaths are hidden from a container (moby, oci/defaults.go).
func MaskedPaths() []string {
	return []string{
		"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
		"/sys/devices/virtual/powercap",
	}
}

// ReadonlyPaths can be read but not written to.
func ReadonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}
