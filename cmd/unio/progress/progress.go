// Package progress shows the steps of long work: as bars on a terminal, as
// lines, as JSON, or not at all. It learns of them by [imagestore.Event]; an
// event without an ID is a line of text of its own.
//
// The bars are a block of lines that is rewritten in place. Nothing else may
// write to the terminal while a display of bars is on it; what is to be said
// meanwhile is said by an event.
package progress

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"unio/cmd/unio/terminal"
	"unio/imagestore"
)

// Mode is how progress is shown.
type Mode string

// The modes. Auto is TTY on a terminal whose cursor can be moved, and Plain
// elsewhere.
const (
	Auto  Mode = "auto"
	Plain Mode = "plain"
	TTY   Mode = "tty"
	JSON  Mode = "json"
	Quiet Mode = "quiet"
)

// Modes lists the modes for help texts and completion.
func Modes() []string {
	return []string{string(Auto), string(Plain), string(TTY), string(JSON), string(Quiet)}
}

// Parse reads a mode; nothing stands for Auto.
func Parse(s string) (Mode, error) {
	if s == "" {
		return Auto, nil
	}
	if !slices.Contains(Modes(), s) {
		last := len(Modes()) - 1
		return "", fmt.Errorf("invalid progress mode %q: want %s or %s", s, strings.Join(Modes()[:last], ", "), Modes()[last])
	}
	return Mode(s), nil
}

// Display shows progress. Done ends it, once or more often: what was shown
// stays, and whatever is printed next starts on a new line.
type Display interface {
	imagestore.Progress
	Done()
}

// New shows progress on w. Done must be called.
func New(w io.Writer, m Mode) Display {
	if m == Auto && terminal.Moves(w) {
		m = TTY
	}
	switch m {
	case Quiet:
		return silent{}
	case JSON:
		return newJSON(w)
	case TTY:
		return startBars(w, barOptions{
			size:   func() (int, int) { return terminal.Size(w) },
			colors: terminal.ColorsFor(w), signals: screenSignals(w),
		})
	}
	return &lines{w: w, last: map[string]string{}}
}

// silent shows nothing.
type silent struct{}

func (silent) Update(imagestore.Event) {}
func (silent) Done()                   {}
