package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"unio/cmd/unio/terminal"
)

// Exit codes, as docker's CLI gives them.
const (
	exitOK          = 0
	exitFailure     = 1
	exitTemplate    = 64  // inspect -f: the template does not parse
	exitBadFlag     = 125 // unknown flag, malformed filter; chroot: our own failure
	exitInterrupted = 130 // 128 + SIGINT
)

// usageError is a command line that cannot be understood. It is shown with the
// command's usage.
type usageError struct {
	code    int
	msg     string
	app     *cli.App
	command *cli.Command // nil: the application itself
	see     bool         // the hint begins with "See" instead of "Run"
}

func (e *usageError) Error() string { return e.msg }

// hint is what follows the message: how the command is used, unless it was the
// command that is unknown.
func (e *usageError) hint() string {
	if e.command == nil && e.code == exitFailure {
		return fmt.Sprintf("Run '%s --help' for more information\n", e.app.HelpName)
	}
	hint := usageHint(e.app, e.command)
	if e.see {
		return strings.Replace(hint, "\nRun ", "\nSee ", 1)
	}
	return hint
}

// exitError is an error that ends the program with another code than 1. A nil
// err ends it in silence: everything has been said.
type exitError struct {
	code int
	err  error
	hint string // a line for the user behind the error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// plainError is an error that docker's client finds by itself, before it asks
// the daemon: it is shown without "Error: " in front.
type plainError struct{ err error }

func (e *plainError) Error() string { return e.err.Error() }
func (e *plainError) Unwrap() error { return e.err }

// plainly makes an error be shown as it is, if it is one.
func plainly(err error) error {
	if err == nil {
		return nil
	}
	return &plainError{err: err}
}

// withCode makes the program end with this exit code if err is not nil.
func withCode(code int, err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code: code, err: err}
}

// interrupted gives err, with which a command has ended after a signal, the
// exit code that says so. What a stopped step failed with need not tell that it
// was stopped; it is shown.
func interrupted(err error) error {
	var exit *exitError
	if errors.As(err, &exit) || errors.Is(err, context.Canceled) {
		return err
	}
	return withCode(exitInterrupted, err)
}

// report tells the user about err on w and returns the exit code.
func report(w io.Writer, err error) int {
	var usage *usageError
	var exit *exitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		fmt.Fprint(w, usage.msg, "\n\n", usage.hint())
		return usage.code
	case errors.As(err, &exit):
		if exit.err != nil {
			fmt.Fprintln(w, colored(w, errorText(exit.err)))
		}
		if exit.hint != "" {
			fmt.Fprintf(w, "\n%s\n", exit.hint)
		}
		return exit.code
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	fmt.Fprintln(w, colored(w, errorText(err)))
	return exitFailure
}

// errorText is an error as one paragraph behind "Error: ". Several joined
// errors, of a command that went on after the first, get one line each.
func errorText(err error) string {
	if parts := joined(err); len(parts) > 0 {
		texts := make([]string, len(parts))
		for i, part := range parts {
			texts[i] = errorText(part)
		}
		return strings.Join(texts, "\n")
	}
	var plain *plainError
	if errors.As(err, &plain) {
		return strings.TrimRight(err.Error(), "\n")
	}
	lines := strings.Split(strings.TrimRight(err.Error(), "\n"), "\n")
	return "Error: " + strings.Join(lines, "\nError: ")
}

// joined returns what errors.Join put together; nil for other errors, those
// that wrap several in one sentence among them.
func joined(err error) []error {
	many, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return nil
	}
	var text []string
	for _, part := range many.Unwrap() {
		if part == nil {
			return nil
		}
		text = append(text, part.Error())
	}
	if strings.Join(text, "\n") != err.Error() {
		return nil
	}
	return many.Unwrap()
}

// colored is text for w in which, on a terminal, the words that say what kind
// of message it is stand out.
func colored(w io.Writer, text string) string {
	colors := terminal.ColorsFor(w)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		for word, paint := range map[string]func(string) string{
			"Error:": colors.Red, "Warning:": colors.Yellow, "WARNING:": colors.Yellow, "WARNING!": colors.Yellow,
		} {
			if rest, ok := strings.CutPrefix(line, word); ok {
				lines[i] = paint(word) + rest
			}
		}
	}
	return strings.Join(lines, "\n")
}

// warn tells the user about what does not end the command.
func (e *env) warn(text string) { fmt.Fprintln(e.stderr, colored(e.stderr, text)) }

// unknownCommand is the error for a word that names no command.
func unknownCommand(app *cli.App, parent *cli.Command, word string) error {
	path := app.HelpName
	if parent != nil {
		path = parent.HelpName
	}
	return &usageError{
		code: exitFailure, app: app, command: parent,
		msg: fmt.Sprintf("unio: unknown command: %s %s", path, word),
	}
}

// exactArgs, minArgs, maxArgs, rangeArgs and noArgs check the number of a
// command's arguments; set one as the command's Before.
func exactArgs(n int) cli.BeforeFunc { return rangeArgs(n, n) }

func minArgs(n int) cli.BeforeFunc { return rangeArgs(n, -1) }

func maxArgs(n int) cli.BeforeFunc { return rangeArgs(0, n) }

func noArgs(c *cli.Context) error { return rangeArgs(0, 0)(c) }

// rangeArgs accepts from low to high arguments; high < 0 means no limit.
func rangeArgs(low, high int) cli.BeforeFunc {
	return func(c *cli.Context) error {
		n := c.NArg()
		if n >= low && (high < 0 || n <= high) {
			return nil
		}
		return &usageError{
			code: exitFailure, app: c.App, command: c.Command,
			msg: fmt.Sprintf("unio: '%s' %s", c.Command.HelpName, wantedArgs(low, high)),
			see: high < 0, // docker's words differ so
		}
	}
}

// wantedArgs says in docker's words how many arguments a command takes.
func wantedArgs(low, high int) string {
	switch {
	case high == 0:
		return "accepts no arguments"
	case low == high:
		return "requires " + plural(low)
	case high < 0:
		return "requires at least " + plural(low)
	case low == 0:
		return "requires at most " + plural(high)
	}
	return fmt.Sprintf("requires at least %d and at most %s", low, plural(high))
}

func plural(n int) string {
	if n == 1 {
		return "1 argument"
	}
	return fmt.Sprintf("%d arguments", n)
}
