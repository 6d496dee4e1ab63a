package parity

import (
	"fmt"
	"regexp"
	"slices"
)

// Difference is an entry: a way in which unio's answers are meant to differ
// from those of this docker, and why. docs/parity.md lists all of them.
type Difference struct {
	Name   string
	Reason string // one sentence, as docs/parity.md has it
	// Docker and Unio rewrite the sides' masked output before it is compared.
	Docker, Unio []Rewrite
	// Codes are the exit codes of docker and unio, where they differ.
	Codes []int
}

// Rewrite replaces what a regular expression matches, in stdout and stderr.
type Rewrite struct{ Pattern, With string }

// Differences lists the entries of all areas.
func Differences() []Difference {
	return slices.Concat(imageDifferences(), buildDifferences(), transferDifferences(), containerDifferences())
}

// differencesNamed finds entries by name.
func differencesNamed(names []string) ([]Difference, error) {
	var list []Difference
	for _, name := range names {
		i := slices.IndexFunc(Differences(), func(d Difference) bool { return d.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("no difference is called %q", name)
		}
		list = append(list, Differences()[i])
	}
	return list, nil
}

// explain applies entries to both answers.
func explain(list []Difference, docker, unio Answer) (Answer, Answer, error) {
	for _, d := range list {
		var err error
		if docker, err = docker.rewrite(d.Docker); err != nil {
			return docker, unio, fmt.Errorf("difference %s: %w", d.Name, err)
		}
		if unio, err = unio.rewrite(d.Unio); err != nil {
			return docker, unio, fmt.Errorf("difference %s: %w", d.Name, err)
		}
		if len(d.Codes) == 2 && docker.Code == d.Codes[0] && unio.Code == d.Codes[1] {
			docker.Code = unio.Code
		}
	}
	return docker, unio, nil
}

func (a Answer) rewrite(list []Rewrite) (Answer, error) {
	for _, r := range list {
		expr, err := regexp.Compile(r.Pattern)
		if err != nil {
			return a, err
		}
		a.Stdout = expr.ReplaceAllString(a.Stdout, r.With)
		a.Stderr = expr.ReplaceAllString(a.Stderr, r.With)
	}
	return a, nil
}
