package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"text/template"
	"time"

	"github.com/docker/go-units"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"unio/container"
	"unio/container/seccomp"
)

func infoCommand() *cli.Command {
	return &cli.Command{
		Name:   "info",
		Usage:  "Display system-wide information",
		Before: noArgs,
		Action: info,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "format", Aliases: []string{"f"}, Usage: "Format output using a custom template: 'json' or a Go template"},
		},
	}
}

// systemInfo has docker's field names where docker has the field.
type systemInfo struct {
	Containers         int
	ContainersRunning  int
	ContainersPaused   int // none ever is
	ContainersStopped  int
	Images             int
	Driver             string
	DriverStatus       [][2]string
	Plugins            pluginInfo
	Debug              bool
	SystemTime         string // RFC 3339
	LoggingDriver      string
	CgroupDriver       string
	CgroupVersion      string
	KernelVersion      string
	OperatingSystem    string
	OSType             string
	Architecture       string
	IndexServerAddress string
	NCPU               int
	MemTotal           uint64
	DockerRootDir      string // the store: docker's name, for scripts that ask for it
	Name               string
	Labels             []string
	ExperimentalBuild  bool
	ServerVersion      string
	DefaultRuntime     string
	Swarm              struct{ LocalNodeState string }
	LiveRestoreEnabled bool
	SecurityOptions    []string
	Warnings           []string
	ClientInfo         struct{ Version string }
	StoreRoot          string
	RunRoot            string
	Rootless           bool
}

// pluginInfo names what drivers docker has plug-ins for are built in.
type pluginInfo struct{ Volume, Network, Log []string }

func info(c *cli.Context) error {
	e := envOf(c)
	i, err := e.systemInfo(c)
	if err != nil {
		return err
	}
	switch format := c.String("format"); format {
	case "":
		_, err = fmt.Fprint(e.stdout, i.text())
	case "json":
		var text string
		if text, err = toJSON(i); err == nil {
			_, err = fmt.Fprintln(e.stdout, text)
		}
	default:
		t, perr := template.New("").Funcs(templateFuncs()).Parse(format)
		if perr != nil {
			return withCode(exitTemplate, templateError(perr))
		}
		return printOne(e.stdout, t, *i)
	}
	return err
}

func (e *env) systemInfo(c *cli.Context) (*systemInfo, error) {
	st, err := e.store()
	if err != nil {
		return nil, err
	}
	images, err := st.List(c.Context)
	if err != nil {
		return nil, err
	}
	cs := e.containers()
	list, err := cs.List()
	if err != nil {
		return nil, err
	}
	mounts, err := cs.Mounts()
	if err != nil {
		return nil, err
	}
	i := &systemInfo{
		ServerVersion: readBuildData().Version, Images: len(images), Containers: len(list),
		Driver: "unio", OSType: runtime.GOOS, NCPU: runtime.NumCPU(), OperatingSystem: osName(),
		DockerRootDir: e.root, StoreRoot: e.root, RunRoot: e.runRoot, Rootless: os.Geteuid() != 0,
		Plugins: pluginInfo{Volume: []string{"local"}, Network: []string{"host", "none"}, Log: []string{"json-file"}},
		Debug:   e.debug, SystemTime: time.Now().Format(time.RFC3339Nano), LoggingDriver: "json-file",
		CgroupDriver: "cgroupfs", CgroupVersion: cgroupVersion(), IndexServerAddress: "https://index.docker.io/v1/",
		Labels: []string{}, SecurityOptions: securityOptions(), Warnings: []string{}, DefaultRuntime: "unio", LiveRestoreEnabled: true,
	}
	i.Swarm.LocalNodeState, i.ClientInfo.Version = "inactive", i.ServerVersion
	i.count(list, mounts)
	i.DriverStatus = [][2]string{
		{"Backing Filesystem", filesystemName(e.root)},
		{"Mounts", fmt.Sprint(len(mounts))},
		{"FUSE Device", deviceState()},
		{"FUSE Transport", e.transportState()},
	}
	i.addMachine()
	return i, nil
}

// count tells the containers that are in use, by a program or a mount.
func (i *systemInfo) count(list []*container.Container, mounts []*container.Mount) {
	used := map[string]bool{}
	for _, m := range mounts {
		used[m.Container] = !m.Dead
	}
	for _, c := range list {
		if c.State.Active() || used[c.ID] {
			i.ContainersRunning++
		}
	}
	i.ContainersStopped = i.Containers - i.ContainersRunning
}

// cgroupVersion is 2 where the unified hierarchy is all there is.
func cgroupVersion() string {
	var st unix.Statfs_t
	if unix.Statfs("/sys/fs/cgroup", &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
		return "2"
	}
	return "1"
}

