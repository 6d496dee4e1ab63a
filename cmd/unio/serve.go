package main

import (
	"errors"
	"os"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"unio/container"
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
			return silent(e.containers().Serve(c.Context, control, container.ServeOptions{OpenLower: e.openLower}))
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

// runnerCommand prepares a root folder in a mount namespace of its own and
// becomes the program of "unio chroot".
func runnerCommand() *cli.Command {
	return &cli.Command{
		Name: "runner", Usage: "Run a program in a root folder (started by chroot)", Hidden: true,
		Action: func(c *cli.Context) error {
			control, err := controlSocket()
			if err != nil {
				return err
			}
			return silent(container.RunProgram(control))
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
