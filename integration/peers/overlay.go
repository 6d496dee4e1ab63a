package peers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Union is a mounted union filesystem with a writable upper.
type Union struct{ Dir, Upper string }

// MountOverlay mounts the kernel's overlayfs over lowers (top first) with
// everything it needs below dir. With no upper it is read-only.
func MountOverlay(dir string, lowers []string, writable bool) (*Union, error) {
	u, options, err := prepare(dir, lowers, writable)
	if err != nil {
		return nil, err
	}
	if err := unix.Mount("overlay", u.Dir, "overlay", 0, options); err != nil {
		return nil, fmt.Errorf("mount overlay (%s): %w", options, err)
	}
	return u, nil
}

// MountOverlayWith is MountOverlay, writable, with further mount options.
func MountOverlayWith(dir string, lowers []string, further string) (*Union, error) {
	u, options, err := prepare(dir, lowers, true)
	if err != nil {
		return nil, err
	}
	if further != "" {
		options += "," + further
	}
	if err := unix.Mount("overlay", u.Dir, "overlay", 0, options); err != nil {
		return nil, fmt.Errorf("mount overlay (%s): %w", options, err)
	}
	return u, nil
}

// MountFuseOverlay is MountOverlay with fuse-overlayfs.
func MountFuseOverlay(ctx context.Context, dir string, lowers []string) (*Union, error) {
	u, options, err := prepare(dir, lowers, true)
	if err != nil {
		return nil, err
	}
	if _, err := Run(ctx, "fuse-overlayfs", "-o", options, u.Dir); err != nil {
		return nil, err
	}
	return u, nil
}

func prepare(dir string, lowers []string, writable bool) (*Union, string, error) {
	u := &Union{Dir: filepath.Join(dir, "merged"), Upper: filepath.Join(dir, "upper")}
	work := filepath.Join(dir, "work")
	options := "lowerdir=" + strings.Join(lowers, ":")
	folders := []string{u.Dir}
	if writable {
		folders = append(folders, u.Upper, work)
		options += ",upperdir=" + u.Upper + ",workdir=" + work
	}
	for _, folder := range folders {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return nil, "", err
		}
	}
	return u, options, nil
}

// Close unmounts the union.
func (u *Union) Close() error {
	err := unix.Unmount(u.Dir, 0)
	if errors.Is(err, unix.EBUSY) {
		err = unix.Unmount(u.Dir, unix.MNT_DETACH)
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", u.Dir, err)
	}
	return nil
}
