package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync/atomic"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"unio/container"
	"unio/container/supervise"
)

func attachCommand() *cli.Command {
	return &cli.Command{
		Name:      "attach",
		Usage:     "Attach local standard input, output, and error streams to a running container",
		ArgsUsage: "CONTAINER",
		Flags: []cli.Flag{
			detachKeysFlag(),
			&cli.BoolFlag{Name: "no-stdin", Usage: "Do not attach STDIN"},
			&cli.BoolFlag{Name: "sig-proxy", Value: true, Usage: "Proxy all received signals to the process (default true)"},
		},
		Before: exactArgs(1),
		Action: func(c *cli.Context) error {
			e := envOf(c)
			keys, err := detachKeys(c)
			if err != nil {
				return err
			}
			found, err := e.containers().Lookup(c.Args().First())
			if err != nil {
				return err
			}
			if !found.State.Running() {
				return plainly(errors.New("You cannot attach to a stopped container, start it first")) //lint:ignore ST1005 docker's words
			}
			if found.State.Paused {
				return plainly(errors.New("You cannot attach to a paused container, unpause it first")) //lint:ignore ST1005 docker's words
			}
			stdin := found.Config.OpenStdin && !c.Bool("no-stdin")
			if err := checkTerminal(e, stdin, found.Config.Tty); err != nil {
				return err
			}
			a := attachment{
				e: e, container: found, keys: keys, proxy: c.Bool("sig-proxy") && !found.Config.Tty,
				stdin: stdin, stdout: true, stderr: true,
			}
			code, err := a.open(c.Context)
			if errors.Is(err, errDetached) {
				return plainly(err)
			}
			if err != nil {
				return err
			}
			return silentCode(code)
		},
	}
}

// errDetached says that the user has typed the keys that leave a container.
var errDetached = errors.New("read escape sequence")

// attachment connects this process's streams with those of a container.
type attachment struct {
	e                     *env
	container             *container.Container
	keys                  []byte // that detach; empty: none do
	proxy                 bool   // pass signals on
	stdin, stdout, stderr bool
	forced                atomic.Bool // the user does not want to wait any more
}

// start starts the container with this process attached, and returns the
// program's code. A user who detaches has it end with 0.
func (a *attachment) start(ctx context.Context) (int, error) {
	// Ctrl-C is for the program, from before it runs.
	signals := a.signals()
	defer signal.Stop(signals)
	ctx = context.WithoutCancel(ctx)
	session, err := a.e.start(ctx, a.container, a.streams())
	if err != nil {
		return 0, err
	}
	code, err := a.run(ctx, session, signals)
	if errors.Is(err, errDetached) {
		return 0, nil
	}
	return code, err
}

// open attaches to a container that runs.
func (a *attachment) open(ctx context.Context) (int, error) {
	signals := a.signals()
	defer signal.Stop(signals)
	session, err := supervise.Open(a.e.containers(), a.container, a.streams())
	if err != nil {
		return 0, err
	}
	return a.run(context.WithoutCancel(ctx), session, signals)
}

func (a *attachment) streams() supervise.Attach {
	s := supervise.Attach{Stdin: a.stdin, Stdout: a.stdout, Stderr: a.stderr}
	if a.container.Config.Tty {
		s.Size = terminalSize(a.e.stdout)
	}
	return s
}

// signals collects what is to be passed on. Without -t, and with a terminal
// whose keys would end this process, that is everything that can be caught.
func (a *attachment) signals() chan os.Signal {
	c := make(chan os.Signal, 128)
	signal.Notify(c, unix.SIGWINCH)
	if a.proxy {
		signal.Notify(c, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGCONT)
	}
	return c
}

// run moves the streams until the program ends or the user detaches.
func (a *attachment) run(ctx context.Context, session *supervise.Session, signals <-chan os.Signal) (int, error) {
	defer session.Close()
	restore, err := a.rawTerminal()
	if err != nil {
		return 0, err
	}
	defer restore()
	done := make(chan struct{})
	defer close(done)
	go a.passOn(session, signals, done)
	detached := make(chan struct{})
	if a.stdin {
		go a.sendInput(session, detached)
	}
	exit, err := session.Copy(a.e.stdout, a.e.stderr)
	if a.forced.Load() {
		return 0, &exitError{code: exitFailure, err: plainly(errForced)}
	}
	select {
	case <-detached:
		return 0, errDetached
	default:
	}
	if errors.Is(err, supervise.ErrLost) {
		return a.afterLoss(ctx)
	}
	if err != nil {
		return 0, err
	}
	if exit.Error != "" {
		restore()
		fmt.Fprintln(a.e.stderr, "Warning:", exit.Error)
	}
	return exit.Code, nil
}

// afterLoss finds out how a container ended whose supervisor has died.
func (a *attachment) afterLoss(ctx context.Context) (int, error) {
	cs := a.e.containers()
	state, err := cs.Wait(ctx, a.container)
	if err != nil {
		return 0, err
	}
	if state.Running() { // it was removed: nobody knows its end
		return container.CodeUnknown, nil
	}
	return state.ExitCode, nil
}

// passOn sends signals and sizes of the terminal.
func (a *attachment) passOn(session *supervise.Session, signals <-chan os.Signal, done <-chan struct{}) {
	ends := 0
	for {
		select {
		case <-done:
			return
		case sig := <-signals:
			if sig == unix.SIGWINCH {
				if size := terminalSize(a.e.stdout); size != nil && a.container.Config.Tty {
					_ = session.Resize(*size) // it may have ended just now
				}
				continue
			}
			n, ok := sig.(unix.Signal)
			if !ok {
				continue
			}
			if n == unix.SIGINT || n == unix.SIGTERM {
				ends++
			}
			if ends == enoughEnds {
				a.forced.Store(true)
				session.Close()
				return
			}
			_ = session.Signal(n)
		}
	}
}

// enoughEnds is how many SIGINT and SIGTERM make this process leave a program
// that does not heed them (docker's number).
const enoughEnds = 3

// errForced is what docker says then.
var errForced = errors.New("got 3 SIGTERM/SIGINTs, forcefully exiting")

// rawTerminal lets the keys reach the program as they are, for a container
// with a terminal of its own.
func (a *attachment) rawTerminal() (restore func(), err error) {
	f, ok := a.e.stdin.(*os.File)
	if !ok || !a.stdin || !a.container.Config.Tty || !isTerminalFile(f) {
		return func() {}, nil
	}
	old, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return nil, fmt.Errorf("set the terminal: %w", err)
	}
	return func() { _ = term.Restore(int(f.Fd()), old) }, nil
}

// sendInput sends what comes on the standard input, until it ends or the user
// types the keys that detach.
func (a *attachment) sendInput(session *supervise.Session, detached chan<- struct{}) {
	var in io.Reader = a.e.stdin
	keys := &keyReader{in: in, keys: a.keys}
	if !a.container.Config.Tty {
		keys.keys = nil
	}
	_, err := io.Copy(session, keys)
	if errors.Is(err, errDetached) {
		close(detached)
		_ = session.Detach()
		return
	}
	_ = session.CloseInput()
}

// terminalSize is the size of a stream's terminal; nil: it is none.
func terminalSize(stream any) *supervise.Size {
	f, ok := stream.(*os.File)
	if !ok {
		return nil
	}
	cols, rows, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return nil
	}
	return &supervise.Size{Rows: uint16(rows), Cols: uint16(cols)}
}

func isTerminalFile(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
