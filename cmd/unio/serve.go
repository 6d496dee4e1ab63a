package main

import (
	"os"

	"github.com/urfave/cli/v2"

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
			err := e.containers().Serve(c.Context, os.NewFile(controlFD, "control"), container.ServeOptions{OpenLower: e.openLower})
			return silent(err)
		},
	}
}

// runnerCommand prepares a root folder in a mount namespace of its own and
// becomes the program of "unio chroot".
func runnerCommand() *cli.Command {
	return &cli.Command{
		Name: "runner", Usage: "Run a program in a root folder (started by chroot)", Hidden: true,
		Action: func(c *cli.Context) error {
			return silent(container.RunProgram(os.NewFile(controlFD, "control")))
		},
	}
}

// silent ends a process whose error another one has been told already.
func silent(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code: exitFailure, err: nil}
}
