package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"
	"github.com/urfave/cli/v2"

	"unio/build/dockerfile"
	"unio/build/output"
	"unio/imagestore"
)

// buildPrinter shows what happens in a build. Stages run at the same time; in
// docker's form each is shown whole, in the order of the Dockerfile, and the
// first that has not ended is shown as it goes.
type buildPrinter struct {
	mu     sync.Mutex
	out    io.Writer
	stderr io.Writer
	quiet  *bytes.Buffer // what is not shown unless the build fails; nil: not quiet
	plain  bool

	current int // stage that is shown as it goes
	waiting map[int]*bytes.Buffer
	ended   map[int]bool
	steps   map[int]*plainStep // of the plain form, by number
	clipped map[int]bool       // stages with more output than can wait
	partial map[int]bool       // stages whose last output did not end its line
}

// plainStep is a step in the plain form.
type plainStep struct {
	start time.Time
	rest  []byte // output that has no line's end yet
	skip  bool   // it was said how it ended
}

func newBuildPrinter(c *cli.Context, outputs []output.Spec) (*buildPrinter, error) {
	e := envOf(c)
	p := &buildPrinter{
		out: e.stdout, stderr: e.stderr, waiting: map[int]*bytes.Buffer{}, ended: map[int]bool{},
		steps: map[int]*plainStep{}, clipped: map[int]bool{}, partial: map[int]bool{},
	}
	if slices.ContainsFunc(outputs, func(s output.Spec) bool { return s.ToStdout() }) {
		p.out = e.stderr
	}
	mode := c.String("progress")
	switch mode {
	case "", "auto", "tty":
	case "plain":
		p.plain = true
	case "quiet":
	default:
		return nil, fmt.Errorf("invalid progress mode %q: want auto, plain, tty or quiet", mode)
	}
	if c.Bool("quiet") || mode == "quiet" {
		p.quiet = &bytes.Buffer{}
		p.out = p.quiet
	}
	return p, nil
}

// event shows one event.
func (p *buildPrinter) event(e dockerfile.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.plain {
		p.plainEvent(e)
		return
	}
	w := p.out
	if e.Stage != p.current {
		if p.waiting[e.Stage] == nil {
			p.waiting[e.Stage] = &bytes.Buffer{}
		}
		w = p.waiting[e.Stage]
	}
	if e.Kind == dockerfile.Output && p.clip(w, &e) {
		return
	}
	p.classic(w, e)
	switch e.Kind {
	case dockerfile.StageEnds, dockerfile.StageSkips, dockerfile.StepFails:
		p.ended[e.Stage] = true
		p.advance()
	}
}

// maxWaiting is how much may wait, in bytes, of the output of a stage that is
// not shown yet.
const maxWaiting = 16 << 20

// clip drops output of a stage that has more waiting than that, and says so
// once.
func (p *buildPrinter) clip(w io.Writer, e *dockerfile.Event) (dropped bool) {
	waiting, ok := w.(*bytes.Buffer)
	if !ok || waiting.Len() < maxWaiting {
		return false
	}
	if !p.clipped[e.Stage] {
		p.clipped[e.Stage] = true
		fmt.Fprintf(w, "\n[output clipped, %d MiB reached]\n", maxWaiting>>20)
	}
	return true
}

// advance goes on to the next stage that has not ended, and shows what came of
// those before it.
func (p *buildPrinter) advance() {
	for p.ended[p.current] {
		p.current++
		if b := p.waiting[p.current]; b != nil {
			_, _ = b.WriteTo(p.out)
			delete(p.waiting, p.current)
		}
	}
}

// classic writes an event as docker's own builder does.
func (p *buildPrinter) classic(w io.Writer, e dockerfile.Event) {
	if e.Kind == dockerfile.Output {
		io.WriteString(w, e.Text)
		p.partial[e.Stage] = !strings.HasSuffix(e.Text, "\n")
		return
	}
	if p.partial[e.Stage] {
		fmt.Fprintln(w)
		p.partial[e.Stage] = false
	}
	switch e.Kind {
	case dockerfile.StepBegins:
		fmt.Fprintf(w, "Step %d/%d : %s\n", e.Step, e.Total, e.Text)
	case dockerfile.Triggers:
		fmt.Fprintf(w, "# Executing %d build trigger%s\n", e.N, map[bool]string{true: "s"}[e.N > 1])
	case dockerfile.Cached:
		fmt.Fprintln(w, " ---> Using cache")
	case dockerfile.Running:
		fmt.Fprintf(w, " ---> Running in %s\n", e.ID)
	case dockerfile.Removed:
		fmt.Fprintf(w, "Removing intermediate container %s\n", e.ID)
	case dockerfile.StepEnds:
		fmt.Fprintf(w, " ---> %s\n", e.ID)
	}
}

