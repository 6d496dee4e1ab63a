package runner

import (
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"unio/container/inroot"
)

// Where a root has no place for a mount, one is made, and taken away again after
// the program, with the times of the folder around it put back, so that the
// change does not show:
//
//   - what every container has (/proc, /sys, /dev, the files about the network)
//     always;
//   - what the user mounts stays, as it does with docker, unless
//     Options.ClearAll says otherwise.
//
// It is announced before it is made, so that nothing stays of a start that is cut
// short. A file of the network's is not given where the root has no place for it and is
// read-only. A symbolic link that leads nowhere, as systemd makes of
// /etc/resolv.conf, is mounted over itself.

// point is something that was made in the root to mount on.
type point struct {
	Path   string // inside of the root
	Dir    bool   // an empty folder, else an empty file
	Keep   bool   // it stays unless all is to be cleared
	Wanted bool   // it stays
}

// bindCopy mounts a file with this content over a name in the root.
func (r *rootfs) bindCopy(name string, data []byte) error {
	target, err := r.copyTarget(name)
	if err != nil || target < 0 {
		return err
	}
	defer unix.Close(target)
	// The copy lives on the /dev of the root, under a name that is gone as
	// soon as it is mounted.
	dev, err := inroot.Open(r.fd, devPath, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(dev)
	const temp = ".unio-copy"
	fd, err := unix.Openat(dev, temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	defer unix.Unlinkat(dev, temp, 0)
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err != nil {
			return err
		}
		data = data[n:]
	}
	return unix.Mount(inroot.FDPath(fd), inroot.FDPath(target), "", unix.MS_BIND, "")
}

// copyTarget opens what to mount a file on, as the comment above says; -1 if
// the root has no place for it.
func (r *rootfs) copyTarget(name string) (int, error) {
	fd, err := inroot.Open(r.fd, name, unix.O_PATH)
	if err != unix.ENOENT && err != unix.ENOTDIR {
		return regularOnly(fd, err)
	}
	dir, err := r.folder(path.Dir(name), point{})
	if err != nil {
		return -1, nil //nolint:nilerr // no place for it
	}
	defer unix.Close(dir)
	base := path.Base(name)
	fd, err = unix.Openat(dir, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == nil {
		return fd, nil
	}
	fd, err = r.file(dir, point{Path: name})
	if err == unix.EROFS || err == unix.EACCES {
		return -1, nil
	}
	return fd, err
}

// folder opens a folder of the root; what is missing of it is announced as p and
// then made.
func (r *rootfs) folder(name string, p point) (int, error) {
	missing, onRoot := r.missing(name)
	for _, dir := range missing {
		if !onRoot {
			break // it goes by itself, and the root may have a folder of the name
		}
		p.Path, p.Dir = dir, true
		if err := r.say.Encode(outcome{Made: []point{p}}); err != nil {
			return -1, err
		}
	}
	fd, _, err := inroot.MkdirAll(r.fd, name)
	return fd, err
}

// file makes an empty file of the root to mount on, announced as p, in an open
// folder of it.
func (r *rootfs) file(dir int, p point) (int, error) {
	if r.isRoot(dir) {
		if err := r.say.Encode(outcome{Made: []point{p}}); err != nil {
			return -1, err
		}
	}
	return makeFile(dir, path.Base(p.Path))
}

// missing lists the folders on the way to a path that are not there, outermost
// first. onRoot says that they would be made in the root itself, not on
// something that is mounted over it.
func (r *rootfs) missing(name string) (list []string, onRoot bool) {
	for name = path.Clean("/" + name); name != "/"; name = path.Dir(name) {
		fd, err := inroot.Open(r.fd, name, unix.O_PATH)
		if err == nil {
			onRoot = r.isRoot(fd)
			unix.Close(fd)
			return list, onRoot
		}
		if err != unix.ENOENT {
			return nil, false // it will not be made either
		}
		list = slices.Insert(list, 0, name)
	}
	return list, true
}

// isRoot reports whether something lies on the root's own mount.
func (r *rootfs) isRoot(fd int) bool {
	at, err := mountID(fd)
	if err != nil {
		return true // an old kernel: what is not empty or not there stays anyway
	}
	root, err := mountID(r.fd)
	return err != nil || at == root
}

// mountID tells mounts apart (statx(2), Linux 5.8).
func mountID(fd int) (uint64, error) {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st)
	if err == nil && st.Mask&unix.STATX_MNT_ID == 0 {
		err = unix.ENOTSUP
	}
	return st.Mnt_id, err
}

// regularOnly keeps away from what a file cannot be mounted on.
func regularOnly(fd int, err error) (int, error) {
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// clearPoints takes away, after a program, what was made in its root to mount
// on. What the program has put to use stays.
func clearPoints(dir string, made []point, all bool) {
	root, err := inroot.Dir(dir)
	if err != nil {
		return
	}
	defer unix.Close(root)
	for _, p := range slices.Backward(made) {
		if !p.Wanted && (all || !p.Keep) {
			p.clear(root)
		}
	}
}

func (p *point) clear(root int) {
	dir, base, err := inroot.Parent(root, p.Path)
	if err != nil {
		return
	}
	defer unix.Close(dir)
	flags := 0
	if p.Dir {
		flags = unix.AT_REMOVEDIR
	} else if !isEmptyFile(dir, base) {
		return
	}
	// A folder that is in use is not empty, and this fails as it should.
	_ = inroot.KeepTime(dir, func() error { return unix.Unlinkat(dir, path.Base(base), flags) })
}

func isEmptyFile(dir int, name string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == 0
}
