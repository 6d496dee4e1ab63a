package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"unio/cmd/unio/progress"
)

// The scripts hand every question to the hidden command "__complete", which
// knows the commands, the images and the containers. It is given the words of
// the command line up to the cursor, the last one possibly empty, and answers
// with one candidate a line, TAB, what it is; a last line ":files" asks the
// shell to add the names of files.

const bashCompletion = `# bash completion for unio
_unio() {
	local line name
	COMPREPLY=()
	local IFS=$'\n'
	local words=("${COMP_WORDS[@]:1:COMP_CWORD}")
	# bash takes names with a colon apart (COMP_WORDBREAKS).
	local cur=${COMP_WORDS[COMP_CWORD]} whole
	if declare -F __ltrim_colon_completions >/dev/null && declare -F _get_comp_words_by_ref >/dev/null; then
		local split cword
		_get_comp_words_by_ref -n : -w split -i cword -c whole
		words=("${split[@]:1:cword}")
	else
		whole=$cur
	fi
	for line in $(unio __complete -- "${words[@]}" 2>/dev/null); do
		name=${line%%$'\t'*}
		case $name in
		:files) COMPREPLY+=($(compgen -f -- "$cur")) ;;
		*) COMPREPLY+=("$name") ;;
		esac
	done
	if declare -F __ltrim_colon_completions >/dev/null; then
		__ltrim_colon_completions "$whole"
	fi
}
complete -o filenames -o nosort -F _unio unio 2>/dev/null || complete -o filenames -F _unio unio
`

const zshCompletion = `#compdef unio
# zsh completion for unio
_unio() {
	local line files=
	local -a found
	for line in ${(f)"$(unio __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)"}; do
		case $line in
		:files) files=yes ;;
		*) found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}") ;;
		esac
	done
	(( $#found )) && _describe -V unio found
	[[ -n $files ]] && _files
}
if [ "$funcstack[1]" = "_unio" ]; then
	_unio "$@"
else
	compdef _unio unio
fi
`

const fishCompletion = `# fish completion for unio
function __unio_complete
	set -l words (commandline -opc) (commandline -ct)
	for line in (unio __complete -- $words[2..-1] 2>/dev/null)
		if test "$line" = ":files"
			__fish_complete_path (commandline -ct)
		else
			printf '%s\n' $line
		end
	end
end
complete -c unio -f -a '(__unio_complete)'
`

func completionCommand() *cli.Command {
	scripts := map[string]string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}
	return &cli.Command{
		Name:      "completion",
		Usage:     "Print the completion script for a shell",
		ArgsUsage: "bash|zsh|fish",
		Description: `For this shell only:   source <(unio completion bash)
For every shell:       unio completion bash > /etc/bash_completion.d/unio
                       unio completion zsh > /usr/share/zsh/site-functions/_unio
                       unio completion fish > ~/.config/fish/completions/unio.fish`,
		Before: exactArgs(1),
		Action: func(c *cli.Context) error {
			script, ok := scripts[c.Args().First()]
			if !ok {
				return fmt.Errorf("no completion for %q: want bash, zsh or fish", c.Args().First())
			}
			_, err := io.WriteString(envOf(c).stdout, script)
			return err
		},
	}
}

func completeCommand() *cli.Command {
	return &cli.Command{
		Name: "__complete", Usage: "Answer the completion scripts", Hidden: true,
		Action: func(c *cli.Context) error {
			e := envOf(c)
			words := c.Args().Slice()
			if len(words) == 0 {
				words = []string{""}
			}
			for _, one := range complete(c.Context, e, c.App, words) {
				fmt.Fprintln(e.stdout, strings.TrimSuffix(one.text+"\t"+one.about, "\t"))
			}
			return nil
		},
	}
}

// candidate is one way to go on.
type candidate struct{ text, about string }

// filesToo asks the shell for the names of files.
const filesToo = ":files"

// complete lists what the last word can become.
func complete(ctx context.Context, e *env, app *cli.App, words []string) []candidate {
	current := words[len(words)-1]
	at := cursor{flags: app.Flags, children: app.Commands}
	for _, w := range words[:len(words)-1] {
		at.pass(w)
	}
	var list []candidate
	switch {
	case at.value != nil:
		list = valueCandidates(at.value)
	case strings.HasPrefix(current, "-") && !at.plain:
		list = flagCandidates(at.flags)
	case len(at.children) > 0:
		list = commandCandidates(at.children)
	case at.command != nil:
		list = argumentCandidates(ctx, e, at.command, at.args)
	}
	return slices.DeleteFunc(list, func(c candidate) bool {
		return c.text != filesToo && !strings.HasPrefix(c.text, current)
	})
}

