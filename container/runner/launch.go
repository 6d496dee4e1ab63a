package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"unio/container/runspec"
	"unio/container/seccomp"
)

// job is what the child is told, in JSON, over its control socket.
type job struct {
	Spec       *specs.Spec
	Files      []runspec.File
	Join       int // the process whose namespaces to enter; 0: none
	Init       bool
	Tied       bool
	Foreground bool
	StrictCwd  bool
	Remap      bool // the namespace's users are mapped from outside
	Late       []late
	// Filter is what Spec.Linux.Seccomp has become.
	Filter *seccomp.Filter
}

// outcome is what the child says before the program runs.
type outcome struct {
	Made  []point // what was made in the root to mount on
	Pid   int     // of the program, where it is not the child itself
	Ready bool    // all is set up, and the program follows
	Error string
	Code  int
}

// launch is one start of a program.
type launch struct {
	o      *Options
	job    job
	groups *cgroups
	attr   *syscall.SysProcAttr
	cmd    *exec.Cmd
	got    outcome
}

// attributes asks for the new namespaces of a container.
func (l *launch) attributes() (*syscall.SysProcAttr, error) {
	attr := &syscall.SysProcAttr{Setsid: !l.o.Foreground}
	for _, n := range l.o.Spec.Linux.Namespaces {
		flag, ok := cloneFlags()[n.Type]
		if !ok {
			return nil, fmt.Errorf("unknown namespace %q", n.Type)
		}
		// A cgroup namespace shows as its root what the process is in when the
		// namespace is made; the child makes it after it was moved.
		if n.Path == "" && n.Type != specs.CgroupNamespace {
			attr.Cloneflags |= flag
		}
	}
	switch {
	case attr.Cloneflags&unix.CLONE_NEWUSER == 0:
	case needsHelp(os.Geteuid(), l.o.Spec):
		l.job.Remap = true
		attr.AmbientCaps = allCapabilities()
	default:
		attr.UidMappings = sysMappings(l.o.Spec.Linux.UIDMappings)
		attr.GidMappings = sysMappings(l.o.Spec.Linux.GIDMappings)
		attr.GidMappingsEnableSetgroups = os.Geteuid() == 0
	}
	return attr, nil
}

// cloneFlags are the kernel's names of namespaces (namespaces(7)).
func cloneFlags() map[specs.LinuxNamespaceType]uintptr {
	return map[specs.LinuxNamespaceType]uintptr{
		specs.MountNamespace:   unix.CLONE_NEWNS,
		specs.PIDNamespace:     unix.CLONE_NEWPID,
		specs.IPCNamespace:     unix.CLONE_NEWIPC,
		specs.UTSNamespace:     unix.CLONE_NEWUTS,
		specs.NetworkNamespace: unix.CLONE_NEWNET,
		specs.UserNamespace:    unix.CLONE_NEWUSER,
		specs.CgroupNamespace:  unix.CLONE_NEWCGROUP,
	}
}

func sysMappings(maps []specs.LinuxIDMapping) []syscall.SysProcIDMap {
	var list []syscall.SysProcIDMap
	for _, m := range maps {
		list = append(list, syscall.SysProcIDMap{ContainerID: int(m.ContainerID), HostID: int(m.HostID), Size: int(m.Size)})
	}
	return list
}

