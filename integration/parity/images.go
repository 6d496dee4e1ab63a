package parity

import "slices"

// imageDifferences are those of the commands that manage images.
func imageDifferences() []Difference {
	return slices.Concat(commandLineDifferences(), filterDifferences(), inspectDifferences(), importDifferences())
}

// commandLineDifferences are those of command lines and help.
func commandLineDifferences() []Difference {
	return []Difference{
		{
			Name: "own-name", Reason: "where docker speaks of itself unio does",
			Docker: []Rewrite{{`Docker`, "docker"}},
		},
		{
			Name: "mounted-folder", Reason: "unio takes a mounted folder for a container",
			Unio: []Rewrite{{`CONTAINER\|DIR`, "CONTAINER"}},
		},
		{
			Name: "own-flags", Reason: "flags of unio's own: `--tree` as a tree of images, `--quiet`; and `--platform`, which the client hides because dockerd 20.10 does not know it",
			Unio: []Rewrite{{`(?m)^.*--(tree|quiet|platform|progress)\b.*\n`, ""}}, Docker: []Rewrite{{`(?m)^.*--(tree|quiet|platform|progress)\b.*\n`, ""}},
		},
		{
			Name: "row-type", Reason: "errors of templates name Go types of the program",
			Docker: []Rewrite{{`\*(?:formatter|image|registry)\.\w+`, "TYPE"}}, Unio: []Rewrite{{`\*main\.\w+`, "TYPE"}},
		},
		{
			Name: "srun", Reason: "the client 28.2 prints `SRun` for `Run` below a wrong number of arguments",
			Docker: []Rewrite{{`(?m)^SRun`, "Run"}},
		},
		{
			Name: "empty-name", Reason: "an empty name leads docker to an address that its daemon does not know, or to an image without a name; unio says that it is no reference",
			Docker: []Rewrite{{`page not found|No such image: (?m:$)`, "invalid reference format"}},
		},
		{
			Name: "reference-case", Reason: "docker 28 names the repository that must be lowercase, as unio does; 20.10 does not",
			Docker: []Rewrite{{`repository name must be`, "repository name (X) must be"}},
			Unio:   []Rewrite{{`repository name \(\S+\) must be`, "repository name (X) must be"}},
		},
		{
			Name: "ipv6-host", Reason: "docker 28 takes registries by IPv6 address in a name; dockerd 20.10 does not",
			Docker: []Rewrite{{`Error: invalid reference format\n`, ""}}, Codes: []int{1, 0},
		},
	}
}

// filterDifferences are those of --filter, and of what a prune says.
func filterDifferences() []Difference {
	return []Difference{
		{
			Name: "capital-invalid", Reason: "docker 20.10 says `Invalid filter`, docker 28 `invalid filter`; unio says the latter",
			Docker: []Rewrite{{`Invalid filter`, "invalid filter"}},
		},
		{
			Name: "filter-dangling", Reason: "docker 28 takes `1` and `0` for `true` and `false` and refuses both at once; 20.10 knows the words only",
			Docker: []Rewrite{{`(?s).+`, ""}}, Unio: []Rewrite{{`(?s).+`, ""}}, Codes: []int{1, 0},
		},
		{
			Name: "filter-both", Reason: "docker 28 refuses `dangling=true` together with `dangling=false`; to 20.10 it is `true`",
			Docker: []Rewrite{{`(?s)REPOSITORY.+`, ""}}, Unio: []Rewrite{{`Error: invalid filter 'dangling=\[false true\]'\n`, ""}}, Codes: []int{0, 1},
		},
		{
			Name: "filter-until", Reason: "docker 28 lists images by `until`; 20.10 does not know the filter",
			Docker: []Rewrite{{`Error: Invalid filter 'until'\n`, ""}}, Unio: []Rewrite{{`(?s).+`, ""}}, Codes: []int{1, 0},
		},
		{
			Name: "prune-dangling", Reason: "docker's client sends a value of its own for `dangling` along, and the daemon takes that for a nonsense one; unio refuses it",
			Docker: []Rewrite{{`Total reclaimed space: 0B\n`, ""}}, Unio: []Rewrite{{`Error: invalid filter 'dangling=\[frob\]'\n`, ""}}, Codes: []int{0, 1},
		},
		{
			Name: "reclaimed", Reason: "docker counts the content of layers that went; unio says how much of the disk is free again, blocks, indexes, configs and manifests included",
			Docker: []Rewrite{{`(reclaimed space:) \S+`, "$1"}}, Unio: []Rewrite{{`(reclaimed space:) \S+`, "$1"}},
		},
	}
}

