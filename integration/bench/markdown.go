package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// row is a line of the table of docs/benchmarks.md: a workload, or one variant
// of it (a number of layers, the writeback cache), with all contestants beside each other.
type row struct {
	title string
	of    *result
	lines map[string]*line // by contestant, without the variant
	first *line            // the others' ratios are to it
}

// variantOf splits a contestant's name: "unio (dev, writeback)" is the
// contestant "unio (dev)" in the variant "writeback", "overlayfs, 10 layers"
// is overlayfs in "10 layers".
func variantOf(name string) (who, variant string) {
	who, variant, ok := strings.Cut(name, ", ")
	if ok && strings.Contains(who, "(") && strings.HasSuffix(variant, ")") {
		return who + ")", strings.TrimSuffix(variant, ")")
	}
	return who, variant
}

// rows are the rows of a result, in the order of its contestants.
func (r *result) rows() []*row {
	var list []*row
	for _, l := range r.Lines {
		if l.Missing != "" || l.Rounds == 0 {
			continue
		}
		who, variant := variantOf(l.Name)
		title := r.heading()
		if variant != "" {
			title += "; " + variant
		}
		at := slices.IndexFunc(list, func(o *row) bool { return o.title == title })
		if at < 0 {
			at = len(list)
			list = append(list, &row{title: title, of: r, lines: map[string]*line{}, first: l})
		}
		list[at].lines[who] = l
	}
	return list
}

// markdown writes the whole run for docs/benchmarks.md: a table of the
// filesystems and one of the tools, whose contestants are others.
func (r *report) markdown(w io.Writer) {
	fmt.Fprintf(w, "%s. %s. %.0f s, at most %d rounds.\n", r.Machine, r.Image, r.Seconds, r.Rounds)
	var filesystems, tools []*row
	for _, res := range r.Results {
		if res.line("unio") != nil {
			tools = append(tools, res.rows()...)
		} else {
			filesystems = append(filesystems, res.rows()...)
		}
	}
	markTable(w, filesystems)
	markTable(w, tools)
	r.markMissing(w)
}

// markTable writes rows with a column for each contestant of any of them.
func markTable(w io.Writer, rows []*row) {
	if len(rows) == 0 {
		return
	}
	var who []string
	for _, o := range rows {
		for _, l := range o.of.Lines {
			if name, _ := variantOf(l.Name); !slices.Contains(who, name) {
				who = append(who, name)
			}
		}
	}
	head := append(append([]string{"workload"}, who...), "requests", "server's CPU", "server's memory", "goals")
	fmt.Fprintf(w, "\n| %s |\n|%s\n", strings.Join(head, " | "), strings.Repeat("---|", len(head)))
	for _, o := range rows {
		cells := []string{o.title}
		for _, name := range who {
			cells = append(cells, o.figure(name))
		}
		cells = append(cells, o.requests(who), o.each(who, 7), o.each(who, 9), o.goals(who))
		fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
	}
}

// figure is a contestant's time or rate, with its ratio to the first one and, where
// there are few, its number of rounds.
func (o *row) figure(who string) string {
	l := o.lines[who]
	if l == nil {
		return ""
	}
	text := l.cells()[1]
	if l.Rate > 0 {
		text = l.speed()
	}
	if l != o.first {
		text += ", " + showRatio(medianOf(ratios(l, o.first, wallTime))) + "×"
	}
	if l.Rounds < 3 {
		text += fmt.Sprintf(" (%d)", l.Rounds)
	}
	return text
}

// requests are those of the first contestant: transports do not differ in them.
func (o *row) requests(who []string) string {
	for _, name := range who {
		if l := o.lines[name]; l != nil && l.Requests != nil {
			return l.requests()
		}
	}
	return ""
}

// each joins one cell of all contestants that have a server.
func (o *row) each(who []string, cell int) string {
	var list []string
	for _, name := range who {
		if l := o.lines[name]; l != nil && l.cells()[cell] != "" {
			list = append(list, l.cells()[cell])
		}
	}
	return strings.Join(list, ", ")
}

// goals are the row's goals and what came of them. That nothing is slower than
// fuse-overlayfs goes without saying, unless it is.
func (o *row) goals(who []string) string {
	var list []string
	for _, name := range who {
		l := o.lines[name]
		if l == nil {
			continue
		}
		for _, v := range o.of.Goals {
			if v.Of == l.Name && !(v.Met && v.everywhere()) {
				list = append(list, v.String())
			}
		}
	}
	return strings.Join(list, "; ")
}

// everywhere is true for the goal that every filesystem workload has.
func (v verdict) everywhere() bool {
	return v.Against == fuseOverlay && strings.HasPrefix(v.Bound, fmt.Sprintf("≤ %.2f×", 1+noise))
}

func (r *report) markMissing(w io.Writer) {
	fmt.Fprintln(w)
	for _, res := range r.Results {
		for _, l := range res.Lines {
			if l.Missing != "" {
				first, _, _ := strings.Cut(l.Missing, "\n")
				fmt.Fprintf(w, "- %s without %s: %s\n", res.Name, l.Name, first)
			}
		}
	}
}