// cursor follows a command line word by word.
type cursor struct {
	flags    []cli.Flag
	children []*cli.Command
	command  *cli.Command
	value    cli.Flag // the flag whose value comes next
	args     int      // arguments seen
	plain    bool     // behind "--"
}

func (at *cursor) pass(word string) {
	switch {
	case at.value != nil:
		at.value = nil
	case word == "--":
		at.plain = true
	case strings.HasPrefix(word, "-") && len(word) > 1 && !at.plain:
		name, _, given := strings.Cut(strings.TrimLeft(word, "-"), "=")
		if !strings.HasPrefix(word, "--") {
			name = name[len(name)-1:] // the last of several short ones may take a value
		}
		if f := findFlag(at.flags, name); f != nil && takesValue(f) && !given {
			at.value = f
		}
	case len(at.children) > 0:
		i := slices.IndexFunc(at.children, func(c *cli.Command) bool { return c.HasName(word) })
		if i < 0 {
			at.children = nil
			return
		}
		at.command = at.children[i]
		at.flags, at.children = at.command.Flags, at.command.Subcommands
	default:
		at.args++
	}
}

func flagCandidates(flags []cli.Flag) []candidate {
	list := []candidate{{"--help", "Print usage"}}
	for _, f := range visible(flags) {
		about := ""
		if d, ok := f.(cli.DocGenerationFlag); ok {
			about = joinLines(d.GetUsage())
		}
		list = append(list, candidate{"--" + longName(f), about})
	}
	return list
}

// valueCandidates are the values that a flag takes: words if it is known which,
// files otherwise.
func valueCandidates(f cli.Flag) []candidate {
	if longName(f) != "progress" {
		return []candidate{{text: filesToo}}
	}
	var list []candidate
	for _, mode := range progress.Modes() {
		list = append(list, candidate{text: mode})
	}
	return list
}

// longName is a flag's name with more than one letter.
func longName(f cli.Flag) string {
	names := f.Names()
	if i := slices.IndexFunc(names, func(n string) bool { return len(n) > 1 }); i >= 0 {
		return names[i]
	}
	return names[0]
}

// joinLines is a help text without line breaks and quotes of value names.
func joinLines(s string) string { return strings.ReplaceAll(strings.ReplaceAll(s, "\n", " "), "`", "") }

func commandCandidates(children []*cli.Command) []candidate {
	var list []candidate
	for _, c := range children {
		if !c.Hidden {
			list = append(list, candidate{c.Name, c.Usage})
		}
	}
	return list
}

// argumentCandidates understands the words in which commands describe their
// arguments.
func argumentCandidates(ctx context.Context, e *env, c *cli.Command, index int) []candidate {
	places := strings.Fields(c.ArgsUsage)
	if len(places) == 0 {
		return nil
	}
	place := places[min(index, len(places)-1)]
	var list []candidate
	if strings.Contains(place, "IMAGE") || strings.Contains(place, "NAME") || strings.Contains(place, "REPOSITORY") || strings.Contains(place, "TARGET") {
		list = append(list, imageCandidates(ctx, e)...)
	}
	if strings.Contains(place, "CONTAINER") || strings.Contains(place, "TARGET") {
		list = append(list, containerCandidates(e)...)
	}
	if strings.ContainsAny(place, "|") && strings.ToLower(place) == place {
		for word := range strings.SplitSeq(strings.Trim(place, "[]"), "|") {
			list = append(list, candidate{text: word})
		}
	}
	if strings.Contains(place, "COMMAND") && c.Name == "help" {
		list = append(commandCandidates(commands()), topicCandidates()...)
	}
	for _, word := range []string{"DIR", "FILE", "PATH", "file"} {
		if strings.Contains(place, word) {
			return append(list, candidate{text: filesToo})
		}
	}
	return list
}

// imageCandidates are the names of all images. Without a store there are none.
func imageCandidates(ctx context.Context, e *env) []candidate {
	st, err := e.store()
	if err != nil {
		return nil
	}
	images, err := st.List(ctx)
	if err != nil {
		return nil
	}
	var list []candidate
	for _, img := range images {
		for _, name := range img.Names {
			list = append(list, candidate{name, "image " + imageID(img.ID, false)})
		}
	}
	return list
}

func containerCandidates(e *env) []candidate {
	containers, err := e.containers().List()
	if err != nil {
		return nil
	}
	var list []candidate
	for _, c := range containers {
		list = append(list, candidate{c.Name, "container of " + imageTitle(c.ImageName, c.Image)})
	}
	return list
}
