// Package runner runs what a runtime-spec config describes, with our own code
// or through an OCI runtime such as runc, and lets further programs join it.
//
// [Start] starts this program anew, in the namespaces that the config asks for,
// as a process that calls [Main] with a socket as descriptor 3: the child. The
// child reads its job from the socket, builds the root folder, limits itself,
// and lets the container's program take its place, which closes the socket. An
// error is sent over the socket before. [Exec] does the same for a program in
// namespaces that are there already; since a process cannot enter a PID
// namespace itself, its child stays as the parent of that program.
//
// What holds (docs/security.md says why):
//
//   - Paths of the image are reached through package inroot only.
//   - The child runs from a read-only mount of this program, or a sealed copy,
//     is not dumpable, and every descriptor but 0 to 2 closes on exec.
//   - Where the child stays as a parent, all of its threads have the program's
//     identity and capabilities before that starts.
//
// What is made in the root to mount on is taken away again by [Process.Wait].
// The package prints nothing and keeps no records.
package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"unio/container/runspec"
)

// Exit codes of [StartError], as in docker run.
const (
	CodeFailed        = 125 // the container could not be set up
	CodeNotExecutable = 126
	CodeNotFound      = 127
)

// Options say what to run and how.
type Options struct {
	// ID names the container's cgroup and, with a Runtime, its state there.
	ID string
	// Spec describes the container; Spec.Root.Path is the mounted union. For
	// [Exec], Spec.Process and Spec.Linux.Seccomp alone count.
	Spec *specs.Spec
	// Files are mounted over paths of the root.
	Files []runspec.File

	// Command is the command line, the path of the program first, of a process
	// that calls [Main] with descriptor 3.
	Command []string
	// Stdin, Stdout and Stderr are the program's; nil: /dev/null. With
	// Spec.Process.Terminal all three are Console.
	Stdin, Stdout, Stderr *os.File
	// Console is the slave of a pseudoterminal, which becomes the controlling
	// terminal of the program, in a session of its own.
	Console *os.File

	// Init keeps the child as process 1, which passes signals on and reaps.
	Init bool
	// Tied kills the program when this process dies, however it does.
	Tied bool
	// Foreground leaves the program in the session and process group of the
	// caller, and the owners of its streams as they are.
	Foreground bool
	// StrictCwd makes a missing working folder an error; else it is made.
	StrictCwd bool
	// ClearAll takes away, after the program, also what was made in the root to
	// mount Spec.Mounts on; else that stays, as with docker, but for the
	// filesystems that every container has.
	ClearAll bool

	// Runtime is the path of an OCI runtime; empty: our own code.
	Runtime string
	// StateDir is where a Runtime gets its bundle and keeps its state, and where
	// [Clean] finds what is to be done: a folder of the caller's, which is there.
	StateDir string
	Log      *slog.Logger
}

// StartError says why a program could not be started.
type StartError struct {
	Code int // CodeFailed, CodeNotExecutable or CodeNotFound
	Err  error
}

func (e *StartError) Error() string { return e.Err.Error() }
func (e *StartError) Unwrap() error { return e.Err }

// failed wraps an error of ours that has no code of its own.
func failed(err error) error {
	var coded *StartError
	if err == nil || errors.As(err, &coded) {
		return err
	}
	return &StartError{CodeFailed, err}
}

// Process is a program that was started.
type Process struct {
	pid     int
	state   *os.ProcessState
	waitErr error
	ended   chan struct{} // closed when state and waitErr are set
	kill    func() error  // what ends the whole container; nil: killing pid does
	clean   func()        // what is to be undone after the end
	once    sync.Once
	oom     bool // set by clean
}

// Pid is the number of the program, in the PID namespace of the caller.
func (p *Process) Pid() int { return p.pid }

// Wait waits until the program has ended, and takes away what was made for it.
// The code is the program's, or 128+N after signal N.
func (p *Process) Wait() (code int, err error) {
	<-p.ended
	p.once.Do(func() {
		if p.clean != nil {
			p.clean()
		}
	})
	return exitCode(p.state, p.waitErr)
}

