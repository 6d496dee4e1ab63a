package progress

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/mattn/go-runewidth"
)

// screen is a terminal of the tests: it wraps long lines, keeps the cursor on
// the screen, and breaks lines anew when its width changes, as terminals with
// scrollback do. It knows the sequences that bars use and no others.
type screen struct {
	t      testing.TB
	width  int
	height int

	mu    sync.Mutex
	lines []string // scrollback and screen; what is wrapped goes on in the next
	wraps []bool   // by line: the next one belongs to it
	row   int
	col   int
}

func newScreen(t testing.TB, width, height int) *screen {
	return &screen{t: t, width: width, height: height, lines: []string{""}, wraps: []bool{false}}
}

var sequences = regexp.MustCompile(`\x1b\[(\d*)([A-Za-z])|\r|\n|[^\x1b\r\n]+|\x1b`)

func (s *screen) Write(out []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range sequences.FindAllStringSubmatch(string(out), -1) {
		s.obey(m[0], m[1], m[2])
	}
	return len(out), nil
}

func (s *screen) obey(text, arg, letter string) {
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
	case letter == "m":
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
func (s *screen) top() int { return max(len(s.lines)-s.height, 0) }

func (s *screen) down() {
	if s.row++; s.row == len(s.lines) {
		s.lines, s.wraps = append(s.lines, ""), append(s.wraps, false)
	}
}

func (s *screen) eraseLine() {
	s.lines[s.row] = runewidth.Truncate(s.lines[s.row], s.col, "")
	s.wraps[s.row] = false
}

func (s *screen) print(text string) {
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

// resize breaks all lines anew. The cursor stays on its line, which in these
// tests is always an empty one.
func (s *screen) resize(width, height int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, wraps, cursor := s.lines, s.wraps, s.row
	s.width, s.height = width, height
	s.lines, s.wraps, s.row, s.col = []string{""}, []bool{false}, 0, 0
	at := 0
	for i, line := range old {
		if i == cursor {
			at = s.row
		}
		s.print(line)
		if !wraps[i] && i < len(old)-1 {
			s.col = 0
			s.down()
		}
	}
	s.row, s.col = at, 0
}

// text is all that was shown, without empty lines at the end.
func (s *screen) text() string {
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

func (s *screen) size() (int, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.width, s.height
}
