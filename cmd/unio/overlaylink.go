package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Names under which the program mounts plain folders and does nothing else.
const (
	mountHelper  = "mount.fuse.unio" // what mount(8) runs for the type fuse.unio
	engineHelper = "unio-overlay"    // for container engines, as their mount_program
	standIn      = "fuse-overlayfs"  // what they would run by default
)

// linkName tells by which of these names the program was called.
func linkName(args []string) (name string, ok bool) {
	if len(args) == 0 {
		return "", false
	}
	name = filepath.Base(args[0])
	switch name {
	case mountHelper, engineHelper, standIn:
		return name, true
	}
	return "", false
}

// linkDefaults are those that the name stands for: mount(8)'s own, and those
// of fuse-overlayfs.
func linkDefaults(name string) overlayDefaults {
	if name == mountHelper {
		return overlayDefaults{suid: true, dev: true}
	}
	return overlayDefaults{suid: true, plain: true}
}

// runLink is the whole program under such a name. It returns the exit code.
func runLink(ctx context.Context, name string, args []string, stdout, stderr io.Writer) int {
	l, err := readLink(args)
	switch {
	case err != nil:
	case l.help:
		fmt.Fprintf(stdout, linkUsage, name)
		return exitOK
	case l.version:
		// The first line is of the form that programs know of fuse-overlayfs.
		fmt.Fprintf(stdout, "%s: version %s\n%s\n", name, readBuildData().Version, shortVersion())
		return exitOK
	default:
		l.transport, err = transportKind(os.Getenv(transportVariable))
		if err == nil {
			l.runRoot, err = runRoot(os.Getenv("UNIO_RUNROOT"))
		}
		if err == nil {
			err = mountOverlay(ctx, l.overlayLine, linkDefaults(name))
		}
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: %s\n", name, strings.ReplaceAll(err.Error(), "\n", "; "))
		return exitFailure
	}
	return exitOK
}

const linkUsage = `Usage:  %[1]s [-f] [-d] -o lowerdir=A[:B…][,upperdir=U,workdir=W][,OPTION…] DIR
        %[1]s SOURCE DIR -o …

  -o list         Mount options, see 'unio overlay --help'
  -f              Stay in the foreground, with the log on stderr
  -d, --debug     Log every detail, in the foreground
  -h, --help      Print this and quit
  -V, --version   Print version information and quit
`

// linkLine is the command line of a mount helper.
type linkLine struct {
	overlayLine
	help, version bool
}

// readLink reads a command line as fuse-overlayfs and mount(8)'s helpers get
// it: "[flags] DIR" or "SOURCE DIR [flags]". SOURCE means nothing here; with
// it -f is mount(8)'s --fake.
func readLink(args []string) (*linkLine, error) {
	l := &linkLine{}
	var folders []string
	fast := false
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			folders, args = append(folders, args...), nil
		case arg == "-f":
			fast = true
		case !strings.HasPrefix(arg, "-") || arg == "-":
			folders = append(folders, arg)
		default:
			var err error
			if args, err = l.flag(arg, args); err != nil {
				return nil, err
			}
		}
	}
	if l.help || l.version {
		return l, nil
	}
	switch len(folders) {
	case 1:
		l.dir, l.foreground = folders[0], fast
	case 2:
		l.dir, l.fake = folders[1], fast
	default:
		return nil, fmt.Errorf("want a mount point, or a source and a mount point, not %d arguments", len(folders))
	}
	return l, nil
}

// flag reads one flag but -f and returns the arguments behind it.
func (l *linkLine) flag(arg string, rest []string) ([]string, error) {
	switch arg {
	case "-h", "--help":
		l.help = true
	case "-V", "--version":
		l.version = true
	case "-d", "--debug":
		l.debug = true
	case "-s":
		l.sloppy = true
	case "-n", "-v":
	case "-o", "-t", "-N":
		if len(rest) == 0 {
			return nil, fmt.Errorf("flag needs an argument: %s", arg)
		}
		if arg == "-o" {
			l.options = append(l.options, rest[0])
		}
		return rest[1:], nil
	default:
		value, isOptions := strings.CutPrefix(arg, "-o")
		if !isOptions {
			return nil, fmt.Errorf("unknown flag: %s", arg)
		}
		l.options = append(l.options, value)
	}
	return rest, nil
}

// linkMain runs the program under a link's name.
func linkMain(name string, args []string) int {
	ctx, stop := interruptible(context.Background())
	defer stop()
	return runLink(ctx, name, args[1:], os.Stdout, os.Stderr)
}
