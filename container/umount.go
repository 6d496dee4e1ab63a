package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"unio/unionfs/transport"
)

// UnmountOptions say how to unmount.
type UnmountOptions struct {
	// Lazy takes a mount that is in use out of the tree at once; its server
	// goes on until nobody uses it.
	Lazy bool
}

// serverEnd is how long Unmount waits for a server to end after its mount has
// gone. By then all data is in the upper folder, and little is left to do.
const serverEnd = 3 * time.Second

// Unmount unmounts what ref names: a folder, or a container by name or ID. It
// returns when the server has ended. Dead mounts are cleaned. It gives
// ErrNotMounted, or ErrBusy with a text that says who uses it.
func (s *Store) Unmount(ctx context.Context, ref string, o UnmountOptions) error {
	m, err := s.FindMount(ref)
	if errors.Is(err, ErrNotMounted) {
		return s.unmountUnknown(ref, err)
	}
	if err != nil {
		return err
	}
	if m.Dead {
		return s.clean(m)
	}
	return s.unmount(ctx, m, o)
}

// unmount ends a live mount.
func (s *Store) unmount(ctx context.Context, m *Mount, o UnmountOptions) error {
	err := transport.Unmount(m.Dir, transport.UnmountOptions{Lazy: o.Lazy, Wait: busyRetry})
	if errors.Is(err, transport.ErrBusy) {
		return say(ErrBusy, "%s is busy%s", m.Dir, usersText(m.Dir))
	}
	if err != nil && !errors.Is(err, transport.ErrNotMounted) {
		return err
	}
	atMost := serverEnd
	if o.Lazy {
		atMost = busyRetry
	}
	ended, err := m.wait(ctx, atMost)
	switch {
	case err != nil:
		return err
	case !ended && o.Lazy:
		return nil
	case !ended:
		return say(ErrBusy, "%s is unmounted here, but still in use elsewhere%s; its server (process %d) ends when that does",
			m.Dir, usersText(m.Dir), m.Server.Pid)
	}
	s.forget(m) // it did so itself, unless it was killed meanwhile
	return nil
}

// wait waits until the server has ended, and the keeper, which outlives it when
// it has been killed.
func (m *Mount) wait(ctx context.Context, atMost time.Duration) (ended bool, err error) {
	end := time.Now().Add(atMost)
	for _, p := range []process{m.Server, m.Keeper} {
		if p.Pid == 0 {
			continue
		}
		if ended, err := p.wait(ctx, time.Until(end)); err != nil || !ended {
			return ended, err
		}
	}
	return true, nil
}

// busyRetry is how long a mount may be busy before that is an error: a process
// that has just ended holds its files for a moment.
const busyRetry = 200 * time.Millisecond

// clean takes away a mount whose server has ended.
func (s *Store) clean(m *Mount) error {
	err := transport.Unmount(m.Dir, transport.UnmountOptions{Lazy: true})
	if err != nil && !errors.Is(err, transport.ErrNotMounted) {
		return fmt.Errorf("clean the dead mount on %s: %w", m.Dir, err)
	}
	s.forget(m)
	return nil
}

// unmountUnknown cleans a dead mount of unio of which no note is left, as when
// the run root was emptied. Anything else stays as it is.
func (s *Store) unmountUnknown(dir string, notMounted error) error {
	real := realPath(dir)
	ours, err := isMountedAs(real, fsType)
	if err != nil {
		return err
	}
	if !ours {
		return notMounted
	}
	state, err := transport.State(real)
	if err != nil {
		return err
	}
	if state != transport.StateDead {
		return say(ErrNotMounted, "%s: mounted by a unio with another run root than %s", real, s.runRoot)
	}
	return transport.Unmount(real, transport.UnmountOptions{Lazy: true})
}

// maxUsers bounds how many processes a message lists.
const maxUsers = 8

// usersText lists the processes that use a mount, as the end of a message.
func usersText(dir string) string {
	users := usersOf(dir)
	if len(users) == 0 {
		return ""
	}
	more := ""
	if len(users) > maxUsers {
		more = fmt.Sprintf(" and %d more", len(users)-maxUsers)
		users = users[:maxUsers]
	}
	return ", in use by " + strings.Join(users, ", ") + more
}

// usersOf finds, by /proc alone, the processes with a working folder, root or
// open file below a folder: "name (pid)". Only root sees those of other users.
func usersOf(dir string) []string {
	procs, _ := filepath.Glob("/proc/[0-9]*")
	var users []string
	for _, proc := range procs {
		if holds(proc, dir) {
			comm, _ := os.ReadFile(proc + "/comm")
			users = append(users, fmt.Sprintf("%s (%s)", strings.TrimSpace(string(comm)), filepath.Base(proc)))
		}
	}
	return users
}

func holds(proc, dir string) bool {
	links, _ := filepath.Glob(proc + "/fd/*")
	for _, link := range append(links, proc+"/cwd", proc+"/root", proc+"/exe") {
		target, err := os.Readlink(link)
		if err == nil && (target == dir || strings.HasPrefix(target, dir+"/")) {
			return true
		}
	}
	return false
}
