package container

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// point is one filesystem of a program's root.
type point struct {
	path   string // where, inside of the root
	fsType string
	flags  uintptr
	data   string
	// bind is the host's folder that takes its place where the filesystem
	// cannot be mounted: without root, /proc and /sys are the host's.
	bind string
	// optional ones may fail.
	optional bool
}

const (
	quietFlags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	devPath    = "/dev"
)

// points lists the filesystems of a root, in the order of mounting. The ones
// in /dev lie on folders that fillDev makes.
func points(rootless bool) []point {
	pts := "newinstance,ptmxmode=0666,mode=0620"
	if !rootless {
		pts += ",gid=5" // the group tty of every Linux system
	}
	return []point{
		{path: "/proc", fsType: "proc", flags: quietFlags, bind: "/proc"},
		{path: "/sys", fsType: "sysfs", flags: quietFlags | unix.MS_RDONLY, bind: "/sys"},
		{path: devPath, fsType: "tmpfs", flags: unix.MS_NOSUID | unix.MS_STRICTATIME, data: "mode=0755,size=65536k"},
		{path: devPath + "/pts", fsType: "devpts", flags: unix.MS_NOSUID | unix.MS_NOEXEC, data: pts},
		{path: devPath + "/shm", fsType: "tmpfs", flags: quietFlags, data: "mode=1777,size=65536k"},
		{path: devPath + "/mqueue", fsType: "mqueue", flags: quietFlags, optional: true},
	}
}

// buildRoot makes a mounted folder fit to be the root of a program, in the
// mount namespace of this process. It returns what it made in the folder to
// mount on, also with an error.
func buildRoot(dir string, rootless bool) (made []madePoint, err error) {
	root, err := isolate(dir, rootless)
	if err != nil {
		return nil, err
	}
	defer unix.Close(root)
	for _, p := range points(rootless) {
		fresh, err := p.mount(root, rootless)
		made = append(made, fresh...)
		if err != nil && !p.optional {
			return made, err
		}
		if p.path == devPath {
			if err := fillDev(root, rootless); err != nil {
				return made, err
			}
		}
	}
	fresh, err := bindNetFiles(root)
	return append(made, fresh...), err
}

// isolate makes all mounts private to this namespace, so that nothing that is
// mounted from now on is seen outside, and the folder a mount of its own,
// without the host's nosuid and nodev.
func isolate(dir string, rootless bool) (root int, err error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return -1, fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		return -1, fmt.Errorf("bind %s: %w", dir, err)
	}
	if !rootless { // who is not root may not take these away
		if err := allowSuidDev(dir); err != nil {
			return -1, fmt.Errorf("allow setuid and devices on %s: %w", dir, err)
		}
	}
	root, err = unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", dir, err)
	}
	return root, nil
}

// allowSuidDev clears nosuid and nodev of one mount; read-only and the like
// stay. statfs(2) shows these flags with the numbers of mount(2).
func allowSuidDev(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return err
	}
	keep := uintptr(st.Flags) & (unix.MS_RDONLY | unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_NODIRATIME)
	return unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|keep, "")
}

// mount mounts one filesystem, on a folder that is made if missing.
func (p *point) mount(root int, rootless bool) (made []madePoint, err error) {
	fd, fresh, err := folderIn(root, p.path)
	if fresh {
		made = []madePoint{{Path: p.path, Dir: true}}
	}
	if err != nil {
		return made, fmt.Errorf("mount %s: %w", p.path, err)
	}
	defer unix.Close(fd)
	target := fdPath(fd)
	err = unix.Mount(p.fsType, target, p.fsType, p.flags, p.data)
	if err != nil && rootless && p.bind != "" {
		err = unix.Mount(p.bind, target, "", unix.MS_BIND|unix.MS_REC, "")
	}
	if err != nil {
		return made, fmt.Errorf("mount %s: %w", p.path, err)
	}
	return made, nil
}

// folderIn opens a folder of the root, made first if it is missing.
func folderIn(root int, path string) (fd int, made bool, err error) {
	const flags = unix.O_PATH | unix.O_DIRECTORY
	fd, err = openIn(root, path, flags)
	if err != unix.ENOENT {
		return fd, false, err
	}
	// Only folders right below the root are made, so this is one component.
	err = keepTime(root, func() error { return unix.Mkdirat(root, strings.TrimPrefix(path, "/"), 0o755) })
	if err != nil {
		return -1, false, err
	}
	fd, err = openIn(root, path, flags)
	return fd, true, err
}

// enterRoot makes the folder the root of this process and lets go of the
// host's tree.
func enterRoot(dir string) error {
	if err := unix.Chdir(dir); err != nil {
		return fmt.Errorf("enter %s: %w", dir, err)
	}
	err := unix.PivotRoot(".", ".")
	if errors.Is(err, unix.EINVAL) {
		// The host runs from an initramfs, which cannot be pivoted away from.
		return moveRoot()
	}
	if err != nil {
		return fmt.Errorf("pivot_root to %s: %w", dir, err)
	}
	// The old root now lies on top of the new one.
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach the host's tree: %w", err)
	}
	return os.Chdir("/")
}

func moveRoot() error {
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root folder: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	return os.Chdir("/")
}
