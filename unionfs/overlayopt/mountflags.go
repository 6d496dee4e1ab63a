package overlayopt

import "strings"

// setMount sets what any filesystem can be mounted with.
func (o *Options) setMount(w option) (known bool, err error) {
	yes, no := true, false
	switch w.key {
	case "ro", "rw":
		o.ReadOnly = w.key == "ro"
	case "suid":
		o.Suid = &yes
	case "nosuid":
		o.Suid = &no
	case "dev":
		o.Dev = &yes
	case "nodev":
		o.Dev = &no
	case "allow_other":
		o.AllowOther = true
	case "allow_root":
		o.AllowRoot = true
	case "exec", "noexec", "atime", "noatime", "nodiratime", "relatime", "sync", "async", "dirsync":
		o.Kernel = append(o.Kernel, w.key)
	default:
		if !isLabel(w.key) {
			return false, nil
		}
		if w.value == "" {
			return true, w.bad()
		}
		o.Labels = append(o.Labels, w.key+"="+w.value)
		return true, nil
	}
	if w.given {
		return true, w.bad()
	}
	return true, nil
}

// isLabel tells the options that SELinux reads (security/selinux/hooks.c).
func isLabel(key string) bool {
	switch key {
	case "context", "fscontext", "defcontext", "rootcontext":
		return true
	}
	return false
}

// refused says why for options that are known but cannot be met.
func refused(w option) (known bool, err error) {
	switch w.key {
	case "nfs_export", "verity":
		if w.value != "off" {
			return true, w.unsupported("only off is")
		}
		return true, nil
	case "datadir+":
		return true, w.unsupported("data-only lower folders")
	case "plugins":
		return true, w.unsupported("fuse-overlayfs's plug-ins")
	case "ino32_t":
		return true, w.unsupported("inode numbers have 64 bits")
	case "auto_unmount":
		return true, w.unsupported("unmount when you are done")
	}
	return false, nil
}

// isIgnored tells the options that ask for nothing here: for what is always so
// (xino, index, default_permissions), for libfuse's own ways, and what mount(8)
// keeps in fstab for itself and others.
func isIgnored(w option) bool {
	switch w.key {
	case "xino", "index", "uuid", "threaded", "fast_ino", "fast_ino_check", // overlay filesystems'
		"default_permissions", "nonempty", "clone_fd", "max_idle_threads", "max_threads", "max_read", "max_write",
		"kernel_cache", "splice_read", "splice_write", "splice_move", "big_writes": // FUSE's
		return true
	case "defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev", "comment",
		"diratime", "norelatime", "strictatime", "nostrictatime", "lazytime", "nolazytime",
		"iversion", "noiversion", "mand", "nomand", "silent", "loud", "loop", "uhelper", "helper": // mount(8)'s
		return true
	}
	return strings.HasPrefix(w.key, "x-") || strings.HasPrefix(w.key, "X-")
}
