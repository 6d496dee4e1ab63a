package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// figure is what a goal is about.
type figure int

const (
	wallTime figure = iota // of the whole work
	opTime                 // of one operation
	newDisk                // bytes
	serverMemory
	requests
	throughput // bytes a second; more is better
)

// goal bounds a figure of a contestant: to so many times the peer's of the same
// round or, without a peer, to a value.
type goal struct {
	of, against string
	figure      figure
	bound       float64 // times; or seconds, bytes, requests, bytes a second
}

// verdict is a goal beside what came of it.
type verdict struct {
	Of      string  `json:"of"`
	Against string  `json:"against,omitempty"`
	Bound   string  `json:"goal"`
	Is      float64 `json:"is"`   // the median of all rounds
	Low     float64 `json:"low"`  // and what the rounds were between
	High    float64 `json:"high"` //
	Shown   string  `json:"shown"`
	Met     bool    `json:"met"`     // by the median
	Settled bool    `json:"settled"` // nearly all rounds say the same
}

// ours are unio's contestants, by the transport.
const (
	oursDev  = "unio (dev)"
	oursRing = "unio (uring)"
)

// ratio is the goal not to take longer than so many times a peer, without and
// with the ring.
func ratio(peer string, dev, ring float64) []goal {
	return []goal{{of: oursDev, against: peer, bound: dev}, {of: oursRing, against: peer, bound: ring}}
}

// atMost bounds a figure of ours, without and with the ring. For throughput it
// is the least.
func atMost(f figure, dev, ring float64) []goal {
	return []goal{{of: oursDev, figure: f, bound: dev}, {of: oursRing, figure: f, bound: ring}}
}

// millis gives milliseconds as a goal's value.
func millis(n float64) float64 { return n / 1000 }

// of returns a sample's figure, in seconds, bytes or a number.
func (f figure) of(s sample) float64 {
	switch f {
	case opTime:
		return s.wall.Seconds() / float64(max(s.ops, 1))
	case newDisk:
		return float64(s.disk)
	case serverMemory:
		return float64(s.serverRSS)
	case requests:
		return float64(s.requests)
	case throughput:
		return float64(s.bytes) / s.wall.Seconds()
	}
	return s.wall.Seconds()
}

// show prints a value of the figure for people.
func (f figure) show(v float64) string {
	switch f {
	case newDisk, serverMemory:
		return showBytes(v)
	case requests:
		return fmt.Sprintf("%.0f requests", v)
	case throughput:
		return showBytes(v) + "/s"
	}
	return showTime(time.Duration(v * float64(time.Second)))
}

// judge compares a goal with the lines of a result. ok is false when one of
// them did not run.
func (r *result) judge(g goal) (v verdict, ok bool) {
	ours := r.line(g.of)
	if ours == nil {
		return v, false
	}
	v = verdict{Of: g.of, Against: g.against}
	least, show := "≤ ", g.figure.show
	all := ours.each(g.figure.of)
	if g.against != "" {
		peer := r.line(g.against)
		if peer == nil {
			return v, false
		}
		all = ratios(ours, peer, g.figure)
		v.Bound, show = fmt.Sprintf("≤ %.2f× %s", g.bound, g.against), func(v float64) string { return showRatio(v) + "×" }
	} else {
		if g.figure == throughput {
			least = "≥ "
		}
		v.Bound = least + show(g.bound)
	}
	if len(all) == 0 {
		return v, false
	}
	v.weigh(all, func(is float64) bool { return is <= g.bound != (least == "≥ ") })
	v.Shown = show(v.Is)
	if v.Low != v.High {
		v.Shown += ", " + show(v.Low) + " to " + show(v.High)
	}
	return v, true
}

// dissent is one round in so many that may say otherwise.
const dissent = 5

// weigh decides by the median of the rounds, which settles it unless more than a
// few rounds alone would have said the opposite.
func (v *verdict) weigh(all []float64, good func(float64) bool) {
	v.Is, v.Low, v.High = medianOf(all), slices.Min(all), slices.Max(all)
	v.Met = good(v.Is)
	against := 0
	for _, is := range all {
		if good(is) != v.Met {
			against++
		}
	}
	v.Settled = against <= len(all)/dissent
}

func (v verdict) String() string {
	word := "MISSED"
	switch {
	case !v.Settled:
		word = "unsettled"
	case v.Met:
		word = "met"
	}
	return fmt.Sprintf("%s %s: %s (%s)", v.Of, v.Bound, word, v.Shown)
}

// showTime prints three digits with a unit.
func showTime(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d >= time.Millisecond:
		return digits(d.Seconds()*1e3) + " ms"
	case d >= time.Microsecond:
		return digits(d.Seconds()*1e6) + " µs"
	case d == 0:
		return "0"
	}
	return fmt.Sprintf("%d ns", d.Nanoseconds())
}

func digits(v float64) string {
	switch {
	case v >= 1000:
		return thousands(int64(v + 0.5))
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// thousands separates groups of digits by commas.
func thousands(n int64) string {
	text := fmt.Sprint(n)
	var groups []string
	for len(text) > 3 {
		groups = append([]string{text[len(text)-3:]}, groups...)
		text = text[:len(text)-3]
	}
	return strings.Join(append([]string{text}, groups...), ",")
}

func showBytes(v float64) string {
	for _, unit := range []string{"B", "KiB", "MiB"} {
		if v < 1024 && v > -1024 {
			return digitsOf(v) + " " + unit
		}
		v /= 1024
	}
	return digitsOf(v) + " GiB"
}

func digitsOf(v float64) string {
	if v >= 10 || v == float64(int64(v)) {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.1f", v)
}
