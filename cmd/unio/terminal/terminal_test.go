package terminal

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/creack/pty"
	"github.com/mattn/go-runewidth"
)

var images = [][]string{
	{"REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"},
	{"registry.example.com/some/team/some-program", "1.2.3-alpha", "0123456789ab", "2 weeks ago", "167MB"},
	{"busybox", "latest", "ba9876543210", "3 hours ago", "1.2MB"},
}

// Where there is room the table is what docker's tabwriter makes of it.
func TestTableIsDockers(t *testing.T) {
	var ours, dockers bytes.Buffer
	if err := WriteTable(&ours, 200, images); err != nil {
		t.Fatal(err)
	}
	tw := tabwriter.NewWriter(&dockers, 10, 1, 3, ' ', 0)
	for _, row := range images {
		tw.Write([]byte(strings.Join(row, "\t") + "\n"))
	}
	tw.Flush()
	if ours.String() != dockers.String() {
		t.Errorf("got\n%s\nwant\n%s", &ours, &dockers)
	}
}

func TestTableFits(t *testing.T) {
	for width := 66; width < 120; width++ {
		var b bytes.Buffer
		if err := WriteTable(&b, width, images); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			if n := runewidth.StringWidth(strings.TrimRight(line, "\n")); n > width {
				t.Errorf("%d columns of %d: %s", n, width, line)
			}
		}
		if !strings.Contains(b.String(), "0123456789ab") || !strings.Contains(b.String(), "REPOSITORY ") {
			t.Errorf("width %d: the ID or the header was cut:\n%s", width, &b)
		}
	}
}

// A table that cannot be cut far enough keeps what identifies things.
func TestTableOnATinyTerminal(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0", 64)
	var b bytes.Buffer
	err := WriteTable(&b, 20, [][]string{{"NAME", "DIGEST", "ID"}, {strings.Repeat("漢", 20), digest, "0123456789ab"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{digest, "0123456789ab", "漢漢漢漢漢…"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %s in\n%s", want, &b)
		}
	}
}

func TestColors(t *testing.T) {
	master, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer tty.Close()
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, c := range []struct {
		term, noColor string
		stream        any
		want          Colors
	}{
		{"xterm", "", tty, true},
		{"xterm", "1", tty, false},
		{"dumb", "", tty, false},
		{"xterm", "", file, false},
		{"xterm", "", &bytes.Buffer{}, false},
	} {
		t.Setenv("TERM", c.term)
		t.Setenv("NO_COLOR", c.noColor)
		if got := ColorsFor(c.stream); got != c.want {
			t.Errorf("TERM=%s NO_COLOR=%s %T: colours %v", c.term, c.noColor, c.stream, got)
		}
	}
	if s := Colors(true).Red("Error:"); s != "\x1b[31mError:\x1b[0m" {
		t.Errorf("red is %q", s)
	}
	if s := Colors(false).Green("done"); s != "done" {
		t.Errorf("without colours: %q", s)
	}
}

func TestSize(t *testing.T) {
	master, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer tty.Close()
	if err := pty.Setsize(master, &pty.Winsize{Rows: 30, Cols: 99}); err != nil {
		t.Fatal(err)
	}
	t.Setenv("COLUMNS", "123")
	t.Setenv("LINES", "no number")
	if w, h := Size(tty); w != 99 || h != 30 {
		t.Errorf("terminal of %d by %d", w, h)
	}
	if w, h := Size(&bytes.Buffer{}); w != 123 || h != 24 {
		t.Errorf("no terminal, but %d by %d", w, h)
	}
}

func TestOneLine(t *testing.T) {
	if s := OneLine("a\x1b[2J\nb\u009bc日"); s != "a[2Jbc日" {
		t.Errorf("%q", s)
	}
}
