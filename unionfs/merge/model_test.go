package merge

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"unio/whiteout"
)

// model says the layer rules once more, as plainly as possible: a map from
// path to node, and whole-map searches. It shares no code with Tree.
type model map[string]*modelNode

type modelNode struct {
	typ    uint32
	serial uint32 // UID of the entry it came from; 0 when made as a parent
	link   string
}

var errModel = errors.New("model refuses the layer")

func newModel() model { return model{"": {typ: dirType}} }

const (
	dirType  = 0o040000
	linkType = 0o120000
)

func parentOf(p string) string {
	i := strings.LastIndex(p, "/")
	return p[:max(i, 0)]
}

func baseOf(p string) string { return p[strings.LastIndex(p, "/")+1:] }

func joined(dir, name string) string { return strings.TrimPrefix(dir+"/"+name, "/") }

// remove deletes a path and all below it.
func (m model) remove(p string) {
	for q := range m {
		if q == p || strings.HasPrefix(q, p+"/") {
			delete(m, q)
		}
	}
}

// resolve follows path to a folder. create makes missing folders.
func (m model) resolve(p string, create bool) (at string, ok bool, err error) {
	todo := strings.Split(p, "/")
	for links := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = parentOf(at)
			continue
		}
		n := m[joined(at, name)]
		if n != nil && n.typ == linkType {
			if links++; links > 255 {
				return "", false, errModel
			}
			if strings.HasPrefix(n.link, "/") {
				at = ""
			}
			todo = append(strings.Split(n.link, "/"), todo...)
			continue
		}
		at = joined(at, name)
		if n == nil || n.typ != dirType {
			if !create {
				return "", false, nil
			}
			m[at] = &modelNode{typ: dirType}
		}
	}
	return at, true, nil
}

// put places a node: over a folder a folder replaces the attributes only.
func (m model) put(p string, n *modelNode) {
	if old := m[p]; old != nil && old.typ == dirType && n.typ == dirType {
		m[p] = n
		return
	}
	m.remove(p)
	m[p] = n
}

// throughLink reports whether a folder above p is a symbolic link.
func (m model) throughLink(p string) bool {
	for q := parentOf(p); q != ""; q = parentOf(q) {
		if n := m[q]; n != nil && n.typ == linkType {
			return true
		}
	}
	return false
}

// byComponents sorts paths as lists of names.
func byComponents(paths []string) {
	slices.SortFunc(paths, func(a, b string) int {
		if a == "" || b == "" {
			return len(a) - len(b)
		}
		return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
	})
}

// hide applies whiteouts and opaque markers, all seen in the lower tree.
func (m model) hide(entries []LayerEntry) error {
	var gone []string // paths that go with all below them
	for _, e := range entries {
		if e.Whiteout == whiteout.File {
			dir, ok, err := m.resolve(parentOf(e.Path), false)
			if err != nil {
				return err
			}
			if ok {
				gone = append(gone, joined(dir, baseOf(e.Path)))
			}
		}
		if !e.Opaque {
			continue
		}
		dir, ok, err := m.resolve(e.Path, false)
		if err != nil {
			return err
		}
		for p := range m {
			if ok && p != "" && parentOf(p) == dir {
				gone = append(gone, p)
			}
		}
	}
	for _, p := range gone {
		m.remove(p)
	}
	return nil
}

