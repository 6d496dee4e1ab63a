package parity

import "slices"

// buildDifferences are those of build.
func buildDifferences() []Difference {
	client := Difference{
		Name:   "build-client",
		Reason: "docker's client says that its builder is deprecated and what it sends to the daemon; unio reads the context in place",
		Docker: []Rewrite{
			{`(?s)DEPRECATED: .*?https://docs.docker.com/go/buildx/\n\n`, ""},
			{`Sending build context to Docker daemon[^\n]*\n`, ""},
		},
	}
	failed := Difference{
		Name:   "build-error",
		Reason: "a build that fails shows the lines of the Dockerfile and ends with code 1, as with buildx, also where docker's old builder gives the program's",
		Docker: append(client.Docker,
			// The words of buildx's parser; the line's number is the same.
			Rewrite{`(?m)^Error: dockerfile parse error line `, "dockerfile parse error on line "},
			Rewrite{`(?m)^Error: failed to parse Dockerfile: ENV`, "dockerfile parse error on line 2: ENV"},
			Rewrite{`(?m)^Error: no build stage`, "dockerfile parse error on line 1: no build stage"},
			Rewrite{`(?m)^Error: `, ""},
			Rewrite{"\x1b\\[(91|0)m", ""},
		),
		Unio: []Rewrite{
			{`(?s)(^|\n)[^\n]*:\d+\n-{20}\n.*?\n-{20}\n`, "$1"},
			{`(?m)^Error: `, ""},
		},
		Codes: []int{3, 1},
	}
	more := func(name, reason string, docker, unio []Rewrite) Difference {
		return Difference{
			Name: name, Reason: reason, Codes: failed.Codes,
			Docker: slices.Concat(failed.Docker, docker), Unio: slices.Concat(failed.Unio, unio),
		}
	}
	return []Difference{
		client, failed,
		more("build-exec", "a program that is not there fails the step with the code 127, as with buildx; docker's old builder shows what its runtime says",
			[]Rewrite{{`failed to create shim.*\n`, ""}},
			[]Rewrite{{`(The command|exec:).*nothing.*\n`, ""}}),
		more("build-place", "docker's old builder shows where it has mounted the container",
			[]Rewrite{{`lstat \S*/merged/`, "lstat /"}}, nil),
		more("build-early", "what can be seen in the Dockerfile is said before anything is run",
			[]Rewrite{{`(?m)^(Step .*| ---> .*)\n`, ""}}, []Rewrite{{`(?m)^(Step .*| ---> .*)\n`, ""}}),
		more("build-words", "newer words for the same: those of buildx's parser, or of a newer library of docker's",
			[]Rewrite{{`(?m)^(Error: |dockerfile |failed |invalid |Step 1/1 : ARG|unexpected EOF|file with).*\n`, ""}},
			[]Rewrite{{`(?m)^(Error: |dockerfile |failed |invalid |file with).*\n`, ""}}),
	}
}
