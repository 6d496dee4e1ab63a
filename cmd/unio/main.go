// Command unio keeps container images on this machine, mounts them as
// ordinary folders with a copy-on-write layer on top, runs programs in them,
// and commits what changed as a new image.
//
// Each command has a file of its own with a function xxxCommand; commands.go
// lists them. flags.go reads the command line as docker does, exit.go turns
// errors into messages and exit codes, env.go opens what commands work on.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

func main() {
	os.Exit(run(os.Args))
}

// run is the whole program, given its command line, the program's name
// included. It returns the exit code.
func run(args []string) int {
	if name, ok := linkName(args); ok {
		return linkMain(name, args)
	}
	ctx, stop := interruptible(context.Background())
	defer stop()
	app := newApp(args, os.Stdin, os.Stdout, os.Stderr)
	err := execute(ctx, app, args)
	if ctx.Err() != nil {
		err = interrupted(err)
	}
	return report(app.ErrWriter, err)
}

// interruptible returns a context that SIGINT or SIGTERM cancels. A second
// signal then ends the program at once.
func interruptible(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(parent, unix.SIGINT, unix.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// execute reads the command line and runs the command that it names.
func execute(ctx context.Context, app *cli.App, args []string) error {
	app.Setup()
	line, err := parseLine(app, args)
	if err != nil {
		return err
	}
	if line.help {
		if line, err = completeLine(app, args); err != nil {
			return err
		}
		to := app.Writer
		if line.bare { // docker shows it as an error, though it is none
			to = app.ErrWriter
		}
		text := line.usage()
		if line.shortHelp {
			text = "Flag shorthand -h has been deprecated, use --help\n" + text
		}
		_, err := io.WriteString(to, text)
		return err
	}
	return app.RunContext(ctx, line.args)
}

// newApp builds the application: global flags, the commands that args may mean,
// streams.
func newApp(args []string, stdin io.Reader, stdout, stderr io.Writer) *cli.App {
	return &cli.App{
		Name:                      "unio",
		HelpName:                  "unio",
		Usage:                     "Container images as folders",
		Reader:                    stdin,
		Writer:                    stdout,
		ErrWriter:                 stderr,
		Flags:                     globalFlags(),
		Commands:                  prepared("unio", commandsAmong(args[1:]), false),
		Before:                    openEnv,
		Action:                    noCommand,
		HideHelp:                  true,
		HideVersion:               true,
		DisableSliceFlagSeparator: true,
		ExitErrHandler:            func(*cli.Context, error) {}, // report does it
	}
}

// completeLine reads a command line once more, now with all commands, of which
// help texts speak.
func completeLine(app *cli.App, args []string) (*line, error) {
	withAll(app)
	return parseLine(app, args)
}

// withAll puts all commands into an application that has been set up.
func withAll(app *cli.App) { app.Commands = prepared(app.HelpName, commands(), true) }

// prepared tells commands their full names, which errors of the command line
// need before the cli package fills them in; it does so in time for commands
// outside groups. It also keeps that package from taking an argument "help" (an
// image may be called so) for a command of its own.
func prepared(parent string, list []*cli.Command, inGroup bool) []*cli.Command {
	for _, c := range list {
		c.HideHelp = true
		name := parent + " " + c.Name
		if inGroup {
			c.HelpName = name
		}
		prepared(name, c.Subcommands, true)
	}
	return list
}

// noCommand is what unio does when no command is named.
func noCommand(c *cli.Context) error {
	if c.Bool("version") {
		_, err := io.WriteString(c.App.Writer, shortVersion()+"\n")
		return err
	}
	withAll(c.App)
	_, err := io.WriteString(c.App.Writer, usageText(c.App, nil))
	return err
}
