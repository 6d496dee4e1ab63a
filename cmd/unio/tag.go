package main

import (
	"fmt"

	"github.com/distribution/reference"
	"github.com/urfave/cli/v2"
)

func tagCommand() *cli.Command {
	return &cli.Command{
		Name:      "tag",
		Usage:     "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
		ArgsUsage: "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
		Before:    exactArgs(2),
		Action: func(c *cli.Context) error {
			st, err := envOf(c).store()
			if err != nil {
				return err
			}
			// Docker's client looks at both names before anything is done.
			for _, name := range c.Args().Slice() {
				if _, err := reference.ParseAnyReference(name); err != nil {
					return fmt.Errorf("Error parsing reference: %q is not a valid repository/tag: %w", name, err)
				}
			}
			return st.Tag(c.Context, c.Args().Get(0), c.Args().Get(1))
		},
	}
}
