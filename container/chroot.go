package container

import (
	"cmp"
	"context"
	"errors"
	"os"
	"os/signal"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"unio/container/inroot"
	"unio/container/rootless"
	"unio/container/runner"
	"unio/container/runspec"
)

// CodeFailed is the exit code of [Chroot] when the container could not be set
// up, as in docker run.
const CodeFailed = runner.CodeFailed

// ChrootOptions describe a program and the folder that becomes its root.
type ChrootOptions struct {
	Root string   // a mounted folder
	Args []string // the program, found by the PATH of Env, and its arguments
	Env  []string // PATH, HOME and TERM are added where missing
	Dir  string   // inside of the root; empty: /
	User string   // USER[:GROUP] of the image; empty: root

	// Runner is the command line, the path of the program first, of a
	// process that calls runner.Main with descriptor 3.
	Runner                []string
	Stdin, Stdout, Stderr *os.File
}

// Chroot runs a program with another root folder, in a mount namespace of its
// own where /proc, /sys and a small /dev are mounted and setuid programs and
// devices work. Nothing of that is seen outside. It is no sandbox: root in
// there is root.
//
// Standard streams are passed on as they are and the program stays in the
// caller's process group, so job control works as for any program. Signals are
// passed on. The code is the program's, 128+N after signal N, or one of the
// codes above with an error.
func Chroot(ctx context.Context, o ChrootOptions) (code int, err error) {
	spec, files, err := o.describe()
	if err != nil {
		return CodeFailed, err
	}
	restore := keepTerminal(o.Stdin)
	defer restore()
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, forwarded()...)
	defer signal.Stop(signals)
	p, err := runner.Start(context.WithoutCancel(ctx), runner.Options{
		Spec: spec, Files: files, Command: o.Runner, Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr,
		Foreground: true, StrictCwd: true, ClearAll: true,
	})
	var failed *runner.StartError
	if errors.As(err, &failed) {
		return failed.Code, err
	}
	go forward(signals, p, o.Stdin)
	return p.Wait()
}

// describe says what the program sees: the host but for its mounts.
func (o *ChrootOptions) describe() (*specs.Spec, []runspec.File, error) {
	root, err := inroot.Dir(o.Root)
	if err != nil {
		return nil, nil, err
	}
	defer unix.Close(root)
	who, err := runspec.FindUser(root, o.User)
	if err != nil {
		return nil, nil, err
	}
	env := slices.Clone(o.Env)
	for _, add := range []string{"PATH=" + runspec.DefaultPath, "HOME=" + who.Home, "TERM=xterm"} {
		name, _, _ := strings.Cut(add, "=")
		if _, ok := runspec.LookupEnv(env, name); !ok {
			env = append(env, add)
		}
	}
	spec := &specs.Spec{
		Root:    &specs.Root{Path: o.Root},
		Process: &specs.Process{Args: o.Args, Env: env, Cwd: cmp.Or(o.Dir, "/"), User: who.User},
		Linux:   &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}}},
	}
	maps := rootless.Maps()
	if maps != nil {
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		spec.Linux.UIDMappings, spec.Linux.GIDMappings = maps.UIDs, maps.GIDs
	}
	spec.Mounts = chrootMounts(maps == nil || len(maps.GIDs) > 1)
	files, err := runspec.NetFiles(spec, runspec.NetOptions{})
	return spec, files, err
}

// chrootMounts lists the filesystems of a chroot, in the order of mounting;
// groups says that there are others than root's.
func chrootMounts(groups bool) []specs.Mount {
	quiet := []string{"nosuid", "nodev", "noexec"}
	pts := []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}
	if groups {
		pts = append(pts, "gid=5") // the group tty of every Linux system
	}
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: quiet},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: append([]string{"ro"}, quiet...)},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=0755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: pts},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: append([]string{"mode=1777", "size=65536k"}, quiet...)},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: quiet},
	}
}

// forwarded are the signals that are passed on to the program.
func forwarded() []os.Signal {
	return []os.Signal{
		unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM,
		unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM,
	}
}

// forward passes signals on until the channel's sender stops. What a terminal
// sends to its foreground processes the program has got already.
func forward(signals <-chan os.Signal, p *runner.Process, stdin *os.File) {
	for sig := range signals {
		fromKeys := sig == unix.SIGINT || sig == unix.SIGQUIT
		if fromKeys && inForeground(stdin) {
			continue
		}
		if s, ok := sig.(unix.Signal); ok {
			_ = p.Signal(s) // it may have ended just now
		}
	}
}

// inForeground reports whether f is our terminal and we are in the process
// group that its keys send signals to.
func inForeground(f *os.File) bool {
	group, err := terminalGroup(f)
	return err == nil && group == unix.Getpgrp()
}

func terminalGroup(f *os.File) (int, error) {
	if f == nil {
		return 0, os.ErrInvalid
	}
	return unix.IoctlGetInt(int(f.Fd()), unix.TIOCGPGRP)
}

// keepTerminal notes that we have the terminal; restore takes it back from a
// shell that was killed before it could hand it over.
func keepTerminal(f *os.File) (restore func()) {
	if !inForeground(f) {
		return func() {}
	}
	mine := unix.Getpgrp()
	return func() {
		if group, err := terminalGroup(f); err != nil || group == mine {
			return
		}
		signal.Ignore(unix.SIGTTOU) // which the call below would stop us with
		_ = unix.IoctlSetPointerInt(int(f.Fd()), unix.TIOCSPGRP, mine)
		signal.Reset(unix.SIGTTOU)
	}
}