// OOMKilled reports, after Wait, whether the kernel has ended a process of the
// container for want of the memory that it may use. Of what an OCI runtime runs
// nobody knows: it takes the cgroup away itself.
func (p *Process) OOMKilled() bool { return p.oom }

// exitCode is a shell's view of how a process ended.
func exitCode(state *os.ProcessState, waitErr error) (int, error) {
	if state == nil {
		return CodeFailed, waitErr
	}
	status, ok := state.Sys().(syscall.WaitStatus)
	switch {
	case !ok:
		return CodeFailed, waitErr
	case status.Signaled():
		return 128 + int(status.Signal()), nil
	}
	return status.ExitStatus(), nil
}

// Signal sends a signal to the program. One that has ended is os.ErrProcessDone.
func (p *Process) Signal(s unix.Signal) error {
	select {
	case <-p.ended:
		return os.ErrProcessDone
	default:
	}
	if err := unix.Kill(p.pid, s); errors.Is(err, unix.ESRCH) {
		return os.ErrProcessDone
	} else if err != nil {
		return fmt.Errorf("signal process %d: %w", p.pid, err)
	}
	return nil
}

// Kill ends the whole container at once.
func (p *Process) Kill() error {
	if p.kill != nil {
		return p.kill()
	}
	err := p.Signal(unix.SIGKILL)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Start runs the program of a container; it returns once that runs. The context
// bounds the start only. A failure is a [StartError], and nothing is left of
// the container then.
func Start(ctx context.Context, o Options) (*Process, error) {
	if err := o.check(); err != nil {
		return nil, failed(err)
	}
	if o.Runtime != "" {
		p, err := startRuntime(ctx, &o)
		return p, failed(err)
	}
	groups, err := makeCgroups(&o)
	if err != nil {
		return nil, failed(err)
	}
	l := &launch{o: &o, groups: groups, job: job{
		Spec: o.Spec, Files: o.Files, Init: o.Init, Tied: o.Tied, Foreground: o.Foreground, StrictCwd: o.StrictCwd, Late: groups.postponed(),
	}}
	if l.attr, err = l.attributes(); err != nil {
		return nil, failed(err)
	}
	p, err := l.start(ctx)
	return p, failed(err)
}

// check refuses what cannot be run.
func (o *Options) check() error {
	s := o.Spec
	switch {
	case s == nil || s.Process == nil || len(s.Process.Args) == 0:
		return errors.New("no command specified")
	case s.Process.Terminal && o.Console == nil:
		return errors.New("a terminal was asked for, but there is none")
	case s.Root == nil || s.Linux == nil:
		return errors.New("the description of the container has no root folder")
	}
	return nil
}

// programFD is the number of the program's descriptor in the child, behind the
// standard streams and the control socket.
const programFD = 4

// command builds the process that becomes the child.
func (o *Options) command(program *os.File, control *os.File) *exec.Cmd {
	stdin, stdout, stderr := o.Stdin, o.Stdout, o.Stderr
	if o.Spec.Process.Terminal {
		stdin, stdout, stderr = o.Console, o.Console, o.Console
	}
	cmd := &exec.Cmd{
		// A descriptor's path: see program.go. Its number is the child's: that of
		// ours may name something else by then, since os/exec moves descriptors
		// about. No environment of ours may be seen in the container.
		Path: fmt.Sprintf("/proc/self/fd/%d", programFD), Args: append([]string{"unio"}, o.Command[1:]...),
		Dir: "/", Env: []string{"PATH=" + runspec.DefaultPath, "HOME=/"},
		ExtraFiles: []*os.File{control, program},
	}
	// A nil *os.File in an interface is not nil.
	if stdin != nil {
		cmd.Stdin = stdin
	}
	if stdout != nil {
		cmd.Stdout = stdout
	}
	if stderr != nil {
		cmd.Stderr = stderr
	}
	return cmd
}
