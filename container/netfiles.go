package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// A program in a container uses the host's network and so needs its
// /etc/resolv.conf and /etc/hosts. Copies of them are mounted over the image's
// files, which stay as they are. Where the image has no such file:
//
//   - a symbolic link that leads nowhere, as systemd makes it, is mounted over
//     itself;
//   - otherwise, if /etc is there, an empty file is made to mount on, and taken
//     away again after the program (clearPoints), with the times of /etc put
//     back, so that the change does not show;
//   - without /etc, nothing is done.

// madePoint is something that was made in the root to mount on.
type madePoint struct {
	Path string // inside of the root
	Dir  bool   // an empty folder, else an empty file
}

// netFiles are the host's files that are lent to a root.
func netFiles() []string { return []string{"/etc/resolv.conf", "/etc/hosts"} }

// bindNetFiles mounts copies of the host's files over those of the root.
func bindNetFiles(root int) (made []madePoint, err error) {
	for _, name := range netFiles() {
		data, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return made, fmt.Errorf("copy the host's %s: %w", name, err)
		}
		fresh, err := bindCopy(root, name, data)
		made = append(made, fresh...)
		if err != nil {
			return made, fmt.Errorf("mount %s: %w", name, err)
		}
	}
	return made, nil
}

// bindCopy mounts a file with this content over a name in the root.
func bindCopy(root int, name string, data []byte) (made []madePoint, err error) {
	target, made, err := fileTarget(root, name)
	if err != nil || target < 0 {
		return made, err
	}
	defer unix.Close(target)
	// The copy lives on the /dev of the root, under a name that is gone as
	// soon as it is mounted.
	dev, err := openIn(root, devPath, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return made, err
	}
	defer unix.Close(dev)
	const temp = ".unio-copy"
	fd, err := unix.Openat(dev, temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return made, err
	}
	f := os.NewFile(uintptr(fd), temp)
	defer f.Close()
	defer unix.Unlinkat(dev, temp, 0)
	if _, err := f.Write(data); err != nil {
		return made, err
	}
	return made, unix.Mount(fdPath(fd), fdPath(target), "", unix.MS_BIND, "")
}

// fileTarget opens what to mount a file on, as the comment above says; -1 if
// the root has no place for it.
func fileTarget(root int, name string) (fd int, made []madePoint, err error) {
	fd, err = openIn(root, name, unix.O_PATH)
	if err != unix.ENOENT && err != unix.ENOTDIR {
		return regularOnly(fd, err)
	}
	dir, err := openIn(root, path.Dir(name), unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return -1, nil, nil
	}
	defer unix.Close(dir)
	base := path.Base(name)
	fd, err = unix.Openat(dir, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == nil {
		return fd, nil, nil
	}
	return makeTarget(dir, name)
}

// regularOnly keeps away from what a file cannot be mounted on.
func regularOnly(fd int, err error) (int, []madePoint, error) {
	if err != nil {
		return -1, nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR {
		unix.Close(fd)
		return -1, nil, err
	}
	return fd, nil, nil
}

// makeTarget makes an empty file to mount on, unless the root is read-only.
func makeTarget(dir int, name string) (int, []madePoint, error) {
	var fd int
	err := keepTime(dir, func() (err error) {
		fd, err = unix.Openat(dir, path.Base(name), unix.O_RDONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
		return err
	})
	if err == unix.EROFS || err == unix.EACCES {
		return -1, nil, nil
	}
	if err != nil {
		return -1, nil, err
	}
	return fd, []madePoint{{Path: name}}, nil
}

// keepTime lets do change what a folder holds and puts back the folder's
// modification time; where it cannot, the folder shows as changed, which is no
// harm.
func keepTime(dir int, do func() error) error {
	var before unix.Stat_t
	if err := unix.Fstat(dir, &before); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	_ = unix.UtimesNanoAt(dir, ".", []unix.Timespec{{Nsec: unix.UTIME_OMIT}, before.Mtim}, 0)
	return nil
}

// clearPoints takes away, after a program, what was made in its root to mount
// on. What the program has put to use stays.
func clearPoints(dir string, made []madePoint) {
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(root)
	for _, m := range made {
		m.clear(root)
	}
}

func (m *madePoint) clear(root int) {
	dir, err := openIn(root, path.Dir(m.Path), unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return
	}
	defer unix.Close(dir)
	base := path.Base(m.Path)
	flags := 0
	if m.Dir {
		flags = unix.AT_REMOVEDIR
	} else if !isEmptyFile(dir, base) {
		return
	}
	// A folder that is in use is not empty, and this fails as it should.
	_ = keepTime(dir, func() error { return unix.Unlinkat(dir, base, flags) })
}

func isEmptyFile(dir int, name string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == 0
}
