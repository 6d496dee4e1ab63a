package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

func helpCommand() *cli.Command {
	return &cli.Command{
		Name:      "help",
		Usage:     "Explain a command or a topic",
		ArgsUsage: "[COMMAND...|TOPIC]",
		Action:    help,
	}
}

// topics are explanations that belong to no single command.
func topics() map[string]string {
	return map[string]string{
		"environment": `Variables that unio reads:

  UNIO_ROOT                 folder of the store (--root)
  UNIO_RUNROOT              folder of the state of mounts (--runroot)
  UNIO_TRANSPORT            how requests reach servers of mounts (see 'unio help transport')
  UNIO_PROGRESS             how progress is shown (--progress; see 'unio help progress')
  NO_COLOR                  if not empty: no colours
  UNIO_REGISTRIES           file that names mirrors (see 'unio help registries')
  UNIO_INSECURE_REGISTRIES  registries without a valid certificate, or without TLS
  DOCKER_CONFIG             folder of docker's config.json (default ~/.docker)
  DOCKER_DEFAULT_PLATFORM   platform to pull, as os/arch[/variant]
  HTTPS_PROXY, HTTP_PROXY, NO_PROXY
                            proxies to registries
  XDG_DATA_HOME, XDG_RUNTIME_DIR
                            where an ordinary user's store and mounts lie
`,
		"transport": transportTopic,
		"exit-codes": `Exit codes, as docker gives them:

  0    done
  1    failed; wrong number of arguments, unknown command, bad reference
  64   inspect --format: the template cannot be parsed
  125  unknown flag or malformed filter; run, exec, chroot: unio itself failed
  126  run, exec, chroot: the program cannot be run
  127  run, exec, chroot: the program was not found
  130  interrupted
  else run, exec, chroot, start -a: the program's own code
`,
		"names": `An image is called by

  NAME                  debian            the tag "latest" of docker.io/library/debian
  NAME:TAG              debian:12
  HOST[:PORT]/NAME:TAG  localhost:5000/app:1
  NAME@DIGEST           debian@sha256:…   what a registry calls it
  ID                    any unique beginning of the digest of its config

A container is called by its name, its ID, or any unique beginning of that. Where a
command takes both, a container's name wins.
`,
		"progress": progressTopic,
		"registries": `Mirrors and other settings of registries stand in registries.toml, in the folder
unio of $XDG_CONFIG_HOME (~/.config) or in /etc/unio, or in the file that --registries
or UNIO_REGISTRIES names:

  [[registry]]
  prefix = "docker.io/library"           which references: a host, or one with a path
  location = "registry.example.com/hub"  what takes the prefix's place (default: itself)
  insecure = false                       no valid certificate, or no TLS
  blocked = false                        refuse these references

  [[registry.mirror]]                    asked first when pulling, in this order
  location = "localhost:5000/hub"
  insecure = true

The longest prefix counts. Certificates of authorities (*.crt), and a client's own
(NAME.cert, NAME.key), are found in /etc/docker/certs.d/HOST[:PORT], as by docker.
Registries on this machine (loopback) need neither certificate nor TLS.

What refers to an image in its registry (OCI 1.1: signatures, lists of its content)
comes with a pull and goes with a push.
`,
		"storage": `The store (see unio info) is a valid OCI image layout:

  index.json, blobs/  references, configs, manifests, layers: the truth
  layers/, views/     indexes, which are made again when they are missing
  containers/         one folder each, with what it changed in upper/
  state/              locks and temporary files

skopeo and umoci read it as oci:FOLDER:NAME. unio system df tells what takes space,
unio system prune frees what nothing needs, unio fsck verifies everything.
`,
	}
}

func topicCandidates() []candidate {
	var list []candidate
	for _, name := range slices.Sorted(maps.Keys(topics())) {
		list = append(list, candidate{name, "topic"})
	}
	return list
}

// help explains what its arguments name; without any it lists what there is.
func help(c *cli.Context) error {
	words := c.Args().Slice()
	text, err := helpText(c.App, words)
	if err != nil {
		return err
	}
	_, err = io.WriteString(envOf(c).stdout, text)
	return err
}

func helpText(app *cli.App, words []string) (string, error) {
	if len(words) == 0 {
		names := strings.Join(slices.Sorted(maps.Keys(topics())), ", ")
		return usageText(app, nil) + "\nTopics for 'unio help TOPIC': " + names + "\n", nil
	}
	if text, ok := topics()[words[0]]; ok && len(words) == 1 {
		return text, nil
	}
	var found *cli.Command
	children := app.Commands
	for _, w := range words {
		i := slices.IndexFunc(children, func(c *cli.Command) bool { return c.HasName(w) && !c.Hidden })
		if i < 0 {
			return "", fmt.Errorf("no command or topic %q: see 'unio help'", strings.Join(words, " "))
		}
		found = children[i]
		children = found.Subcommands
	}
	return usageText(app, called(found, app.HelpName+" "+strings.Join(words, " "))), nil
}
