package main

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"unio/container"
	"unio/container/runner"
	"unio/container/supervise"
	"unio/container/volume"
)

// controlFD is the descriptor on which the hidden commands talk with the unio
// that started them.
const controlFD = 3

// serveCommand is the mount server. "unio mount" starts it in the background;
// its arguments are there for who reads a process list.
func serveCommand() *cli.Command {
	return &cli.Command{
		Name: "serve", Usage: "Serve a mount (started by mount)", ArgsUsage: "TARGET DIR", Hidden: true,
		Action: func(c *cli.Context) error {
			e := envOf(c)
			control, err := controlSocket()
			if err != nil {
				return err
			}
			return silent(e.containers().Serve(c.Context, control, container.ServeOptions{OpenLower: e.openLower, Transport: e.transport}))
		},
	}
}

// keepCommand is the keeper of a mount: it starts another server when one dies.
// A server starts it.
func keepCommand() *cli.Command {
	return &cli.Command{
		Name: "keep", Usage: "Keep a mount (started by serve)", ArgsUsage: "TARGET DIR", Hidden: true,
		Action: func(c *cli.Context) error {
			control, err := controlSocket()
			if err != nil {
				return err
			}
			return silent(envOf(c).containers().Keep(control))
		},
	}
}

// runnerLine is the command line of a runner. It needs nothing of the store, and
// where there is an init a container's programs can read it.
func runnerLine() []string { return []string{"/proc/self/exe", "runner"} }

// runnerCommand prepares the surroundings of a program and becomes it, or stays
// as its parent.
func runnerCommand() *cli.Command {
	return &cli.Command{
		Name: "runner", Usage: "Run a program in a container (started by others)", Hidden: true,
		Action: func(c *cli.Context) error {
			control, err := controlSocket()
			if err != nil {
				return err
			}
			if code := runner.ExitCode(runner.Main(control)); code != 0 {
				return &exitError{code: code} // an error has been told already
			}
			return nil
		},
	}
}

// superviseCommand runs one container, in the background; its argument is there
// for who reads a process list.
func superviseCommand() *cli.Command {
	return &cli.Command{
		Name: "supervise", Usage: "Run a container (started by run and start)", ArgsUsage: "CONTAINER", Hidden: true,
		Action: func(c *cli.Context) error {
			e := envOf(c)
			control, err := controlSocket()
			if err != nil {
				return err
			}
			log := slog.New(slog.NewJSONHandler(os.Stderr, nil)).With("pid", os.Getpid(), "supervisor", true)
			return silent(supervise.Main(context.WithoutCancel(c.Context), control, supervise.MainOptions{
				Containers: container.Open(e.root, e.runRoot, log), Volumes: volume.Open(e.root), Log: log,
			}))
		},
	}
}

// controlSocket is the socket to the unio that started this one.
func controlSocket() (*os.File, error) {
	var st unix.Stat_t
	if unix.Fstat(controlFD, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, errors.New("this command is started by others and cannot be used by itself")
	}
	return os.NewFile(controlFD, "control"), nil
}

// silent ends a process whose error another one has been told already.
func silent(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code: exitFailure, err: nil}
}
