package runner

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"unio/container/inroot"
)

const devPath = "/dev"

// rootfs is the root of a container while it is built, in the mount namespace
// of this process.
type rootfs struct {
	*child
	dir      string
	fd       int  // of dir
	rootless bool // in a user namespace of the container's own
	// closed says that the container opens no devices but those given to it:
	// every filesystem is mounted without devices then, and those of /dev are the
	// host's nodes, mounted one by one. So no node that a program makes opens.
	closed bool
}

// buildRoot mounts everything below the root folder of the container.
func (c *child) buildRoot() (*rootfs, error) {
	r := &rootfs{child: c, dir: c.Spec.Root.Path, closed: closedDevices(c.Spec)}
	r.rootless = slices.ContainsFunc(c.Spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool {
		return n.Type == specs.UserNamespace
	})
	if err := r.isolate(); err != nil {
		return nil, err
	}
	defer unix.Close(r.fd)
	for i := range c.Spec.Mounts {
		m := &c.Spec.Mounts[i]
		if err := r.mount(m); err != nil {
			return r, fmt.Errorf("mount %s: %w", m.Destination, err)
		}
		if m.Destination == devPath && m.Type != "bind" {
			if err := r.fillDev(); err != nil {
				return r, err
			}
		}
	}
	for _, f := range c.Files {
		if err := r.bindCopy(f.Path, f.Data); err != nil {
			return r, fmt.Errorf("mount %s: %w", f.Path, err)
		}
	}
	if err := r.setSysctls(); err != nil {
		return r, err
	}
	return r, r.close()
}

// closedDevices reports whether the config denies what it does not allow.
func closedDevices(spec *specs.Spec) bool {
	if spec.Linux.Resources == nil || len(spec.Linux.Resources.Devices) == 0 {
		return false
	}
	first := spec.Linux.Resources.Devices[0]
	return !first.Allow && first.Major == nil
}

