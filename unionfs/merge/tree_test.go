package merge

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"unio/whiteout"
)

// random makes layers out of few names, so that entries meet.
type random struct {
	*rand.Rand
	serial uint32
	files  []string // paths of files so far: most hard links are to one
}

func (r *random) pick(choices ...string) string { return choices[r.IntN(len(choices))] }

func (r *random) path() string {
	names := make([]string, 1+r.IntN(3))
	for i := range names {
		names[i] = r.pick("a", "a-b", "b", "c", "l")
	}
	return strings.Join(names, "/")
}

func (r *random) entry() LayerEntry {
	r.serial++
	e := LayerEntry{Path: r.path(), Attr: Attr{UID: r.serial}}
	switch r.IntN(14) {
	case 0, 1:
		return LayerEntry{Path: e.Path, Whiteout: whiteout.File}
	case 2:
		e.Opaque, e.Implicit, e.Attr = true, true, Attr{}
	case 3, 4:
		e.Attr.Mode = linkType | 0o777
		e.Link = r.pick("a", "b", "/b", "../a", "../../c", "a/b", "/", ".", "..", "l", "/l/c", "c/../b", "/x/y")
	case 5, 6:
		e.Hardlink, e.Attr, e.Link = true, Attr{}, r.path()
		if len(r.files) > 0 && r.IntN(10) > 0 {
			e.Link = r.pick(r.files...)
		}
	case 7, 8, 9:
		e.Attr.Mode = dirType | 0o700
		e.Opaque = r.IntN(6) == 0
	default:
		e.Attr.Mode = 0o100644
		r.files = append(r.files, e.Path)
	}
	return e
}

// layer makes entries each of which has a path, or whiteout, of its own.
func (r *random) layer() []LayerEntry {
	seen := map[string]bool{}
	var list []LayerEntry
	for range 1 + r.IntN(9) {
		e := r.entry()
		key := fmt.Sprint(e.Path, e.Whiteout)
		if !seen[key] {
			seen[key] = true
			list = append(list, e)
		}
	}
	return list
}

