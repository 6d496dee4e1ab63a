package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// TestEntriesAreNamed: a command is found under all names that it gives itself.
func TestEntriesAreNamed(t *testing.T) {
	for _, e := range entries() {
		if names := strings.Join(e.build().Names(), " "); names != e.names {
			t.Errorf("the entry %q makes the command %q", e.names, names)
		}
	}
}

// TestCommandsAmong: only what a command line may mean is built, and everything
// where that cannot be told.
func TestCommandsAmong(t *testing.T) {
	all := len(entries())
	for line, want := range map[string]int{
		"run --rm image true":     2,
		"--root=/x mount debian":  1,
		"--version":               0,
		"":                        0,
		"unmount /mnt":            1,
		"unmount run":             2,
		"no-such":                 all,
		"help mount":              all,
		"__complete -- ps":        all,
		"container ls":            1,
		"run debian cat /etc/man": 1,
	} {
		if got := len(commandsAmong(strings.Fields(line))); got != want {
			t.Errorf("%q builds %d commands, not %d", line, got, want)
		}
	}
}

// TestHelpKnowsAll: help texts list what the command line did not name.
func TestHelpKnowsAll(t *testing.T) {
	for _, words := range [][]string{{"--help"}, {}, {"--root", "mount"}} {
		var out strings.Builder
		args := append([]string{"unio"}, words...)
		if err := execute(t.Context(), newApp(args, nil, &out, &out), args); err != nil {
			t.Errorf("%q: %v", words, err)
		}
		for _, name := range commonCommands() {
			if !strings.Contains(out.String(), "\n  "+name+" ") {
				t.Errorf("%q: the help text lacks %s", words, name)
			}
		}
	}
	var out strings.Builder
	args := []string{"unio", "pull", "--help"}
	if err := execute(t.Context(), newApp(args, nil, &out, &out), args); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "unio image pull, unio pull") {
		t.Errorf("the help text lacks the name in the group:\n%s", out.String())
	}
}

// TestHelpNamesGroups: what comes late has its full name, too.
func TestHelpNamesGroups(t *testing.T) {
	app := newApp([]string{"unio", "mount"}, nil, nil, nil)
	app.Setup()
	withAll(app)
	i := slices.IndexFunc(app.Commands, func(c *cli.Command) bool { return c.Name == "image" })
	if got := app.Commands[i].Subcommands[0].HelpName; got != "unio image build" {
		t.Errorf("the command is called %q", got)
	}
}
