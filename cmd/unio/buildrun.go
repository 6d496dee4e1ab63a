package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"path"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"

	"unio/build/dockerfile"
	"unio/container/layermount"
	"unio/container/rootless"
	"unio/container/runner"
	"unio/container/runspec"
)

// buildMountsCommand serves the mounts of a build's steps.
func buildMountsCommand() *cli.Command {
	return &cli.Command{
		Name: "build-mounts", Usage: "Serve the mounts of a build (started by build)", Hidden: true,
		Action: func(c *cli.Context) error {
			e := envOf(c)
			control, err := controlSocket()
			if err != nil {
				return err
			}
			return silent(layermount.Serve(context.WithoutCancel(c.Context), control, layermount.ServeOptions{
				Open: e.openLayers, Transport: e.transport, Log: e.log,
			}))
		},
	}
}

// openLayers opens the merged tree of a chain for a mount server.
func (e *env) openLayers(ctx context.Context, diffIDs []digest.Digest) (layermount.Lower, error) {
	st, err := e.store()
	if err != nil {
		return nil, err
	}
	return st.ViewOf(ctx, diffIDs)
}

// buildRunFlags are what programs of RUN are subject to.
func buildRunFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "add-host", Usage: "Add a custom host-to-IP mapping (\"host:ip\")"},
		&cli.StringFlag{Name: "cgroup-parent", Usage: "Set the parent cgroup for the \"RUN\" instructions during build"},
		&cli.IntFlag{Name: "cpu-period", Usage: "Limit the CPU CFS (Completely Fair Scheduler) period"},
		&cli.IntFlag{Name: "cpu-quota", Usage: "Limit the CPU CFS (Completely Fair Scheduler) quota"},
		&cli.IntFlag{Name: "cpu-shares", Aliases: []string{"c"}, Usage: "CPU shares (relative weight)"},
		&cli.StringFlag{Name: "cpuset-cpus", Usage: "CPUs in which to allow execution (0-3, 0,1)"},
		&cli.StringFlag{Name: "cpuset-mems", Usage: "MEMs in which to allow execution (0-3, 0,1)"},
		&cli.StringFlag{Name: "memory", Aliases: []string{"m"}, Usage: "Memory limit, in `bytes`"},
		&cli.StringFlag{Name: "memory-swap", Usage: "Swap limit equal to memory plus swap: -1 to enable unlimited swap"},
		&cli.StringSliceFlag{Name: "security-opt", Usage: "Security options"},
		&cli.StringFlag{Name: "shm-size", Usage: "Size of \"/dev/shm\", in `bytes`"},
		&cli.StringSliceFlag{Name: "ulimit", Usage: "Ulimit options"},
	}
}

// buildLimits reads buildRunFlags.
func buildLimits(c *cli.Context) (o runspec.Options, err error) {
	o.Ulimits = c.StringSlice("ulimit")
	if o.SecurityOpts, err = readProfiles(c.StringSlice("security-opt")); err != nil {
		return o, err
	}
	r := &o.Resources
	r.CPUPeriod, r.CPUQuota, r.CPUShares = int64(c.Int("cpu-period")), int64(c.Int("cpu-quota")), int64(c.Int("cpu-shares"))
	r.CPUSet, r.MemSet = c.String("cpuset-cpus"), c.String("cpuset-mems")
	for flag, to := range map[string]*int64{"memory": &r.Memory, "memory-swap": &r.MemorySwap, "shm-size": &o.ShmSize} {
		text := c.String(flag)
		switch {
		case text == "":
		case text == "-1" && flag == "memory-swap":
			*to = -1
		default:
			if *to, err = units.RAMInBytes(text); err != nil {
				return o, badFlagValue(c, text, "--"+flag, err)
			}
		}
	}
	return o, nil
}

// buildRunner runs the programs of RUN, as containers that are gone afterwards.
func (e *env) buildRunner(c *cli.Context) (dockerfile.Runner, error) {
	limits, err := buildLimits(c)
	if err != nil {
		return nil, err
	}
	set := stepSettings{limits: limits, hosts: c.StringSlice("add-host"), cgroupParent: c.String("cgroup-parent")}
	return func(ctx context.Context, p *dockerfile.Program) (int, error) { return e.runStep(ctx, p, set) }, nil
}

// stepSettings are what the command line says of all programs of RUN.
type stepSettings struct {
	limits       runspec.Options
	hosts        []string
	cgroupParent string
}

// buildHostname is what every program of RUN sees as its machine's name, so that
// the same build gives the same everywhere.
const buildHostname = "build"

// describe says what a program of RUN sees.
func (set *stepSettings) describe(p *dockerfile.Program) (*specs.Spec, []runspec.File, error) {
	o := set.limits
	o.ID, o.Root, o.Args = containerID(p.ID), p.Root, p.Args
	o.SetEntrypoint = true
	o.Hostname = buildHostname
	o.Namespaces.Network = p.Network
	for _, m := range p.Mounts {
		o.Mounts = append(o.Mounts, stepMount(&m))
	}
	o.Rootless = rootless.Maps()
	config := p.Config
	config.Env = p.Env
	spec, err := runspec.New(config, o)
	if err != nil {
		return nil, nil, err
	}
	if set.cgroupParent != "" {
		spec.Linux.CgroupsPath = path.Join("/", set.cgroupParent, o.ID)
	}
	files, err := runspec.NetFiles(spec, runspec.NetOptions{ExtraHosts: set.hosts})
	return spec, files, err
}

// runStep runs one program until it ends or the build is given up.
func (e *env) runStep(ctx context.Context, p *dockerfile.Program, set stepSettings) (int, error) {
	spec, files, err := set.describe(p)
	if err != nil {
		return 0, err
	}
	for _, warning := range runner.Warnings(spec.Linux) {
		fmt.Fprintf(p.Output, " ---> [Warning] %s\n", warning)
	}
	proc, err := runner.Start(ctx, runner.Options{
		ID: path.Base(spec.Linux.CgroupsPath), Spec: spec, Files: files, Command: runnerLine(),
		Stdout: p.Output, Stderr: p.Output, Tied: true, ClearAll: true, Log: e.log,
	})
	var failed *runner.StartError
	if errors.As(err, &failed) && failed.Code != runner.CodeFailed {
		// The program is not there or cannot be run: the step failed with the
		// code that a shell gives.
		fmt.Fprintln(p.Output, failed)
		return failed.Code, nil
	}
	if err != nil {
		return 0, err
	}
	stop := context.AfterFunc(ctx, func() {
		if err := proc.Kill(); err != nil {
			e.log.Error("end a build step", "err", err)
		}
	})
	defer stop()
	return proc.Wait()
}

// containerID makes an ID of full length that begins with what is shown.
func containerID(shown string) string {
	var b [26]byte
	rand.Read(b[:]) // never fails (Go 1.24)
	return shown + hex.EncodeToString(b[:])
}

// stepMount is a mount of a RUN in the runner's terms.
func stepMount(m *dockerfile.Mount) runspec.Mount {
	if m.Source != "" {
		return runspec.Mount{Type: "bind", Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly}
	}
	t := runspec.Mount{Type: "tmpfs", Target: m.Target}
	if m.Size > 0 {
		t.Options = append(t.Options, fmt.Sprintf("size=%d", m.Size))
	}
	return t
}
