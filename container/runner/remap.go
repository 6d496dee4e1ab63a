package runner

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A caller who is not root may map one user to a namespace, itself. For more,
// newuidmap(1) and newgidmap(1) map what /etc/subuid and /etc/subgid lend; that
// happens from outside, after the child has been started. Until then the child is
// nobody there and would lose its capabilities when it is executed, but for
// ambient ones (user_namespaces(7), capabilities(7)).

// needsHelp reports whether mappings are more than the kernel lets the caller
// write.
func needsHelp(uid int, spec *specs.Spec) bool {
	return uid != 0 && (len(spec.Linux.UIDMappings) > 1 || len(spec.Linux.GIDMappings) > 1)
}

// allCapabilities are the kernel's, by number.
func allCapabilities() (list []uintptr) {
	last, err := capability.LastCap()
	if err != nil {
		return nil
	}
	for n := capability.Cap(0); n <= last; n++ {
		list = append(list, uintptr(n))
	}
	return list
}

// mapIDs maps users and groups into the namespace of the child.
func (l *launch) mapIDs() error {
	if !l.job.Remap {
		return nil
	}
	for _, m := range []struct {
		helper string
		maps   []specs.LinuxIDMapping
	}{
		{"newuidmap", l.o.Spec.Linux.UIDMappings},
		{"newgidmap", l.o.Spec.Linux.GIDMappings},
	} {
		args := []string{strconv.Itoa(l.cmd.Process.Pid)}
		for _, r := range m.maps {
			args = append(args, strconv.FormatUint(uint64(r.ContainerID), 10), strconv.FormatUint(uint64(r.HostID), 10), strconv.FormatUint(uint64(r.Size), 10))
		}
		if out, err := exec.Command(m.helper, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", m.helper, err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}

// becomeRoot makes the child root of its namespace and gives back the
// capabilities that were lent for the way there.
func (c *child) becomeRoot() error {
	if !c.Remap {
		return nil
	}
	if err := c.call(unix.SYS_SETRESGID, 0, 0, 0); err != nil {
		return fmt.Errorf("become root of the namespace: %w", err)
	}
	if err := c.call(unix.SYS_SETRESUID, 0, 0, 0); err != nil {
		return fmt.Errorf("become root of the namespace: %w", err)
	}
	if err := c.prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	const all = 1<<64 - 1
	if err := c.capset(all, all, 0); err != nil {
		return fmt.Errorf("clear inheritable capabilities: %w", err)
	}
	return nil
}

// userNamespaceOf finds the user namespace of a process, if it is not ours: its
// path, or nothing.
func userNamespaceOf(pid int) string {
	path := fmt.Sprintf("/proc/%d/ns/user", pid)
	var theirs, ours unix.Stat_t
	if unix.Stat(path, &theirs) != nil || unix.Stat("/proc/self/ns/user", &ours) != nil || theirs.Ino == ours.Ino {
		return ""
	}
	return path
}

// enterUsers makes the child begin in the user namespace of the container that
// it joins. Only a process with one thread can enter one, which a Go program
// never is, so nsenter(1) of util-linux does.
func (l *launch) enterUsers() error {
	if l.job.Join == 0 {
		return nil
	}
	path := userNamespaceOf(l.job.Join)
	if path == "" {
		return nil
	}
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		return fmt.Errorf("enter the user namespace of the container: %w", err)
	}
	l.cmd.Args = append([]string{"nsenter", "--user=" + path, "--preserve-credentials", "--", l.cmd.Path}, l.cmd.Args[1:]...)
	l.cmd.Path = nsenter
	return nil
}
