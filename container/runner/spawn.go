package runner

import (
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// A program that has this process as its parent, as process 1 of a container
// with an init or outside of the PID namespace that the program joins, is
// started in a second stage: this process first takes its own place anew, with
// the identity and capabilities of the program. So nothing that a container can
// reach ever has a thread that may do more than the container.

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

// spawn begins the second stage. The job is left to it in
// a file in memory.
//
// A program that needs a loader of its own (which a build for tests may, unio
// itself does not) cannot be started in an image; it goes on as it is, its other
// threads out of reach as long as nobody may trace what is not dumpable.
func (c *child) spawn() error {
	if c.loader {
		return c.parent()
	}
	c.Second = true
	if err := c.leaveJob(); err != nil {
		return fmt.Errorf("start the second stage: %w", err)
	}
	if err := keepOpen(int(c.control.Fd())); err != nil {
		return fmt.Errorf("start the second stage: %w", err)
	}
	exe := "/proc/self/exe"
	if c.Join != 0 {
		// We are not in the container's /proc, and reach the host's by what was
		// opened before.
		if err := unix.Fchdir(c.self); err != nil {
			return fmt.Errorf("start the second stage: %w", err)
		}
		exe = "exe"
	}
	err := unix.Exec(exe, append([]string{"unio"}, c.Command[1:]...), []string{"HOME=/"})
	return fmt.Errorf("start the second stage: %w", err)
}

// leaveJob puts the job where the next stage expects it.
func (c *child) leaveJob() error {
	data, err := json.Marshal(c.job)
	if err != nil {
		return err
	}
	fd, err := unix.MemfdCreate("job", unix.MFD_ALLOW_SEALING|unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	if _, err := unix.Pwrite(fd, data, 0); err != nil {
		return err
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_SEAL); err != nil {
		return err
	}
	if fd == jobFD {
		_, err := unix.FcntlInt(jobFD, unix.F_SETFD, 0)
		return err
	}
	return unix.Dup3(fd, jobFD, 0)
}

// Descriptors of a child: its socket, and the job of the second stage.
const (
	controlFD = 3
	jobFD     = 4
)

// secondJob finds the job that the first stage has left for the second: a
// sealed file in memory.
func secondJob() (*os.File, bool) {
	seals, err := unix.FcntlInt(jobFD, unix.F_GET_SEALS, 0)
	if err != nil || seals&unix.F_SEAL_WRITE == 0 {
		return nil, false
	}
	return os.NewFile(jobFD, "job"), true
}

// needsLoader reports whether a program names a loader (elf(5), PT_INTERP).
func needsLoader(name string) bool {
	f, err := elf.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	return slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
}

// keepOpen puts the socket where the next stage expects it.
func keepOpen(fd int) error {
	if fd != controlFD {
		return unix.Dup3(fd, controlFD, 0)
	}
	_, err := unix.FcntlInt(controlFD, unix.F_SETFD, 0)
	return err
}

// parent is the second stage: it starts the program, says so, and ends as the
// program does.
func (c *child) parent() error {
	p := c.Spec.Process
	if c.Join != 0 { // where the second stage is not in the working folder
		if err := c.enterCwd(); err != nil {
			return err
		}
	}
	file, err := findProgram(p.Args[0], p.Env)
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 64)
	if c.Init {
		signal.Notify(signals)
	}
	pid, err := syscall.ForkExec(file, p.Args, &syscall.ProcAttr{Env: p.Env, Files: []uintptr{0, 1, 2}, Sys: c.programAttr()})
	if err != nil {
		return execError(file, err)
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

// programAttr gives the program what cannot be had twice: the terminal.
func (c *child) programAttr() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{}
	if c.Init && !c.Foreground {
		// A group of its own, so that signals of keys reach the program only.
		attr.Setpgid = true
		if c.Spec.Process.Terminal {
			attr.Foreground, attr.Ctty = true, 0
		}
	}
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
