package parity

import (
	"fmt"
	"os"
	"strings"
)

// Step is one line of a script.
type Step struct {
	Line    int    // in the file, from 1
	Command string // for the shell
	// Only names the one side that the step is for; "" is both.
	Only string
	// Quiet steps must succeed, their answers are not compared.
	Quiet bool
	// Differences are the names of entries that explain how the sides differ.
	Differences []string
}

// ReadScript reads a script file.
func ReadScript(path string) ([]Step, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	steps, err := parseScript(string(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return steps, nil
}

func parseScript(text string) ([]Step, error) {
	var steps []Step
	var pending string
	first := 0
	for i, line := range strings.Split(text, "\n") {
		if pending == "" {
			first = i + 1
		}
		pending += line
		if before, more := strings.CutSuffix(pending, `\`); more {
			pending = before
			continue
		}
		step, ok, err := parseStep(strings.TrimSpace(pending))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", first, err)
		}
		if ok {
			step.Line = first
			steps = append(steps, step)
		}
		pending = ""
	}
	return steps, nil
}

// parseStep reads one whole line; ok is false for blank lines and comments.
func parseStep(text string) (step Step, ok bool, err error) {
	if text == "" || text[0] == '#' {
		return step, false, nil
	}
	word, rest, _ := strings.Cut(text, " ")
	switch {
	case word == "quiet":
		step.Quiet = true
	case word == "docker:", word == "unio:":
		step.Only, step.Quiet = strings.TrimSuffix(word, ":"), true
	case word[0] == '~':
		step.Differences = strings.Split(word[1:], ",")
	default:
		rest = text
	}
	step.Command = strings.TrimSpace(rest)
	if step.Command == "" {
		return step, false, fmt.Errorf("%q without a command", word)
	}
	return step, true, nil
}
