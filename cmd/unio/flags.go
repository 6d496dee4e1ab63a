package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// line is a command line in the one form that the cli package reads without
// doubt: for each command its flags as --name=value, then its arguments.
type line struct {
	app     *cli.App
	command *cli.Command // nil: none was named
	args    []string
	help    bool // --help was among the flags
	bare    bool // a group was named without a command of it
	// shortHelp: it was -h, which docker calls deprecated.
	shortHelp bool
}

func (l *line) usage() string { return usageText(l.app, l.command) }

// parseLine reads a command line as docker's CLI does (GNU style): short flags
// combine, values follow with or without a space or "=", flags may stand
// behind arguments unless the command runs a program, "--" ends the flags.
// args[0] is the program's name.
func parseLine(app *cli.App, args []string) (*line, error) {
	l := &line{app: app, args: args[:1:1]}
	rest, err := l.scan(app.Flags, args[1:], true)
	if err != nil {
		return nil, err
	}
	children := app.Commands
	for len(rest) > 0 && len(children) > 0 && !l.help {
		if rest, err = l.enter(children, rest); err != nil {
			return nil, err
		}
		children = l.command.Subcommands
	}
	l.args = append(l.args, "--")
	l.args = append(l.args, rest...)
	if l.command != nil && len(children) > 0 {
		l.bare = !l.help
		l.help = true // a group without a command shows what it holds
	}
	return l, nil
}

// enter reads the name of a command and its flags, and returns its arguments.
func (l *line) enter(children []*cli.Command, rest []string) ([]string, error) {
	i := slices.IndexFunc(children, func(c *cli.Command) bool { return c.HasName(rest[0]) })
	if i < 0 {
		return nil, unknownCommand(l.app, l.command, rest[0])
	}
	l.command = children[i]
	l.args = append(l.args, rest[0])
	toFirst := len(l.command.Subcommands) > 0 || flagsFirst(l.command)
	return l.scan(l.command.Flags, rest[1:], toFirst)
}

// flagsFirst reports whether a command's flags must stand before its
// arguments: where those end in a program's own command line, and where docker
// has it so.
func flagsFirst(c *cli.Command) bool {
	return c.Name == "tag" || strings.HasSuffix(c.ArgsUsage, "[ARG...]") || strings.HasSuffix(c.ArgsUsage, "[ps OPTIONS]")
}

// scan appends the flags among args to the line and returns the rest; it stops
// at the first argument that is none if toFirst says so.
func (l *line) scan(flags []cli.Flag, args []string, toFirst bool) (rest []string, err error) {
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			return append(rest, args...), nil
		case len(arg) < 2 || arg[0] != '-':
			rest = append(rest, arg)
			if toFirst {
				return append(rest, args...), nil
			}
		case strings.HasPrefix(arg, "--"):
			args, err = l.long(flags, arg[2:], args)
		default:
			args, err = l.short(flags, arg, args)
		}
		if err != nil {
			return nil, err
		}
	}
	return rest, nil
}

// long reads one flag of the form --name, --name=value or --name value.
func (l *line) long(flags []cli.Flag, arg string, args []string) ([]string, error) {
	name, value, given := strings.Cut(arg, "=")
	f := findFlag(flags, name)
	switch {
	case f == nil && name == "help":
		l.help = true
		return args, nil
	case f == nil || len(name) < 2:
		return nil, l.badFlag("unknown flag: --" + name)
	case !given && takesValue(f):
		if len(args) == 0 {
			return nil, l.badFlag("flag needs an argument: --" + name)
		}
		value, args = args[0], args[1:]
	case !given:
		value = "true"
	}
	return args, l.add(f, value)
}

// short reads a word of combined short flags, of which the last may take a
// value: -a, -aq, -n5, -n 5, -n=5.
func (l *line) short(flags []cli.Flag, word string, args []string) ([]string, error) {
	for i := 1; i < len(word); i++ {
		name, tail := word[i:i+1], word[i+1:]
		f := findFlag(flags, name)
		if f == nil && name == "h" {
			l.help, l.shortHelp = true, true
			return args, nil
		}
		if f == nil {
			return nil, l.badFlag(fmt.Sprintf("unknown shorthand flag: '%s' in -%s", name, word[i:]))
		}
		if value, given := strings.CutPrefix(tail, "="); given {
			return args, l.add(f, value)
		}
		if !takesValue(f) {
			if err := l.add(f, "true"); err != nil {
				return nil, err
			}
			continue
		}
		if tail != "" {
			return args, l.add(f, tail)
		}
		if len(args) == 0 {
			return nil, l.badFlag(fmt.Sprintf("flag needs an argument: '%s' in -%s", name, word[i:]))
		}
		return args[1:], l.add(f, args[0])
	}
	return args, nil
}

// add appends one flag to the line after a look at its value.
func (l *line) add(f cli.Flag, value string) error {
	if err := checkValue(f, value); err != nil {
		return l.badFlag(fmt.Sprintf("invalid argument %q for %q flag: %v", value, flagTitle(f), err))
	}
	l.args = append(l.args, "--"+f.Names()[0]+"="+value)
	return nil
}

// checkValue parses a value for its error alone, so that the message is the
// same for every kind of flag.
func checkValue(f cli.Flag, value string) (err error) {
	switch f := f.(type) {
	case *checkedFlag:
		err = f.check(value)
	case *checkedSlice:
		err = f.check(value)
	case *cli.BoolFlag:
		_, err = strconv.ParseBool(value)
	case *cli.IntFlag:
		_, err = strconv.ParseInt(value, 0, 64)
	case *cli.DurationFlag:
		_, err = time.ParseDuration(value)
	}
	return err
}

func (l *line) badFlag(msg string) error {
	return &usageError{code: exitBadFlag, msg: msg, app: l.app, command: l.command}
}

func findFlag(flags []cli.Flag, name string) cli.Flag {
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

func takesValue(f cli.Flag) bool {
	d, ok := f.(cli.DocGenerationFlag)
	return ok && d.TakesValue()
}

// flagTitle is a flag as the help text names it: "-q, --quiet".
func flagTitle(f cli.Flag) string {
	var short, long []string
	for _, n := range f.Names() {
		if len(n) == 1 {
			short = append(short, "-"+n)
		} else {
			long = append(long, "--"+n)
		}
	}
	return strings.Join(append(short, long...), ", ")
}
