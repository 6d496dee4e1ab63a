package main

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/mattn/go-runewidth"

	"unio/imagestore"
)

func TestLineProgress(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out, false)
	for _, e := range []imagestore.Event{
		{ID: "latest", Action: "Pulling from library/x"},
		{ID: "0123", Action: "Pulling fs layer"},
		{ID: "0123", Action: "Downloading", Current: 10, Total: 100},
		{ID: "0123", Action: "Downloading", Current: 100, Total: 100},
		{ID: "0123", Action: "Download complete"},
		{ID: "4567", Action: "Loading layer", Current: 1, Total: 2},
		{ID: "4567", Action: "Loading layer", Current: 2, Total: 2},
		{Action: "Status: done"},
	} {
		p.Update(e)
	}
	p.Done()
	want := "latest: Pulling from library/x\n0123: Pulling fs layer\n0123: Download complete\n" +
		"4567: Loading layer\nStatus: done\n"
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestQuietProgress(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out, true)
	p.Update(imagestore.Event{ID: "a", Action: "b"})
	p.Done()
	if out.Len() > 0 {
		t.Errorf("quiet progress wrote %q", out.String())
	}
}

func TestFileIsNoTerminal(t *testing.T) {
	f, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if p, ok := newProgress(f, false).(*lineProgress); !ok {
		t.Errorf("progress on a file is a %T", p)
	}
}

// screen replays terminal output and returns the lines that a user would see.
func screen(t *testing.T, out string) []string {
	t.Helper()
	var lines []string
	row := 0
	seq := regexp.MustCompile(`\x1b\[(\d*)([A-Z])|\r|\n|[^\x1b\r\n]+`)
	for _, m := range seq.FindAllStringSubmatch(out, -1) {
		for row >= len(lines) {
			lines = append(lines, "")
		}
		switch {
		case m[2] == "A":
			n := 0
			fmt.Sscan(m[1], &n)
			if row -= n; row < 0 {
				t.Fatalf("cursor moved above the first line")
			}
		case m[2] == "J":
			lines = lines[:row]
		case m[0] == "\n":
			row++
		case m[0] == "\r" || m[2] == "K":
		default:
			lines[row] = m[0]
		}
	}
	return lines
}

func TestBarsEndState(t *testing.T) {
	var out bytes.Buffer
	p := startBars(&out, func() (int, int) { return 80, 24 })
	p.Update(imagestore.Event{ID: "latest", Action: "Pulling from x"})
	p.Update(imagestore.Event{ID: "aaaa", Action: "Downloading", Current: 50, Total: 100})
	p.mu.Lock()
	p.paint(false)
	p.mu.Unlock()
	if s := screen(t, out.String()); !strings.Contains(s[1], "[====") || !strings.HasSuffix(s[1], "50B/100B") {
		t.Errorf("bar is %q", s[1])
	}
	p.Update(imagestore.Event{ID: "aaaa", Action: "Pull complete"})
	p.Update(imagestore.Event{Action: "Status: done"})
	p.Done()
	p.Done()
	got := strings.Join(screen(t, out.String()), "|")
	if want := "latest: Pulling from x|aaaa: Pull complete|Status: done"; got != want {
		t.Errorf("screen is %q, want %q", got, want)
	}
}

// A block that is higher than the screen must not be rewritten from above it.
func TestBarsOnASmallScreen(t *testing.T) {
	var out bytes.Buffer
	p := startBars(&out, func() (int, int) { return 20, 6 })
	for i := range 30 {
		p.Update(imagestore.Event{ID: fmt.Sprint("id", i), Action: "Waiting"})
	}
	p.Update(imagestore.Event{ID: "id29", Action: "Downloading", Current: 1, Total: 3})
	p.mu.Lock()
	p.paint(false)
	drawn := p.drawn
	p.mu.Unlock()
	if drawn > 5 {
		t.Errorf("%d lines on a screen of 6", drawn)
	}
	if !strings.Contains(out.String(), "id29") {
		t.Error("the line where something happens is not shown")
	}
	p.Done()
	if n := len(screen(t, out.String())); n != 30 {
		t.Errorf("%d lines at the end, want 30", n)
	}
}

func TestRenderLineNeverWraps(t *testing.T) {
	e := imagestore.Event{ID: "0123456789ab", Action: "Downloading \x1b[2J日本", Current: 1 << 20, Total: 1 << 30}
	for width := 1; width < 140; width++ {
		s := renderLine(e, width)
		if n := runewidth.StringWidth(s); n >= max(width, 2) {
			t.Errorf("%d columns of %d: %q", n, width, s)
		}
		if strings.ContainsRune(s, '\x1b') {
			t.Fatalf("escape sequence of a name shown: %q", s)
		}
	}
}

func TestBarsFromManyGoroutines(t *testing.T) {
	var out bytes.Buffer
	p := startBars(&out, func() (int, int) { return 80, 24 })
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range int64(200) {
				p.Update(imagestore.Event{ID: fmt.Sprint(g), Action: "Downloading", Current: i, Total: 200})
			}
		})
	}
	wg.Wait()
	p.Done()
	p.Update(imagestore.Event{ID: "late", Action: "ignored"})
	if n := len(screen(t, out.String())); n != 8 {
		t.Errorf("%d lines, want 8", n)
	}
}
