package integration

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// A tourStep is one command of docs/tour.md with what it should print.
type tourStep struct {
	line    int    // in the page
	command string // for bash; a here-document keeps its lines
	output  []string
}

// tourSteps reads the "console" blocks of a page: "$ " starts a command, which
// goes on after a trailing "\" and to the end of a here-document; what follows
// is its output.
func tourSteps(t *testing.T, path string) []tourStep {
	t.Helper()
	page, err := os.ReadFile(path)
	must(t, err)
	var steps []tourStep
	inside, until := false, ""
	for i, line := range strings.Split(string(page), "\n") {
		last := len(steps) - 1
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```console"
		case !inside:
		case until != "":
			steps[last].command += "\n" + line
			if line == until {
				until = ""
			}
		case strings.HasPrefix(line, "$ "):
			steps = append(steps, tourStep{line: i + 1, command: line[2:]})
			if m := hereDocument.FindStringSubmatch(line); m != nil {
				until = m[1]
			}
		case last >= 0 && len(steps[last].output) == 0 && strings.HasSuffix(steps[last].command, "\\"):
			steps[last].command += "\n" + line
		case last < 0:
			t.Fatalf("%s:%d: output before the first command", path, i+1)
		default:
			steps[last].output = append(steps[last].output, line)
		}
	}
	return steps
}

var hereDocument = regexp.MustCompile(`<<-?'?(\w+)'?$`)

// interactive reports whether the command needs a terminal.
func (s *tourStep) interactive() bool {
	return regexp.MustCompile(`unio (run|exec|start|attach) (-\w*t\w* |.* -\w*t\w* )`).MatchString(s.command)
}

// prompt is what busybox's shell and bash show root before each line in a container.
var prompt = regexp.MustCompile(`^(/\S* # |root@[^:]+:[^#]*# )(.*)$`)

// keys are the lines that the page shows typed into the terminal.
func (s *tourStep) keys() []string {
	var keys []string
	for _, line := range s.output {
		if m := prompt.FindStringSubmatch(line); m != nil {
			keys = append(keys, m[2])
		}
	}
	return keys
}

// tourMasks replace what is another one each time.
var tourMasks = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`\x1b\[[0-9;?]*[A-Za-z]`), ""},
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "<id>"},
	{regexp.MustCompile(`\b[0-9a-f]{12}\b`), "<id>"},
	{regexp.MustCompile(`(?i)(less than a second|about a minute|\d+ (second|minute)s?)`), "<time>"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`), "<time>"},
	{regexp.MustCompile(`\b\d+(\.\d+)?[kMG]?B\b`), "<size>"},
	{regexp.MustCompile(`size: \d+`), "size: <n>"},
	{regexp.MustCompile(`localhost:\d+`), "<registry>"},
	{regexp.MustCompile(`[ \t]+`), " "}, // columns move with what is masked
}

// tourLines is text as it is compared: masked, without empty ends of lines.
func tourLines(text string) []string {
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "")
	for _, m := range tourMasks {
		text = m.pattern.ReplaceAllString(text, m.by)
	}
	var lines []string
	for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		lines = append(lines, strings.TrimRight(line, " "))
	}
	return lines
}

// compareTour says where the output differs from the page; "…" alone on a line
// of the page stands for any lines.
func compareTour(want, got []string) error {
	for len(want) > 0 {
		if want[0] == "…" {
			rest := want[1:]
			for skip := range len(got) + 1 {
				if compareTour(rest, got[skip:]) == nil {
					return nil
				}
			}
			return fmt.Errorf("nothing fits what follows …: %q", rest)
		}
		if len(got) == 0 {
			return fmt.Errorf("the output ends before %q", want[0])
		}
		if want[0] != got[0] {
			return fmt.Errorf("want %q\n got %q", want[0], got[0])
		}
		want, got = want[1:], got[1:]
	}
	if len(got) > 0 {
		return fmt.Errorf("more output than the page shows: %q", got[0])
	}
	return nil
}
