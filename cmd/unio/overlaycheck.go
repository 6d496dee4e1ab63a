package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// checkOverlay looks at the folders before anything is changed, so that each
// fault has one clear line.
func checkOverlay(t *overlayTask, dir string) error {
	if t.Options.AllowRoot && os.Geteuid() != 0 && !t.AllowOther {
		return errAllowRoot
	}
	var lowers []string
	for _, path := range t.Options.Lower {
		real, err := realFolder("lowerdir", path)
		if err != nil {
			return err
		}
		lowers = append(lowers, real)
	}
	var err error
	if t.Dir, err = realFolder("mount point", dir); err != nil {
		return err
	}
	upper, err := checkUpper(t)
	if err != nil {
		return err
	}
	for _, lower := range lowers {
		if err := t.checkLower(lower, upper); err != nil {
			return err
		}
	}
	return nil
}

// checkUpper checks upper and work folder and returns the upper's real path,
// empty without one.
func checkUpper(t *overlayTask) (string, error) {
	if t.Options.Upper == "" {
		return "", nil
	}
	upper, err := realFolder("upperdir", t.Options.Upper)
	if err != nil {
		return "", err
	}
	work, err := realFolder("workdir", t.Options.Work)
	if err != nil {
		return "", err
	}
	var u, w unix.Stat_t
	if err := unix.Stat(upper, &u); err != nil {
		return "", fmt.Errorf("upperdir %s: %w", upper, err)
	}
	if err := unix.Stat(work, &w); err != nil {
		return "", fmt.Errorf("workdir %s: %w", work, err)
	}
	switch {
	case u.Dev != w.Dev:
		return "", fmt.Errorf("workdir %s must be on the filesystem of upperdir %s", work, upper)
	case inside(work, upper):
		return "", fmt.Errorf("workdir %s lies in upperdir %s", work, upper)
	case inside(upper, work):
		return "", fmt.Errorf("upperdir %s lies in workdir %s", upper, work)
	case inside(t.Dir, upper):
		return "", fmt.Errorf("mount point %s lies in upperdir %s", t.Dir, upper)
	case inside(t.Dir, work):
		return "", fmt.Errorf("mount point %s lies in workdir %s", t.Dir, work)
	}
	return upper, nil
}

// checkLower checks where a lower folder lies. On a lower itself one may mount,
// as one may with overlayfs; one inside the mount point nobody would find
// again.
func (t *overlayTask) checkLower(lower, upper string) error {
	switch {
	case upper != "" && inside(lower, upper):
		return fmt.Errorf("lowerdir %s lies in upperdir %s", lower, upper)
	case upper != "" && inside(upper, lower):
		return fmt.Errorf("upperdir %s lies in lowerdir %s", upper, lower)
	case lower != t.Dir && inside(lower, t.Dir):
		return fmt.Errorf("lowerdir %s lies in the mount point %s", lower, t.Dir)
	case lower != t.Dir && inside(t.Dir, lower):
		// The server would meet its own mount. Root can look at the lower
		// without what is mounted in it.
		if os.Geteuid() != 0 {
			return fmt.Errorf("mount point %s lies in lowerdir %s", t.Dir, lower)
		}
		t.Clone = true
	}
	return nil
}

// inside reports whether path is dir or lies below it. Both are real.
func inside(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// cloneLower gives the folder as it is without what is mounted in it, as
// overlayfs sees its lowers (clone_private_mount): the path leads there as
// long as the file is open.
func cloneLower(path string) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("the mount point lies in lowerdir %s, which cannot be looked at without it: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}
