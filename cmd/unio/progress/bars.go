package progress

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/mattn/go-runewidth"
	"golang.org/x/sys/unix"

	"unio/cmd/unio/terminal"
	"unio/imagestore"
)

const (
	repaintEvery = 100 * time.Millisecond
	// spare is what a screen has beside the lines of steps: how many more there
	// are, the sum, and where the cursor stands.
	spare = 3
	// idleEvery is how often the rate is brought up to date when no byte
	// comes.
	idleEvery = time.Second
)

// barOptions say what bars are drawn on.
type barOptions struct {
	size    func() (width, height int)
	colors  terminal.Colors
	signals chan os.Signal   // SIGWINCH, SIGCONT; nil: none come
	now     func() time.Time // nil: the clock
}

// bars keeps a block of lines at the bottom of a terminal, one for each ID and
// one for the sum, and rewrites it a few times a second.
type bars struct {
	o barOptions

	mu      sync.Mutex
	w       *bufio.Writer
	list    []imagestore.Event // of the block, in order of appearance
	index   map[string]int     // by ID
	meter   *meter
	drawn   []int // columns of each line of the block that is on the screen
	painted time.Time
	dirty   bool
	over    bool

	stop    chan struct{}
	stopped chan struct{}
}

// screenSignals asks for the signals that change what is on a terminal: a new
// size, and going on after Ctrl-Z, when a shell has written below the block.
func screenSignals(w io.Writer) chan os.Signal {
	if !terminal.Is(w) {
		return nil
	}
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGWINCH, unix.SIGCONT)
	return c
}

func startBars(w io.Writer, o barOptions) *bars {
	if o.now == nil {
		o.now = time.Now
	}
	p := &bars{
		o: o, w: bufio.NewWriter(w), index: map[string]int{}, meter: newMeter(),
		stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	go p.run()
	return p
}

// run repaints what has changed until Done.
func (p *bars) run() {
	defer close(p.stopped)
	tick := time.NewTicker(repaintEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.stop:
			return
		case s := <-p.o.signals:
			p.onSignal(s)
		case <-tick.C:
			p.onTick()
		}
	}
}

func (p *bars) onTick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dirty || p.meter.active && p.o.now().Sub(p.painted) >= idleEvery {
		p.paint(false)
	}
}

func (p *bars) onSignal(s os.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s == unix.SIGCONT {
		p.drawn = nil // others have written below it: begin again under that
	}
	if len(p.list) > 0 && !p.over {
		p.paint(false)
	}
}

// Update notes a step; the next repaint shows it. Text without an ID ends the
// block and is shown at once.
func (p *bars) Update(e imagestore.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return
	}
	if e.ID == "" {
		p.endBlock()
		fmt.Fprintln(p.w, terminal.OneLine(e.Action))
		p.w.Flush()
		return
	}
	p.dirty = true
	p.meter.add(e)
	if i, ok := p.index[e.ID]; ok {
		p.list[i] = e
		return
	}
	p.index[e.ID] = len(p.list)
	p.list = append(p.list, e)
}

// Done shows the last state and ends the repainting.
func (p *bars) Done() {
	p.mu.Lock()
	if p.over {
		p.mu.Unlock()
		return
	}
	p.over = true
	p.endBlock()
	p.mu.Unlock()
	if p.o.signals != nil {
		signal.Stop(p.o.signals)
	}
	close(p.stop)
	<-p.stopped
}

// endBlock leaves the whole block on the screen and starts a new one below.
// Preconditions: p.mu is held.
func (p *bars) endBlock() {
	if len(p.list) > 0 {
		p.paint(true)
	}
	p.list, p.drawn, p.meter = nil, nil, newMeter()
	clear(p.index)
}

// paint rewrites the block. Until its end it must not be higher than the
// screen, from whose lines alone it can be rewritten; what is above the cursor
// is wiped first, and with it the ^C that a terminal may have shown there.
// Preconditions: p.mu is held.
func (p *bars) paint(whole bool) {
	width, height := p.o.size()
	if up := min(p.rows(width), height-1); up > 0 {
		fmt.Fprintf(p.w, "\x1b[%dA", up)
	}
	text := p.text(whole, width, height)
	p.drawn = p.drawn[:0]
	for _, line := range text {
		fmt.Fprintf(p.w, "\r%s\x1b[K\n", p.colored(line))
		p.drawn = append(p.drawn, runewidth.StringWidth(line.text))
	}
	io.WriteString(p.w, "\r\x1b[J")
	p.painted, p.dirty = p.o.now(), false
	p.w.Flush()
}

// rows is how many lines of the screen the block takes up now. A terminal that
// has become narrower has broken its lines, as most do today; on one that cuts
// them instead, a few lines above the block are lost.
// Preconditions: p.mu is held.
func (p *bars) rows(width int) int {
	n := 0
	for _, columns := range p.drawn {
		n += max((columns+width-1)/width, 1)
	}
	return n
}

// textLine is a line of the block, and what it is.
type textLine struct {
	text string
	kind lineKind
}

type lineKind int

const (
	lineStep lineKind = iota
	lineDone
	lineTotal
)

// text is the block as it is to be drawn.
// Preconditions: p.mu is held.
func (p *bars) text(whole bool, width, height int) []textLine {
	shown, more := p.list, 0
	rate := p.meter.rate(p.o.now())
	if !whole {
		shown, more = busiest(p.list, max(height-spare, 1))
	}
	var out []textLine
	for _, e := range shown {
		kind := lineStep
		if isFinal(e.Action) {
			kind = lineDone
		}
		out = append(out, textLine{renderLine(e, width), kind})
	}
	if more > 0 && height >= spare {
		out = append(out, textLine{moreLines(more, width), lineStep})
	}
	if p.meter.active && !whole && height > spare {
		out = append(out, textLine{renderTotal(p.meter, rate, width), lineTotal})
	}
	return out
}

// isFinal tells the steps after which nothing more comes of an ID.
func isFinal(action string) bool {
	return action == "Pull complete" || action == "Pushed" || isSpared(action)
}

func (p *bars) colored(l textLine) string {
	switch l.kind {
	case lineDone:
		return p.o.colors.Green(l.text)
	case lineTotal:
		return p.o.colors.Bold(l.text)
	}
	return l.text
}
