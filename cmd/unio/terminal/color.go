package terminal

import "os"

// Colors paints text by the select-graphic-rendition sequences of ECMA-48, or,
// when false, leaves it alone.
type Colors bool

// ColorsFor tells whether a stream takes colours: it is a terminal that can
// show them, and the variable NO_COLOR is empty or not set (no-color.org).
func ColorsFor(stream any) Colors {
	return Colors(os.Getenv("NO_COLOR") == "" && Moves(stream))
}

// Red is for what went wrong.
func (c Colors) Red(s string) string { return c.paint("31", s) }

// Green is for what is done.
func (c Colors) Green(s string) string { return c.paint("32", s) }

// Yellow is for warnings.
func (c Colors) Yellow(s string) string { return c.paint("33", s) }

// Bold is for what stands above the rest.
func (c Colors) Bold(s string) string { return c.paint("1", s) }

func (c Colors) paint(code, s string) string {
	if !c || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}
