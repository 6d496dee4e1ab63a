package terminal

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/mattn/go-runewidth"
)

// The layout of docker's tables, in columns: a cell with the gap behind it is
// at least minCell wide.
const (
	gap     = 3
	minCell = 10
	// minCut is what remains of a cell that is cut: a short ID is whole.
	minCut = 12
)

// WriteTable writes rows of cells, the header first, in docker's layout, and
// cuts the widest columns until the table is at most width columns wide, or
// cannot be cut further. What is lost is marked by "…"; digests are not cut,
// as the beginning of one is good for nothing that its short form is not.
func WriteTable(w io.Writer, width int, rows [][]string) error {
	wide := naturalWidths(rows)
	fit(wide, shortest(rows), width)
	for _, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			cell = runewidth.Truncate(cell, wide[i], "…")
			if i < len(row)-1 {
				cell = runewidth.FillRight(cell, max(wide[i]+gap, minCell))
			}
			b.WriteString(cell)
		}
		if _, err := fmt.Fprintln(w, b.String()); err != nil {
			return err
		}
	}
	return nil
}

// naturalWidths is what the cells of each column need.
func naturalWidths(rows [][]string) []int {
	var wide []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(wide) {
				wide = append(wide, 0)
			}
			wide[i] = max(wide[i], runewidth.StringWidth(cell))
		}
	}
	return wide
}

// shortest is how far each column may be cut.
func shortest(rows [][]string) []int {
	floors := naturalWidths(rows)
	for i := range floors {
		if slices.ContainsFunc(rows, func(row []string) bool { return i < len(row) && strings.HasPrefix(row[i], "sha256:") }) {
			continue
		}
		header := 0
		if i < len(rows[0]) {
			header = runewidth.StringWidth(rows[0][i])
		}
		floors[i] = min(floors[i], max(header, minCut))
	}
	return floors
}

// fit takes columns away from the widest that can give, one at a time, so that
// the widest end up equally wide.
func fit(wide, floors []int, width int) {
	for tableWidth(wide) > width {
		widest := -1
		for i := range wide {
			if wide[i] > floors[i] && (widest < 0 || wide[i] > wide[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		wide[widest]--
	}
}

func tableWidth(wide []int) int {
	n := 0
	for i, w := range wide {
		if i == len(wide)-1 {
			return n + w
		}
		n += max(w+gap, minCell)
	}
	return n
}
