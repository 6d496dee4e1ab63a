package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"unio/cmd/unio/terminal"
	"unio/imagestore/archive"
)

func loadCommand() *cli.Command {
	return &cli.Command{
		Name:   "load",
		Usage:  "Load an image from a tar archive or STDIN",
		Before: noArgs,
		Action: load,
		Description: "Reads docker archives, OCI archives and OCI layout folders, compressed or\n" +
			"not.",
		Flags: append(progressFlags("Suppress the load output"),
			&cli.StringFlag{Name: "input", Aliases: []string{"i"}, Usage: "Read from `file` or folder, instead of STDIN"},
		),
	}
}

var errEmptyStdin = errors.New("requested load from stdin, but stdin is empty")

func load(c *cli.Context) error {
	e := envOf(c)
	src := archive.Source{Path: c.String("input"), Reader: e.stdin}
	if src.Path == "" && isTerminal(e.stdin) {
		return plainly(errEmptyStdin)
	}
	st, err := e.store()
	if err != nil {
		return err
	}
	p, err := showOwnProgress(c, e.stderr)
	if err != nil {
		return err
	}
	defer p.Done()
	list, err := archive.Load(c.Context, st, src, archive.LoadOptions{Log: e.log, Progress: p})
	p.Done()
	if errors.Is(err, archive.ErrEmpty) && src.Path == "" {
		return errEmptyStdin
	}
	if err != nil {
		return loadError(src, err)
	}
	for _, l := range list {
		if err := printLoaded(e.stdout, l); err != nil {
			return err
		}
	}
	return nil
}

// loadError says which file is meant, unless the error does.
func loadError(src archive.Source, err error) error {
	var path *os.PathError
	if errors.As(err, &path) && path.Path == src.Path {
		return plainly(err) // docker's client opens the file
	}
	if src.Path == "" {
		return err
	}
	return fmt.Errorf("%s: %w", src.Path, err)
}

func printLoaded(w io.Writer, l archive.Loaded) error {
	if l.Replaced != "" {
		fmt.Fprintf(w, "The image %s already exists, renaming the old one with ID %s to empty string\n", l.Name, l.Replaced)
	}
	if l.Name == "" {
		_, err := fmt.Fprintf(w, "Loaded image ID: %s\n", l.ID)
		return err
	}
	_, err := fmt.Fprintf(w, "Loaded image: %s\n", l.Name)
	return err
}

// isTerminal reports whether a stream is a terminal.
func isTerminal(stream any) bool { return terminal.Is(stream) }
