// Gate reads the events of `go test -json` on its standard input, prints the
// lines go test would print, and decides whether the run counts: it fails when
// a test failed, when a test that must run did not pass, when a test was
// skipped although nothing may be (-strict), and when a mount was left behind.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// event is one line of go test -json (see `go doc test2json`).
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
}

// run is what the events said.
type run struct {
	passed  map[string]bool // "package test"
	skipped map[string]string
	said    map[string][]string // the last lines a test printed
	failed  []string
}

const (
	remembered = 20   // lines of each test, repeated at the end if it fails
	longest    = 1000 // bytes of a line that are printed
)

func main() {
	must := flag.String("must", "", "file with the tests that must have passed")
	may := flag.String("may-skip", "", "file with the tests that may be skipped")
	strict := flag.Bool("strict", false, "fail when any other test is skipped or a listed one did not run")
	flag.Parse()
	if err := gate(*must, *may, *strict); err != nil {
		fmt.Fprintln(os.Stderr, "gate:", err)
		os.Exit(1)
	}
}

func gate(must, may string, strict bool) error {
	before, err := mounts()
	if err != nil {
		return err
	}
	r, err := read(os.Stdin, os.Stdout)
	if err != nil {
		return err
	}
	problems := r.failures()
	if strict {
		owed, err := r.owed(must, may)
		if err != nil {
			return err
		}
		problems = append(problems, owed...)
	}
	left, err := leftBehind(before)
	if err != nil {
		return err
	}
	problems = append(problems, left...)
	r.repeat(os.Stdout)
	fmt.Printf("gate: %d passed, %d skipped, %d failed\n", len(r.passed), len(r.skipped), len(r.failed))
	if len(problems) > 0 {
		return errors.New(strings.Join(problems, "\ngate: "))
	}
	return nil
}

// read takes in all events and passes on the output, without the lines that
// only announce a test.
func read(in io.Reader, out io.Writer) (*run, error) {
	r := &run{passed: map[string]bool{}, skipped: map[string]string{}, said: map[string][]string{}}
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			r.take(line, out)
		}
		if errors.Is(err, io.EOF) {
			return r, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading events: %w", err)
		}
	}
}

func (r *run) take(line []byte, out io.Writer) {
	var e event
	if json.Unmarshal(line, &e) != nil || e.Action == "" {
		fmt.Fprintf(out, "%s", line) // go itself complains in plain text
		return
	}
	name := strings.TrimSpace(e.Package + " " + e.Test)
	switch e.Action {
	case "output", "build-output":
		r.output(name, e.Output, out)
	case "pass":
		if e.Test != "" {
			r.passed[name] = true
			delete(r.said, name)
		}
	case "skip":
		if e.Test != "" {
			r.skipped[name] = r.last(name)
		}
	case "fail", "build-fail":
		r.failed = append(r.failed, name)
	}
}

func (r *run) output(name, text string, out io.Writer) {
	trimmed := strings.TrimSpace(text)
	if strings.HasPrefix(trimmed, "=== ") {
		return
	}
	if len(text) > longest {
		text = text[:longest] + " (and so on)\n"
	}
	if trimmed != "" && !strings.HasPrefix(trimmed, "--- ") {
		said := append(r.said[name], text)
		r.said[name] = said[max(0, len(said)-remembered):]
	}
	fmt.Fprint(out, text)
}

// last is the last line that a test printed: why it was skipped, for one.
func (r *run) last(name string) string {
	if said := r.said[name]; len(said) > 0 {
		return strings.TrimSpace(said[len(said)-1])
	}
	return ""
}

// repeat prints again what the failed tests said. Of a long run's output often
// only the end is looked at.
func (r *run) repeat(out io.Writer) {
	for _, name := range r.failed {
		fmt.Fprintf(out, "gate: %s said:\n%s", name, strings.Join(r.said[name], ""))
	}
}

func (r *run) failures() []string {
	var problems []string
	for _, name := range r.failed {
		problems = append(problems, "failed: "+name)
	}
	if len(r.passed) == 0 {
		problems = append(problems, "no test passed: did anything run?")
	}
	return problems
}

// owed lists what a strict run is missing.
func (r *run) owed(must, may string) ([]string, error) {
	wanted, err := list(must)
	if err != nil {
		return nil, err
	}
	excused, err := list(may)
	if err != nil {
		return nil, err
	}
	var problems []string
	for _, name := range wanted {
		if !r.passed[name] {
			problems = append(problems, "must run and pass, did not: "+name)
		}
	}
	for name, why := range r.skipped {
		if !slices.Contains(excused, name) {
			problems = append(problems, fmt.Sprintf("skipped: %s (%s)", name, why))
		}
	}
	slices.Sort(problems)
	return problems, nil
}

// list reads "package test" from the first two words of each line.
func list(path string) ([]string, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var names []string
	for line := range strings.Lines(string(data)) {
		words := strings.Fields(line)
		if len(words) >= 2 && !strings.HasPrefix(words[0], "#") {
			names = append(names, words[0]+" "+words[1])
		}
	}
	return names, nil
}

// mounts returns the lines of the mount table.
func mounts() ([]string, error) {
	data, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSpace(string(data)), "\n"), nil
}

func leftBehind(before []string) ([]string, error) {
	after, err := mounts()
	if err != nil {
		return nil, err
	}
	var problems []string
	for _, line := range after {
		if !slices.Contains(before, line) {
			problems = append(problems, "mount left behind: "+line)
		}
	}
	return problems, nil
}
