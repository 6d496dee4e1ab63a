package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"text/template"

	"github.com/docker/go-units"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
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
	ServerVersion     string
	Containers        int
	ContainersRunning int // mounted
	ContainersStopped int
	Images            int
	Driver            string
	DriverStatus      [][2]string
	KernelVersion     string
	OperatingSystem   string
	OSType            string
	Architecture      string
	NCPU              int
	MemTotal          uint64
	Name              string
	DockerRootDir     string // the store: docker's name, for scripts that ask for it
	StoreRoot         string
	RunRoot           string
	Rootless          bool
}

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
		if err = t.Execute(e.stdout, i); err == nil {
			_, err = fmt.Fprintln(e.stdout)
		}
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
	}
	for _, m := range mounts {
		if m.Container != "" && !m.Dead {
			i.ContainersRunning++
		}
	}
	i.ContainersStopped = i.Containers - i.ContainersRunning
	i.DriverStatus = [][2]string{
		{"Backing Filesystem", filesystemName(e.root)}, {"Mounts", fmt.Sprint(len(mounts))}, {"FUSE Device", deviceState()},
	}
	i.addMachine()
	return i, nil
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

func (i *systemInfo) text() string {
	var b strings.Builder
	line := func(indent, name string, value any) { fmt.Fprintf(&b, "%s%s: %v\n", indent, name, value) }
	line("", "Containers", i.Containers)
	line(" ", "Mounted", i.ContainersRunning)
	line(" ", "Not mounted", i.ContainersStopped)
	line("", "Images", i.Images)
	line("", "Version", i.ServerVersion)
	line("", "Storage Driver", i.Driver)
	for _, pair := range i.DriverStatus {
		line(" ", pair[0], pair[1])
	}
	line("", "Kernel Version", i.KernelVersion)
	line("", "Operating System", i.OperatingSystem)
	line("", "OSType", i.OSType)
	line("", "Architecture", i.Architecture)
	line("", "CPUs", i.NCPU)
	line("", "Total Memory", units.BytesSize(float64(i.MemTotal)))
	line("", "Name", i.Name)
	line("", "Store", i.StoreRoot)
	line("", "Run Root", i.RunRoot)
	line("", "Rootless", i.Rootless)
	return b.String()
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
