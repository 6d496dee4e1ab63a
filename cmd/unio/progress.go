package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"

	"unio/imagestore"
)

// progress shows the steps of long work. Done ends it: what was shown stays on
// the screen, and whatever is printed next starts on a new line.
type progress interface {
	imagestore.Progress
	Done()
}

// newProgress shows progress on w: bars if it is a terminal, lines if it is
// not, nothing if quiet. An event without an ID is a line of text of its own.
func newProgress(w io.Writer, quiet bool) progress {
	if quiet {
		return quietProgress{}
	}
	f, ok := w.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" || !term.IsTerminal(int(f.Fd())) {
		return &lineProgress{w: w, last: map[string]string{}}
	}
	return startBars(f, func() (int, int) {
		width, height, err := term.GetSize(int(f.Fd()))
		if err != nil || width <= 0 || height <= 0 {
			return 80, 24
		}
		return width, height
	})
}

// quietProgress shows nothing.
type quietProgress struct{}

func (quietProgress) Update(imagestore.Event) {}
func (quietProgress) Done()                   {}

// lineProgress writes one line for each step, as docker does when its output
// is not a terminal.
type lineProgress struct {
	mu   sync.Mutex
	w    io.Writer
	last map[string]string // by ID: the step shown last
}

// Update writes a line if the step is new. What goes on with bytes is shown by
// the step that follows it, as in docker's output.
func (p *lineProgress) Update(e imagestore.Event) {
	if e.Total > 0 && hasOwnEnd(e.Action) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.ID == "" {
		fmt.Fprintln(p.w, e.Action)
		return
	}
	if p.last[e.ID] == e.Action {
		return
	}
	p.last[e.ID] = e.Action
	fmt.Fprintf(p.w, "%s: %s\n", e.ID, e.Action)
}

func (*lineProgress) Done() {}

// hasOwnEnd lists docker's steps that only bars show: another line says when
// they are over.
func hasOwnEnd(action string) bool {
	switch action {
	case "Downloading", "Extracting", "Pushing":
		return true
	}
	return false
}

// oneLine keeps text from other places from moving the cursor.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, s)
}
