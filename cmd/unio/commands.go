package main

import (
	"github.com/urfave/cli/v2"
)

// commands lists the commands, in the order of the help text. A command that
// docker also offers inside a group is built twice, once for each place.
func commands() []*cli.Command {
	return []*cli.Command{
		buildCommand(),
		chrootCommand(),
		attachCommand(),
		commitCommand(),
		completionCommand(),
		cpCommand(),
		createCommand(),
		diffCommand(),
		execCommand(),
		exportCommand(),
		fsckCommand(),
		helpCommand(),
		historyCommand(),
		imagesCommand(),
		importCommand(),
		infoCommand(),
		inspectCommand(),
		killCommand(),
		layerCommand(),
		loadCommand(),
		loginCommand(),
		logoutCommand(),
		logsCommand(),
		mountCommand(),
		overlayCommand(),
		psCommand(),
		pullCommand(),
		pushCommand(),
		renameCommand(),
		restartCommand(),
		rmCommand(),
		rmiCommand(),
		runCommand(),
		saveCommand(),
		searchCommand(),
		startCommand(),
		stopCommand(),
		tagCommand(),
		topCommand(),
		umountCommand(),
		builderGroup(),
		imageGroup(),
		containerGroup(),
		systemGroup(),
		volumeGroup(),
		waitCommand(),
		completeCommand(),
		manCommand(),
		buildMountsCommand(),
		overlayServerCommand(),
		overlayKeepCommand(),
		runnerCommand(),
		superviseCommand(),
		serveCommand(),
		keepCommand(),
		versionCommand(),
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
