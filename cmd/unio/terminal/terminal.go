// Package terminal knows what output is shown on: whether a stream is a
// terminal, how large it is, whether it takes colours, and how a table fits
// it. What is written to anything else than a terminal is left as it is, byte
// for byte, as scripts expect.
package terminal

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/term"
)

// The size of a terminal that does not tell its own: that of a VT100.
const (
	usualWidth  = 80
	usualHeight = 24
)

// Is reports whether a stream is a terminal.
func Is(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Moves reports whether a stream is a terminal on which the cursor can be
// moved.
func Moves(stream any) bool { return Is(stream) && os.Getenv("TERM") != "dumb" }

// Size returns the columns and lines of a stream. Where it cannot tell, the
// variables COLUMNS and LINES do, and then it is 80 by 24.
func Size(stream any) (width, height int) {
	if f, ok := stream.(*os.File); ok {
		w, h, err := term.GetSize(int(f.Fd()))
		if err == nil && w > 0 && h > 0 {
			return w, h
		}
	}
	return sizeFrom("COLUMNS", usualWidth), sizeFrom("LINES", usualHeight)
}

func sizeFrom(variable string, usual int) int {
	if n, err := strconv.Atoi(os.Getenv(variable)); err == nil && n > 0 {
		return n
	}
	return usual
}

// OneLine keeps text from other places, a registry for one, from moving the
// cursor: control characters are left out (ECMA-48: C0 and C1).
func OneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, s)
}
