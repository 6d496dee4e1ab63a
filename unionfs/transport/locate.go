package transport

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// maxLinks bounds how many symbolic links are followed, as in the kernel.
const maxLinks = 40

// locate makes a path absolute, without symbolic links, and tells what is
// mounted there: the uppermost if several are, nil if nothing. It does not
// touch what is mounted, which may hang. What the path leads to need not
// exist.
func locate(dir string) (string, *mountinfo.Info, error) {
	path, err := filepath.Abs(dir)
	for range maxLinks {
		if err != nil {
			return "", nil, err
		}
		path, err = resolveParent(path)
		if err != nil {
			return "", nil, err
		}
		info, err := topMount(path)
		if err != nil || info != nil {
			return path, info, err
		}
		// Nothing is mounted here, so it may be touched.
		target, err := os.Readlink(path)
		if err != nil { // no link, or nothing at all
			return path, nil, nil
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
	}
	return "", nil, fmt.Errorf("%s: %w", dir, unix.ELOOP)
}

// resolveParent follows the symbolic links in all but the last part of an
// absolute path.
func resolveParent(path string) (string, error) {
	path = filepath.Clean(path)
	if path == "/" {
		return path, nil
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return "", err
	}
	return filepath.Join(parent, filepath.Base(path)), nil
}

// topMount returns the uppermost mount on a path without symbolic links, nil
// if nothing is mounted there.
func topMount(path string) (*mountinfo.Info, error) {
	list, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) {
		return i.Mountpoint != path, false
	})
	if err != nil {
		return nil, fmt.Errorf("read the mount table: %w", err)
	}
	if len(list) == 0 {
		return nil, nil
	}
	return list[len(list)-1], nil
}

func isFuse(i *mountinfo.Info) bool {
	return i.FSType == "fuse" || strings.HasPrefix(i.FSType, "fuse.")
}

// checkMountPoint returns the real path of a folder that can be mounted on.
func checkMountPoint(dir string, over bool) (string, error) {
	path, err := usable(dir, over)
	if err != nil {
		return "", fmt.Errorf("%w %s: %w", ErrMountPoint, dir, err)
	}
	return path, nil
}

// usable looks at the mount table before the folder: to touch what is mounted by
// a dead or hung server would fail, or never return.
func usable(dir string, over bool) (string, error) {
	path, info, err := locate(dir)
	if err != nil {
		return "", err
	}
	if info != nil {
		if err := checkMounted(path, info, over); err != nil {
			return "", err
		}
	}
	st, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !st.IsDir() {
		return "", unix.ENOTDIR
	}
	return path, nil
}

// checkMounted refuses a path on which something is mounted, except that a
// mount over one that answers may be asked for.
func checkMounted(path string, info *mountinfo.Info, over bool) error {
	if isFuse(info) {
		state := probe(path, probeTime)
		if state == StateDead || state == StateHung {
			return fmt.Errorf("%w: a %s %s mount is there; unmount it first", unix.EBUSY, state, info.FSType)
		}
	}
	if over {
		return nil
	}
	return fmt.Errorf("%w: %s is mounted there already", unix.EBUSY, info.FSType)
}
