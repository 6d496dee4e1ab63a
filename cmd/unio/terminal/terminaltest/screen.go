// Package terminaltest is a terminal for tests.
package terminaltest

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/mattn/go-runewidth"
)

// Screen is a terminal of the tests: it wraps long lines, keeps the cursor on
// the screen, and breaks lines anew when its width changes, as terminals with
// scrollback do. It knows the sequences that unio's progress and tables use and no others.
type Screen struct {
	t      testing.TB
	width  int
	height int

	mu    sync.Mutex
	lines []string // scrollback and screen; what is wrapped goes on in the next
	wraps []bool   // by line: the next one belongs to it
	row   int
	col   int
	tail  string // the beginning of a sequence or character that was cut off
}

// New is an empty screen of so many columns and lines.
func New(t testing.TB, width, height int) *Screen {
	return &Screen{t: t, width: width, height: height, lines: []string{""}, wraps: []bool{false}}
}

var sequences = regexp.MustCompile(`\x1b\[(\d*)([A-Za-z])|\r|\n|[^\x1b\r\n]+|\x1b`)

// Write shows what a program writes.
func (s *Screen) Write(out []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := s.tail + string(out)
	whole := strings.TrimSuffix(text, unfinished.FindString(text))
	s.tail = text[len(whole):]
	for _, m := range sequences.FindAllStringSubmatch(whole, -1) {
		s.obey(m[0], m[1], m[2])
	}
	return len(out), nil
}

// unfinished is what may go on in the next Write: a sequence without its
// letter, a character without its last byte.
var unfinished = regexp.MustCompile(`(?:\x1b(?:\[\d*)?|[^\x00-\x{FFFC}\x{FFFE}-\x{10FFFF}]+)$`)

func (s *Screen) obey(text, arg, letter string) {
	n := 1
	fmt.Sscan(arg, &n)
	switch {
	case letter == "A":
		s.row = max(s.row-n, s.top())
	case letter == "J":
		s.lines, s.wraps = s.lines[:s.row+1], s.wraps[:s.row+1]
		s.eraseLine()
	case letter == "K":
		s.eraseLine()
	case letter == "m", letter == "n": // colours; a question that shells ask and do without
	case letter != "" || text == "\x1b":
		s.t.Errorf("unknown sequence %q", text)
	case text == "\r":
		s.col = 0
	case text == "\n":
		s.col = 0 // the terminal driver adds the return (ONLCR)
		s.down()
	default:
		s.print(text)
	}
}

// top is the first line on the screen.
func (s *Screen) top() int { return max(len(s.lines)-s.height, 0) }

func (s *Screen) down() {
	if s.row++; s.row == len(s.lines) {
		s.lines, s.wraps = append(s.lines, ""), append(s.wraps, false)
	}
}

func (s *Screen) eraseLine() {
	s.lines[s.row] = runewidth.Truncate(s.lines[s.row], s.col, "")
	s.wraps[s.row] = false
}

func (s *Screen) print(text string) {
	for _, r := range text {
		if s.col+runewidth.RuneWidth(r) > s.width {
			s.wraps[s.row] = true
			s.down()
			s.col = 0
		}
		line := s.lines[s.row]
		left := runewidth.FillRight(runewidth.Truncate(line, s.col, ""), s.col)
		right := strings.TrimPrefix(line, runewidth.Truncate(line, s.col+runewidth.RuneWidth(r), ""))
		s.lines[s.row] = left + string(r) + right
		s.col += runewidth.RuneWidth(r)
	}
}

// Resize breaks all lines anew. The cursor stays on its character.
func (s *Screen) Resize(width, height int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, wraps, row, col := s.lines, s.wraps, s.row, s.col
	s.width, s.height = width, height
	s.lines, s.wraps, s.row, s.col = []string{""}, []bool{false}, 0, 0
	var atRow, atCol int
	for i, line := range old {
		if i == row {
			left := runewidth.Truncate(line, col, "")
			s.print(left)
			atRow, atCol = s.row, s.col
			line = strings.TrimPrefix(line, left)
		}
		s.print(line)
		if !wraps[i] && i < len(old)-1 {
			s.col = 0
			s.down()
		}
	}
	s.row, s.col = atRow, atCol
}

// Text is all that was shown, without empty lines at the end.
func (s *Screen) Text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for i, line := range s.lines {
		b.WriteString(line)
		if !s.wraps[i] {
			b.WriteString("\n")
		}
	}
	return strings.TrimRight(b.String(), "\n")
}

// Size is the width and height.
func (s *Screen) Size() (int, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.width, s.height
}

// Cursor is the column where the cursor stands, and the text of its line.
func (s *Screen) Cursor() (column int, line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.col, s.lines[s.row]
}