// start starts the child and returns when the program runs.
func (l *launch) start(ctx context.Context) (*Process, error) {
	if err := ctx.Err(); err != nil {
		l.groups.remove()
		return nil, context.Cause(ctx)
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	p := &Process{ended: make(chan struct{}), kill: l.killer()}
	p.clean = func() {
		p.oom = l.groups.oomKilled()
		l.cleanUp()
	}
	started := make(chan error, 1)
	go l.live(p, theirs, started)
	if err := <-started; err != nil {
		ours.Close()
		l.groups.remove()
		return nil, startError(err, l.attr)
	}
	stop := context.AfterFunc(ctx, func() { _ = l.cmd.Process.Kill() })
	err = l.talk(ours)
	ours.Close()
	if err != nil && !l.got.Ready {
		err = l.explain(p, err)
	}
	if !stop() {
		err = context.Cause(ctx)
	}
	p.pid = l.cmd.Process.Pid
	if l.got.Pid != 0 {
		p.pid = l.got.Pid
	}
	if err != nil {
		_ = l.cmd.Process.Kill()
		_, _ = p.Wait()
		return nil, err
	}
	return p, nil
}

// live starts the child and waits for its end, in a thread of its own: the
// kernel takes the end of the thread that started a process for the death of
// its parent, on which a program that is tied to us dies.
func (l *launch) live(p *Process, control *os.File, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	program, err := openProgram(l.o.Command[0])
	if err == nil {
		err = closeOnExec()
	}
	if err == nil {
		l.cmd = l.o.command(program, control)
		l.cmd.SysProcAttr = l.attr
		err = l.enterUsers()
	}
	if err == nil {
		err = l.cmd.Start()
		program.Close()
	}
	control.Close()
	started <- err
	if err != nil {
		return
	}
	p.waitErr = l.cmd.Wait()
	p.state = l.cmd.ProcessState
	close(p.ended)
}

// killer ends more than one process, where the end of the program does not.
func (l *launch) killer() func() error {
	if l.attr.Cloneflags&unix.CLONE_NEWPID != 0 {
		return nil
	}
	return l.groups.killer()
}

// cleanUp undoes what was made for a program.
func (l *launch) cleanUp() {
	l.groups.remove()
	if l.job.Join == 0 {
		clearPoints(l.o.Spec.Root.Path, l.got.Made, l.o.ClearAll)
		forgetPoints(l.o.StateDir)
	}
}

// talk puts the child into its cgroups, sends it the job and listens until the
// program has taken its place.
func (l *launch) talk(control *os.File) error {
	if err := l.mapIDs(); err != nil {
		return err
	}
	err := l.groups.add(l.cmd.Process.Pid)
	if l.job.Join != 0 && errors.Is(err, fs.ErrPermission) {
		err = nil // a user's program stays in that user's cgroup
	}
	if err != nil {
		return err
	}
	if err := l.compileFilter(); err != nil {
		return err
	}
	if err := instruct(control, &l.job); err != nil {
		return err
	}
	for dec := json.NewDecoder(control); ; {
		var got outcome
		err := dec.Decode(&got)
		if errors.Is(err, io.EOF) {
			if !l.got.Ready {
				return errors.New("the runner died before the program ran")
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("listen to the runner: %w", err)
		}
		l.got.Made = append(l.got.Made, got.Made...)
		l.got.Pid, l.got.Ready = max(l.got.Pid, got.Pid), l.got.Ready || got.Ready
		if err := notePoints(l.o.StateDir, l.got.Made); err != nil {
			return err
		}
		if got.Error != "" {
			return &StartError{got.Code, errors.New(got.Error)}
		}
	}
}

// compileFilter turns the profile of system calls into what the kernel takes. It
// is done here since the child has just been started, and takes longer to begin.
func (l *launch) compileFilter() (err error) {
	linux := l.job.Spec.Linux
	if linux == nil || linux.Seccomp == nil || !seccomp.Supported() {
		return nil
	}
	if l.job.Filter, err = seccomp.Compile(linux.Seccomp); err != nil {
		return err
	}
	spec, without := *l.job.Spec, *linux
	without.Seccomp, spec.Linux = nil, &without // hundreds of names less to send
	l.job.Spec = &spec
	return nil
}

// instruct sends the job, and its end: a child that let go of the socket with
// anything unread would look like one that died (ECONNRESET instead of the end
// of what it says, unix(7)).
func instruct(control *os.File, j *job) error {
	if err := json.NewEncoder(control).Encode(j); err != nil {
		return fmt.Errorf("instruct the runner: %w", err)
	}
	if err := unix.Shutdown(int(control.Fd()), unix.SHUT_WR); err != nil {
		return fmt.Errorf("instruct the runner: %w", err)
	}
	return nil
}

// endOfDead is how long the end of a child that has hung up may take to be seen.
const endOfDead = time.Second

// explain says what a child died of that could not say so itself.
func (l *launch) explain(p *Process, err error) error {
	var told *StartError
	if errors.As(err, &told) {
		return err
	}
	select {
	case <-p.ended:
	case <-time.After(endOfDead):
		return err
	}
	r := l.o.Spec.Linux
	limited := l.job.Join != 0 || r != nil && r.Resources != nil && r.Resources.Memory != nil
	if code, _ := exitCode(p.state, p.waitErr); code == 128+int(unix.SIGKILL) && limited {
		return errors.New("container init was OOM-killed (memory limit too low?)")
	}
	return err
}

// startError explains why the kernel refused namespaces.
func startError(err error, attr *syscall.SysProcAttr) error {
	refused := errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EACCES)
	if refused && attr.Cloneflags&unix.CLONE_NEWUSER != 0 {
		return fmt.Errorf("this system lets only root make namespaces: %w "+
			"(see the sysctls user.max_user_namespaces and kernel.unprivileged_userns_clone)", err)
	}
	return fmt.Errorf("start the runner: %w", err)
}

// socketPair returns two connected stream sockets.
func socketPair() (a, b *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control"), nil
}

// closeOnExec marks every descriptor but the standard ones, also those that
// this process was started with: nothing that others left open may reach a
// program in a container.
func closeOnExec() error {
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close_range: %w", err)
	}
	return nil
}
