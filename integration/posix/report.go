package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// print tells what failed on one filesystem, and why.
func (r *report) print(w io.Writer) {
	bad := r.failed()
	fmt.Fprintf(w, "%s: %d of %d scenarios pass, %.1f s\n", r.kind.name, len(r.tried)-len(bad), len(r.tried), r.took.Seconds())
	for _, v := range bad {
		fmt.Fprintln(w, "  "+v.name)
		for _, text := range v.wrong {
			fmt.Fprintln(w, "      "+strings.ReplaceAll(text, "\n", "\n      "))
		}
	}
}

// tally counts, for one filesystem, the scenarios of each group that pass.
func (r *report) tally() (passed, total map[string]int) {
	passed, total = map[string]int{}, map[string]int{}
	for _, v := range r.tried {
		g := (&named{name: v.name}).group()
		for _, key := range []string{g, sum} {
			total[key]++
			if len(v.wrong) == 0 {
				passed[key]++
			}
		}
	}
	return passed, total
}

// sum is the table's last line.
const sum = "all"

// table prints scenarios passed of total for each group, and then the names
// of those that fail.
func table(w io.Writer, reports []report) {
	if len(reports) == 0 {
		return
	}
	head, rule := "| group | scenarios |", "|---|---|"
	for _, r := range reports {
		head += " " + r.kind.name + " |"
		rule += "---|"
	}
	fmt.Fprintln(w, head+"\n"+rule)
	_, total := reports[0].tally()
	rows := slices.Sorted(maps.Keys(total))
	rows = append(slices.DeleteFunc(rows, func(g string) bool { return g == sum }), sum)
	for _, g := range rows {
		line := fmt.Sprintf("| %s | %d |", g, total[g])
		for _, r := range reports {
			passed, tried := r.tally()
			if tried[g] == 0 {
				line += " – |"
				continue
			}
			line += fmt.Sprintf(" %d |", passed[g])
		}
		fmt.Fprintln(w, line)
	}
	fmt.Fprintln(w)
	for _, r := range reports {
		if names := r.failedNames(); names != "" {
			fmt.Fprintf(w, "Not passed on %s: %s.\n\n", r.kind.name, names)
		}
	}
}

func (r *report) failedNames() string {
	var names []string
	for _, v := range r.failed() {
		names = append(names, v.name)
	}
	return strings.Join(names, ", ")
}