func (r *random) shuffled(list []LayerEntry) []LayerEntry {
	list = slices.Clone(list)
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

func listEntries(list []LayerEntry) string {
	var b strings.Builder
	for _, e := range list {
		fmt.Fprintf(&b, "  %s mode %o #%d link %q whiteout %v opaque %v hardlink %v implicit %v\n",
			e.Path, e.Attr.Mode, e.Attr.UID, e.Link, e.Whiteout == whiteout.File, e.Opaque, e.Hardlink, e.Implicit)
	}
	return b.String()
}

// checkChain applies layers to the model and, in several orders, to trees.
func checkChain(t *testing.T, r *random, layers [][]LayerEntry) (refused bool) {
	t.Helper()
	m := newModel()
	trees := []*Tree{NewTree(), NewTree(), NewTree()}
	history := ""
	for _, layer := range layers {
		history += "layer:\n" + listEntries(layer)
		want := m.apply(layer)
		for _, tree := range trees {
			order := r.shuffled(layer)
			err := tree.Apply(order)
			if (err == nil) != (want == nil) {
				t.Fatalf("model says %v, tree says %v\n%sorder:\n%s", want, err, history, listEntries(order))
			}
			if err != nil && !errors.Is(err, ErrLayer) && !errors.Is(err, ErrLoop) {
				t.Fatalf("unknown error %v", err)
			}
			if got := treeString(tree); err == nil && got != m.String() {
				t.Fatalf("tree:\n%smodel:\n%s%sorder:\n%s", got, m, history, listEntries(order))
			}
		}
		if want != nil {
			return true
		}
	}
	return false
}

// The same set of entries gives the same tree in every order, and it is the
// tree of the plain model.
func TestTreeEqualsModel(t *testing.T) {
	runs, refused := 20_000, 0
	if testing.Short() {
		runs = 5_000
	}
	for seed := range runs {
		r := &random{Rand: rand.New(rand.NewPCG(uint64(seed), 7))}
		layers := make([][]LayerEntry, 1+r.IntN(4))
		for i := range layers {
			layers[i] = r.layer()
		}
		if checkChain(t, r, layers) {
			refused++
		}
	}
	t.Logf("%d of %d chains refused", refused, runs)
	if refused > runs*9/10 {
		t.Errorf("too few chains are good: the test says little")
	}
}

// Of entries with the same path the last one counts.
func TestDuplicatesLastWins(t *testing.T) {
	for seed := range 5_000 {
		r := &random{Rand: rand.New(rand.NewPCG(uint64(seed), 8))}
		var layer []LayerEntry
		for range 12 {
			if e := r.entry(); !e.Hardlink {
				layer = append(layer, e)
			}
		}
		m, tree := newModel(), NewTree()
		want, err := m.apply(layer), tree.Apply(layer)
		if (err == nil) != (want == nil) {
			t.Fatalf("model says %v, tree says %v\n%s", want, err, listEntries(layer))
		}
		if err == nil && treeString(tree) != m.String() {
			t.Fatalf("tree:\n%smodel:\n%s%s", treeString(tree), m, listEntries(layer))
		}
	}
}

func dir(p string) LayerEntry { return LayerEntry{Path: p, Attr: Attr{Mode: dirType | 0o700, UID: 1}} }

func file(p string) LayerEntry {
	return LayerEntry{Path: p, Attr: Attr{Mode: 0o100600, UID: 2}}
}

func symlink(p, target string) LayerEntry {
	return LayerEntry{Path: p, Link: target, Attr: Attr{Mode: linkType | 0o777, UID: 3}}
}

func hardlink(p, target string) LayerEntry { return LayerEntry{Path: p, Link: target, Hardlink: true} }
func hidden(p string) LayerEntry           { return LayerEntry{Path: p, Whiteout: whiteout.File} }

func TestTreeRules(t *testing.T) {
	type layer = []LayerEntry
	for _, c := range []struct {
		name   string
		layers []layer
		want   string // paths, or the text of the error after "!"
	}{
		{"no layers", nil, ""},
		{"root gets its attributes", []layer{{dir("")}}, ""},
		{"missing parents", []layer{{file("a/b/c")}}, "a a/b a/b/c"},
		{"folder over folder keeps children", []layer{{dir("d"), file("d/x")}, {dir("d")}}, "d d/x"},
		{"file over folder", []layer{{dir("d"), file("d/x")}, {file("d")}}, "d"},
		{"folder over file", []layer{{file("d")}, {dir("d")}}, "d"},
		{"child below a lower file", []layer{{file("p")}, {file("p/c")}}, "p p/c"},
		{"child below a file of the same layer", []layer{{file("p"), file("p/c")}}, "p p/c"},
		{"child below a hard link of the same layer", []layer{{file("f"), hardlink("p", "f"), file("p/c")}}, "f p p/c"},
		{"whiteout beside the name", []layer{{file("f")}, {file("f"), hidden("f")}}, "f"},
		{"whiteout alone", []layer{{file("f")}, {hidden("f")}}, ""},
		{"whiteout through a link", []layer{{file("d/f"), symlink("l", "d")}, {hidden("l/f")}}, "d l"},
		{"whiteout of a link", []layer{{file("d/f"), symlink("l", "d")}, {hidden("l")}}, "d d/f"},
		{"whiteout and re-creation", []layer{{file("d/f")}, {hidden("d"), dir("d"), file("d/g")}}, "d d/g"},
		{"child below a link", []layer{{dir("d"), symlink("l", "/d")}, {file("l/f")}}, "d d/f l"},
		{"child below a link of the same layer", []layer{{file("l/f"), symlink("l", "d"), dir("d")}}, "d d/f l"},
		{"child below a link out of the image", []layer{{symlink("l", "../../../d")}, {file("l/f")}}, "d d/f l"},
		{"child below a dangling link", []layer{{symlink("l", "x/y")}, {file("l/f")}}, "l x x/y x/y/f"},
		{"child below a link to a file", []layer{{file("d"), symlink("l", "d")}, {file("l/f")}}, "d d/f l"},
		{"link to itself", []layer{{symlink("l", "l")}, {file("l/f")}}, "!symbolic links"},
		{"folder over a link", []layer{{dir("d"), symlink("l", "d")}, {dir("l"), file("l/f")}}, "d l l/f"},
		{"hard link to a lower file", []layer{{file("f")}, {hardlink("g", "f")}}, "f g"},
		{"hard link through a link", []layer{{file("d/f"), symlink("l", "d")}, {hardlink("g", "l/f")}}, "d d/f g l"},
		{"hard link before its target", []layer{{hardlink("a", "b"), file("b")}}, "a b"},
		{"chain of hard links", []layer{{hardlink("a", "b"), hardlink("b", "c"), file("c")}}, "a b c"},
		{"hard links in a ring", []layer{{hardlink("a", "b"), hardlink("b", "a")}}, "!leads to itself"},
		{"hard link to nothing", []layer{{hardlink("a", "b")}}, "!which does not exist"},
		{"hard link to a whiteout", []layer{{file("b")}, {hardlink("a", "b"), hidden("b")}}, "!which this layer deletes"},
		{"hard link into an opaque folder", []layer{{file("d/b")}, {hardlink("a", "d/b"), {Path: "d", Opaque: true, Implicit: true}}}, "!which this layer deletes"},
		{"hard link to a folder", []layer{{dir("b")}, {hardlink("a", "b")}}, "!a folder"},
		{"hard link to the root", []layer{{hardlink("a", "")}}, "!a folder"},
		{"root as a file", []layer{{file("")}}, "!root is not a folder"},
		{"implicit parent of a lower link", []layer{{dir("d"), symlink("l", "d")}, {{Path: "l", Implicit: true, Attr: Attr{Mode: dirType}}, file("l/f")}}, "d d/f l"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree := NewTree()
			var err error
			for _, l := range c.layers {
				if err = tree.Apply(l); err != nil {
					break
				}
			}
			if want, fails := strings.CutPrefix(c.want, "!"); fails {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Fatalf("error %v, want %q", err, want)
				}
				return
			}
			if got := treePaths(tree); err != nil || got != c.want {
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
		})
	}
}

