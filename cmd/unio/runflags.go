package main

import (
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/urfave/cli/v2"

	"unio/container/runspec"
)

// checkedFlag is a flag whose values are looked at while the command line is
// read, so that a bad one is shown with the command's usage.
type checkedFlag struct {
	*cli.StringFlag
	kind  string // of value, for the help text
	check func(string) error
}

// checkedSlice is the same for a flag that may be given several times.
type checkedSlice struct {
	*cli.StringSliceFlag
	check func(string) error
}

func bytesFlag(usage, name string, aliases ...string) cli.Flag {
	return &checkedFlag{
		StringFlag: &cli.StringFlag{Name: name, Aliases: aliases, Usage: usage}, kind: "bytes",
		check: func(v string) error { _, err := parseBytes(v); return err },
	}
}

// parseBytes reads a size as docker's flags do; -1 means without limit.
func parseBytes(v string) (int64, error) {
	if v == "-1" {
		return -1, nil
	}
	return units.RAMInBytes(v)
}

// parseCPUs reads a number of processors, in billionths of one.
func parseCPUs(v string) (int64, error) {
	cpu, ok := new(big.Rat).SetString(v)
	if !ok {
		return 0, fmt.Errorf("failed to parse %v as a rational number", v)
	}
	nano := cpu.Mul(cpu, big.NewRat(1e9, 1))
	if !nano.IsInt() {
		return 0, errors.New("value is too precise")
	}
	return nano.Num().Int64(), nil
}

func checkEnv(v string) error {
	if v == "" || strings.HasPrefix(v, "=") {
		return fmt.Errorf("invalid environment variable: %s", v)
	}
	return nil
}

func checkLabel(v string) error {
	if strings.HasPrefix(v, "=") || v == "" {
		return fmt.Errorf("invalid label '%s': empty name", v)
	}
	return nil
}

// checkSysctl knows what belongs to the namespaces of a container (docker,
// opts/opts.go).
func checkSysctl(v string) error {
	own := []string{
		"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni",
		"kernel.shm_rmid_forced",
	}
	name, _, given := strings.Cut(v, "=")
	if given && (slices.Contains(own, name) || strings.HasPrefix(name, "net.") || strings.HasPrefix(name, "fs.mqueue.")) {
		return nil
	}
	return fmt.Errorf("sysctl '%s' is not allowed", v)
}

func checkMount(v string) error {
	_, err := parseMount(v)
	return err
}

func checkUlimit(v string) error {
	_, err := units.ParseUlimit(v)
	return err
}

func checkAttach(v string) error {
	switch strings.ToLower(v) {
	case "stdin", "stdout", "stderr":
		return nil
	}
	return errors.New("valid streams are STDIN, STDOUT and STDERR")
}

// processFlags are those of run, create and exec alike.
func processFlags() []cli.Flag {
	return []cli.Flag{
		&checkedSlice{StringSliceFlag: &cli.StringSliceFlag{Name: "env", Aliases: []string{"e"}, Usage: "Set environment variables"}, check: checkEnv},
		&cli.StringSliceFlag{Name: "env-file", Usage: "Read in a file of environment variables"},
		&cli.BoolFlag{Name: "interactive", Aliases: []string{"i"}, Usage: "Keep STDIN open even if not attached"},
		&cli.BoolFlag{Name: "privileged", Usage: "Give extended privileges to this container"},
		&cli.BoolFlag{Name: "tty", Aliases: []string{"t"}, Usage: "Allocate a pseudo-TTY"},
		&cli.StringFlag{Name: "user", Aliases: []string{"u"}, Usage: "Username or UID (format: <name|uid>[:<group|gid>])"},
		&cli.StringFlag{Name: "workdir", Aliases: []string{"w"}, Usage: "Working directory inside the container"},
	}
}

// createFlags are those of run and create.
func createFlags() []cli.Flag {
	flags := append(processFlags(), registryFlags()...)
	flags = append(flags, progressFlags("Suppress the pull output")...)
	flags = append(flags, identityFlags()...)
	flags = append(flags, limitFlags()...)
	flags = append(flags, surroundingFlags()...)
	return append(flags, ignoredFlags()...)
}

