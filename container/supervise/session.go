package supervise

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"

	"unio/container"
)

// StartOptions say how to start a container. The command lines, the path of
// the program first, are for processes of this program: a supervisor, which
// calls [Main] with descriptor 3, the runner, and a mount's server and keeper
// (see [container.MountOptions]).
type StartOptions struct {
	Supervisor     []string
	Runner         []string
	Server, Keeper []string
	Attach         Attach
	Debug          bool // the supervisor's log has every detail
}

// task is what a new supervisor is told.
type task struct {
	ID             string
	Runner         []string
	Server, Keeper []string
	Debug          bool
}

// StartError says why a program could not be started, with the exit code of
// docker run: 125 for our own failures, 126 for a program that cannot be run,
// 127 for one that is not there.
type StartError struct {
	Code int
	Text string
}

func (e *StartError) Error() string { return e.Text }

// ErrLost says that the supervisor died; what it has left is cleared by who
// looks at the container next.
var ErrLost = errors.New("the supervisor of the container died")

// Start starts a supervisor in the background and returns when the program
// runs. It gives a *StartError.
func Start(ctx context.Context, c *container.Container, o StartOptions) (*Session, error) {
	ours, theirs, err := controlPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	log, err := os.OpenFile(c.LogPath(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start container %s: %w", c.Name, err), ours.Close())
	}
	defer log.Close()
	cmd := &exec.Cmd{
		Path: o.Supervisor[0], Args: append([]string{"unio"}, o.Supervisor[1:]...), Dir: "/",
		Stdout: log, Stderr: log, ExtraFiles: []*os.File{theirs},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start the supervisor: %w", err), ours.Close())
	}
	theirs.Close()
	s := &Session{framed: newFramed(ours)}
	stop := context.AfterFunc(ctx, func() { ours.Close() })
	defer stop()
	err = s.greet(hello{Attach: o.Attach, Task: &task{
		ID: c.ID, Runner: o.Runner, Server: o.Server, Keeper: o.Keeper, Debug: o.Debug,
	}})
	if err != nil {
		ours.Close()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	return s, cmd.Process.Release()
}

// controlPair makes a connection of which the other end is for a child.
func controlPair() (ours net.Conn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	mine := os.NewFile(uintptr(fds[0]), "control")
	theirs = os.NewFile(uintptr(fds[1]), "control")
	ours, err = net.FileConn(mine) // a copy, so that it can wait without a thread
	if err = errors.Join(err, mine.Close()); err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return ours, theirs, nil
}

// Open attaches to a container that runs.
func Open(s *container.Store, c *container.Container, a Attach) (*Session, error) {
	conn, err := s.DialRun(c.ID)
	if err != nil {
		return nil, fmt.Errorf("attach to container %s: %w", c.Name, err)
	}
	session := &Session{framed: newFramed(conn)}
	if err := session.greet(hello{Attach: a}); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return session, nil
}

// Session is a client's connection to a supervisor.
type Session struct {
	*framed
	// Warnings are what the user should know about the start.
	Warnings []string
}

// greet says what the client wants and waits for the answer.
func (s *Session) greet(h hello) error {
	if err := s.sendJSON(kindHello, h); err != nil {
		return fmt.Errorf("%w: %w", ErrLost, err)
	}
	var r reply
	if err := s.receiveJSON(kindReply, &r); err != nil {
		return fmt.Errorf("%w: %w", ErrLost, err)
	}
	s.Warnings = r.Warnings
	if r.Error != "" {
		return &StartError{Code: r.Code, Text: r.Error}
	}
	return nil
}

// Copy hands on what the program prints until it ends, and says how it ended.
// It gives ErrLost.
func (s *Session) Copy(stdout, stderr io.Writer) (*Exit, error) {
	buf := make([]byte, 32<<10)
	for {
		k, data, err := s.receive(buf)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrLost, err)
		}
		switch k {
		case kindStdout:
			_, err = stdout.Write(data)
		case kindStderr:
			_, err = stderr.Write(data)
		case kindExit:
			var e Exit
			return &e, json.Unmarshal(data, &e)
		}
		if err != nil && !errors.Is(err, unix.EPIPE) {
			return nil, err
		}
	}
}

// Write sends input to the program.
func (s *Session) Write(p []byte) (int, error) {
	for n := 0; n < len(p); {
		part := p[n:min(len(p), n+32<<10)]
		if err := s.send(kindInput, part); err != nil {
			return n, err
		}
		n += len(part)
	}
	return len(p), nil
}

// CloseInput says that no more input comes.
func (s *Session) CloseInput() error { return s.send(kindEOF, nil) }

// Resize tells the program the size of the client's terminal.
func (s *Session) Resize(size Size) error { return s.sendJSON(kindSize, size) }

// Detach leaves the program running as it is.
func (s *Session) Detach() error { return errors.Join(s.send(kindDetach, nil), s.Close()) }

// Close ends the connection.
func (s *Session) Close() error { return s.conn.Close() }

// Signal sends a signal to the program.
func (s *Session) Signal(sig unix.Signal) error { return s.sendJSON(kindSignal, sig) }

// WaitCode waits until a container has ended, and returns its exit code, also
// of one that is removed then.
func WaitCode(ctx context.Context, s *container.Store, c *container.Container) (int, error) {
	if !c.State.Running() {
		return c.State.ExitCode, nil
	}
	if session, err := Open(s, c, Attach{}); err == nil {
		stop := context.AfterFunc(ctx, func() { session.Close() })
		defer stop()
		exit, err := session.Copy(io.Discard, io.Discard)
		switch {
		case ctx.Err() != nil:
			return 0, context.Cause(ctx)
		case err == nil:
			return exit.Code, nil
		}
	}
	state, err := s.Wait(ctx, c)
	if err != nil {
		return 0, err
	}
	if state.Running() { // removed: nobody knows how it ended
		return container.CodeUnknown, nil
	}
	return state.ExitCode, nil
}
