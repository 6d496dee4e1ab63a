package progress

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mattn/go-runewidth"
	"golang.org/x/sys/unix"

	"unio/cmd/unio/terminal/terminaltest"
	"unio/imagestore"
)

// stoppedBars are bars that repaint only when told to, and by their own clock.
func stoppedBars(t *testing.T, s *terminaltest.Screen) (*bars, *time.Time) {
	now := time.Unix(1700000000, 0)
	p := startBars(s, barOptions{size: s.Size, now: func() time.Time { return now }})
	close(p.stop)
	<-p.stopped
	p.stop = make(chan struct{})
	t.Cleanup(p.Done)
	return p, &now
}

func (p *bars) repaint() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paint(false)
}

func downloading(id string, current, total int64) imagestore.Event {
	return imagestore.Event{ID: id, Action: "Downloading", Current: current, Total: total}
}

func TestBarsFromStartToEnd(t *testing.T) {
	s := terminaltest.New(t, 100, 24)
	p, now := stoppedBars(t, s)
	p.Update(imagestore.Event{Action: "Using default tag: latest"})
	p.Update(imagestore.Event{ID: "latest", Action: "Pulling from x"})
	p.Update(imagestore.Event{ID: "aaaa", Action: "Pulling fs layer", Total: 1000_000})
	p.Update(imagestore.Event{ID: "bbbb", Action: "Pulling fs layer", Total: 3000_000})
	p.Update(imagestore.Event{ID: "cccc", Action: "Already exists"})
	p.Update(downloading("aaaa", 0, 1000_000))
	p.repaint()
	*now = now.Add(time.Second)
	p.Update(downloading("aaaa", 500_000, 1000_000))
	p.repaint()
	want := `Using default tag: latest
latest: Pulling from x
aaaa: Downloading [=========================>                         ]  500kB/1MB
bbbb: Pulling fs layer
cccc: Already exists
Total [======>                                            ]  500kB/4MB  500kB/s  7s left`
	if got := s.Text(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	p.Update(imagestore.Event{ID: "aaaa", Action: "Pull complete"})
	p.Update(imagestore.Event{ID: "bbbb", Action: "Pull complete"})
	p.Update(imagestore.Event{Action: "Status: done"})
	p.Done()
	p.Done()
	want = `Using default tag: latest
latest: Pulling from x
aaaa: Pull complete
bbbb: Pull complete
cccc: Already exists
Status: done`
	if got := s.Text(); got != want {
		t.Errorf("at the end\n%s\nwant\n%s", got, want)
	}
}

// What a terminal shows of Ctrl-C, and what stood below the block, is gone
// after the last repaint, and the next line begins at the left.
func TestBarsAfterCtrlC(t *testing.T) {
	s := terminaltest.New(t, 60, 24)
	p, _ := stoppedBars(t, s)
	p.Update(downloading("aaaa", 500, 1000))
	p.Update(imagestore.Event{ID: "bbbb", Action: "Waiting"})
	p.repaint()
	s.Write([]byte("^C"))
	p.Done()
	got := s.Text()
	if strings.Contains(got, "^C") || strings.Contains(got, "Total") || strings.Count(got, "\n") != 1 {
		t.Errorf("on the screen:\n%s", got)
	}
	if column, line := s.Cursor(); column != 0 || line != "" {
		t.Errorf("the cursor is at column %d of %q", column, line)
	}
}

// However the size changes, as long as the block fits, each line of the block is there once, and what was
// above it is as it was.
func TestBarsResized(t *testing.T) {
	s := terminaltest.New(t, 100, 20)
	fmt.Fprintln(s, strings.Repeat("before ", 8))
	p, _ := stoppedBars(t, s)
	for i := range 6 {
		p.Update(downloading(fmt.Sprint("id", i), int64(i+1)*100, 1000))
	}
	for _, size := range [][2]int{{100, 20}, {60, 20}, {31, 20}, {80, 12}, {25, 30}, {200, 50}, {20, 40}, {100, 20}} {
		s.Resize(size[0], size[1])
		p.onSignal(unix.SIGWINCH)
		got := s.Text()
		for i := range 6 {
			if n := strings.Count(got, fmt.Sprint("id", i, ":")); n != 1 {
				t.Fatalf("at %v line %d is there %d times:\n%s", size, i, n, got)
			}
		}
		if n := strings.Count(got, "before"); n != 8 {
			t.Fatalf("at %v what was above the block is damaged:\n%s", size, got)
		}
	}
}

// After Ctrl-Z and fg the block goes on below what the shell has written.
func TestBarsStoppedAndContinued(t *testing.T) {
	s := terminaltest.New(t, 60, 24)
	p, _ := stoppedBars(t, s)
	p.Update(downloading("aaaa", 500, 1000))
	p.repaint()
	s.Write([]byte("[1]+  Stopped\n$ fg\nunio pull x\n"))
	p.onSignal(unix.SIGCONT)
	p.repaint()
	p.Done()
	got := s.Text()
	if !strings.Contains(got, "$ fg\nunio pull x\naaaa: Downloading") || strings.Count(got, "aaaa") != 2 {
		t.Errorf("on the screen:\n%s", got)
	}
}

// A block that is higher than the screen cannot be rewritten from above it.
func TestBarsOnASmallScreen(t *testing.T) {
	for height := 2; height < 12; height++ {
		s := terminaltest.New(t, 20, height)
		p, _ := stoppedBars(t, s)
		for i := range 30 {
			p.Update(imagestore.Event{ID: fmt.Sprint("id", i), Action: "Waiting"})
		}
		p.Update(downloading("id29", 1, 3))
		for range 3 {
			p.repaint()
		}
		got := s.Text()
		if n := strings.Count(got, "id29"); n != 1 {
			t.Errorf("height %d: the line where something happens is there %d times:\n%s", height, n, got)
		}
		p.Done()
		if n := strings.Count(s.Text(), "\n") + 1; n != 30 {
			t.Errorf("height %d: %d lines at the end, want 30", height, n)
		}
	}
}

func TestRenderLineNeverWraps(t *testing.T) {
	e := imagestore.Event{ID: "0123456789ab", Action: "Downloading \x1b[2J日本", Current: 1 << 20, Total: 1 << 30}
	m := newMeter()
	m.add(e)
	for width := 1; width < 140; width++ {
		for _, s := range []string{renderLine(e, width), renderTotal(m, 1e6, width), moreLines(5, width)} {
			if n := runewidth.StringWidth(s); n >= max(width, 2) {
				t.Errorf("%d columns of %d: %q", n, width, s)
			}
			if strings.ContainsRune(s, '\x1b') {
				t.Fatalf("escape sequence of a name shown: %q", s)
			}
		}
	}
}

func TestBarsInColor(t *testing.T) {
	var out strings.Builder
	p := startBars(&out, barOptions{size: func() (int, int) { return 80, 24 }, colors: true})
	p.Update(downloading("aaaa", 1, 3))
	p.Update(imagestore.Event{ID: "bbbb", Action: "Pull complete"})
	p.repaint()
	p.Done()
	if got := out.String(); !strings.Contains(got, "\x1b[32mbbbb: Pull complete\x1b[0m") || !strings.Contains(got, "\x1b[1mTotal") {
		t.Errorf("%q", got)
	}
}

func TestBarsFromManyGoroutines(t *testing.T) {
	s := terminaltest.New(t, 80, 24)
	p := startBars(s, barOptions{size: s.Size, signals: make(chan os.Signal)})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range int64(200) {
				p.Update(downloading(fmt.Sprint(g), i, 200))
			}
		})
	}
	p.o.signals <- unix.SIGWINCH
	wg.Wait()
	p.Done()
	p.Update(imagestore.Event{ID: "late", Action: "ignored"})
	if n := strings.Count(s.Text(), "\n") + 1; n != 8 {
		t.Errorf("%d lines, want 8", n)
	}
}

