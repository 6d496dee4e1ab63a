package main

import (
	"strings"
	"testing"
	"time"
)

// TestMarkdown puts variants of a contestant into rows of their own, and
// tools into a table of their own.
func TestMarkdown(t *testing.T) {
	timed := func(title string, names ...string) *result {
		w := workload{name: title, title: title}
		for _, name := range names {
			w.contestants = append(w.contestants, contestant{name: name})
		}
		r := newResult(w)
		for i, name := range names {
			for round := range 3 {
				r.add(name, round, sample{wall: time.Duration(i+1) * time.Second, requests: -1})
			}
		}
		return r
	}
	files := timed("append", oursDev, "unio (dev, writeback)", overlayfs, fuseOverlay)
	files.conclude(ratio(overlayfs, 0.1, 0.1))
	tools := timed("load", "unio", "docker")
	tools.conclude(nil)
	var text strings.Builder
	(&report{Results: []*result{files, tools}}).markdown(&text)
	for _, want := range []string{
		"| workload | unio (dev) | overlayfs | fuse-overlayfs | requests |",
		"| append: append | 1,000 ms | 3,000 ms, 3.00× | 4,000 ms, 4.00× |",
		"unio (dev) ≤ 0.10× overlayfs: MISSED (0.33×) |",
		"| append: append; writeback | 2,000 ms |  |  |",
		"| workload | unio | docker | requests |",
		"| load: load | 1,000 ms | 2,000 ms, 2.00× |",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
}
