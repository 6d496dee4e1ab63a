package dockerfile

import (
	"errors"
	"fmt"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// LineError is an error that belongs to lines of the Dockerfile.
type LineError struct {
	First, Last int      // lines, from 1
	Source      []string // all lines of the Dockerfile
	// Output is the end of what the step printed, if it is a RUN.
	Output string
	Err    error
}

func (e *LineError) Error() string { return e.Err.Error() }
func (e *LineError) Unwrap() error { return e.Err }

// around is how many lines are shown before and after those meant.
const around = 2

// maxShown is the most bytes of a line that are shown.
const maxShown = 400

// Excerpt shows the lines meant and those around them, as buildx does.
func (e *LineError) Excerpt() string {
	const rule = "--------------------\n"
	var b strings.Builder
	b.WriteString(rule)
	for n := max(1, e.First-around); n <= min(len(e.Source), e.Last+around); n++ {
		mark := "   "
		if n >= e.First && n <= e.Last {
			mark = ">>>"
		}
		line := strings.TrimSuffix(e.Source[n-1], "\r")
		if len(line) > maxShown {
			line = strings.ToValidUTF8(line[:maxShown], "") + "…"
		}
		fmt.Fprintf(&b, " %3d | %s %s\n", n, mark, line)
	}
	b.WriteString(rule)
	return b.String()
}

// CommandError says that the program of a RUN failed.
type CommandError struct {
	Args []string
	Code int
}

func (e *CommandError) Error() string {
	return fmt.Sprintf("The command '%s' returned a non-zero code: %d", strings.Join(e.Args, " "), e.Code)
}

// atLines puts an error at lines of the Dockerfile, unless it has some.
func (p *plan) atLines(err error, where []parser.Range) error {
	var has *LineError
	if err == nil || errors.As(err, &has) || len(where) == 0 {
		return err
	}
	e := &LineError{First: where[0].Start.Line, Source: p.source, Err: err}
	e.Last = e.First
	for _, r := range where {
		e.First, e.Last = min(e.First, r.Start.Line), max(e.Last, r.End.Line)
	}
	return e
}

// parseError is an error of buildkit's parsers with its place. The words are
// docker's.
func (p *plan) parseError(err error) error {
	var at *parser.LocationError
	if !errors.As(err, &at) || len(at.Locations) == 0 || len(at.Locations[0]) == 0 || at.Locations[0][0].Start.Line == 0 {
		return &textError{"failed to parse Dockerfile: " + err.Error(), errors.Join(ErrDockerfile, err)}
	}
	where := at.Locations[0]
	text := err.Error()
	if !strings.HasPrefix(text, "dockerfile parse error") {
		text = fmt.Sprintf("dockerfile parse error on line %d: %s", where[0].Start.Line, text)
	}
	return p.atLines(&textError{text, errors.Join(ErrDockerfile, err)}, where)
}

// textError is an error with exactly this text.
type textError struct {
	text  string
	cause error
}

func (e *textError) Error() string { return e.text }
func (e *textError) Unwrap() error { return e.cause }

// bad is an error of the Dockerfile with exactly this text.
func bad(format string, args ...any) error {
	return &textError{fmt.Sprintf(format, args...), ErrDockerfile}
}
