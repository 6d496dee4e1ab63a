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
	s = &side{path: "/" + strings.TrimLeft(at.path, "/")}
	if at.path == "" || at.path == "." {
		s.path = "/."
	}
	if found.State.Running() {
		s.root, err = openRunning(cs, found)
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
