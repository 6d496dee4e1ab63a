package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/urfave/cli/v2"

	"unio/container"
	"unio/container/jsonlog"
	"unio/imagestore"
)

// wanted is what the flags of run and create ask for, before the image is
// known.
type wanted struct {
	config        imagestore.RunConfig
	host          container.HostConfig
	volumes       []string // -v
	setEntrypoint bool
	warnings      []string
}

// readWanted reads the flags. Its errors are about the command line alone.
func readWanted(c *cli.Context) (*wanted, error) {
	w := &wanted{}
	for _, step := range []func(*cli.Context) error{
		w.readProcess, w.readEnv, w.readLabels, w.readLife, w.readLog, w.readLimits, w.readSurroundings, w.readDevices, w.readPorts,
	} {
		if err := step(c); err != nil {
			return nil, err
		}
	}
	for _, name := range append(ignoredValues(), ignoredLists()...) {
		if c.IsSet(name) {
			w.warnings = append(w.warnings, fmt.Sprintf("WARNING: --%s has no effect: unio has nothing of the kind", name))
		}
	}
	return w, nil
}

func (w *wanted) readProcess(c *cli.Context) error {
	cfg := &w.config
	cfg.Image = c.Args().First()
	cfg.Cmd = c.Args().Tail()
	cfg.User, cfg.WorkingDir = c.String("user"), c.String("workdir")
	cfg.Hostname, cfg.Domainname = c.String("hostname"), c.String("domainname")
	cfg.Tty, cfg.OpenStdin = c.Bool("tty"), c.Bool("interactive")
	if c.IsSet("entrypoint") {
		w.setEntrypoint = true
		if e := c.String("entrypoint"); e != "" {
			cfg.Entrypoint = []string{e}
		}
	}
	if s := c.String("stop-signal"); s != "" {
		if _, err := container.ParseSignal(s); err != nil {
			return err
		}
		cfg.StopSignal = s
	}
	if c.IsSet("stop-timeout") {
		seconds := c.Int("stop-timeout")
		cfg.StopTimeout = &seconds
	}
	if dir := cfg.WorkingDir; dir != "" && !path.IsAbs(dir) {
		return fmt.Errorf("the working directory '%s' is invalid, it needs to be an absolute path", dir)
	}
	return nil
}

// readEnv reads -e and --env-file; the files come first.
func (w *wanted) readEnv(c *cli.Context) (err error) {
	w.config.Env, err = readEnvironment(c)
	return err
}

func readEnvironment(c *cli.Context) ([]string, error) {
	var list []string
	for _, file := range c.StringSlice("env-file") {
		lines, err := readLines(file, "env")
		if err != nil {
			return nil, err
		}
		list = append(list, lines...)
	}
	var env []string
	for _, e := range append(list, c.StringSlice("env")...) {
		name, _, given := strings.Cut(e, "=")
		if !given {
			value, ok := os.LookupEnv(name)
			if !ok {
				continue
			}
			e = name + "=" + value
		}
		env = setVariable(env, name, e)
	}
	return env, nil
}

// setVariable puts an entry in the place of one of the same name.
func setVariable(env []string, name, entry string) []string {
	i := slices.IndexFunc(env, func(have string) bool { return strings.HasPrefix(have, name+"=") })
	if i >= 0 {
		env[i] = entry
		return env
	}
	return append(env, entry)
}

