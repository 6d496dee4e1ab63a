package runner

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// A program has this process as its parent where the container has an init, or
// where it joins a PID namespace, which only children of ours can be in. All
// threads of this process have taken on the program's identity then, so that
// nothing that a container can reach may do more than the container.

// programEnd is how a program ended whose parent this process was.
type programEnd struct{ code int }

func (e *programEnd) Error() string { return fmt.Sprintf("the program ended with code %d", e.code) }

// ExitCode is the code that a process has to exit with after an error of
// [Main]: the program's, or 1.
func ExitCode(err error) int {
	var ended *programEnd
	switch {
	case err == nil:
		return 0
	case errors.As(err, &ended):
		return ended.code
	}
	return 1
}

// spawn starts the program, says so, and ends as the program does.
func (c *child) spawn() error {
	p := c.Spec.Process
	file, err := findProgram(p.Args[0], p.Env)
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 64)
	if c.Init {
		signal.Notify(signals)
	}
	if err := c.setLate(); err != nil {
		return err
	}
	pid, err := syscall.ForkExec(file, p.Args, &syscall.ProcAttr{Env: p.Env, Files: []uintptr{0, 1, 2}, Sys: c.programAttr()})
	if err != nil {
		c.liftLate()
		return execError(file, err)
	}
	for _, l := range c.Late {
		unix.Close(l.fd)
	}
	told := outcome{Ready: true}
	if !c.Init {
		told.Pid = pid
	}
	if err := c.say.Encode(told); err != nil {
		return err
	}
	c.control.Close()
	return c.attend(pid, signals)
}

// rename gives this process a name in lists of processes: it is executed by a
// descriptor's path, whose last word is a number.
func (c *child) rename() {
	name := "unio-exec"
	if c.Init {
		name = "unio-init"
	}
	// The name of the process is that of its first thread.
	_ = os.WriteFile("/proc/self/comm", []byte(name), 0)
}

// programAttr gives the program what cannot be had twice: the terminal.
func (c *child) programAttr() *syscall.SysProcAttr {
	// A session of its own, so that what keys send reaches the program only.
	attr := &syscall.SysProcAttr{Setsid: !c.Foreground, Setctty: c.Spec.Process.Terminal}
	if c.Tied {
		attr.Pdeathsig = syscall.SIGKILL
	}
	return attr
}

// attend reaps every process that is left to us, and passes signals on, until
// the program has ended.
func (c *child) attend(pid int, signals <-chan os.Signal) error {
	go func() {
		for sig := range signals {
			if s, ok := sig.(unix.Signal); ok && s != unix.SIGCHLD && s != unix.SIGURG {
				_ = unix.Kill(pid, s)
			}
		}
	}()
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("wait for the program: %w", err)
		case got != pid:
			continue
		case status.Signaled():
			return &programEnd{128 + int(status.Signal())}
		}
		return &programEnd{status.ExitStatus()}
	}
}
