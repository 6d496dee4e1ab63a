package parity

import (
	"fmt"
	"os"
	"strings"
)

// Recorded holds docker's answers to a script as they were when it was last
// run beside docker, masked and with differences explained. A file has for each
// compared step a line "$ COMMAND", the answer, and an empty line.
type Recorded struct{ answers []string }

// Add appends a step.
func (r *Recorded) Add(s Step, a Answer) {
	r.answers = append(r.answers, fmt.Sprintf("$ %s\n%s\n", s.Command, a))
}

// Text is what [ReadRecorded] reads.
func (r *Recorded) Text() string { return strings.Join(r.answers, "\n") }

// ReadRecorded reads the answers of a script.
func ReadRecorded(path string) (string, error) {
	text, err := os.ReadFile(path)
	return string(text), err
}

// FirstDifference shows the first step in which two records differ; empty: they
// are the same.
func FirstDifference(want, got string) string {
	if want == got {
		return ""
	}
	w, g := strings.Split(want, "\n$ "), strings.Split(got, "\n$ ")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return fmt.Sprintf("recorded:\n%s\nnow:\n%s", w[i], g[i])
		}
	}
	return fmt.Sprintf("recorded are %d steps, now there are %d", len(w), len(g))
}