// plainEvent writes an event with the number of its step and its time, as
// BuildKit does with --progress=plain.
func (p *buildPrinter) plainEvent(e dockerfile.Event) {
	if e.Kind == dockerfile.StepBegins {
		p.steps[e.Step] = &plainStep{start: time.Now()}
		fmt.Fprintf(p.out, "#%d %s%s\n", e.Step, plainTitle(&e), firstLine(e.Text))
		return
	}
	s := p.steps[e.Step]
	if s == nil {
		return
	}
	took := time.Since(s.start).Seconds()
	switch e.Kind {
	case dockerfile.Output:
		s.rest = append(s.rest, e.Text...)
		p.plainLines(e.Step, s, took, false)
	case dockerfile.Cached:
		s.skip = true
		fmt.Fprintf(p.out, "#%d CACHED\n", e.Step)
	case dockerfile.StepEnds:
		p.plainLines(e.Step, s, took, true)
		if !s.skip {
			fmt.Fprintf(p.out, "#%d DONE %.1fs\n", e.Step, took)
		}
		fmt.Fprintln(p.out)
	case dockerfile.StepFails:
		p.plainLines(e.Step, s, took, true)
		fmt.Fprintf(p.out, "#%d ERROR after %.1fs\n\n", e.Step, took)
	}
}

// plainTitle names the stage and the step in it.
func plainTitle(e *dockerfile.Event) string {
	if e.StageTotal == 0 {
		return "" // an ARG before the first FROM
	}
	name := e.Name
	if name == "" && e.Stage > 0 {
		name = fmt.Sprintf("stage-%d", e.Stage)
	}
	if name != "" {
		name += " "
	}
	return fmt.Sprintf("[%s%d/%d] ", name, e.StageStep, e.StageTotal)
}

func firstLine(s string) string {
	line, _, more := strings.Cut(s, "\n")
	if more {
		line += " …"
	}
	return line
}

// plainLines writes the lines of output that are complete; all of them at the
// end of the step.
func (p *buildPrinter) plainLines(n int, s *plainStep, took float64, end bool) {
	for {
		i := bytes.IndexByte(s.rest, '\n')
		if i < 0 {
			break
		}
		fmt.Fprintf(p.out, "#%d %.3f %s\n", n, took, s.rest[:i])
		s.rest = s.rest[i+1:]
	}
	if end && len(s.rest) > 0 {
		fmt.Fprintf(p.out, "#%d %.3f %s\n", n, took, s.rest)
		s.rest = nil
	}
}

// note shows a line that belongs to no step.
func (p *buildPrinter) note(line string) {
	if p.quiet == nil {
		fmt.Fprintln(p.out, line)
	}
}

// failed shows where the Dockerfile failed. What a quiet build has printed is
// shown now.
func (p *buildPrinter) failed(err error, name string) {
	if p.quiet != nil {
		_, _ = p.quiet.WriteTo(p.stderr)
	}
	var at *dockerfile.LineError
	if !errors.As(err, &at) {
		return
	}
	if p.plain && at.Output != "" {
		fmt.Fprintf(p.stderr, "------\n > %s:\n%s------\n", firstLine(at.Source[at.First-1]), withNewline(at.Output))
	}
	fmt.Fprintf(p.stderr, "%s:%d\n%s", name, at.First, at.Excerpt())
}

func withNewline(s string) string {
	if strings.HasSuffix(s, "\n") {
		return s
	}
	return s + "\n"
}

// built tells what came out; kept says that the image is in the store.
func (p *buildPrinter) built(c *cli.Context, img *imagestore.Image, kept bool) error {
	if file := c.String("iidfile"); file != "" {
		text := img.ID.String()
		if p.quiet != nil {
			text += "\n" // as docker's client does
		}
		if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
			return err
		}
	}
	if !kept {
		return nil
	}
	if p.quiet != nil {
		_, err := fmt.Fprintln(envOf(c).stdout, img.ID)
		return err
	}
	fmt.Fprintf(p.out, "Successfully built %s\n", imagestore.ShortID(img.ID))
	for _, tag := range c.StringSlice("tag") {
		fmt.Fprintf(p.out, "Successfully tagged %s\n", familiarTag(tag))
	}
	return nil
}

// familiarTag is a name as users see it, with its tag.
func familiarTag(tag string) string {
	n, err := imagestore.ParseTag(tag)
	if err != nil {
		return tag
	}
	return reference.FamiliarString(n)
}
