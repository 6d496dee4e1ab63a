// Posix asks filesystems how they behave: hundreds of short named scenarios,
// each of which says what Linux promises of a disk filesystem, are run on a
// folder of a plain ext4, on the kernel's overlayfs, on fuse-overlayfs and on
// unio, all on the same disk and over the same lower folder. What passes on
// ext4 is right by definition; a scenario that does not is a bad scenario.
//
// A scenario works on files that a line of text describes (see fixture.go).
// On a union it runs once for each way in which such a file can exist: made in
// the upper, present in the lower, copied up by a change of attributes, copied
// up by a write.
//
// It needs root, and the unio to ask in $UNIO (default: unio in the path).
//
//	UNIO=bin/unio go run ./integration/posix            # what fails, and a table
//	UNIO=bin/unio go run ./integration/posix -markdown  # the table of docs/design.md
//	UNIO=bin/unio go run ./integration/posix -on unio -run 'rename/.*'
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(play(role))
	}
	var o options
	only := flag.String("run", "", "scenarios to run, a regular expression over group/name")
	on := flag.String("on", "", "filesystems to ask, separated by commas (default: all)")
	flag.StringVar(&o.dir, "dir", "", "scratch folder (default: a temporary one)")
	flag.BoolVar(&o.markdown, "markdown", false, "print the table alone, as Markdown")
	flag.BoolVar(&o.keep, "keep", false, "wait for Enter before the mounts go")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := o.parse(*only, *on); err != nil {
		fmt.Fprintln(os.Stderr, "posix:", err)
		os.Exit(2)
	}
	if err := ask(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "posix:", err)
		os.Exit(1)
	}
}

type options struct {
	only     *regexp.Regexp
	on       []string // names of filesystems; empty: all
	dir      string
	markdown bool
	keep     bool
}

func (o *options) parse(only, on string) (err error) {
	if on != "" {
		o.on = strings.Split(on, ",")
	}
	if o.only, err = regexp.Compile(only); err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	return nil
}

// ask runs the scenarios and prints what came of them.
func ask(ctx context.Context, o options) (err error) {
	s, err := setUp(ctx, o.dir, chosen(o.only))
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := s.close(); err == nil {
			err = closeErr
		}
	}()
	var reports []report
	for _, kind := range kinds() {
		if !kind.wanted(o.on) {
			continue
		}
		r, err := s.try(ctx, kind)
		if err != nil {
			return fmt.Errorf("%s: %w", kind.name, err)
		}
		if !o.markdown {
			r.print(os.Stdout)
		}
		reports = append(reports, r)
	}
	table(os.Stdout, reports)
	if o.keep {
		fmt.Println("mounted below", s.dir)
		_, _ = fmt.Scanln()
	}
	return nil
}
