package main

import (
	"errors"
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
			src, dst := c.Args().Get(0), c.Args().Get(1)
			if err := checkTagNames(src, dst); err != nil {
				return plainly(err)
			}
			return st.Tag(c.Context, src, dst)
		},
	}
}

// checkTagNames looks at both names before anything is done, as docker's
// client does.
func checkTagNames(src, dst string) error {
	const bad = "Error parsing reference: %q is not a valid repository/tag: %w"
	if _, err := reference.ParseAnyReference(src); err != nil {
		return fmt.Errorf(bad, src, err)
	}
	if _, err := reference.ParseNormalizedNamed(dst); err != nil {
		return fmt.Errorf(bad, dst, err)
	}
	return checkNewName(dst)
}

// checkNewName looks at the name of an image to be; empty is none.
func checkNewName(name string) error {
	if name == "" {
		return nil
	}
	n, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return err
	}
	if _, ok := n.(reference.Canonical); ok {
		return errors.New("refusing to create a tag with a digest reference")
	}
	return nil
}