// inspectDifferences are those of inspect.
func inspectDifferences() []Difference {
	return []Difference{
		{
			Name: "twice-missing", Reason: "docker 20.10 says twice that there is no such image",
			Docker: []Rewrite{{`no such image: \S+: `, ""}},
		},
		{
			Name: "old-fields", Reason: "docker 28 dropped fields of images that 20.10 still has, most of them always empty (`Container`, `ContainerConfig`, `VirtualSize`, and those of `Config` that no image has)",
			Docker: []Rewrite{
				{`"ContainerConfig": ?\{[^}]*\}, *\n?`, ""},
				{`"VirtualSize": ?\d+, *\n?`, ""},
				{`"(Container|Hostname|Domainname|User|AttachStdin|AttachStdout|AttachStderr|Tty|OpenStdin|StdinOnce|Env|Cmd|Image|Volumes|WorkingDir|Entrypoint|OnBuild)": ?(""|null|false), *\n?`, ""},
				{`\n +`, "\n"},
			},
			Unio: []Rewrite{{`\n +`, "\n"}},
		},
		{
			Name: "graph-driver", Reason: "`GraphDriver` names folders of the storage driver; unio names the files of the config and of the layers",
			Docker: []Rewrite{{`("GraphDriver": ?\{)"Data": ?\{[^}]*\}, *"Name": ?"[^"]*"`, "$1"}, {`("GraphDriver": ?\{)\s*"Data": ?\{[^}]*\},\s*"Name": ?"[^"]*"`, "$1"}},
			Unio:   []Rewrite{{`("GraphDriver": ?\{)\s*"Data": ?\{[^}]*\},\s*"Name": ?"[^"]*"`, "$1"}},
		},
		{
			Name: "symlink-size", Reason: "docker's overlay2 counts the targets of symbolic links as content",
			Docker: []Rewrite{{`\b1984233\b`, "1982357"}},
		},
		{
			Name: "inspect-kinds", Reason: "unio has no networks, plugins, nodes and other things of a cluster to inspect",
			Docker: []Rewrite{{`must be one of .*`, "must be one of"}}, Unio: []Rewrite{{`must be one of .*`, "must be one of"}},
		},
	}
}

// importDifferences are those of import, export and changes to configs.
func importDifferences() []Difference {
	return []Difference{
		{
			Name: "change-stopsignal", Reason: "docker 28 takes STOPSIGNAL as a change of import and commit; 20.10 does not",
			Docker: []Rewrite{{`Error: stopsignal is not a valid change command\n`, ""}}, Unio: []Rewrite{{`sha256:\S+\n`, ""}}, Codes: []int{1, 0},
		},
		{
			Name: "change-signal", Reason: "unio looks at the signal's name, docker 20.10 does not get so far",
			Docker: []Rewrite{{`stopsignal is not a valid change command`, "X"}}, Unio: []Rewrite{{`(?i)invalid signal: FROB`, "X"}},
		},
		{
			Name: "import-zstd", Reason: "dockerd 20.10 cannot read zstd, docker 28 and unio can",
			Docker: []Rewrite{{`(?s).+`, ""}}, Unio: []Rewrite{{`sha256:\S+\n`, ""}}, Codes: []int{1, 0},
		},
		{
			Name: "import-bad-tar", Reason: "unio says where and how a tar breaks off; docker names the process that read it",
			Docker: []Rewrite{{`Error processing tar file.*`, "X"}}, Unio: []Rewrite{{`import \S+: layer stream: bad layer tar.*`, "X"}},
		},
		{
			Name: "import-empty", Reason: "docker makes an empty image of an empty file; unio refuses what is no tar",
			Docker: []Rewrite{{`sha256:\S+\n`, ""}}, Unio: []Rewrite{{`Error: import \S+: invalid: there is nothing to read\n`, ""}}, Codes: []int{0, 1},
		},
		{
			Name: "import-folder", Reason: "docker tells of the connection to its daemon that could not read the folder",
			Docker: []Rewrite{{`error during connect.*`, "X"}}, Unio: []Rewrite{{`Error: folder is a folder; import takes a tar`, "X"}},
		},
		{
			Name: "export-root", Reason: "unio's export begins with the root folder itself, whose owner and mode docker drops",
			Unio: []Rewrite{{`(?m)^\./\n`, ""}},
		},
		{
			Name: "export-owners", Reason: "docker adds the names that this machine has for the owners in an image; unio writes their numbers only",
			Docker: []Rewrite{{`root/root +`, "0/0 "}}, Unio: []Rewrite{{`0/0 +`, "0/0 "}},
		},
	}
}
