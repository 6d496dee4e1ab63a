package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/docker/go-units"
	"github.com/mattn/go-runewidth"

	"unio/imagestore"
)

const (
	repaintEvery = 100 * time.Millisecond
	maxBar       = 50 // columns between the brackets, as docker's
	minBar       = 10
)

// barProgress keeps a block of lines at the bottom of a terminal, one for each
// ID, and rewrites it a few times a second. It uses no colours.
type barProgress struct {
	size func() (width, height int)

	mu    sync.Mutex
	w     *bufio.Writer
	lines []imagestore.Event // of the block, in order of appearance
	index map[string]int     // by ID
	drawn int                // lines of the block that are on the screen
	dirty bool
	over  bool

	stop    chan struct{}
	stopped chan struct{}
}

func startBars(w io.Writer, size func() (int, int)) *barProgress {
	p := &barProgress{
		size: size, w: bufio.NewWriter(w), index: map[string]int{},
		stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	go p.run()
	return p
}

// run repaints what has changed until Done.
func (p *barProgress) run() {
	defer close(p.stopped)
	tick := time.NewTicker(repaintEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-tick.C:
			p.mu.Lock()
			if p.dirty {
				p.paint(false)
			}
			p.mu.Unlock()
		}
	}
}

// Update notes a step; the next repaint shows it. Text without an ID ends the
// block and is shown at once.
func (p *barProgress) Update(e imagestore.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return
	}
	if e.ID == "" {
		p.endBlock()
		fmt.Fprintln(p.w, oneLine(e.Action))
		p.w.Flush()
		return
	}
	p.dirty = true
	if i, ok := p.index[e.ID]; ok {
		p.lines[i] = e
		return
	}
	p.index[e.ID] = len(p.lines)
	p.lines = append(p.lines, e)
}

// Done shows the last state and ends the repainting.
func (p *barProgress) Done() {
	p.mu.Lock()
	if p.over {
		p.mu.Unlock()
		return
	}
	p.over = true
	p.endBlock()
	p.mu.Unlock()
	close(p.stop)
	<-p.stopped
}

// endBlock leaves the whole block on the screen and starts a new one below.
// Preconditions: p.mu is held.
func (p *barProgress) endBlock() {
	p.paint(true)
	p.lines, p.drawn = nil, 0
	clear(p.index)
}

// paint rewrites the block. A block higher than the screen could not be
// rewritten, so until its end only the lines where something goes on are shown.
// Preconditions: p.mu is held.
func (p *barProgress) paint(whole bool) {
	width, height := p.size()
	shown, more := p.lines, 0
	if !whole {
		shown, more = busiest(p.lines, max(height-2, 1))
	}
	if p.drawn > 0 {
		fmt.Fprintf(p.w, "\x1b[%dA", p.drawn)
	}
	for _, e := range shown {
		fmt.Fprintf(p.w, "\r%s\x1b[K\n", renderLine(e, width))
	}
	rows := len(shown)
	if more > 0 {
		fmt.Fprintf(p.w, "\r%s\x1b[K\n", runewidth.Truncate(fmt.Sprintf("… and %d more", more), max(width-1, 1), ""))
		rows++
	}
	if rows < p.drawn {
		io.WriteString(p.w, "\x1b[J")
	}
	p.drawn, p.dirty = rows, false
	p.w.Flush()
}

// busiest picks at most n lines, those with bytes moving first, and says how
// many it left out.
func busiest(lines []imagestore.Event, n int) (shown []imagestore.Event, more int) {
	if len(lines) <= n {
		return lines, 0
	}
	moving := 0
	for _, e := range lines {
		if e.Total > 0 {
			moving++
		}
	}
	idle := max(n-moving, 0)
	for _, e := range lines {
		if len(shown) == n {
			break
		}
		switch {
		case e.Total > 0:
			shown = append(shown, e)
		case idle > 0:
			shown = append(shown, e)
			idle--
		}
	}
	return shown, len(lines) - len(shown)
}

// renderLine is one step in less than width columns, so that it never wraps.
func renderLine(e imagestore.Event, width int) string {
	width = max(width-1, 1)
	text := oneLine(e.ID + ": " + e.Action)
	if e.Total <= 0 && e.Current <= 0 {
		return runewidth.Truncate(text, width, "")
	}
	numbers := units.HumanSize(float64(e.Current))
	if e.Total > 0 {
		numbers += "/" + units.HumanSize(float64(e.Total))
	}
	room := width - runewidth.StringWidth(text) - len(numbers) - len(" [>]  ")
	if e.Total > 0 && room >= minBar {
		text += " " + bar(e.Current, e.Total, min(room, maxBar))
	}
	return runewidth.Truncate(text+"  "+numbers, width, "")
}

// bar draws how much of total is done, in docker's manner.
func bar(current, total int64, columns int) string {
	done := int(float64(columns) * min(float64(current)/float64(total), 1))
	if done >= columns {
		return "[" + strings.Repeat("=", columns) + ">]"
	}
	return "[" + strings.Repeat("=", done) + ">" + strings.Repeat(" ", columns-done) + "]"
}
