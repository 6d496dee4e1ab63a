package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// Exit codes of [Chroot] that are not the program's own, as in docker run.
const (
	CodeFailed        = 125 // the container could not be set up
	CodeNotExecutable = 126
	CodeNotFound      = 127
)

// ChrootOptions describe a program and the folder that becomes its root.
type ChrootOptions struct {
	Root string   // a mounted folder
	Args []string // the program, found by the PATH of Env, and its arguments
	Env  []string // PATH, HOME and TERM are added where missing
	Dir  string   // inside of the root; empty: /
	User string   // USER[:GROUP] of the image; empty: root

	// Runner is the command line, the path of the program first, of a
	// process that calls [RunProgram] with descriptor 3.
	Runner                []string
	Stdin, Stdout, Stderr *os.File
}

// job is what the runner is told, in JSON, over its control socket.
type job struct {
	Root, Dir, User string
	Args, Env       []string
	Rootless        bool
}

// outcome is what the runner says before the program takes its place.
type outcome struct {
	Made  []madePoint // what was made in the root to mount on
	Error string
	Code  int
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
	ours, theirs, err := socketPair()
	if err != nil {
		return CodeFailed, err
	}
	defer ours.Close()
	defer theirs.Close()
	if err := closeOnExec(); err != nil {
		return CodeFailed, err
	}
	rootless := os.Geteuid() != 0
	cmd := &exec.Cmd{
		Path: o.Runner[0], Args: append([]string{"unio"}, o.Runner[1:]...), Dir: "/",
		Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr,
		ExtraFiles: []*os.File{theirs}, SysProcAttr: namespaces(rootless),
	}
	restore := keepTerminal(o.Stdin)
	defer restore()
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, forwarded()...)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return CodeFailed, startError(err, rootless)
	}
	theirs.Close()
	go forward(signals, cmd.Process, o.Stdin)
	got, err := instruct(ours, job{
		Root: o.Root, Dir: o.Dir, User: o.User, Args: o.Args, Env: o.Env, Rootless: rootless,
	})
	waitErr := cmd.Wait()
	clearPoints(o.Root, got.Made)
	switch {
	case got.Error != "":
		return got.Code, errors.New(got.Error)
	case err != nil:
		return CodeFailed, err
	}
	return exitCode(cmd.ProcessState, waitErr)
}

// namespaces asks for a mount namespace and, without root, for a user
// namespace in which the caller is root.
func namespaces(rootless bool) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	if rootless {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	return attr
}

func startError(err error, rootless bool) error {
	if rootless && (errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EACCES)) {
		return fmt.Errorf("this system lets only root make namespaces: %w "+
			"(see the sysctls user.max_user_namespaces and kernel.unprivileged_userns_clone)", err)
	}
	return fmt.Errorf("start the runner: %w", err)
}

// instruct sends the job and reads what the runner says until the program has
// taken its place.
func instruct(control *os.File, j job) (outcome, error) {
	if err := json.NewEncoder(control).Encode(j); err != nil {
		return outcome{}, fmt.Errorf("instruct the runner: %w", err)
	}
	var last outcome
	for dec := json.NewDecoder(control); ; {
		var got outcome
		err := dec.Decode(&got)
		if errors.Is(err, io.EOF) {
			return last, nil
		}
		if err != nil {
			return last, fmt.Errorf("listen to the runner: %w", err)
		}
		last.Made = append(last.Made, got.Made...)
		last.Error, last.Code = got.Error, got.Code
	}
}

// exitCode is a shell's view of how a process ended.
func exitCode(state *os.ProcessState, waitErr error) (int, error) {
	status, ok := state.Sys().(syscall.WaitStatus)
	switch {
	case !ok:
		return CodeFailed, waitErr
	case status.Signaled():
		return 128 + int(status.Signal()), nil
	}
	return status.ExitStatus(), nil
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
func forward(signals <-chan os.Signal, p *os.Process, stdin *os.File) {
	for sig := range signals {
		fromKeys := sig == unix.SIGINT || sig == unix.SIGQUIT
		if fromKeys && inForeground(stdin) {
			continue
		}
		_ = p.Signal(sig) // it may have ended just now
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
