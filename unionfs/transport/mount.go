package transport

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	devicePath     = "/dev/fuse"
	defaultSubtype = "unio"
	defaultMaxRead = 1 << 20 // bytes; what the kernel takes by default (fs.fuse.max_pages_limit)
)

// MountOptions says what to mount where. The zero value of all but Dir works.
type MountOptions struct {
	Dir        string // mount point, an existing folder
	FsName     string // first column of /proc/mounts; default: the subtype
	Subtype    string // the filesystem type is fuse.SUBTYPE; default unio
	AllowOther bool   // users other than the one who mounts may enter
	Permissive bool   // leave permissions to the server: for a mount that nobody but its user enters
	ReadOnly   bool
	Suid, Dev  bool     // honour set-user-ID bits and devices; root only
	MaxRead    int      // largest READ in bytes, default 1 MiB
	Extra      []string // further options: noexec, noatime, sync, or what the kernel's FUSE knows
	Over       bool     // mount even where something is mounted already
	Log        *slog.Logger
	// Transport is how requests are to come; default Auto. With Uring, root lets
	// the kernel's FUSE use io_uring on the whole machine, see EnableUring.
	Transport Kind
}

func (o *MountOptions) normalise() {
	if o.Subtype == "" {
		o.Subtype = defaultSubtype
	}
	if o.FsName == "" {
		o.FsName = o.Subtype
	}
	if o.MaxRead <= 0 {
		o.MaxRead = defaultMaxRead
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// Mount mounts a FUSE filesystem that answers as soon as the Device is
// served: until then every access to the folder waits. Root mounts by
// mount(2), an ordinary user by fusermount3.
//
// Errors: ErrMountPoint, ErrNoFuse, ErrNoFusermount, fs.ErrPermission; ErrNoUring
// if Uring is asked for and cannot be had.
func Mount(o MountOptions) (*Device, error) {
	o.normalise()
	dir, err := checkMountPoint(o.Dir, o.Over)
	if err != nil {
		return nil, err
	}
	o.Dir = dir
	if err := o.Transport.prepare(); err != nil {
		return nil, fmt.Errorf("mount %s: %w", dir, err)
	}
	mount := mountByHelper
	if os.Geteuid() == 0 {
		mount = mountDirect
	}
	fd, err := mount(&o)
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", dir, err)
	}
	return newDevice(fd, &o), nil
}

// mountDirect opens the device and mounts it by mount(2).
func mountDirect(o *MountOptions) (int, error) {
	fd, err := openDevice(devicePath)
	if err != nil {
		return -1, err
	}
	flags, data := o.kernelOptions(fd)
	if err := unix.Mount(o.FsName, o.Dir, "fuse."+o.Subtype, flags, data); err != nil {
		return -1, errors.Join(mountError(err, data), unix.Close(fd))
	}
	return fd, nil
}

func openDevice(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case err == nil:
		return fd, nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO),
		errors.Is(err, unix.EPERM): // EPERM: the device controller of a container
		return -1, fmt.Errorf("%w: %w", ErrNoFuse, err)
	}
	return -1, fmt.Errorf("open %s: %w", path, err)
}

// mountError explains what mount(2) said.
func mountError(err error, data string) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("mounting needs CAP_SYS_ADMIN: %w", err)
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("%w: %w", ErrNoFuse, err)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("the kernel refuses one of the options %q: %w", data, err)
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w: %w", ErrMountPoint, err)
	}
	return err
}

// mountFlag gives the bits of mount(2) that an option sets and clears. What
// is no such option belongs into the data for the filesystem.
func mountFlag(option string) (set, clear uintptr, ok bool) {
	switch option {
	case "rw":
		return 0, unix.MS_RDONLY, true
	case "ro":
		return unix.MS_RDONLY, 0, true
	case "suid":
		return 0, unix.MS_NOSUID, true
	case "nosuid":
		return unix.MS_NOSUID, 0, true
	case "dev":
		return 0, unix.MS_NODEV, true
	case "nodev":
		return unix.MS_NODEV, 0, true
	case "exec":
		return 0, unix.MS_NOEXEC, true
	case "noexec":
		return unix.MS_NOEXEC, 0, true
	case "atime":
		return 0, unix.MS_NOATIME, true
	case "noatime":
		return unix.MS_NOATIME, 0, true
	case "nodiratime":
		return unix.MS_NODIRATIME, 0, true
	case "relatime":
		return unix.MS_RELATIME, 0, true
	case "sync":
		return unix.MS_SYNCHRONOUS, 0, true
	case "async":
		return 0, unix.MS_SYNCHRONOUS, true
	case "dirsync":
		return unix.MS_DIRSYNC, 0, true
	}
	return 0, 0, false
}

// kernelOptions gives the flags and the data of mount(2). The data is what
// fs/fuse/inode.c (fuse_fs_parameters) understands.
func (o *MountOptions) kernelOptions(fd int) (uintptr, string) {
	data := []string{
		"fd=" + strconv.Itoa(fd),
		"rootmode=40000",
		"user_id=" + strconv.Itoa(os.Geteuid()),
		"group_id=" + strconv.Itoa(os.Getegid()),
	}
	var flags uintptr
	for _, option := range o.options() {
		set, clear, ok := mountFlag(option)
		if !ok {
			data = append(data, option)
			continue
		}
		flags = flags&^clear | set
	}
	return flags, strings.Join(data, ",")
}

// options lists the mount options in the words of mount(8), without those
// that tie the mount to its descriptor.
func (o *MountOptions) options() []string {
	list := []string{pick(o.Suid, "suid", "nosuid"), pick(o.Dev, "dev", "nodev"), pick(o.ReadOnly, "ro", "rw")}
	list = append(list, "max_read="+strconv.Itoa(o.MaxRead))
	if !o.Permissive {
		list = append(list, "default_permissions")
	}
	if o.AllowOther {
		list = append(list, "allow_other")
	}
	return append(list, o.Extra...)
}

func pick(cond bool, yes, no string) string {
	if cond {
		return yes
	}
	return no
}
