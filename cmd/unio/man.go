package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// manCommand writes the manual, one page for each command, from the same
// definitions as the help texts.
func manCommand() *cli.Command {
	return &cli.Command{
		Name: "man", Usage: "Write the manual pages into a folder", ArgsUsage: "DIR", Hidden: true,
		Before: exactArgs(1),
		Action: func(c *cli.Context) error {
			dir := c.Args().First()
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			for name, text := range manPages(c.App) {
				if err := os.WriteFile(filepath.Join(dir, name+".1"), []byte(text), 0o644); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// manPages returns the pages by name: unio, unio-pull, unio-image-ls.
func manPages(app *cli.App) map[string]string {
	pages := map[string]string{"unio": manPage(app, "unio", nil)}
	var add func(prefix string, list []*cli.Command)
	add = func(prefix string, list []*cli.Command) {
		for _, c := range list {
			if !c.Hidden {
				name := prefix + "-" + c.Name
				pages[name] = manPage(app, name, c)
				add(name, c.Subcommands)
			}
		}
	}
	add("unio", app.Commands)
	return pages
}

// manPage is one page in the language of man(7).
func manPage(app *cli.App, name string, c *cli.Command) string {
	var b strings.Builder
	flags, children, about, description := app.Flags, app.Commands, app.Usage, ""
	if c != nil {
		flags, children, about, description = c.Flags, c.Subcommands, c.Usage, c.Description
	}
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"unio %s\" \"User Commands\"\n", roff(strings.ToUpper(name)), roff(readBuildData().Version))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(name), roff(about))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", roff(usageLine(app, called(c, strings.ReplaceAll(name, "-", " ")))))
	if description != "" {
		fmt.Fprintf(&b, ".SH DESCRIPTION\n.nf\n%s\n.fi\n", roff(strings.TrimSpace(description)))
	}
	if rows := flagRows(flags); len(rows) > 0 {
		b.WriteString(".SH OPTIONS\n")
		for _, row := range rows {
			fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(strings.TrimSpace(row[0])), roff(joinLines(row[1])))
		}
	}
	if len(children) > 0 {
		b.WriteString(".SH COMMANDS\n")
		for _, s := range children {
			if !s.Hidden {
				fmt.Fprintf(&b, ".TP\n.BR %s (1)\n%s\n", roff(name+"-"+s.Name), roff(s.Usage))
			}
		}
	}
	if c == nil {
		for _, topic := range slices.Sorted(maps.Keys(topics())) {
			fmt.Fprintf(&b, ".SH %s\n.nf\n%s.fi\n", roff(strings.ToUpper(topic)), roff(topics()[topic]))
		}
		return b.String()
	}
	parent := name[:strings.LastIndexByte(name, '-')]
	fmt.Fprintf(&b, ".SH SEE ALSO\n.BR %s (1)\n", roff(parent))
	return b.String()
}

// called returns a copy of a command that knows by which words it is called;
// the cli package fills that in for the command that runs only.
func called(c *cli.Command, words string) *cli.Command {
	if c == nil {
		return nil
	}
	whole := *c
	whole.HelpName = words
	return &whole
}

// roff escapes what means something to troff: backslashes, hyphens that are
// minus signs, and a dot or quote at the beginning of a line.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
