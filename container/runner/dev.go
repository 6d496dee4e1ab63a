package runner

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"unio/container/inroot"
)

// defaultDevices are the nodes of every container's /dev (runtime-spec,
// config-linux.md, "Default Devices"); numbers from the kernel's
// Documentation/admin-guide/devices.txt.
func defaultDevices() []specs.LinuxDevice {
	mode := os.FileMode(0o666)
	var list []specs.LinuxDevice
	for _, d := range []struct {
		name         string
		major, minor int64
	}{
		{"null", 1, 3},
		{"zero", 1, 5},
		{"full", 1, 7},
		{"random", 1, 8},
		{"urandom", 1, 9},
		{"tty", 5, 0},
	} {
		list = append(list, specs.LinuxDevice{Path: devPath + "/" + d.name, Type: "c", Major: d.major, Minor: d.minor, FileMode: &mode})
	}
	return list
}

// fillDev puts into the fresh /dev of a root what programs expect there.
func (r *rootfs) fillDev() error {
	dev, err := inroot.Open(r.fd, devPath, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("open /dev: %w", err)
	}
	defer unix.Close(dev)
	placed := map[string]bool{}
	for _, d := range append(defaultDevices(), r.Spec.Linux.Devices...) {
		name := path.Clean(d.Path)
		if placed[name] {
			continue
		}
		placed[name] = true
		if err := r.placeDevice(&d); err != nil {
			return fmt.Errorf("make %s: %w", d.Path, err)
		}
	}
	for _, link := range [][2]string{
		{"fd", "/proc/self/fd"},
		{"stdin", "/proc/self/fd/0"},
		{"stdout", "/proc/self/fd/1"},
		{"stderr", "/proc/self/fd/2"},
		{"ptmx", "pts/ptmx"},
	} {
		if err := unix.Symlinkat(link[1], dev, link[0]); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make /dev/%s: %w", link[0], err)
		}
	}
	return placeConsole(dev)
}

// placeDevice makes a device node or, where made ones do not open, lends the
// host's.
func (r *rootfs) placeDevice(d *specs.LinuxDevice) error {
	dir, err := r.folder(path.Dir(d.Path), point{})
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	base := path.Base(d.Path)
	if r.rootless || r.closed {
		source, err := hostDevice(d)
		if err != nil {
			return err
		}
		return bindFile(source, dir, base)
	}
	kind := uint32(unix.S_IFCHR)
	if d.Type == "b" {
		kind = unix.S_IFBLK
	}
	mode := uint32(0o666)
	if d.FileMode != nil {
		mode = uint32(d.FileMode.Perm())
	}
	if err := unix.Mknodat(dir, base, kind|mode, int(unix.Mkdev(uint32(d.Major), uint32(d.Minor)))); err != nil {
		return err
	}
	if d.UID == nil || d.GID == nil {
		return nil
	}
	return unix.Fchownat(dir, base, int(*d.UID), int(*d.GID), unix.AT_SYMLINK_NOFOLLOW)
}

// hostDevice finds the host's node of a device: of the same path or by the
// kernel's links from numbers to names.
func hostDevice(d *specs.LinuxDevice) (string, error) {
	kind, folder := uint32(unix.S_IFCHR), "char"
	if d.Type == "b" {
		kind, folder = unix.S_IFBLK, "block"
	}
	number := fmt.Sprintf("%d:%d", d.Major, d.Minor)
	tries := []string{d.Path, "/dev/" + folder + "/" + number}
	if data, err := os.ReadFile("/sys/dev/" + folder + "/" + number + "/uevent"); err == nil {
		for line := range strings.Lines(string(data)) {
			if name, ok := strings.CutPrefix(strings.TrimSpace(line), "DEVNAME="); ok {
				tries = append(tries, devPath+"/"+name)
			}
		}
	}
	for _, name := range tries {
		var st unix.Stat_t
		if unix.Stat(name, &st) == nil && st.Mode&unix.S_IFMT == kind && st.Rdev == unix.Mkdev(uint32(d.Major), uint32(d.Minor)) {
			return name, nil
		}
	}
	return "", fmt.Errorf("the host has no node of the device %s %s", d.Type, number)
}

// placeConsole makes the caller's terminal, if there is one, /dev/console, so
// that programs can find it by name.
func placeConsole(dev int) error {
	var own, named unix.Stat_t
	tty, err := os.Readlink(inroot.FDPath(0))
	if err != nil || !strings.HasPrefix(tty, devPath+"/") || !isTerminal(0) {
		return nil
	}
	// A terminal of another /dev/pts, as inside of a container, may have the name
	// of one that is somebody else's here.
	if unix.Fstat(0, &own) != nil || unix.Stat(tty, &named) != nil || own.Rdev != named.Rdev || own.Dev != named.Dev {
		return nil
	}
	if err := bindFile(tty, dev, "console"); err != nil {
		return fmt.Errorf("make /dev/console: %w", err)
	}
	return nil
}

func isTerminal(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err == nil
}

// bindFile mounts a file of the host on a new empty file in a folder of ours.
func bindFile(source string, dir int, name string) error {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o666)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return bind(source, fd, mountOptions{flags: unix.MS_BIND})
}
