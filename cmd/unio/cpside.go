package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"unio/container"
	"unio/container/inroot"
)

// openSide opens a container's tree for a copy: as its processes see it if it
// runs, else as they would, the volumes included.
func (e *env) openSide(ctx context.Context, at copyPlace) (s *side, leave func(), err error) {
	cs := e.containers()
	found, err := cs.Lookup(at.container)
	if err != nil {
		return nil, nil, err
	}
	if at.path == "" {
		return nil, nil, errors.New("bad parameter: path cannot be empty")
	}
	s = &side{path: "/" + strings.TrimLeft(at.path, "/")}
	if at.path == "." {
		s.path = "/."
	}
	if found.State.Running() {
		s.root, err = openRunning(cs, found)
		s.devices = devicesOf(found, s.root)
		return s, func() { unix.Close(s.root) }, err
	}
	if dir, rest, ok := mountedPart(found, s.path); ok {
		s.path = rest
		s.root, err = inroot.Dir(dir)
		return s, func() { unix.Close(s.root) }, err
	}
	m, err := cs.MountOf(found)
	if err == nil && !m.Dead {
		s.root, err = inroot.Dir(m.Dir)
		return s, func() { unix.Close(s.root) }, err
	}
	m, err = cs.Mount(ctx, container.MountOptions{Container: found, Server: e.command("serve", found.Name), Debug: e.debug})
	if err != nil {
		return nil, nil, err
	}
	unmount := func() {
		if err := cs.Unmount(context.WithoutCancel(ctx), m.Dir, container.UnmountOptions{}); err != nil {
			fmt.Fprintln(e.stderr, "Warning:", err)
		}
	}
	if s.root, err = inroot.Dir(m.Dir); err != nil {
		unmount()
		return nil, nil, err
	}
	return s, func() { unix.Close(s.root); unmount() }, nil
}

// openRunning opens the root folder of a container's first process, with all
// that is mounted there.
func openRunning(cs *container.Store, c *container.Container) (int, error) {
	root, err := inroot.Dir(fmt.Sprintf("/proc/%d/root", c.State.Pid()))
	if err != nil {
		return -1, err
	}
	// The number could have become another process's before it was opened.
	if fresh, err := cs.Fresh(c); err != nil || fresh.State.Pid() != c.State.Pid() {
		unix.Close(root)
		return -1, errors.Join(fmt.Errorf("container %s has just ended", c.Name), err)
	}
	return root, nil
}

// devicesOf are the filesystems of a container that a copy takes along: its
// root and what a user has mounted into it, not /proc and its like.
func devicesOf(c *container.Container, root int) []uint64 {
	var st unix.Stat_t
	devices := []uint64{}
	if unix.Fstat(root, &st) == nil {
		devices = append(devices, st.Dev)
	}
	for _, m := range c.Mounts {
		if m.Source != "" && unix.Stat(m.Source, &st) == nil {
			devices = append(devices, st.Dev)
		}
	}
	return devices
}

// mountedPart finds the volume or folder of the host that a path of a stopped
// container lies in.
func mountedPart(c *container.Container, name string) (dir, rest string, ok bool) {
	clean, best := path.Clean(name), ""
	for _, m := range c.Mounts {
		if m.Type == "tmpfs" || len(m.Destination) < len(best) {
			continue
		}
		if clean == m.Destination || strings.HasPrefix(clean, m.Destination+"/") {
			if st, err := os.Stat(m.Source); err == nil && st.IsDir() {
				best, dir, ok = m.Destination, m.Source, true
			}
		}
	}
	rest = strings.TrimPrefix(clean, best)
	if rest == "" || strings.HasSuffix(name, "/.") {
		rest += "/."
	}
	return dir, rest, ok
}
