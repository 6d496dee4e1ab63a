package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/creack/pty"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"unio/container"
	"unio/container/runner"
	"unio/container/runspec"
	"unio/container/supervise"
)

func execCommand() *cli.Command {
	return &cli.Command{
		Name:      "exec",
		Usage:     "Execute a command in a running container",
		ArgsUsage: "CONTAINER COMMAND [ARG...]",
		Flags: append(processFlags(),
			&cli.BoolFlag{Name: "detach", Aliases: []string{"d"}, Usage: "Detached mode: run command in the background"},
			detachKeysFlag(),
		),
		Before: minArgs(2),
		Action: execInContainer,
	}
}

// execInContainer runs a program beside that of a container. It is a child of
// this process, in the namespaces of the container.
func execInContainer(c *cli.Context) error {
	e := envOf(c)
	found, err := e.containers().Lookup(c.Args().First())
	if err != nil {
		return err
	}
	if !found.State.Running() {
		return fmt.Errorf("Container %s is not running", found.ID) //lint:ignore ST1005 docker's words
	}
	if found.State.Paused {
		return fmt.Errorf("Container %s is paused, unpause the container before exec", c.Args().First()) //lint:ignore ST1005 docker's words
	}
	if !c.Bool("detach") {
		if err := checkTerminal(e, c.Bool("interactive"), c.Bool("tty")); err != nil {
			return err
		}
	}
	spec, err := execSpec(c, found)
	if err != nil {
		return withCode(runner.CodeNotExecutable, err)
	}
	x := &execution{e: e, o: runner.Options{
		ID: found.ID, Spec: spec, Command: runnerLine(), Log: e.log, StrictCwd: true,
	}}
	code, err := x.run(c, found)
	if err != nil {
		var start *runner.StartError
		if errors.As(err, &start) && start.Code != runner.CodeFailed {
			return withCode(start.Code, err)
		}
		return withCode(runner.CodeNotExecutable, err)
	}
	return silentCode(code)
}

// execSpec describes the program: the container's settings with what the flags
// change.
func execSpec(c *cli.Context, found *container.Container) (*specs.Spec, error) {
	env, err := readEnvironment(c)
	if err != nil {
		return nil, err
	}
	o := supervise.Options(found, fmt.Sprintf("/proc/%d/root", found.State.Pid()), nil)
	o.Args, o.SetEntrypoint = c.Args().Tail(), true
	o.Env, o.User, o.Workdir, o.TTY = env, c.String("user"), c.String("workdir"), c.Bool("tty")
	o.Devices, o.Ulimits = nil, nil
	spec, err := runspec.New(found.Config, o)
	if err != nil || o.Privileged || !c.Bool("privileged") {
		return spec, err
	}
	// The filter of system calls stays the container's own, as in docker.
	filter := spec.Linux.Seccomp
	o.Privileged = true
	if spec, err = runspec.New(found.Config, o); err == nil {
		spec.Linux.Seccomp = filter
	}
	return spec, err
}

// execution is one run of exec.
type execution struct {
	e *env
	o runner.Options
}

func (x *execution) run(c *cli.Context, found *container.Container) (int, error) {
	pid := found.State.Pid()
	switch {
	case c.Bool("detach"):
		if x.o.Spec.Process.Terminal { // nobody looks at it, but it is there
			_, slave, err := runner.OpenTerminal(pid)
			if err != nil {
				return 0, err
			}
			x.o.Console = slave
		}
		_, err := runner.Exec(c.Context, pid, x.o)
		return 0, err
	case c.Bool("tty"):
		return x.onTerminal(c, pid)
	}
	return x.wait(c, pid)
}

// fileOf is a stream that is a file, nil otherwise.
func fileOf(stream any) *os.File {
	f, _ := stream.(*os.File)
	return f
}

// wait runs the program and passes signals on until it ends.
func (x *execution) wait(c *cli.Context, pid int) (int, error) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM)
	defer signal.Stop(signals)
	streams, err := x.pipes(c.Bool("interactive"))
	if err != nil {
		return 0, err
	}
	p, err := runner.Exec(context.WithoutCancel(c.Context), pid, x.o)
	streams.given()
	if err != nil {
		return 0, err
	}
	defer streams.finish()
	go func() {
		for sig := range signals {
			if n, ok := sig.(unix.Signal); ok {
				_ = p.Signal(n) // it may have ended just now
			}
		}
	}()
	return p.Wait()
}

// onTerminal runs the program on a terminal of its own, which is connected
// with this process's streams.
func (x *execution) onTerminal(c *cli.Context, pid int) (int, error) {
	master, slave, err := runner.OpenTerminal(pid)
	if err != nil {
		return 0, err
	}
	defer master.Close()
	x.o.Console = slave
	x.resize(master)
	sizes := make(chan os.Signal, 4)
	signal.Notify(sizes, unix.SIGWINCH)
	defer signal.Stop(sizes)
	go func() {
		for range sizes {
			x.resize(master)
		}
	}()
	keys, err := detachKeys(c)
	if err != nil {
		return 0, err
	}
	p, err := runner.Exec(context.WithoutCancel(c.Context), pid, x.o)
	slave.Close()
	if err != nil {
		return 0, err
	}
	return x.connect(c, master, keys, p)
}

func (x *execution) resize(master *os.File) {
	if s := terminalSize(x.e.stdout); s != nil {
		_ = pty.Setsize(master, &pty.Winsize{Rows: s.Rows, Cols: s.Cols})
	}
}

// connect moves keys and output until the program ends or the user detaches.
func (x *execution) connect(c *cli.Context, master *os.File, keys []byte, p *runner.Process) (int, error) {
	in := fileOf(x.e.stdin)
	detached := make(chan struct{})
	if c.Bool("interactive") && in != nil {
		if term.IsTerminal(int(in.Fd())) {
			old, err := term.MakeRaw(int(in.Fd()))
			if err != nil {
				return 0, errors.Join(err, p.Kill())
			}
			defer func() { _ = term.Restore(int(in.Fd()), old) }()
		}
		go func() {
			if _, err := io.Copy(master, &keyReader{in: in, keys: keys}); errors.Is(err, errDetached) {
				close(detached)
			}
		}()
	}
	printed := make(chan struct{})
	go func() {
		_, _ = io.Copy(x.e.stdout, master) // ends with EIO when nobody has the terminal open
		close(printed)
	}()
	ended := make(chan struct{})
	var code int
	var err error
	go func() { code, err = p.Wait(); close(ended) }()
	select {
	case <-detached:
		return 0, plainly(errDetached)
	case <-ended:
	}
	<-printed
	return code, err
}
