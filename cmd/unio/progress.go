package main

import (
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"unio/cmd/unio/progress"
)

// progressTopic is "unio help progress".
const progressTopic = `pull, push, load, save, commit and import show what they do by --progress=MODE, or
UNIO_PROGRESS:

  auto   tty on a terminal; elsewhere plain for pull and push, and quiet for the
         others, as docker does
  plain  one line for each step
  tty    a bar for each layer, and one for all with bytes, rate and time left
  json   one object a line in the form of docker's API: status, id,
         progressDetail with current and total in bytes
  quiet  nothing, as by -q

pull and push write it to stdout, as docker does, the others to stderr.

Tables are cut to the width of a terminal, which "…" marks; --no-trunc, a pipe
or a file gets them whole. Colours are for terminals alone.
`

// progressFlags say how a command shows its progress.
func progressFlags(quiet string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{
			Name: "progress", EnvVars: []string{"UNIO_PROGRESS"},
			Usage: "Show progress as `mode`: auto (default), " + strings.Join(progress.Modes()[1:], ", "),
		},
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: quiet},
	}
}

// progressMode is how the command is to show its progress on w. Logging to a
// terminal goes with lines, not with bars.
func progressMode(c *cli.Context) (progress.Mode, error) {
	mode, err := progress.Parse(c.String("progress"))
	switch {
	case err != nil:
		return "", withCode(exitBadFlag, err)
	case c.Bool("quiet"):
		return progress.Quiet, nil
	case mode == progress.Auto && envOf(c).debug:
		return progress.Plain, nil
	}
	return mode, nil
}

// showProgress shows the command's progress on w. Done must be called.
func showProgress(c *cli.Context, w io.Writer) (progress.Display, error) {
	mode, err := progressMode(c)
	if err != nil {
		return nil, err
	}
	return progress.New(w, mode), nil
}

// showOwnProgress is showProgress for a command of which docker shows none:
// unless a mode is asked for, only a terminal sees any.
func showOwnProgress(c *cli.Context, w io.Writer) (progress.Display, error) {
	mode, err := progressMode(c)
	if err != nil {
		return nil, err
	}
	if mode == progress.Auto && !isTerminal(w) {
		mode = progress.Quiet
	}
	return progress.New(w, mode), nil
}