// identityFlags say what a container is called and how it lives.
func identityFlags() []cli.Flag {
	return []cli.Flag{
		&checkedSlice{StringSliceFlag: &cli.StringSliceFlag{Name: "attach", Aliases: []string{"a"}, Usage: "Attach to STDIN, STDOUT or STDERR"}, check: checkAttach},
		&cli.StringFlag{Name: "cidfile", Usage: "Write the container ID to the file"},
		&cli.StringFlag{Name: "entrypoint", Usage: "Overwrite the default ENTRYPOINT of the image"},
		&cli.BoolFlag{Name: "init", Usage: "Run an init inside the container that forwards signals\nand reaps processes"},
		&checkedSlice{StringSliceFlag: &cli.StringSliceFlag{Name: "label", Aliases: []string{"l"}, Usage: "Set meta data on a container"}, check: checkLabel},
		&cli.StringSliceFlag{Name: "label-file", Usage: "Read in a line delimited file of labels"},
		&cli.StringFlag{Name: "log-driver", Usage: "Logging driver for the container: json-file or none"},
		&cli.StringSliceFlag{Name: "log-opt", Usage: "Log driver options: max-size, max-file"},
		&cli.StringFlag{Name: "name", Usage: "Assign a name to the container"},
		&cli.StringFlag{Name: "platform", EnvVars: []string{"DOCKER_DEFAULT_PLATFORM"}, Usage: "Set platform if the image has several"},
		&cli.StringFlag{Name: "pull", Value: "missing", Usage: "Pull image before running (\"always\", \"missing\", \"never\")"},
		&cli.StringFlag{Name: "restart", Value: "no", Usage: "Restart policy to apply when a container exits"},
		&cli.BoolFlag{Name: "rm", Usage: "Automatically remove the container and its associated\nanonymous volumes when it exits"},
		&cli.StringFlag{Name: "runtime", Usage: "Runtime to use for this container: a program like runc"},
		&cli.StringFlag{Name: "stop-signal", Usage: "Signal to stop the container"},
		&cli.IntFlag{Name: "stop-timeout", Usage: "Timeout (in seconds) to stop a container"},
	}
}

// limitFlags bound what a container may use.
func limitFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "blkio-weight", Usage: "Block IO (relative weight), between 10 and 1000, or 0 to\ndisable (default 0)"},
		&cli.StringFlag{Name: "cgroup-parent", Usage: "Optional parent cgroup for the container"},
		&cli.IntFlag{Name: "cpu-period", Usage: "Limit CPU CFS (Completely Fair Scheduler) period"},
		&cli.IntFlag{Name: "cpu-quota", Usage: "Limit CPU CFS (Completely Fair Scheduler) quota"},
		&cli.IntFlag{Name: "cpu-shares", Aliases: []string{"c"}, Usage: "CPU shares (relative weight)"},
		&checkedFlag{
			StringFlag: &cli.StringFlag{Name: "cpus", Usage: "Number of CPUs"}, kind: "decimal",
			check: func(v string) error { _, err := parseCPUs(v); return err },
		},
		&cli.StringFlag{Name: "cpuset-cpus", Usage: "CPUs in which to allow execution (0-3, 0,1)"},
		&cli.StringFlag{Name: "cpuset-mems", Usage: "MEMs in which to allow execution (0-3, 0,1)"},
		bytesFlag("Memory limit", "memory", "m"),
		bytesFlag("Memory soft limit", "memory-reservation"),
		bytesFlag("Swap limit equal to memory plus swap: '-1' to enable\nunlimited swap", "memory-swap"),
		&cli.IntFlag{Name: "memory-swappiness", Value: -1, Usage: "Tune container memory swappiness (0 to 100) (default -1)"},
		&cli.BoolFlag{Name: "oom-kill-disable", Usage: "Disable OOM Killer"},
		&cli.IntFlag{Name: "oom-score-adj", Usage: "Tune host's OOM preferences (-1000 to 1000)"},
		&cli.IntFlag{Name: "pids-limit", Usage: "Tune container pids limit (set -1 for unlimited)"},
		bytesFlag("Size of /dev/shm", "shm-size"),
		&checkedSlice{StringSliceFlag: &cli.StringSliceFlag{Name: "ulimit", Usage: "Ulimit options"}, check: checkUlimit},
	}
}

