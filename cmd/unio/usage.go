package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mattn/go-runewidth"
	"github.com/urfave/cli/v2"
)

// usageText is the help text of a command, or of the application if c is nil,
// in docker's layout.
func usageText(app *cli.App, c *cli.Command) string {
	var b strings.Builder
	flags, children, about := app.Flags, app.Commands, app.Usage
	if c != nil {
		flags, children, about = c.Flags, c.Subcommands, c.Usage
	}
	fmt.Fprintf(&b, "Usage:  %s\n\n%s\n", usageLine(app, c), about)
	if c != nil && c.Description != "" {
		fmt.Fprintf(&b, "\n%s\n", strings.TrimSpace(c.Description))
	}
	if c != nil {
		b.WriteString(aliasText(app, c))
	}
	if c == nil {
		b.WriteString(groupedCommands(children))
	} else {
		b.WriteString(commandTable("Commands", children))
	}
	b.WriteString(flagTable(flags))
	if len(children) > 0 {
		fmt.Fprintf(&b, "\nRun '%s COMMAND --help' for more information on a command.\n", commandPath(app, c))
	}
	return b.String()
}

// usageHint is what follows an error in a command line.
func usageHint(app *cli.App, c *cli.Command) string {
	if c != nil && len(c.Subcommands) > 0 { // as docker has it, without "COMMAND"
		return fmt.Sprintf("Usage:  %s\n\nRun '%s --help' for more information\n", c.HelpName, c.HelpName)
	}
	return fmt.Sprintf("Usage:  %s\n\nRun '%s --help' for more information\n", usageLine(app, c), commandPath(app, c))
}

// usageLine is the command with the shape of its arguments.
func usageLine(app *cli.App, c *cli.Command) string {
	if c == nil {
		return app.HelpName + " [OPTIONS] COMMAND [ARG...]"
	}
	parts := []string{c.HelpName}
	if len(visible(c.Flags)) > 0 {
		parts = append(parts, "[OPTIONS]")
	}
	if c.ArgsUsage != "" {
		parts = append(parts, c.ArgsUsage)
	}
	return strings.Join(parts, " ")
}

func commandPath(app *cli.App, c *cli.Command) string {
	if c == nil {
		return app.HelpName
	}
	return c.HelpName
}

// aliasText lists all names of a command: those in its group, and that
// without.
func aliasText(app *cli.App, c *cli.Command) string {
	var names []string
	for _, g := range app.Commands {
		names = append(names, namesAmong(g.Subcommands, c)...)
	}
	names = append(names, namesAmong(app.Commands, c)...)
	if len(names) < 2 {
		return ""
	}
	return fmt.Sprintf("\nAliases:\n  %s\n", strings.Join(names, ", "))
}

// namesAmong lists the names of a command in one place. A command that stands
// in two places was built twice; its description tells that it is the same.
func namesAmong(list []*cli.Command, c *cli.Command) []string {
	var names []string
	for _, o := range list {
		if o.Hidden || o.Usage != c.Usage || o.ArgsUsage != c.ArgsUsage {
			continue
		}
		place := strings.TrimSuffix(o.HelpName, o.Name)
		for _, name := range append([]string{o.Name}, o.Aliases...) {
			names = append(names, place+name)
		}
	}
	return names
}

// groupedCommands lists the application's commands as docker does: what is
// used most first, then those that only hold others, then the rest by name.
func groupedCommands(all []*cli.Command) string {
	var common, groups, rest []*cli.Command
	for _, name := range commonCommands() {
		i := slices.IndexFunc(all, func(c *cli.Command) bool { return c.Name == name })
		common = append(common, all[i])
	}
	for _, c := range all {
		switch {
		case slices.Contains(common, c):
		case len(c.Subcommands) > 0:
			groups = append(groups, c)
		default:
			rest = append(rest, c)
		}
	}
	byName := func(a, b *cli.Command) int { return strings.Compare(a.Name, b.Name) }
	slices.SortFunc(groups, byName)
	slices.SortFunc(rest, byName)
	return commandTable("Common Commands", common) + commandTable("Management Commands", groups) +
		commandTable("Commands", rest)
}

func commandTable(title string, children []*cli.Command) string {
	var rows [][2]string
	for _, c := range children {
		if !c.Hidden {
			rows = append(rows, [2]string{c.Name, c.Usage})
		}
	}
	return table(title, rows, 11, 1)
}

func flagTable(flags []cli.Flag) string { return table("Options", flagRows(flags), 0, 3) }

// flagRows renders the flags that are shown, sorted by long name.
func flagRows(flags []cli.Flag) [][2]string {
	var rows [][2]string
	for _, f := range visible(flags) {
		rows = append(rows, flagRow(f))
	}
	slices.SortStableFunc(rows, func(a, b [2]string) int {
		return strings.Compare(strings.TrimLeft(a[0][4:], "-"), strings.TrimLeft(b[0][4:], "-"))
	})
	return rows
}

// flagRow renders one flag: short name or blanks, long name, kind of value.
func flagRow(f cli.Flag) [2]string {
	title := flagTitle(f)
	if strings.HasPrefix(title, "--") {
		title = "    " + title
	}
	d, ok := f.(cli.DocGenerationFlag)
	if !ok {
		return [2]string{title, ""}
	}
	text := d.GetUsage()
	if d.TakesValue() {
		var kind string
		if kind, text = valueKind(f, text); kind != "" {
			title += " " + kind
		}
	}
	return [2]string{title, text}
}

// valueKind names the kind of value a flag takes: a word in back quotes in the
// help text, or the flag's type.
func valueKind(f cli.Flag, text string) (kind, plain string) {
	if before, rest, ok := strings.Cut(text, "`"); ok {
		if word, after, ok := strings.Cut(rest, "`"); ok {
			return word, before + word + after
		}
	}
	switch f := f.(type) {
	case *checkedFlag:
		return f.kind, text
	case *cli.StringSliceFlag, *checkedSlice:
		if f.Names()[0] == "filter" {
			return "filter", text
		}
		return "list", text
	case *cli.IntFlag:
		return "int", text
	case *cli.DurationFlag:
		return "duration", text
	}
	return "string", text
}

// visible leaves out the flags that are not shown.
func visible(flags []cli.Flag) []cli.Flag {
	return slices.DeleteFunc(slices.Clone(flags), func(f cli.Flag) bool {
		v, ok := f.(cli.VisibleFlag)
		return ok && !v.IsVisible()
	})
}

// table lays out two columns under a heading, the first at least so wide, with
// a gap between them; nothing for no rows.
func table(heading string, rows [][2]string, wide, gap int) string {
	if len(rows) == 0 {
		return ""
	}
	for _, r := range rows {
		wide = max(wide, runewidth.StringWidth(r[0]))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s:\n", heading)
	for _, r := range rows {
		text := strings.ReplaceAll(r[1], "\n", "\n"+strings.Repeat(" ", 2+wide+gap))
		fmt.Fprintf(&b, "  %s%s\n", runewidth.FillRight(r[0], wide+gap), text)
	}
	return b.String()
}
