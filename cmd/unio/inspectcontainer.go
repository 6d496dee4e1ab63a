package main

import (
	"context"
	"time"

	"unio/container"
	"unio/container/runspec"
	"unio/container/supervise"
	"unio/imagestore"
)

// inspectedContainer is a container with docker's field names, in docker's
// order.
type inspectedContainer struct {
	ID              string `json:"Id"`
	Created         string
	Path            string
	Args            []string
	State           containerState
	Image           string
	ResolvConfPath  string
	HostnamePath    string
	HostsPath       string
	LogPath         string
	Name            string
	RestartCount    int
	Driver          string
	Platform        string
	MountLabel      string
	ProcessLabel    string
	AppArmorProfile string
	ExecIDs         []string
	HostConfig      *container.HostConfig
	GraphDriver     graphDriver
	SizeRw          *int64 `json:",omitempty"`
	SizeRootFs      *int64 `json:",omitempty"`
	Mounts          []container.MountPoint
	Config          containerConfig
	NetworkSettings networkSettings
}

type containerState struct {
	Status     string
	Running    bool
	Paused     bool
	Restarting bool
	OOMKilled  bool
	Dead       bool
	Pid        int
	ExitCode   int
	Error      string
	StartedAt  string
	FinishedAt string
}

// containerConfig is the config with the fields that docker always shows.
type containerConfig struct {
	Hostname     string
	Domainname   string
	User         string
	AttachStdin  bool
	AttachStdout bool
	AttachStderr bool
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Tty          bool
	OpenStdin    bool
	StdinOnce    bool
	Env          []string
	Cmd          []string
	Healthcheck  any `json:",omitempty"`
	Image        string
	Volumes      map[string]struct{}
	WorkingDir   string
	Entrypoint   []string
	OnBuild      []string
	Labels       map[string]string
	StopSignal   string   `json:",omitempty"`
	StopTimeout  *int     `json:",omitempty"`
	Shell        []string `json:",omitempty"`
}

// networkSettings say that there is no network of containers.
// The empty fields are there for templates that ask for them.
type networkSettings struct {
	Bridge                 string
	SandboxID              string
	SandboxKey             string
	Ports                  map[string][]container.PortBinding
	HairpinMode            bool
	LinkLocalIPv6Address   string
	LinkLocalIPv6PrefixLen int
	SecondaryIPAddresses   []string
	SecondaryIPv6Addresses []string
	EndpointID             string
	Gateway                string
	GlobalIPv6Address      string
	GlobalIPv6PrefixLen    int
	IPAddress              string
	IPPrefixLen            int
	IPv6Gateway            string
	MacAddress             string
	Networks               map[string]endpoint
}

type endpoint struct {
	IPAMConfig          map[string]string
	Links               []string
	Aliases             []string
	MacAddress          string
	DriverOpts          map[string]string
	GwPriority          int
	NetworkID           string
	EndpointID          string
	Gateway             string
	IPAddress           string
	IPPrefixLen         int
	IPv6Gateway         string
	GlobalIPv6Address   string
	GlobalIPv6PrefixLen int
	DNSNames            []string
}

