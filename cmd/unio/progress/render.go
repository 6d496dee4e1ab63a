package progress

import (
	"fmt"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/mattn/go-runewidth"

	"unio/cmd/unio/terminal"
	"unio/imagestore"
)

const (
	maxBar = 50 // columns between the brackets, as docker's
	minBar = 10
)

// moves reports whether a step is one that bytes tell of.
func moves(e imagestore.Event) bool {
	return e.Current > 0 || e.Total > 0 && e.Action != "Waiting" && e.Action != "Pulling fs layer" && e.Action != "Preparing"
}

// renderLine is one step in less than width columns, so that it never wraps.
func renderLine(e imagestore.Event, width int) string {
	text := terminal.OneLine(e.ID + ": " + e.Action)
	if !moves(e) {
		return runewidth.Truncate(text, max(width-1, 1), "")
	}
	return withBar(text, e.Current, e.Total, amountText(e.Current, e.Total), width)
}

// amountText is "done/in all", or what is done when the whole is not known.
func amountText(current, total int64) string {
	if total <= 0 {
		return units.HumanSize(float64(current))
	}
	return units.HumanSize(float64(current)) + "/" + units.HumanSize(float64(total))
}

// renderTotal is the line below all others: sums, rate, and how long it will
// take if it goes on so.
func renderTotal(m *meter, rate float64, width int) string {
	current, total := m.sums()
	numbers := amountText(current, total) + "  " + units.HumanSize(rate) + "/s"
	if left := total - current; left > 0 && rate > 0 {
		numbers += "  " + remaining(left, rate) + " left"
	}
	return withBar("Total", current, total, numbers, width)
}

// remaining is how long left bytes take, in seconds below an hour.
func remaining(left int64, rate float64) string {
	const most = 100 * time.Hour // a duration has an end, a stalled download may not
	d := time.Duration(min(float64(left)/rate, most.Seconds()) * float64(time.Second))
	if d >= time.Hour {
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
	return d.Round(time.Second).String()
}

// withBar puts a bar between text and numbers if there is room for one.
func withBar(text string, current, total int64, numbers string, width int) string {
	width = max(width-1, 1)
	room := width - runewidth.StringWidth(text) - runewidth.StringWidth(numbers) - len(" [>]  ")
	if total > 0 && room >= minBar {
		text += " " + bar(current, total, min(room, maxBar))
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

// moreLines says how many lines there is no room for.
func moreLines(n, width int) string {
	return runewidth.Truncate(fmt.Sprintf("… and %d more", n), max(width-1, 1), "")
}

// busiest picks at most n lines, those with bytes moving first, and says how
// many it left out.
func busiest(list []imagestore.Event, n int) (shown []imagestore.Event, more int) {
	if len(list) <= n {
		return list, 0
	}
	moving := 0
	for _, e := range list {
		if moves(e) {
			moving++
		}
	}
	idle := max(n-moving, 0)
	for _, e := range list {
		if len(shown) == n {
			break
		}
		switch {
		case moves(e):
			shown = append(shown, e)
		case idle > 0:
			shown = append(shown, e)
			idle--
		}
	}
	return shown, len(list) - len(shown)
}
