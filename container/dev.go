package container

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// device is a node of a program's /dev; numbers from the kernel's
// Documentation/admin-guide/devices.txt.
type device struct {
	name         string
	major, minor uint32
}

func devices() []device {
	return []device{
		{"null", 1, 3},
		{"zero", 1, 5},
		{"full", 1, 7},
		{"random", 1, 8},
		{"urandom", 1, 9},
		{"tty", 5, 0},
	}
}

// fillDev puts into the fresh /dev of a root what programs expect there.
func fillDev(root int, rootless bool) error {
	dev, err := openIn(root, devPath, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("open /dev: %w", err)
	}
	defer unix.Close(dev)
	for _, d := range devices() {
		if err := d.place(dev, rootless); err != nil {
			return fmt.Errorf("make /dev/%s: %w", d.name, err)
		}
	}
	for _, dir := range []string{"pts", "shm", "mqueue"} {
		if err := unix.Mkdirat(dev, dir, 0o755); err != nil {
			return fmt.Errorf("make /dev/%s: %w", dir, err)
		}
	}
	for _, link := range [][2]string{
		{"fd", "/proc/self/fd"},
		{"stdin", "/proc/self/fd/0"},
		{"stdout", "/proc/self/fd/1"},
		{"stderr", "/proc/self/fd/2"},
		{"ptmx", "pts/ptmx"},
	} {
		if err := unix.Symlinkat(link[1], dev, link[0]); err != nil {
			return fmt.Errorf("make /dev/%s: %w", link[0], err)
		}
	}
	return placeConsole(dev)
}

// place makes a device node or, without root, lends the host's.
func (d *device) place(dev int, rootless bool) error {
	if rootless {
		return bindFile("/dev/"+d.name, dev, d.name)
	}
	return unix.Mknodat(dev, d.name, unix.S_IFCHR|0o666, int(unix.Mkdev(d.major, d.minor)))
}

// placeConsole makes the caller's terminal, if there is one, /dev/console, so
// that programs can find it by name.
func placeConsole(dev int) error {
	tty, err := os.Readlink(fdPath(0))
	if err != nil || !strings.HasPrefix(tty, "/dev/") || !isTerminal(0) {
		return nil
	}
	err = bindFile(tty, dev, "console")
	if errors.Is(err, unix.ENOENT) {
		return nil // a terminal of another /dev/pts, as inside of a container
	}
	if err != nil {
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
	if err := unix.Access(source, unix.F_OK); err != nil {
		return err
	}
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o666)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Mount(source, fdPath(fd), "", unix.MS_BIND, "")
}