func treePaths(t *Tree) string {
	var paths []string
	var visit func(p string, n *Node)
	visit = func(p string, n *Node) {
		for _, name := range n.Names() {
			paths = append(paths, joined(p, name))
			visit(joined(p, name), n.Child(name))
		}
	}
	visit("", t.Root())
	return strings.Join(paths, " ")
}

// A parent that the layer does not describe leaves a lower folder as it is.
func TestImplicitParentChangesNothing(t *testing.T) {
	tree := NewTree()
	layers := [][]LayerEntry{{dir("d")}, {{Path: "d", Implicit: true, Attr: Attr{Mode: dirType | 0o755}}, file("d/f")}}
	for _, l := range layers {
		if err := tree.Apply(l); err != nil {
			t.Fatal(err)
		}
	}
	if d := tree.Root().Child("d"); d.Attr.UID != 1 || d.Attr.Mode != dirType|0o700 {
		t.Errorf("attributes %+v", d.Attr)
	}
}

func TestMissingParentIsRoots(t *testing.T) {
	tree := NewTree()
	if err := tree.Apply([]LayerEntry{file("d/f")}); err != nil {
		t.Fatal(err)
	}
	d := tree.Root().Child("d")
	if d.Attr != (Attr{Mode: dirType | 0o755}) || d.Ref != NoRef {
		t.Errorf("missing parent: %+v, ref %x", d.Attr, d.Ref)
	}
}

// A few links must not make millions of folders, nor hours of walking.
func TestHostileLinks(t *testing.T) {
	t.Run("folders", func(t *testing.T) {
		deep := strings.Repeat("/a", 2000)
		var layer []LayerEntry
		for i := range 300 {
			layer = append(layer, symlink(fmt.Sprintf("l%d", i), fmt.Sprintf("/x%d%s", i, deep)), file(fmt.Sprintf("l%d/f", i)))
		}
		if err := NewTree().Apply(layer); !errors.Is(err, ErrLayer) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("steps", func(t *testing.T) {
		slow := strings.Repeat("./", 2000)
		var layer []LayerEntry
		for i := range 200 {
			layer = append(layer, symlink(fmt.Sprintf("l%d", i), slow+strings.Repeat("d/../", 400)+fmt.Sprintf("l%d", i+1)))
		}
		layer = append(layer, dir("d"), dir("l200"))
		for i := range 2000 {
			layer = append(layer, file(fmt.Sprintf("l0/f%d", i)))
		}
		if err := NewTree().Apply(layer); !errors.Is(err, ErrLoop) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("too many links", func(t *testing.T) {
		var layer []LayerEntry
		for i := range maxLinks + 1 {
			layer = append(layer, symlink(fmt.Sprintf("l%d", i), fmt.Sprintf("l%d", i+1)))
		}
		if err := NewTree().Apply(append(layer, file("l0/f"))); !errors.Is(err, ErrLoop) {
			t.Errorf("error %v", err)
		}
		if err := NewTree().Apply(append(layer, file("l1/f"))); err != nil {
			t.Errorf("error %v", err)
		}
	})
}

func TestComparePaths(t *testing.T) {
	want := []string{"", "a", "a/b", "a/b/c", "a-b", "a-b/c", "a.b", "ab", "b"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, ComparePaths[string])
	if !slices.Equal(got, want) {
		t.Errorf("order %q", got)
	}
}

func BenchmarkApply(b *testing.B) {
	var layer []LayerEntry
	for i := range 500 {
		d := fmt.Sprintf("usr/share/doc/p%03d", i)
		layer = append(layer, dir(d))
		for j := range 100 {
			layer = append(layer, file(fmt.Sprintf("%s/f%03d", d, j)))
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := NewTree().Apply(layer); err != nil {
			b.Fatal(err)
		}
	}
}
