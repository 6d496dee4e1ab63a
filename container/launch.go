package container

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// Launched is a server that has been started before it is known what it is to
// mount. Starting takes as long as finding an image and making a container, so
// who is going to do that calls [Launch] first. The server waits for its task
// and ends by itself when the process that launched it ends without giving one.
type Launched struct {
	ready chan struct{} // closed when what follows is there
	err   error
	cmd   *exec.Cmd
	ours  *os.File // the control socket

	once sync.Once // guards the end: the task is given, or the server abandoned
}

// Launch starts a server in the background; the command line is that of
// [MountOptions].Server. It does not wait, and an error is left to Mount. The
// caller calls Abandon in the end, whatever became of the mount.
func Launch(command []string) *Launched {
	l := &Launched{ready: make(chan struct{})}
	go func() {
		defer close(l.ready)
		if err := l.start(command); err != nil {
			l.err = fmt.Errorf("start the mount server: %w", err)
		}
	}()
	return l
}

// start starts the process. What it has to say before it has a log, it says to
// who launched it.
func (l *Launched) start(command []string) error {
	ours, theirs, err := socketPair()
	if err != nil {
		return err
	}
	defer theirs.Close()
	l.ours = ours
	if err := closeOnExec(); err != nil {
		return err
	}
	cmd := &exec.Cmd{
		Path: command[0], Args: append([]string{"unio"}, command[1:]...), Dir: "/",
		Stderr: os.Stderr, ExtraFiles: withRoom(theirs),
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	l.cmd = cmd
	return nil
}

// Abandon ends a server that has not become that of a mount; it may be nil.
func (l *Launched) Abandon() {
	if l == nil {
		return
	}
	<-l.ready
	l.once.Do(func() {
		if l.cmd != nil {
			_ = l.cmd.Process.Kill()
			_ = l.cmd.Wait()
		}
		if l.ours != nil {
			l.ours.Close()
		}
	})
}

// handOver leaves the server to its mount.
func (l *Launched) handOver() (err error) {
	l.once.Do(func() {
		l.ours.Close()
		err = l.cmd.Process.Release()
	})
	return err
}
