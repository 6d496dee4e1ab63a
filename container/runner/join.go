package runner

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Exec runs a further program in the namespaces and cgroups of a process, which
// is that of a container. Of the Spec, Process says what, and Linux.Seccomp under
// which filter; the rest is not used.
// [Process.Wait] gives the program's code.
func Exec(ctx context.Context, pid int, o Options) (*Process, error) {
	if o.Spec == nil || o.Spec.Process == nil || len(o.Spec.Process.Args) == 0 {
		return nil, failed(errors.New("no command specified"))
	}
	if o.Spec.Process.Terminal && o.Console == nil {
		return nil, failed(errors.New("a terminal was asked for, but there is none"))
	}
	l := &launch{
		o: &o, groups: cgroupsOf(pid), attr: &syscall.SysProcAttr{Setsid: !o.Foreground},
		job: job{
			Spec: o.Spec, Join: pid, Tied: o.Tied, Foreground: o.Foreground,
		},
	}
	p, err := l.start(ctx)
	return p, failed(err)
}

// join enters the namespaces of the process that the job names. Those that are
// ours already, which may belong to root, are left out.
func (c *child) join() error {
	fd, err := unix.PidfdOpen(c.Join, 0)
	if err != nil {
		return fmt.Errorf("find process %d of the container: %w", c.Join, err)
	}
	defer unix.Close(fd)
	// A folder of files that threads share keeps them in one mount namespace.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("leave the other threads: %w", err)
	}
	if err := unix.Setns(fd, c.foreign); err != nil {
		return fmt.Errorf("join the container of process %d: %w", c.Join, err)
	}
	return nil
}

// foreignNamespaces are those of a process that are not ours, as flags of
// clone(2). It needs the host's /proc.
func foreignNamespaces(pid int) (flags int) {
	for name, flag := range map[string]int{
		"mnt": unix.CLONE_NEWNS, "pid": unix.CLONE_NEWPID, "ipc": unix.CLONE_NEWIPC, "uts": unix.CLONE_NEWUTS,
		"net": unix.CLONE_NEWNET, "cgroup": unix.CLONE_NEWCGROUP,
	} {
		var theirs, ours unix.Stat_t
		err := unix.Stat(fmt.Sprintf("/proc/%d/ns/%s", pid, name), &theirs)
		if err == nil && unix.Stat("/proc/self/ns/"+name, &ours) == nil && theirs.Ino != ours.Ino {
			flags |= flag
		}
	}
	return flags
}
