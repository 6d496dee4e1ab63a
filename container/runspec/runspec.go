// Package runspec turns docker's options and the config of an image into the
// description of a process and its surroundings that OCI runtimes understand:
// a runtime-spec config (github.com/opencontainers/runtime-spec). The package
// container/runner runs it with our own code or hands it to such a runtime.
//
// Defaults are docker's: the filesystems of a container, what is masked of
// /proc and /sys, the capabilities, the devices, the order of the environment
// (moby: oci/defaults.go, oci/caps/defaults.go, daemon/oci_linux.go), and so is
// the filter of system calls, by moby's own module. One differs, since there is
// no daemon that keeps a network: that is the host's unless "none" is asked for.
//
// The package reads the image's /etc/passwd and /etc/group, through package
// inroot, and files of the host. It changes nothing and starts nothing.
package runspec

import (
	"fmt"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"unio/container/inroot"
	"unio/imagestore"
)

// Options are docker run's flags that shape a process and its surroundings.
// The zero value is what docker run without flags gives.
type Options struct {
	ID   string // of the container, 64 hex; its start is the default hostname
	Root string // the mounted union

	Args          []string // behind the image's name
	Entrypoint    []string // replaces the image's if SetEntrypoint
	SetEntrypoint bool     // an empty Entrypoint then means none
	Env           []string // NAME=VALUE, or NAME to take one away
	Workdir, User string   // empty: the image's
	Groups        []string // --group-add: names or numbers of the image
	TTY           bool

	Hostname, Domainname string
	Namespaces           Namespaces

	CapAdd, CapDrop []string
	Privileged      bool
	SecurityOpts    []string // docker's, but a seccomp profile is the JSON itself

	ReadOnly bool // the root filesystem
	Mounts   []Mount
	ShmSize  int64 // bytes; 0: 64 MiB
	Devices  []string

	Resources   Resources
	Ulimits     []string // docker's form: NAME=SOFT[:HARD]
	Sysctls     map[string]string
	OOMScoreAdj int

	// Rootless gives the container a user namespace of its own; nil: none.
	Rootless *IDMaps
}

// Namespaces say whose namespaces a container has: "" or "private" its own,
// "host" the host's, "ns:PATH" those of a file below /proc/PID/ns. The network
// is the host's for "", and nobody's for "none".
type Namespaces struct {
	Network, PID, IPC, UTS, Cgroup string
}

// IDMaps are the users and groups of a user namespace.
type IDMaps struct {
	UIDs, GIDs []specs.LinuxIDMapping
}

// New describes what docker run would start. Errors are in docker's words.
func New(image imagestore.RunConfig, o Options) (*specs.Spec, error) {
	spec := &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: o.Root, Readonly: o.ReadOnly},
		Linux: &specs.Linux{
			Sysctl:            o.Sysctls,
			RootfsPropagation: "rprivate",
		},
		Domainname: o.Domainname,
	}
	steps := []func(*specs.Spec, *imagestore.RunConfig, *Options) error{
		setNamespaces, setProcess, setCapabilities, setMounts, setDevices, setResources, setSecurity,
	}
	for _, step := range steps {
		if err := step(spec, &image, &o); err != nil {
			return nil, err
		}
	}
	return spec, nil
}

// Check refuses options that no image makes right. It looks at nothing but them.
func Check(o Options) error {
	spec := &specs.Spec{Root: &specs.Root{}, Process: &specs.Process{}, Linux: &specs.Linux{}}
	for _, step := range []func(*specs.Spec, *imagestore.RunConfig, *Options) error{setNamespaces, setCapabilities, setResources} {
		if err := step(spec, &imagestore.RunConfig{}, &o); err != nil {
			return err
		}
	}
	return nil
}

// setNamespaces decides what the container shares with the host.
func setNamespaces(spec *specs.Spec, image *imagestore.RunConfig, o *Options) error {
	add := func(kind specs.LinuxNamespaceType, path string) {
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: kind, Path: path})
	}
	add(specs.MountNamespace, "")
	for _, n := range []struct {
		kind  specs.LinuxNamespaceType
		value string
	}{
		{specs.NetworkNamespace, o.Namespaces.Network},
		{specs.PIDNamespace, o.Namespaces.PID},
		{specs.IPCNamespace, o.Namespaces.IPC},
		{specs.UTSNamespace, o.Namespaces.UTS},
		{specs.CgroupNamespace, o.Namespaces.Cgroup},
	} {
		own, path, err := ownNamespace(n.kind, n.value)
		if err != nil {
			return err
		}
		if own || path != "" {
			add(n.kind, path)
		}
	}
	if o.Rootless != nil {
		add(specs.UserNamespace, "")
		spec.Linux.UIDMappings, spec.Linux.GIDMappings = o.Rootless.UIDs, o.Rootless.GIDs
	}
	return setHostname(spec, image, o)
}

// ownNamespace reads one value of [Namespaces].
func ownNamespace(kind specs.LinuxNamespaceType, value string) (own bool, path string, err error) {
	network := kind == specs.NetworkNamespace
	path, isPath := strings.CutPrefix(value, "ns:")
	switch {
	case isPath:
		return false, path, nil
	case value == "host", network && (value == "" || value == "default"):
		return false, "", nil
	case network && value == "none", !network && (value == "" || value == "private"):
		return true, "", nil
	case kind == specs.IPCNamespace && (value == "shareable" || value == "none"):
		return true, "", nil
	case network:
		return false, "", fmt.Errorf("network %s not found: there are the networks host (the default) and none", value)
	}
	return false, "", fmt.Errorf("--%s: invalid %s mode", shortName(kind), strings.TrimSuffix(strings.ToUpper(shortName(kind)), "NS"))
}

func shortName(kind specs.LinuxNamespaceType) string {
	if kind == specs.CgroupNamespace {
		return "cgroupns"
	}
	return string(kind)
}

// hasOwn reports whether the container gets a new namespace of a kind.
func hasOwn(spec *specs.Spec, kind specs.LinuxNamespaceType) bool {
	for _, n := range spec.Linux.Namespaces {
		if n.Type == kind {
			return n.Path == ""
		}
	}
	return false
}

// setHostname gives the container a name of its own where it has no network to
// share one with.
func setHostname(spec *specs.Spec, image *imagestore.RunConfig, o *Options) error {
	if !hasOwn(spec, specs.UTSNamespace) {
		if o.Hostname != "" {
			return fmt.Errorf("conflicting options: hostname and the UTS mode")
		}
		return nil
	}
	spec.Hostname = Hostname(image, o)
	return nil
}

// Hostname is the name that a container sees as its own: the one asked for, the
// host's if it shares the host's network, else the start of its ID.
func Hostname(image *imagestore.RunConfig, o *Options) string {
	switch {
	case o.Hostname != "":
		return o.Hostname
	case image.Hostname != "":
		return image.Hostname
	case o.Namespaces.Network == "none" && len(o.ID) >= shortID:
		return o.ID[:shortID]
	}
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return "localhost"
	}
	return unix.ByteSliceToString(name.Nodename[:])
}

// shortID is how much of an ID is shown.
const shortID = 12

// openRoot opens the root folder that a spec names.
func openRoot(spec *specs.Spec) (int, error) { return inroot.Dir(spec.Root.Path) }
