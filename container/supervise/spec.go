package supervise

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"unio/container"
	"unio/container/rootless"
	"unio/container/runspec"
)

// Spec describes the program of a container whose union is mounted on root,
// with what is mounted into it.
func Spec(c *container.Container, root string, mounts []runspec.Mount) (*specs.Spec, error) {
	return runspec.New(c.Config, Options(c, root, mounts))
}

// Options are the container's settings in the words of runspec.
func Options(c *container.Container, root string, mounts []runspec.Mount) runspec.Options {
	h := &c.Host
	o := runspec.Options{
		Rootless: rootless.Maps(),
		ID:       c.ID, Root: root, TTY: c.Config.Tty, Groups: h.GroupAdd,
		Hostname: c.Config.Hostname, Domainname: c.Config.Domainname,
		Namespaces: runspec.Namespaces{
			Network: h.NetworkMode, PID: h.PidMode, IPC: h.IpcMode, UTS: h.UTSMode, Cgroup: h.CgroupnsMode,
		},
		CapAdd: h.CapAdd, CapDrop: h.CapDrop, Privileged: h.Privileged, SecurityOpts: h.SecurityOpt,
		ReadOnly: h.ReadonlyRootfs, Mounts: mounts, ShmSize: h.ShmSize,
		Sysctls: h.Sysctls, OOMScoreAdj: h.OomScoreAdj,
		Resources: runspec.Resources{
			Memory: h.Memory, MemorySwap: h.MemorySwap, MemoryReservation: h.MemoryReservation,
			NanoCPUs: h.NanoCPUs, CPUShares: h.CPUShares, CPUPeriod: h.CPUPeriod, CPUQuota: h.CPUQuota,
			CPUSet: h.CpusetCpus, MemSet: h.CpusetMems, BlkioWeight: h.BlkioWeight,
			Swappiness: h.MemorySwappiness, KeepOnOOM: h.OomKillDisable != nil && *h.OomKillDisable,
		},
	}
	if h.MaskedPaths != nil && len(h.MaskedPaths) == 0 { // nil: an older record, or privileged
		o.SecurityOpts = append(slices.Clone(o.SecurityOpts), runspec.SystemPathsUnconfined)
	}
	if h.PidsLimit != nil {
		o.Resources.Pids = *h.PidsLimit
	}
	for _, d := range h.Devices {
		o.Devices = append(o.Devices, d.PathOnHost+":"+d.PathInContainer+":"+d.CgroupPermissions)
	}
	for _, u := range h.Ulimits {
		o.Ulimits = append(o.Ulimits, fmt.Sprintf("%s=%d:%d", u.Name, u.Soft, u.Hard))
	}
	return o
}

// mountsOf are the container's mounts in the words of runspec; source finds the
// folder of a volume.
func mountsOf(c *container.Container, source func(name string) (string, error)) ([]runspec.Mount, error) {
	var list []runspec.Mount
	for _, m := range c.Mounts {
		switch m.Type {
		case "volume":
			dir, err := source(m.Name)
			if err != nil {
				return nil, err
			}
			list = append(list, runspec.Mount{Type: "bind", Source: dir, Target: m.Destination, ReadOnly: !m.RW, Propagation: m.Propagation})
		case "bind":
			list = append(list, runspec.Mount{Type: "bind", Source: m.Source, Target: m.Destination, ReadOnly: !m.RW, Propagation: m.Propagation})
		case "tmpfs":
			list = append(list, runspec.Mount{Type: "tmpfs", Target: m.Destination, ReadOnly: !m.RW, Options: tmpfsOptions(m.Mode)})
		}
	}
	for dir, options := range c.Host.Tmpfs {
		list = append(list, runspec.Mount{Type: "tmpfs", Target: path.Clean(dir), Options: tmpfsOptions(options)})
	}
	slices.SortFunc(list, func(a, b runspec.Mount) int { return strings.Compare(a.Target, b.Target) })
	return list, nil
}

func tmpfsOptions(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

// StopSignal is what asks a container's program to end.
func StopSignal(c *container.Container) unix.Signal {
	if sig, err := container.ParseSignal(c.Config.StopSignal); err == nil {
		return sig
	}
	return unix.SIGTERM
}
