package build

import (
	"errors"
	"fmt"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	"unio/build/runconfig"
)

// ErrChange says that a line of -c cannot be applied. Errors of that kind read
// as docker's, without its text.
var ErrChange = errors.New("invalid change")

// isChange reports whether a Dockerfile instruction, in small letters, may
// stand in a change (docker's commit and import take these).
func isChange(name string) bool {
	switch name {
	case "cmd", "entrypoint", "env", "expose", "healthcheck", "label",
		"onbuild", "stopsignal", "user", "volume", "workdir":
		return true
	}
	return false
}

type changeError struct{ err error }

func (e *changeError) Error() string   { return e.err.Error() }
func (e *changeError) Unwrap() []error { return []error{ErrChange, e.err} }

// ApplyChanges applies Dockerfile instructions to a config, in order, as
// docker's commit -c and import -c do. Variables in them stand for those of
// the config's environment. After an error, which wraps ErrChange, the config
// may be half changed.
func ApplyChanges(cfg *dockerspec.DockerOCIImageConfig, lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	parsed, err := parser.Parse(strings.NewReader(strings.Join(lines, "\n")))
	if err != nil {
		return &changeError{err}
	}
	ch := &changer{editor: runconfig.Editor{Config: cfg}, lex: shell.NewLex(parsed.EscapeToken)}
	for _, node := range parsed.AST.Children {
		if err := ch.apply(node); err != nil {
			return &changeError{err}
		}
	}
	return nil
}

// changer applies instructions one after the other.
type changer struct {
	editor runconfig.Editor
	lex    *shell.Lex
}

func (ch *changer) apply(node *parser.Node) error {
	name := strings.ToLower(node.Value)
	if !isChange(name) {
		return fmt.Errorf("%s %w", name, runconfig.ErrNoChange)
	}
	instruction, err := instructions.ParseInstruction(node)
	if err != nil {
		return err
	}
	if x, ok := instruction.(instructions.SupportsSingleWordExpansion); ok {
		if err := x.Expand(ch.expand); err != nil {
			return err
		}
	}
	return ch.editor.Apply(instruction)
}

// expand replaces variables in a word.
func (ch *changer) expand(word string) (string, error) {
	out, _, err := ch.lex.ProcessWord(word, shell.EnvsFromSlice(ch.editor.Config.Env))
	return out, err
}