// surroundingFlags shape what a container sees.
func surroundingFlags() []cli.Flag {
	return []cli.Flag{
		&checkedSlice{StringSliceFlag: &cli.StringSliceFlag{Name: "add-host", Usage: "Add a custom host-to-IP mapping (host:ip)"}, check: runspec.CheckHost},
		&cli.StringSliceFlag{Name: "cap-add", Usage: "Add Linux capabilities"},
		&cli.StringSliceFlag{Name: "cap-drop", Usage: "Drop Linux capabilities"},
		&cli.StringFlag{Name: "cgroupns", Usage: "Cgroup namespace to use (host|private)"},
		&cli.StringSliceFlag{Name: "device", Usage: "Add a host device to the container"},
		&cli.StringSliceFlag{Name: "dns", Usage: "Set custom DNS servers"},
		&cli.StringSliceFlag{Name: "dns-option", Aliases: []string{"dns-opt"}, Usage: "Set DNS options"},
		&cli.StringSliceFlag{Name: "dns-search", Usage: "Set custom DNS search domains"},
		&cli.StringFlag{Name: "domainname", Usage: "Container NIS domain name"},
		&cli.StringSliceFlag{Name: "expose", Usage: "Expose a port or a range of ports"},
		&cli.StringSliceFlag{Name: "group-add", Usage: "Add additional groups to join"},
		&cli.StringFlag{Name: "hostname", Aliases: []string{"h"}, Usage: "Container host name"},
		&cli.StringFlag{Name: "ipc", Usage: "IPC mode to use"},
		&checkedSlice{StringSliceFlag: &cli.StringSliceFlag{Name: "mount", Usage: "Attach a filesystem mount to the container"}, check: checkMount},
		&cli.StringFlag{Name: "network", Aliases: []string{"net"}, Usage: "Network of the container: host (the default) or none"},
		&cli.StringFlag{Name: "pid", Usage: "PID namespace to use"},
		&cli.StringSliceFlag{Name: "publish", Aliases: []string{"p"}, Usage: "Accepted with a warning: the container has the host's\nnetwork"},
		&cli.BoolFlag{Name: "publish-all", Aliases: []string{"P"}, Usage: "Likewise"},
		&cli.BoolFlag{Name: "read-only", Usage: "Mount the container's root filesystem as read only"},
		&cli.StringSliceFlag{Name: "security-opt", Usage: "Security Options"},
		&checkedSlice{StringSliceFlag: &cli.StringSliceFlag{Name: "sysctl", Usage: "Sysctl options"}, check: checkSysctl},
		&cli.StringSliceFlag{Name: "tmpfs", Usage: "Mount a tmpfs directory"},
		&cli.StringFlag{Name: "userns", Usage: "User namespace to use"},
		&cli.StringFlag{Name: "uts", Usage: "UTS namespace to use"},
		&cli.StringSliceFlag{Name: "volume", Aliases: []string{"v"}, Usage: "Bind mount a volume"},
		&cli.StringSliceFlag{Name: "volumes-from", Usage: "Mount volumes from the specified container(s)"},
	}
}

// ignoredValues and ignoredLists are flags of docker that are accepted, so that
// scripts run, and do nothing but warn: there is no network of containers, no
// health check, no limit of devices' speed.
func ignoredValues() []string {
	return []string{
		"health-cmd", "health-interval", "health-retries", "health-start-period", "health-start-interval", "health-timeout",
		"ip", "ip6", "isolation", "kernel-memory", "mac-address", "volume-driver", "cpu-rt-period", "cpu-rt-runtime",
	}
}

func ignoredLists() []string {
	return []string{
		"annotation", "blkio-weight-device", "device-cgroup-rule", "device-read-bps", "device-read-iops", "device-write-bps",
		"device-write-iops", "link", "link-local-ip", "network-alias", "net-alias", "storage-opt",
	}
}

func ignoredFlags() []cli.Flag {
	var flags []cli.Flag
	for _, name := range ignoredValues() {
		flags = append(flags, &cli.StringFlag{Name: name, Hidden: true})
	}
	for _, name := range ignoredLists() {
		flags = append(flags, &cli.StringSliceFlag{Name: name, Hidden: true})
	}
	return append(flags,
		&cli.BoolFlag{Name: "disable-content-trust", Value: true, Hidden: true},
		&cli.BoolFlag{Name: "no-healthcheck", Hidden: true})
}