// readLines reads a file of variables or labels: one a line, comments and
// empty lines left out (docker, cli/pkg/kvfile).
func readLines(file, what string) ([]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list []string
	in := bufio.NewScanner(f)
	for n := 1; in.Scan(); n++ {
		line := strings.TrimLeft(in.Text(), " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		name, _, given := strings.Cut(line, "=")
		switch {
		case strings.ContainsAny(name, " \t"):
			return nil, fmt.Errorf("invalid %s file (%s): variable '%s' contains whitespaces", what, file, name)
		case name == "":
			return nil, fmt.Errorf("invalid %s file (%s): no variable name on line '%s'", what, file, line)
		case !given && what == "env":
			if value, ok := os.LookupEnv(name); ok {
				list = append(list, name+"="+value)
			}
			continue
		}
		list = append(list, line)
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("invalid %s file (%s): %w", what, file, err)
	}
	return list, nil
}

func (w *wanted) readLabels(c *cli.Context) error {
	var list []string
	for _, file := range c.StringSlice("label-file") {
		lines, err := readLines(file, "label")
		if err != nil {
			return err
		}
		list = append(list, lines...)
	}
	for _, l := range append(list, c.StringSlice("label")...) {
		name, value, _ := strings.Cut(l, "=")
		if name == "" {
			return fmt.Errorf("invalid label '%s': empty name", l)
		}
		if w.config.Labels == nil {
			w.config.Labels = map[string]string{}
		}
		w.config.Labels[name] = value
	}
	return nil
}

// readLife reads how the container ends and starts again.
func (w *wanted) readLife(c *cli.Context) (err error) {
	h := &w.host
	h.AutoRemove, h.ContainerIDFile = c.Bool("rm"), c.String("cidfile")
	if h.RestartPolicy, err = parseRestart(c.String("restart")); err != nil {
		return err
	}
	if h.AutoRemove && h.RestartPolicy.Name != "no" {
		return errors.New("conflicting options: cannot specify both --restart and --rm")
	}
	switch h.RestartPolicy.Name {
	case "no", "always", "unless-stopped", "on-failure":
	default:
		return fmt.Errorf("invalid restart policy '%s'", h.RestartPolicy.Name)
	}
	if c.Bool("init") || c.IsSet("init") {
		on := c.Bool("init")
		h.Init = &on
	}
	h.Runtime = c.String("runtime")
	if _, err := container.Runtime(h.Runtime); err != nil {
		return err
	}
	if h.Runtime == "" {
		h.Runtime = container.OwnRuntime
	}
	return nil
}

// parseRestart reads NAME[:COUNT].
func parseRestart(text string) (p container.RestartPolicy, err error) {
	name, count, given := strings.Cut(text, ":")
	p.Name = name
	if name == "" {
		p.Name = "no"
	}
	if !given {
		return p, nil
	}
	if p.MaximumRetryCount, err = strconv.Atoi(count); err != nil {
		return p, fmt.Errorf("invalid restart policy format: maximum retry count must be an integer")
	}
	if name != "on-failure" {
		return p, fmt.Errorf("maximum retry count cannot be used with restart policy '%s'", name)
	}
	if p.MaximumRetryCount < 0 {
		return p, errors.New("maximum retry count cannot be negative")
	}
	return p, nil
}

func (w *wanted) readLog(c *cli.Context) error {
	l := &w.host.LogConfig
	l.Type, l.Config = c.String("log-driver"), map[string]string{}
	if l.Type == "" {
		l.Type = "json-file"
	}
	for _, o := range c.StringSlice("log-opt") {
		name, value, _ := strings.Cut(o, "=")
		l.Config[name] = value
	}
	switch l.Type {
	case "json-file":
		_, err := jsonlog.ParseOptions(l.Config)
		return err
	case "none":
		return nil
	}
	return fmt.Errorf("error looking up logging plugin %s: plugin %q not found", l.Type, l.Type)
}

func (w *wanted) readLimits(c *cli.Context) error {
	r := &w.host.Resources
	for name, to := range map[string]*int64{
		"memory": &r.Memory, "memory-swap": &r.MemorySwap, "memory-reservation": &r.MemoryReservation, "shm-size": &w.host.ShmSize,
	} {
		if c.IsSet(name) {
			*to, _ = parseBytes(c.String(name)) // looked at before
		}
	}
	if w.host.ShmSize == 0 {
		w.host.ShmSize = defaultShm
	}
	if c.IsSet("cpus") {
		r.NanoCPUs, _ = parseCPUs(c.String("cpus"))
		if n := runtime.NumCPU(); r.NanoCPUs < 0 || r.NanoCPUs > int64(n)*1e9 {
			return fmt.Errorf("Range of CPUs is from 0.01 to %d.00, as there are only %d CPUs available", n, n) //lint:ignore ST1005 docker's words
		}
	}
	r.CPUPeriod, r.CPUQuota, r.CPUShares = c.Int64("cpu-period"), c.Int64("cpu-quota"), c.Int64("cpu-shares")
	r.CpusetCpus, r.CpusetMems, r.CgroupParent = c.String("cpuset-cpus"), c.String("cpuset-mems"), c.String("cgroup-parent")
	r.BlkioWeight = uint16(c.Int("blkio-weight"))
	w.host.OomScoreAdj = c.Int("oom-score-adj")
	disable := c.Bool("oom-kill-disable")
	r.OomKillDisable = &disable
	if c.IsSet("pids-limit") {
		pids := int64(c.Int("pids-limit"))
		r.PidsLimit = &pids
	}
	if n := int64(c.Int("memory-swappiness")); n < -1 || n > 100 {
		return fmt.Errorf("invalid value: %d. Valid memory swappiness range is 0-100", n)
	} else if n >= 0 {
		r.MemorySwappiness = &n
	}
	if disable && r.Memory == 0 {
		w.warnings = append(w.warnings, "WARNING: OOM killer is disabled for the container, but no memory limit is set, "+
			"this can result in the system running out of resources.")
	}
	if r.CgroupParent != "" {
		w.warnings = append(w.warnings, "WARNING: --cgroup-parent has no effect: all cgroups are below \"unio\"")
	}
	if n := w.host.OomScoreAdj; n < -1000 || n > 1000 {
		return fmt.Errorf("Invalid value %d, range for oom score adj is [-1000, 1000]", n) //lint:ignore ST1005 docker's words
	}
	for _, text := range c.StringSlice("ulimit") {
		u, err := units.ParseUlimit(text)
		if err != nil {
			return err
		}
		r.Ulimits = append(r.Ulimits, container.Ulimit{Name: u.Name, Hard: u.Hard, Soft: u.Soft})
	}
	return nil
}

// defaultShm is the size of /dev/shm, in bytes, docker's.
const defaultShm = 64 << 20

func (w *wanted) readSurroundings(c *cli.Context) error {
	h := &w.host
	h.CapAdd, h.CapDrop, h.Privileged = c.StringSlice("cap-add"), c.StringSlice("cap-drop"), c.Bool("privileged")
	h.DNS, h.DNSOptions, h.DNSSearch = c.StringSlice("dns"), c.StringSlice("dns-option"), c.StringSlice("dns-search")
	h.ExtraHosts, h.GroupAdd = c.StringSlice("add-host"), c.StringSlice("group-add")
	h.CgroupnsMode, h.IpcMode, h.PidMode = c.String("cgroupns"), c.String("ipc"), c.String("pid")
	h.UTSMode, h.UsernsMode, h.NetworkMode = c.String("uts"), c.String("userns"), c.String("network")
	h.ReadonlyRootfs = c.Bool("read-only")
	h.PublishAllPorts, h.VolumesFrom = c.Bool("publish-all"), c.StringSlice("volumes-from")
	if h.UsernsMode != "" && h.UsernsMode != "host" {
		return errors.New("--userns: invalid USER mode")
	}
	h.Sysctls = keyValues(c.StringSlice("sysctl"))
	if h.NetworkMode == "" || h.NetworkMode == "default" {
		h.NetworkMode = "host"
	}
	if h.IpcMode == "" {
		h.IpcMode = "private"
	}
	for _, t := range c.StringSlice("tmpfs") {
		dir, options, _ := strings.Cut(t, ":")
		if !path.IsAbs(dir) {
			return fmt.Errorf("invalid mount path: '%s' mount path must be absolute", dir)
		}
		if h.Tmpfs == nil {
			h.Tmpfs = map[string]string{}
		}
		h.Tmpfs[dir] = options
	}
	if err := setSecurity(h, c.StringSlice("security-opt")); err != nil {
		return err
	}
	for _, v := range c.StringSlice("volume") {
		if !slices.Contains(w.volumes, v) { // the same twice is once, as with docker
			w.volumes = append(w.volumes, v)
		}
	}
	for _, m := range c.StringSlice("mount") {
		spec, err := parseMount(m)
		if err != nil {
			return fmt.Errorf("invalid argument %q for \"--mount\" flag: %w", m, err)
		}
		h.Mounts = append(h.Mounts, *spec)
	}
	return nil
}

// keyValues reads NAME=VALUE entries; nil for none.
func keyValues(list []string) map[string]string {
	if len(list) == 0 {
		return nil
	}
	m := map[string]string{}
	for _, e := range list {
		name, value, _ := strings.Cut(e, "=")
		m[name] = value
	}
	return m
}

func (w *wanted) readDevices(c *cli.Context) error {
	for _, text := range c.StringSlice("device") {
		parts := strings.Split(text, ":")
		d := container.Device{PathOnHost: parts[0], PathInContainer: parts[0], CgroupPermissions: "rwm"}
		switch {
		case len(parts) > 3:
			return fmt.Errorf("invalid device specification: %s", text)
		case len(parts) == 3:
			d.PathInContainer, d.CgroupPermissions = parts[1], parts[2]
		case len(parts) == 2 && strings.Trim(parts[1], "rwm") == "":
			d.CgroupPermissions = parts[1]
		case len(parts) == 2:
			d.PathInContainer = parts[1]
		}
		w.host.Devices = append(w.host.Devices, d)
	}
	return nil
}

// readPorts notes the ports that -p and --expose name: they are shown, and
// reached over the host's network.
func (w *wanted) readPorts(c *cli.Context) error {
	for _, text := range c.StringSlice("expose") {
		ports, err := parsePorts(text)
		if err != nil {
			return err
		}
		for _, p := range ports {
			w.expose(p.port)
		}
	}
	for _, text := range c.StringSlice("publish") {
		ports, err := parsePorts(text)
		if err != nil {
			return err
		}
		for _, p := range ports {
			w.expose(p.port)
			if w.host.PortBindings == nil {
				w.host.PortBindings = map[string][]container.PortBinding{}
			}
			w.host.PortBindings[p.port] = append(w.host.PortBindings[p.port], p.binding)
		}
	}
	if len(w.host.PortBindings) > 0 && w.host.NetworkMode == "host" {
		w.warnings = append(w.warnings, "WARNING: Published ports are discarded when using host network mode")
	}
	return nil
}

func (w *wanted) expose(port string) {
	if w.config.ExposedPorts == nil {
		w.config.ExposedPorts = map[string]struct{}{}
	}
	w.config.ExposedPorts[port] = struct{}{}
}

// merge completes the config by the image's, as docker's create does (moby,
// daemon/commit.go).
func (w *wanted) merge(image *imagestore.RunConfig) {
	cfg := &w.config
	if cfg.User == "" {
		cfg.User = image.User
	}
	for port := range image.ExposedPorts {
		w.expose(port)
	}
	for _, e := range image.Env {
		name, _, _ := strings.Cut(e, "=")
		if !slices.ContainsFunc(cfg.Env, func(have string) bool { return strings.HasPrefix(have, name+"=") }) {
			cfg.Env = append(cfg.Env, e)
		}
	}
	for name, value := range image.Labels {
		if cfg.Labels == nil {
			cfg.Labels = map[string]string{}
		}
		if _, ok := cfg.Labels[name]; !ok {
			cfg.Labels[name] = value
		}
	}
	if !w.setEntrypoint {
		cfg.Entrypoint = image.Entrypoint
		if len(cfg.Cmd) == 0 {
			cfg.Cmd = image.Cmd
		}
	}
	if cfg.WorkingDir == "" {
		cfg.WorkingDir = image.WorkingDir
	}
	if cfg.StopSignal == "" {
		cfg.StopSignal = image.StopSignal
	}
	if cfg.StopTimeout == nil {
		cfg.StopTimeout = image.StopTimeout
	}
	cfg.OnBuild, cfg.Shell, cfg.Healthcheck = image.OnBuild, image.Shell, image.Healthcheck
	w.mergeVolumes(image)
}

func (w *wanted) mergeVolumes(image *imagestore.RunConfig) {
	for dir := range image.Volumes {
		if w.config.Volumes == nil {
			w.config.Volumes = map[string]struct{}{}
		}
		w.config.Volumes[dir] = struct{}{}
	}
}
