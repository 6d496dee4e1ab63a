package runner

import (
	"strings"

	"golang.org/x/sys/unix"
)

// mountOptions are the options of a mount in the kernel's terms.
type mountOptions struct {
	flags       uintptr // MS_RDONLY and the like
	cleared     uintptr // flags that were taken back by a later option
	propagation uint64
	data        string // for the filesystem itself
}

// mountFlag is one option of mount(8) with its flag of mount(2).
type mountFlag struct {
	flag  uintptr
	clear bool
}

// mountFlags lists the options that are no data of a filesystem (mount(8),
// "FILESYSTEM-INDEPENDENT MOUNT OPTIONS").
func mountFlags() map[string]mountFlag {
	return map[string]mountFlag{
		"defaults": {}, "async": {unix.MS_SYNCHRONOUS, true}, "sync": {unix.MS_SYNCHRONOUS, false},
		"ro": {unix.MS_RDONLY, false}, "rw": {unix.MS_RDONLY, true},
		"suid": {unix.MS_NOSUID, true}, "nosuid": {unix.MS_NOSUID, false},
		"dev": {unix.MS_NODEV, true}, "nodev": {unix.MS_NODEV, false},
		"exec": {unix.MS_NOEXEC, true}, "noexec": {unix.MS_NOEXEC, false},
		"atime": {unix.MS_NOATIME, true}, "noatime": {unix.MS_NOATIME, false},
		"diratime": {unix.MS_NODIRATIME, true}, "nodiratime": {unix.MS_NODIRATIME, false},
		"relatime": {unix.MS_RELATIME, false}, "norelatime": {unix.MS_RELATIME, true},
		"strictatime": {unix.MS_STRICTATIME, false}, "nostrictatime": {unix.MS_STRICTATIME, true},
		"dirsync": {unix.MS_DIRSYNC, false}, "mand": {unix.MS_MANDLOCK, false}, "nomand": {unix.MS_MANDLOCK, true},
		"bind": {unix.MS_BIND, false}, "rbind": {unix.MS_BIND | unix.MS_REC, false},
	}
}

// propagations lists the options about mounts that pass to other namespaces
// (mount_namespaces(7)). Whether those below follow is up to the bind.
func propagations() map[string]uint64 {
	return map[string]uint64{
		"private": unix.MS_PRIVATE, "rprivate": unix.MS_PRIVATE,
		"shared": unix.MS_SHARED, "rshared": unix.MS_SHARED,
		"slave": unix.MS_SLAVE, "rslave": unix.MS_SLAVE,
		"unbindable": unix.MS_UNBINDABLE, "runbindable": unix.MS_UNBINDABLE,
	}
}

// parseOptions sorts the options of a mount; later ones win.
func parseOptions(options []string) mountOptions {
	var o mountOptions
	var data []string
	for _, word := range options {
		if p, ok := propagations()[word]; ok {
			o.propagation = p
			continue
		}
		f, ok := mountFlags()[word]
		switch {
		case !ok:
			data = append(data, word)
		case f.clear:
			o.flags &^= f.flag
			o.cleared |= f.flag
		default:
			o.flags |= f.flag
			o.cleared &^= f.flag
		}
	}
	o.data = strings.Join(data, ",")
	return o
}
