package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"unio/container"
)

func pauseCommand() *cli.Command {
	return &cli.Command{
		Name:      "pause",
		Usage:     "Pause all processes within one or more containers",
		ArgsUsage: "CONTAINER [CONTAINER...]",
		Before:    minArgs(1),
		Action: func(c *cli.Context) error {
			return eachEchoed(c, func(e *env, found *container.Container) error { return e.containers().Pause(found) })
		},
	}
}

func unpauseCommand() *cli.Command {
	return &cli.Command{
		Name:      "unpause",
		Usage:     "Unpause all processes within one or more containers",
		ArgsUsage: "CONTAINER [CONTAINER...]",
		Before:    minArgs(1),
		Action: func(c *cli.Context) error {
			return eachEchoed(c, func(e *env, found *container.Container) error { return e.containers().Unpause(found) })
		},
	}
}

func portCommand() *cli.Command {
	return &cli.Command{
		Name:      "port",
		Usage:     "List port mappings or a specific mapping for the container",
		ArgsUsage: "CONTAINER [PRIVATE_PORT[/PROTO]]",
		Before:    rangeArgs(1, 2),
		Action:    showPorts,
	}
}

// showPorts has nothing to show: ports that -p names are reached over the host's
// network as they are, so docker, too, shows none of a container with that.
func showPorts(c *cli.Context) error {
	name, port := c.Args().Get(0), c.Args().Get(1)
	if _, err := envOf(c).containers().Lookup(name); err != nil || port == "" {
		return err
	}
	return plainly(fmt.Errorf("Error: No public port '%s' published for %s", port, name)) //lint:ignore ST1005 docker's words
}
