package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"unio/container"
	"unio/container/inroot"
	"unio/container/runspec"
	"unio/container/treetar"
	"unio/container/volume"
)

// prepareMounts makes the volumes that are missing, fills new ones from the
// image, and lists what is mounted into the container.
func (s *supervisor) prepareMounts(ctx context.Context) ([]runspec.Mount, error) {
	for _, m := range s.run.Mounts {
		if m.Type != "volume" {
			continue
		}
		v, err := s.volumes.Create(volume.CreateOptions{Name: m.Name})
		if err != nil {
			return nil, err
		}
		if !v.Filled && !m.NoCopy {
			if err := s.fill(ctx, v, m); err != nil {
				return nil, fmt.Errorf("fill volume %s: %w", v.Name, err)
			}
		}
	}
	return mountsOf(s.run.Container, func(name string) (string, error) {
		v, err := s.volumes.Get(name)
		if err != nil {
			return "", err
		}
		return v.Mountpoint(), nil
	})
}

// fill copies what the container has where a new volume is to be mounted, and
// the attributes of that folder. A volume that somebody else has put something
// into stays as it is.
func (s *supervisor) fill(ctx context.Context, v *volume.Volume, m container.MountPoint) error {
	entries, err := os.ReadDir(v.Mountpoint())
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return v.MarkFilled()
	}
	root, err := inroot.Dir(s.mount.Dir)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	from, err := inroot.Open(root, m.Destination, unix.O_PATH|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil // the image has nothing there
	}
	if err != nil {
		return err
	}
	unix.Close(from)
	to, err := inroot.Dir(v.Mountpoint())
	if err != nil {
		return err
	}
	defer unix.Close(to)
	r, w := io.Pipe()
	go func() {
		w.CloseWithError(treetar.Write(ctx, treetar.WriteOptions{Root: root, Path: path.Join("/", m.Destination), Name: "."}, w))
	}()
	err = treetar.Extract(ctx, treetar.ExtractOptions{Root: to, Path: "/", Owners: true}, r)
	if err = errors.Join(err, r.Close()); err != nil {
		return err
	}
	return v.MarkFilled()
}
