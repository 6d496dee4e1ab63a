package progress

import (
	"strings"
	"time"

	"unio/imagestore"
)

const (
	// rateWindow is what the rate is the mean of: long enough that it can be
	// read, short enough that it follows.
	rateWindow = 5 * time.Second
	// rateSoonest is how much must have passed before there is a rate at all.
	rateSoonest = 500 * time.Millisecond
)

// meter adds up what moves: bytes done, bytes in all as far as they are known,
// and how fast it goes.
type meter struct {
	items  map[string]*amount // by ID
	moved  int64              // bytes seen moving; what an earlier pull had fetched is not among them
	marks  []mark             // oldest first, spanning at most rateWindow
	active bool               // something has moved
}

type amount struct{ current, total int64 }

// mark is how many bytes had moved at a time.
type mark struct {
	at    time.Time
	moved int64
}

func newMeter() *meter { return &meter{items: map[string]*amount{}} }

// add takes notice of a step.
func (m *meter) add(e imagestore.Event) {
	it := m.items[e.ID]
	switch {
	case e.Total <= 0 && e.Current <= 0:
		m.settle(e)
		return
	case e.Action == "Extracting":
		return // the same bytes once more
	case it == nil:
		it = &amount{current: e.Current}
		m.items[e.ID] = it
	}
	if e.Current > it.current {
		m.moved += e.Current - it.current
	}
	m.active = m.active || e.Current > 0
	it.current, it.total = e.Current, max(e.Total, e.Current)
}

// settle takes notice of a step without bytes: what comes after the last byte
// of an item, or says that it need not be moved.
func (m *meter) settle(e imagestore.Event) {
	it := m.items[e.ID]
	switch {
	case it == nil:
	case isDone(e.Action):
		it.current = it.total
	case isSpared(e.Action):
		delete(m.items, e.ID)
	}
}

// sums are the bytes done and in all.
func (m *meter) sums() (current, total int64) {
	for _, it := range m.items {
		current += it.current
		total += it.total
	}
	return current, total
}

// rate is bytes a second, the mean of the last seconds before now; 0 at first.
func (m *meter) rate(now time.Time) float64 {
	m.marks = append(m.marks, mark{now, m.moved})
	for len(m.marks) > 2 && now.Sub(m.marks[1].at) >= rateWindow {
		m.marks = m.marks[1:]
	}
	passed := now.Sub(m.marks[0].at)
	if passed < rateSoonest {
		return 0
	}
	return float64(m.moved-m.marks[0].moved) / passed.Seconds()
}

// isDone tells docker's words for an item whose bytes have all come or gone.
func isDone(action string) bool {
	switch action {
	case "Verifying Checksum", "Download complete", "Pull complete", "Pushed":
		return true
	}
	return false
}

// isSpared tells docker's words for an item that need not be moved.
func isSpared(action string) bool {
	switch action {
	case "Already exists", "Layer already exists":
		return true
	}
	return strings.HasPrefix(action, "Mounted from ")
}
