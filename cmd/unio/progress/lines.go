package progress

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"unio/imagestore"
)

// lines writes one line for each step, as docker does when its output is not a
// terminal.
type lines struct {
	mu   sync.Mutex
	w    io.Writer
	last map[string]string // by ID: the step shown last
}

// Update writes a line if the step is new. What goes on with bytes is shown by
// the step that follows it, as in docker's output.
func (p *lines) Update(e imagestore.Event) {
	if e.Total > 0 && hasOwnEnd(e.Action) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.ID == "" {
		clear(p.last) // what follows belongs to another image
		fmt.Fprintln(p.w, e.Action)
		return
	}
	if p.last[e.ID] == e.Action {
		return
	}
	p.last[e.ID] = e.Action
	fmt.Fprintf(p.w, "%s: %s\n", e.ID, e.Action)
}

func (*lines) Done() {}

// hasOwnEnd lists docker's steps that only bars show: another line says when
// they are over.
func hasOwnEnd(action string) bool {
	switch action {
	case "Downloading", "Extracting", "Pushing":
		return true
	}
	return false
}

// jsonEvery is how often the bytes of one ID are told.
const jsonEvery = 100 * time.Millisecond

// jsonLines writes one object a line, in the form of docker's API (Engine API,
// "JSONMessage": status, id, progressDetail), so that what reads the one reads
// the other.
type jsonLines struct {
	mu   sync.Mutex
	out  *json.Encoder
	now  func() time.Time
	last map[string]told // by ID
}

// told is what was written of an ID last.
type told struct {
	event imagestore.Event
	at    time.Time
}

type jsonMessage struct {
	Status string      `json:"status"`
	ID     string      `json:"id,omitempty"`
	Detail *jsonDetail `json:"progressDetail,omitempty"`
}

type jsonDetail struct {
	Current int64 `json:"current,omitempty"` // bytes
	Total   int64 `json:"total,omitempty"`   // bytes; left out when unknown
}

func newJSON(w io.Writer) *jsonLines {
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	return &jsonLines{out: out, now: time.Now, last: map[string]told{}}
}

// Update writes every new step, its bytes from time to time, and their end.
func (p *jsonLines) Update(e imagestore.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := jsonMessage{Status: e.Action, ID: e.ID}
	if e.ID == "" {
		clear(p.last)
		p.write(m)
		return
	}
	now, before := p.now(), p.last[e.ID]
	switch {
	case before.event == e:
		return
	case before.event.Action == e.Action && now.Sub(before.at) < jsonEvery && !(e.Total > 0 && e.Current >= e.Total):
		return
	}
	p.last[e.ID] = told{e, now}
	m.Detail = &jsonDetail{Current: e.Current, Total: e.Total}
	p.write(m)
}

// write has nobody to tell of an error: work goes on when its reader is gone.
func (p *jsonLines) write(m jsonMessage) { _ = p.out.Encode(m) }

func (*jsonLines) Done() {}