// isolate cuts the mounts of this namespace off from the host's, so that
// nothing that is mounted from now on is seen outside, and makes the folder a
// mount of its own, without the host's nosuid and nodev.
func (r *rootfs) isolate() error {
	propagation := uintptr(unix.MS_REC | unix.MS_PRIVATE)
	if r.sharesMounts() {
		propagation = unix.MS_REC | unix.MS_SLAVE
	}
	if err := unix.Mount("", "/", "", propagation, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount(r.dir, r.dir, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s: %w", r.dir, err)
	}
	if !r.rootless { // who is not root may not take these away
		if err := r.allowSuid(); err != nil {
			return fmt.Errorf("allow setuid on %s: %w", r.dir, err)
		}
	}
	var err error
	r.fd, err = inroot.Dir(r.dir)
	return err
}

// sharesMounts reports whether a mount of the user's follows the host's.
func (r *rootfs) sharesMounts() bool {
	return slices.ContainsFunc(r.Spec.Mounts, func(m specs.Mount) bool {
		return slices.ContainsFunc(m.Options, func(o string) bool {
			return strings.HasSuffix(o, "slave") || strings.HasSuffix(o, "shared")
		})
	})
}

// allowSuid clears nosuid, and nodev unless devices are closed, of the root's
// mount; read-only and the like stay. statfs(2) shows these flags with the
// numbers of mount(2).
func (r *rootfs) allowSuid() error {
	var st unix.Statfs_t
	if err := unix.Statfs(r.dir, &st); err != nil {
		return err
	}
	keep := uintptr(st.Flags) & (unix.MS_RDONLY | unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_NODIRATIME)
	if r.closed {
		keep |= unix.MS_NODEV
	}
	return unix.Mount("", r.dir, "", unix.MS_REMOUNT|unix.MS_BIND|keep, "")
}

// mount mounts one filesystem, on a place that is made if it is missing.
func (r *rootfs) mount(m *specs.Mount) error {
	o := parseOptions(m.Options)
	if r.closed && !givesDevices(m) {
		o.flags |= unix.MS_NODEV
	}
	if m.Type == "cgroup" || m.Type == "cgroup2" {
		return r.mountCgroup(m.Destination, o)
	}
	target, err := r.target(m, o.flags&unix.MS_BIND != 0)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	if o.flags&unix.MS_BIND != 0 {
		return bind(m.Source, target, o)
	}
	err = unix.Mount(m.Source, inroot.FDPath(target), m.Type, o.flags, o.data)
	if err != nil && r.rootless && (m.Type == "proc" || m.Type == "sysfs") {
		// Who shares a namespace that is not the user's sees it as the host does.
		err = bind(m.Destination, target, mountOptions{flags: o.flags | unix.MS_BIND | unix.MS_REC})
	}
	if err != nil && m.Type == "mqueue" {
		return nil // a kernel without message queues
	}
	return err
}

// givesDevices tells mounts whose devices are there to be opened: terminals,
// whose nodes only the kernel makes, and what the user takes from the host's /dev.
func givesDevices(m *specs.Mount) bool {
	return m.Type == "devpts" || m.Type == "bind" && (m.Source == devPath || strings.HasPrefix(m.Source, devPath+"/"))
}

// target opens the place of a mount: a folder, or a file for a file.
func (r *rootfs) target(m *specs.Mount, isBind bool) (int, error) {
	if isBind {
		st, err := os.Stat(m.Source)
		if err != nil {
			return -1, err
		}
		if !st.IsDir() {
			return r.fileTarget(m.Destination)
		}
	}
	return r.folder(m.Destination, point{Keep: !isDefault(m.Destination)})
}

// isDefault tells the places that every container has from the user's: the
// former leave no trace.
func isDefault(name string) bool {
	for _, dir := range []string{"/proc", "/sys", devPath} {
		if name == dir || strings.HasPrefix(name, dir+"/") {
			return true
		}
	}
	return false
}

// fileTarget opens or makes a file to mount on.
func (r *rootfs) fileTarget(name string) (int, error) {
	fd, err := inroot.Open(r.fd, name, unix.O_PATH)
	if err != unix.ENOENT {
		return fd, err
	}
	dir, err := r.folder(path.Dir(name), point{Keep: !isDefault(name)})
	if err != nil {
		return -1, err
	}
	defer unix.Close(dir)
	return r.file(dir, point{Path: name, Keep: !isDefault(name)})
}

// makeFile makes an empty file to mount on.
func makeFile(dir int, base string) (fd int, err error) {
	const flags = unix.O_RDONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	err = inroot.KeepTime(dir, func() error {
		fd, err = unix.Openat(dir, base, flags, 0o644)
		return err
	})
	return fd, err
}

// setSysctls sets --sysctl, before /proc/sys becomes read-only.
func (r *rootfs) setSysctls() error {
	for name, value := range r.Spec.Linux.Sysctl {
		file := "/proc/sys/" + strings.ReplaceAll(name, ".", "/")
		fd, err := inroot.Open(r.fd, file, unix.O_WRONLY)
		if err != nil {
			return fmt.Errorf("sysctl %s: %w", name, err)
		}
		_, err = unix.Write(fd, []byte(value))
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("sysctl %s: %w", name, err)
		}
	}
	return nil
}

// close makes the root itself read-only where that was asked for. Folders that
// are missing have been made.
func (r *rootfs) close() error {
	if err := r.prepareCwd(); err != nil {
		return err
	}
	if !r.Spec.Root.Readonly {
		return nil
	}
	return restrict(r.fd, mountOptions{flags: unix.MS_RDONLY})
}

// prepareCwd makes the working folder if it is missing.
func (r *rootfs) prepareCwd() error {
	if r.StrictCwd || r.Spec.Process.Cwd == "" {
		return nil
	}
	fd, err := r.folder(r.Spec.Process.Cwd, point{Keep: true, Wanted: true})
	if err != nil {
		return fmt.Errorf("working folder %s: %w", r.Spec.Process.Cwd, err)
	}
	return unix.Close(fd)
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