// addMachine fills in what the kernel says of itself.
func (i *systemInfo) addMachine() {
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		i.KernelVersion, i.Architecture = unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:])
		i.Name = unix.ByteSliceToString(u.Nodename[:])
	}
	var s unix.Sysinfo_t
	if unix.Sysinfo(&s) == nil {
		i.MemTotal = uint64(s.Totalram) * uint64(s.Unit)
	}
}

// text is docker's layout, for scripts that look for lines.
func (i *systemInfo) text() string {
	var b strings.Builder
	line := func(indent, name string, value any) { fmt.Fprintf(&b, "%s%s: %v\n", indent, name, value) }
	fmt.Fprintf(&b, "Client:\n Version:    %s\n Debug Mode: %v\n\nServer:\n", i.ClientInfo.Version, i.Debug)
	line(" ", "Containers", i.Containers)
	line("  ", "Running", i.ContainersRunning)
	line("  ", "Paused", i.ContainersPaused)
	line("  ", "Stopped", i.ContainersStopped)
	line(" ", "Images", i.Images)
	line(" ", "Server Version", i.ServerVersion)
	line(" ", "Storage Driver", i.Driver)
	for _, pair := range i.DriverStatus {
		line("  ", pair[0], pair[1])
	}
	line(" ", "Logging Driver", i.LoggingDriver)
	line(" ", "Cgroup Driver", i.CgroupDriver)
	line(" ", "Cgroup Version", i.CgroupVersion)
	b.WriteString(" Plugins:\n")
	line("  ", "Volume", strings.Join(i.Plugins.Volume, " "))
	line("  ", "Network", strings.Join(i.Plugins.Network, " "))
	line("  ", "Log", strings.Join(i.Plugins.Log, " "))
	line(" ", "Swarm", i.Swarm.LocalNodeState)
	line(" ", "Default Runtime", i.DefaultRuntime)
	i.securityText(&b)
	line(" ", "Kernel Version", i.KernelVersion)
	line(" ", "Operating System", i.OperatingSystem)
	line(" ", "OSType", i.OSType)
	line(" ", "Architecture", i.Architecture)
	line(" ", "CPUs", i.NCPU)
	line(" ", "Total Memory", units.BytesSize(float64(i.MemTotal)))
	line(" ", "Name", i.Name)
	line(" ", "Docker Root Dir", i.DockerRootDir)
	line(" ", "Run Root", i.RunRoot)
	line(" ", "Debug Mode", i.Debug)
	line(" ", "Experimental", i.ExperimentalBuild)
	line(" ", "Rootless", i.Rootless)
	b.WriteString(" Insecure Registries:\n  127.0.0.0/8\n")
	line(" ", "Live Restore Enabled", i.LiveRestoreEnabled)
	return b.String()
}

// securityOptions names what keeps programs in their containers, in docker's
// form: fields NAME=VALUE, the name of the option first.
func securityOptions() []string {
	var list []string
	if seccomp.Supported() {
		list = append(list, "name=seccomp,profile=builtin")
	}
	if os.Geteuid() != 0 {
		list = append(list, "name=rootless")
	}
	return append(list, "name=cgroupns")
}

// securityText is docker's layout of the same.
func (i *systemInfo) securityText(b *strings.Builder) {
	b.WriteString(" Security Options:\n")
	for _, option := range i.SecurityOptions {
		for _, field := range strings.Split(option, ",") {
			name, value, _ := strings.Cut(field, "=")
			if name == "name" {
				fmt.Fprintf(b, "  %s\n", value)
			} else {
				fmt.Fprintf(b, "   %s: %s\n", strings.ToUpper(name[:1])+name[1:], value)
			}
		}
	}
}

// osName is what /etc/os-release calls this system (os-release(5)).
func osName() string {
	raw, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return runtime.GOOS
	}
	for line := range strings.Lines(string(raw)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			return strings.Trim(value, `"'`)
		}
	}
	return runtime.GOOS
}

// filesystemName names the filesystem of a folder by the magic number of
// statfs(2).
func filesystemName(dir string) string {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "unknown"
	}
	switch int64(st.Type) {
	case unix.EXT4_SUPER_MAGIC:
		return "extfs"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs"
	case unix.F2FS_SUPER_MAGIC:
		return "f2fs"
	}
	return fmt.Sprintf("0x%x", st.Type)
}

// deviceState says whether this process can mount.
func deviceState() string {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return "unusable: " + err.Error()
	}
	f.Close()
	return "/dev/fuse"
}
