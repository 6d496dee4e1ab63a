package integration

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"unio/integration/tree"
)

// original is a plain folder as it was when a container was made over it.
type original struct {
	entries map[string]tree.Entry
	inodes  map[string]inodeKey
}

func originalOf(t *testing.T, dir string) original {
	t.Helper()
	return original{listed(t, dir), plainInodes(t, dir)}
}

// listed reads a plain folder as a lower to which diffs are made.
func listed(t *testing.T, dir string) map[string]tree.Entry {
	t.Helper()
	return readTree(t, dir, tree.Options{NoRoot: true})
}

// wantDiff works out what `unio diff` must say when lower has become now: D for
// what is gone, without what was below it; A for what is new, with what is
// below it; C for what is another, and for the folders on the way to all that.
func wantDiff(lower, now map[string]tree.Entry) []string {
	kinds := map[string]string{}
	for path := range lower {
		parent := filepath.Dir(path)
		_, stays := now[path]
		if !stays && (parent == "." || isFolder(lower, parent) && isFolder(now, parent)) {
			kinds[path] = "D"
		}
	}
	for path, e := range now {
		before, was := lower[path]
		if !was {
			kinds[path] = "A"
		} else if changed(before, e) {
			kinds[path] = "C"
		}
	}
	for path := range maps.Clone(kinds) {
		for up := filepath.Dir(path); up != "."; up = filepath.Dir(up) {
			if kinds[up] == "" {
				kinds[up] = "C"
			}
		}
	}
	var lines []string
	for path, kind := range kinds {
		lines = append(lines, kind+" /"+path)
	}
	slices.Sort(lines)
	return lines
}

func isFolder(entries map[string]tree.Entry, path string) bool {
	return entries[path].Mode>>12 == 0o4
}

// changed compares two files for themselves: how many names they have is a
// matter of the other names.
func changed(a, b tree.Entry) bool {
	a.Nlink, a.Linked = b.Nlink, b.Linked
	return a != b
}

// assertDiff compares `unio diff` of a container with the plain folder.
func (w *twin) assertDiff(b *box, container string, before original) {
	w.t.Helper()
	inodes := plainInodes(w.t, w.plain)
	want := wantDiff(before.entries, listed(w.t, w.plain))
	got := strings.Split(b.run("diff", container), "\n")
	slices.Sort(got)
	for _, line := range want {
		if !slices.Contains(got, line) {
			w.t.Errorf("diff does not say %q", line)
		}
	}
	for _, line := range got {
		_, path, _ := strings.Cut(line, " /")
		another := before.inodes[path] != inodes[path] // a file that only happens to be alike
		if line != "" && !slices.Contains(want, line) && !another {
			w.t.Errorf("diff says %q", line)
		}
	}
}