func TestMeter(t *testing.T) {
	m := newMeter()
	at := time.Unix(1700000000, 0)
	m.add(downloading("resumed", 5000, 10000)) // an earlier pull had these
	if r := m.rate(at); r != 0 {
		t.Errorf("a rate of %v from the start", r)
	}
	m.add(downloading("resumed", 7000, 10000))
	m.add(imagestore.Event{ID: "mine", Action: "Preparing", Total: 500})
	m.add(imagestore.Event{ID: "theirs", Action: "Preparing", Total: 500})
	m.add(imagestore.Event{ID: "theirs", Action: "Mounted from library/x"})
	if r := m.rate(at.Add(time.Second)); r != 2000 {
		t.Errorf("rate %v, want 2000", r)
	}
	if c, total := m.sums(); c != 7000 || total != 10500 {
		t.Errorf("%d of %d", c, total)
	}
	m.add(imagestore.Event{ID: "resumed", Action: "Download complete"})
	m.add(imagestore.Event{ID: "resumed", Action: "Extracting", Current: 1, Total: 10000})
	if c, _ := m.sums(); c != 10000 {
		t.Errorf("%d done", c)
	}
	for i := range 10 {
		if r := m.rate(at.Add(time.Duration(2+i) * time.Second)); i == 9 && r != 0 {
			t.Errorf("rate %v ten seconds after the last byte", r)
		}
	}
}

func TestRemaining(t *testing.T) {
	for _, c := range []struct {
		left int64
		rate float64
		want string
	}{{100, 100, "1s"}, {9000, 100, "1m30s"}, {1 << 40, 1e6, "100h0m"}, {500_000, 100, "1h23m"}} {
		if got := remaining(c.left, c.rate); got != c.want {
			t.Errorf("%d at %v: %s, want %s", c.left, c.rate, got, c.want)
		}
	}
}
