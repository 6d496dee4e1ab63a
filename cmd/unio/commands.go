package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// commonCommands are those that the help text names first.
func commonCommands() []string {
	return []string{
		"run", "exec", "ps", "build", "pull", "push", "images", "mount", "umount", "chroot", "commit", "diff",
		"login", "logout", "search", "version", "info",
	}
}

// entry is a command that is built when it is needed: to build all of them with
// their flags takes a tenth of the start of a program that does little.
type entry struct {
	names string // those of the command it makes, with a blank between
	build func() *cli.Command
}

// entries lists the commands. A command that docker also offers inside a group
// is built twice, once for each place.
func entries() []entry {
	return []entry{
		{"attach", attachCommand},
		{"build", buildCommand},
		{"build-mounts", buildMountsCommand},
		{"builder", builderGroup},
		{"chroot", chrootCommand},
		{"commit", commitCommand},
		{"__complete", completeCommand},
		{"completion", completionCommand},
		{"container", containerGroup},
		{"cp", cpCommand},
		{"create", createCommand},
		{"diff", diffCommand},
		{"exec", execCommand},
		{"export", exportCommand},
		{"fsck", fsckCommand},
		{"help", helpCommand},
		{"history", historyCommand},
		{"image", imageGroup},
		{"images", imagesCommand},
		{"import", importCommand},
		{"info", infoCommand},
		{"inspect", inspectCommand},
		{"keep", keepCommand},
		{"kill", killCommand},
		{"layer", layerCommand},
		{"load", loadCommand},
		{"login", loginCommand},
		{"logout", logoutCommand},
		{"logs", logsCommand},
		{"man", manCommand},
		{"mount", mountCommand},
		{"overlay", overlayCommand},
		{"overlay-keep", overlayKeepCommand},
		{"overlay-server", overlayServerCommand},
		{"pause", pauseCommand},
		{"port", portCommand},
		{"ps", psCommand},
		{"pull", pullCommand},
		{"push", pushCommand},
		{"rename", renameCommand},
		{"restart", restartCommand},
		{"rm", rmCommand},
		{"rmi", rmiCommand},
		{"run", runCommand},
		{"runner", runnerCommand},
		{"save", saveCommand},
		{"search", searchCommand},
		{"serve", serveCommand},
		{"start", startCommand},
		{"stats", statsCommand},
		{"stop", stopCommand},
		{"supervise", superviseCommand},
		{"system", systemGroup},
		{"tag", tagCommand},
		{"top", topCommand},
		{"umount unmount", umountCommand},
		{"unpause", unpauseCommand},
		{"version", versionCommand},
		{"volume", volumeGroup},
		{"wait", waitCommand},
	}
}

// commands builds all commands.
func commands() []*cli.Command {
	var all []*cli.Command
	for _, e := range entries() {
		all = append(all, e.build())
	}
	return all
}

// commandsAmong builds the commands that one of the words of a command line is
// called: the one that is meant, and at times some whose names stand for
// something else there. All are built where none is called so, or one that tells
// of others, but none for flags alone.
func commandsAmong(words []string) []*cli.Command {
	var some []*cli.Command
	for _, e := range entries() {
		if !slices.ContainsFunc(strings.Fields(e.names), func(name string) bool { return slices.Contains(words, name) }) {
			continue
		}
		if e.names == "help" || e.names == "man" || e.names == "__complete" {
			return commands()
		}
		some = append(some, e.build())
	}
	if len(some) == 0 && !onlyFlags(words) {
		return commands()
	}
	return some
}

func onlyFlags(words []string) bool {
	return !slices.ContainsFunc(words, func(word string) bool { return !strings.HasPrefix(word, "-") })
}

// imageGroup is "unio image": the image commands under docker's other names.
func imageGroup() *cli.Command {
	return group("image", "Manage images",
		buildCommand(),
		historyCommand(),
		importCommand(),
		imageInspectCommand(),
		loadCommand(),
		named(imagesCommand(), "ls", "list"),
		imagePruneCommand(),
		pullCommand(),
		pushCommand(),
		named(rmiCommand(), "rm", "remove"),
		saveCommand(),
		tagCommand(),
	)
}

// containerGroup is "unio container".
func containerGroup() *cli.Command {
	return group("container", "Manage containers",
		attachCommand(),
		commitCommand(),
		cpCommand(),
		createCommand(),
		diffCommand(),
		execCommand(),
		exportCommand(),
		containerInspectCommand(),
		killCommand(),
		logsCommand(),
		named(psCommand(), "ls", "list", "ps"),
		pauseCommand(),
		portCommand(),
		containerPruneCommand(),
		renameCommand(),
		restartCommand(),
		named(rmCommand(), "rm", "remove"),
		runCommand(),
		startCommand(),
		statsCommand(),
		stopCommand(),
		topCommand(),
		unpauseCommand(),
		waitCommand(),
	)
}

// systemGroup is "unio system".
func systemGroup() *cli.Command {
	return group("system", "Manage the store",
		systemDfCommand(),
		infoCommand(),
		systemPruneCommand(),
	)
}

// named gives a command another name, and aliases, for use in a group.
func named(c *cli.Command, name string, aliases ...string) *cli.Command {
	c.Name, c.Aliases = name, aliases
	return c
}

// group builds a command that only holds others.
func group(name, usage string, members ...*cli.Command) *cli.Command {
	return &cli.Command{
		Name:        name,
		Usage:       usage,
		ArgsUsage:   "COMMAND",
		Subcommands: members,
	}
}