func (in *inspector) container(ctx context.Context, name string) (*inspectedContainer, error) {
	cs := in.e.containers()
	c, err := cs.Lookup(name)
	if err != nil {
		return nil, err
	}
	v := &inspectedContainer{
		ID: c.ID, Created: c.Created.Format(time.RFC3339Nano), Args: []string{}, Image: c.Image.String(),
		LogPath: c.OutputPath(), Name: "/" + c.Name, RestartCount: c.State.Restarts, Driver: "unio", Platform: "linux",
		State: stateOf(c), HostConfig: hostConfigOf(c), Mounts: pointsOf(c), Config: configOf(c),
		NetworkSettings: networkSettings{Ports: map[string][]container.PortBinding{}, Networks: map[string]endpoint{c.Host.NetworkMode: {}}},
		GraphDriver: graphDriver{Name: "unio", Data: map[string]string{
			"UpperDir": c.UpperDir(), "WorkDir": c.WorkDir(),
		}},
	}
	if argv := append(append([]string{}, c.Config.Entrypoint...), c.Config.Cmd...); len(argv) > 0 {
		v.Path, v.Args = argv[0], argv[1:]
	}
	if m, err := cs.MountOf(c); err == nil {
		v.GraphDriver.Data["MergedDir"] = m.Dir
		v.GraphDriver.Data["Transport"] = transportName(m.Transport)
		if !c.State.Active() {
			v.State.Status, v.State.Running, v.State.Dead, v.State.Pid = "mounted", !m.Dead, m.Dead, m.Server.Pid
		}
	}
	if in.size {
		l := &containerLister{e: in.e}
		changed, image, err := l.sizeOf(ctx, c)
		if err != nil {
			return nil, err
		}
		total := changed + image
		v.SizeRw, v.SizeRootFs = &changed, &total
	}
	return v, nil
}

func stateOf(c *container.Container) containerState {
	s := &c.State
	return containerState{
		Status: s.Word(), Running: s.Active(), Paused: s.Paused, Restarting: s.Status == container.StatusRestarting, OOMKilled: s.OOMKilled,
		Dead: s.Status == container.StatusDead, Pid: s.Pid(), ExitCode: s.ExitCode, Error: s.Error,
		StartedAt: s.StartedAt.Format(time.RFC3339Nano), FinishedAt: s.FinishedAt.Format(time.RFC3339Nano),
	}
}

// hostConfigOf shows what docker shows as an empty list as one.
func hostConfigOf(c *container.Container) *container.HostConfig {
	h := c.Host
	h.DNS, h.DNSOptions, h.DNSSearch = orEmpty(h.DNS), orEmpty(h.DNSOptions), orEmpty(h.DNSSearch)
	if h.PortBindings == nil {
		h.PortBindings = map[string][]container.PortBinding{}
	}
	if h.Devices == nil {
		h.Devices = []container.Device{}
	}
	if h.Ulimits == nil {
		h.Ulimits = []container.Ulimit{}
	}
	return &h
}

// pointsOf are the mounts without what only unio needs to know.
func pointsOf(c *container.Container) []container.MountPoint {
	list := make([]container.MountPoint, 0, len(c.Mounts))
	for _, m := range c.Mounts {
		m.Anonymous, m.NoCopy = false, false
		list = append(list, m)
	}
	return list
}

func configOf(c *container.Container) containerConfig {
	cfg := &c.Config
	v := containerConfig{
		Hostname: cfg.Hostname, Domainname: cfg.Domainname, User: cfg.User, AttachStdin: cfg.AttachStdin,
		AttachStdout: cfg.AttachStdout, AttachStderr: cfg.AttachStderr, ExposedPorts: cfg.ExposedPorts, Tty: cfg.Tty,
		OpenStdin: cfg.OpenStdin, StdinOnce: cfg.StdinOnce, Env: orEmpty(cfg.Env), Cmd: cfg.Cmd, Image: c.ImageName,
		Volumes: cfg.Volumes, WorkingDir: cfg.WorkingDir, Entrypoint: cfg.Entrypoint, OnBuild: cfg.OnBuild, Labels: labelsOf(cfg),
		StopSignal: cfg.StopSignal, StopTimeout: cfg.StopTimeout, Shell: cfg.Shell,
	}
	if cfg.Healthcheck != nil {
		v.Healthcheck = cfg.Healthcheck
	}
	if c.Host.NetworkMode != "" { // it was made to be run
		o := supervise.Options(c, "", nil)
		v.Hostname = runspec.Hostname(cfg, &o)
	}
	return v
}

func labelsOf(cfg *imagestore.RunConfig) map[string]string {
	if cfg.Labels == nil {
		return map[string]string{}
	}
	return cfg.Labels
}
