package main

import (
	"github.com/urfave/cli/v2"
)

// commonCommands are those that the help text names first.
func commonCommands() []string {
	return []string{
		"run", "exec", "ps", "build", "pull", "push", "images", "mount", "umount", "chroot", "commit", "diff",
		"login", "logout", "search", "version", "info",
	}
}

// commands lists the commands. A command that docker also offers inside a group
// is built twice, once for each place.
func commands() []*cli.Command {
	return []*cli.Command{
		attachCommand(),
		buildCommand(),
		buildMountsCommand(),
		builderGroup(),
		chrootCommand(),
		commitCommand(),
		completeCommand(),
		completionCommand(),
		containerGroup(),
		cpCommand(),
		createCommand(),
		diffCommand(),
		execCommand(),
		exportCommand(),
		fsckCommand(),
		helpCommand(),
		historyCommand(),
		imageGroup(),
		imagesCommand(),
		importCommand(),
		infoCommand(),
		inspectCommand(),
		keepCommand(),
		killCommand(),
		layerCommand(),
		loadCommand(),
		loginCommand(),
		logoutCommand(),
		logsCommand(),
		manCommand(),
		mountCommand(),
		overlayCommand(),
		overlayKeepCommand(),
		overlayServerCommand(),
		psCommand(),
		pullCommand(),
		pushCommand(),
		renameCommand(),
		restartCommand(),
		rmCommand(),
		rmiCommand(),
		runCommand(),
		runnerCommand(),
		saveCommand(),
		searchCommand(),
		serveCommand(),
		startCommand(),
		stopCommand(),
		superviseCommand(),
		systemGroup(),
		tagCommand(),
		topCommand(),
		umountCommand(),
		versionCommand(),
		volumeGroup(),
		waitCommand(),
	}
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
		containerPruneCommand(),
		renameCommand(),
		restartCommand(),
		named(rmCommand(), "rm", "remove"),
		runCommand(),
		startCommand(),
		stopCommand(),
		topCommand(),
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
