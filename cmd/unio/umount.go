package main

import (
	"github.com/urfave/cli/v2"

	"unio/container"
)

func umountCommand() *cli.Command {
	return &cli.Command{
		Name:      "umount",
		Aliases:   []string{"unmount"},
		Usage:     "Unmount one or more folders or containers",
		ArgsUsage: "DIR|CONTAINER [DIR|CONTAINER...]",
		Description: `Containers and what was changed in them stay and can be mounted again. Mounts whose
server has died ("Transport endpoint is not connected") are cleaned.`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "lazy", Aliases: []string{"l"}, Usage: "Take a mount that is in use away now, and end it when it no longer is"},
		},
		Before: minArgs(1),
		Action: func(c *cli.Context) error {
			cs := envOf(c).containers()
			return each(c.Context, c.Args().Slice(), func(name string) error {
				return cs.Unmount(c.Context, name, container.UnmountOptions{Lazy: c.Bool("lazy")})
			})
		},
	}
}