// apply puts a layer on top.
func (m model) apply(entries []LayerEntry) error {
	if err := m.hide(entries); err != nil {
		return err
	}
	last := map[string]LayerEntry{}
	for _, e := range entries {
		if e.Whiteout == whiteout.None && !e.Implicit {
			last[e.Path] = e
		}
	}
	var paths, later, links []string
	for p := range last {
		paths = append(paths, p)
	}
	byComponents(paths)
	hasBelow := func(p string) bool {
		return slices.ContainsFunc(paths, func(q string) bool { return strings.HasPrefix(q, p+"/") })
	}
	place := func(p string, e LayerEntry) error {
		n := &modelNode{typ: e.Attr.Mode & 0o170000, serial: e.Attr.UID, link: e.Link}
		if e.Hardlink {
			n = &modelNode{typ: dirType}
			m.remove(p)
		}
		if p == "" && n.typ != dirType {
			return errModel
		}
		if n.typ != linkType {
			n.link = ""
		}
		m.put(p, n)
		return nil
	}
	for _, p := range paths {
		switch e := last[p]; {
		case e.Hardlink && !hasBelow(p):
			links = append(links, p)
		case m.throughLink(p):
			later = append(later, p)
		default:
			for q := parentOf(p); q != ""; q = parentOf(q) {
				if n := m[q]; n == nil || n.typ != dirType {
					m[q] = &modelNode{typ: dirType}
				}
			}
			if err := place(p, e); err != nil {
				return err
			}
		}
	}
	for _, p := range later {
		dir, _, err := m.resolve(parentOf(p), true)
		if err != nil {
			return err
		}
		if err := place(joined(dir, baseOf(p)), last[p]); err != nil {
			return err
		}
	}
	return m.applyLinks(links, last)
}

// applyLinks places hard links, those that others link to first.
func (m model) applyLinks(links []string, last map[string]LayerEntry) error {
	done, busy := map[string]bool{}, map[string]bool{}
	var place func(p string) error
	place = func(p string) error {
		if done[p] {
			return nil
		}
		if busy[p] {
			return errModel
		}
		busy[p] = true
		target := last[p].Link
		if slices.Contains(links, target) {
			if err := place(target); err != nil {
				return err
			}
		}
		dir, ok, err := m.resolve(parentOf(target), false)
		if err != nil {
			return err
		}
		n := m[joined(dir, baseOf(target))]
		if !ok || n == nil || n.typ == dirType {
			return errModel
		}
		if dir, _, err = m.resolve(parentOf(p), true); err != nil {
			return err
		}
		m.remove(joined(dir, baseOf(p)))
		m[joined(dir, baseOf(p))] = n
		done[p] = true
		return nil
	}
	for _, p := range links {
		if err := place(p); err != nil {
			return err
		}
	}
	return nil
}

// String lists the tree, names of one inode together.
func (m model) String() string {
	names := map[*modelNode][]string{}
	var paths []string
	for p, n := range m {
		paths = append(paths, p)
		names[n] = append(names[n], p)
	}
	byComponents(paths)
	var b strings.Builder
	for _, p := range paths {
		n := m[p]
		byComponents(names[n])
		fmt.Fprintf(&b, "/%s %o #%d", p, n.typ, n.serial)
		writeRest(&b, n.link, names[n])
	}
	return b.String()
}

func writeRest(b *strings.Builder, link string, names []string) {
	if link != "" {
		fmt.Fprintf(b, " -> %s", link)
	}
	if len(names) > 1 {
		fmt.Fprintf(b, " = %s", strings.Join(names, " "))
	}
	b.WriteByte('\n')
}

// treeString lists a Tree in the same form.
func treeString(t *Tree) string {
	names := map[*Node][]string{}
	nodes := map[string]*Node{}
	var visit func(p string, n *Node)
	visit = func(p string, n *Node) {
		nodes[p] = n
		names[n] = append(names[n], p)
		for _, name := range n.Names() {
			visit(joined(p, name), n.Child(name))
		}
	}
	visit("", t.Root())
	paths := slices.Collect(func(yield func(string) bool) {
		for p := range nodes {
			if !yield(p) {
				return
			}
		}
	})
	byComponents(paths)
	var b strings.Builder
	for _, p := range paths {
		n := nodes[p]
		byComponents(names[n])
		fmt.Fprintf(&b, "/%s %o #%d", p, n.Attr.Mode&0o170000, n.Attr.UID)
		writeRest(&b, n.Link, names[n])
	}
	return b.String()
}
