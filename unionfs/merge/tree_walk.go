package merge

import (
	"fmt"
	"iter"
	"strings"

	"unio/whiteout"
)

// SplitPath splits a clean relative path into that of its folder and its last
// component. The folder of "a" is "", the root.
func SplitPath(path string) (dir, name string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}

// components yields the components of a path; empty ones and "." are left out.
func components(path string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for path != "" {
			name, rest, _ := strings.Cut(path, "/")
			if name != "" && name != "." && !yield(name) {
				return
			}
			path = rest
		}
	}
}

// walk is a path on its way through a tree, as the kernel would walk it in a
// process whose root is that of the image.
type walk struct {
	a     *application
	stack []*Node  // the folders above and where we are; the root is first
	rest  []string // paths still to be walked, the next one last
	links int
	make  bool // make what is missing, replace what is no folder
}

// resolve walks to the folder that path names, all symbolic links followed.
// Without makeMissing it returns nil when there is no such folder.
func (a *application) resolve(path string, makeMissing bool) (*Node, error) {
	w := walk{a: a, stack: []*Node{a.tree.root}, rest: []string{path}, make: makeMissing}
	for len(w.rest) > 0 {
		name := w.next()
		if name == "" || name == "." {
			continue
		}
		if ok, err := w.step(name); !ok || err != nil {
			return nil, err
		}
	}
	return w.top(), nil
}

// makeDir walks to a folder and makes what is missing on the way.
func (a *application) makeDir(path string) (*Node, error) { return a.resolve(path, true) }

func (w *walk) top() *Node { return w.stack[len(w.stack)-1] }

// next takes the next component off what is still to be walked.
func (w *walk) next() string {
	last := len(w.rest) - 1
	name, rest, more := strings.Cut(w.rest[last], "/")
	if more {
		w.rest[last] = rest
	} else {
		w.rest = w.rest[:last]
	}
	return name
}

// step goes one component down, up, or aside through a link. It reports false
// when there is no such folder and none may be made.
func (w *walk) step(name string) (bool, error) {
	if w.links > 0 {
		if w.a.steps++; w.a.steps > maxLinkSteps {
			return false, fmt.Errorf("%w: symbolic links too long to follow", ErrLoop)
		}
	}
	if name == ".." {
		w.stack = w.stack[:max(1, len(w.stack)-1)]
		return true, nil
	}
	child := w.top().Child(name)
	if child != nil && child.Attr.IsSymlink() {
		return true, w.follow(child.Link)
	}
	if child == nil || !child.IsDir() {
		if !w.make {
			return false, nil
		}
		var err error
		if child, err = w.a.mkdir(w.top(), name); err != nil {
			return false, err
		}
	}
	w.stack = append(w.stack, child)
	return true, nil
}

// follow goes on with the target of a symbolic link. An absolute one starts
// at the root of the image.
func (w *walk) follow(target string) error {
	if w.links++; w.links > maxLinks {
		return fmt.Errorf("%w: more than %d symbolic links", ErrLoop, maxLinks)
	}
	if strings.HasPrefix(target, "/") {
		w.stack = w.stack[:1]
	}
	w.rest = append(w.rest, target)
	return nil
}

// find returns the node that path names, or nil. Links in its folder are
// followed, the last component is not.
func (a *application) find(path string) (*Node, error) {
	if path == "" {
		return a.tree.root, nil
	}
	parent, name := SplitPath(path)
	dir, err := a.resolve(parent, false)
	if dir == nil || err != nil {
		return nil, err
	}
	return dir.Child(name), nil
}

// cut is one removal: of a name, or of everything in a folder.
type cut struct {
	dir  *Node
	name string
	all  bool
}

// hide removes what whiteouts and opaque markers hide. All of them are looked
// up in the lower tree before the first one acts.
func (a *application) hide() error {
	cuts := make([]cut, 0, len(a.hides))
	for _, e := range a.hides {
		if e.Opaque {
			dir, err := a.resolve(e.Path, false)
			if err != nil {
				return fmt.Errorf("opaque %q: %w", e.Path, err)
			}
			cuts = append(cuts, cut{dir: dir, all: true})
		}
		if e.Whiteout == whiteout.File {
			parent, name := SplitPath(e.Path)
			dir, err := a.resolve(parent, false)
			if err != nil {
				return fmt.Errorf("whiteout of %q: %w", e.Path, err)
			}
			cuts = append(cuts, cut{dir: dir, name: name})
		}
	}
	for _, c := range cuts {
		switch {
		case c.dir == nil: // nothing there: harmless
		case c.all:
			c.dir.clear()
		default:
			c.dir.remove(c.name)
		}
	}
	return nil
}
