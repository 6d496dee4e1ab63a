package merge

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"unio/whiteout"
)

// Errors of a layer that cannot be applied. Both come wrapped with the path
// of the entry.
var (
	// ErrLayer says that a layer contradicts itself or the layers below it,
	// for example by a hard link to nothing.
	ErrLayer = errors.New("invalid layer")
	// ErrLoop says that symbolic links of an image lead nowhere.
	ErrLoop error = unix.ELOOP
)

// NoRef is the [Node.Ref] of a folder that no entry describes.
const NoRef = ^uint64(0)

// LayerEntry is one entry of a layer, in the terms of the OCI layer format
// (image-spec, layer.md).
type LayerEntry struct {
	Path     string        // clean and relative, "a/b"; "" is the root
	Whiteout whiteout.Kind // File: Path of the lower layers is hidden; None: an ordinary entry
	Opaque   bool          // nothing of the lower layers shows through in folder Path
	Implicit bool          // a parent that the layer does not describe; makes nothing by itself
	Hardlink bool          // another name of Link
	Attr     Attr          // of an ordinary entry; Nlink is ignored
	Link     string        // target of a symbolic link, or clean path of a hard link's target
	Ref      uint64        // the caller's own, found again in Node.Ref
}

// isDir reports whether the entry describes a folder.
func (e *LayerEntry) isDir() bool { return !e.Hardlink && e.Attr.IsDir() }

// Node is one inode of a [Tree]. A node with several names is a file with
// hard links.
type Node struct {
	Attr     Attr   // without Nlink, which depends on the whole tree
	Link     string // target of a symbolic link
	Ref      uint64 // LayerEntry.Ref of the topmost entry that describes it, or NoRef
	children map[string]*Node
	base     *baseNode // what the tree began with here; nil: a layer made the node
}

// IsDir reports whether the node is a folder.
func (n *Node) IsDir() bool { return n.Attr.IsDir() }

// Child returns the entry of that name in a folder, or nil.
func (n *Node) Child(name string) *Node {
	child, known := n.children[name]
	if !known && n.base != nil && n.base.shows {
		child = n.base.child(name)
		n.put(name, child)
	}
	return child
}

// Names returns the names in a folder that no [TreeOver] has below it, sorted
// by byte value.
func (n *Node) Names() []string {
	if len(n.children) == 0 {
		return nil
	}
	names := make([]string, 0, len(n.children))
	for name := range n.children {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (n *Node) put(name string, child *Node) {
	if n.children == nil {
		n.children = make(map[string]*Node)
	}
	n.children[name] = child
}

// remove takes a name away.
func (n *Node) remove(name string) {
	if n.base != nil && n.base.shows {
		n.put(name, nil)
		return
	}
	delete(n.children, name)
}

// clear takes all names away.
func (n *Node) clear() {
	n.children = nil
	if n.base != nil {
		n.base.shows = false
	}
}

// newNode makes the node that an entry describes.
func newNode(e *LayerEntry) *Node {
	n := &Node{Attr: e.Attr, Ref: e.Ref}
	if e.Attr.IsSymlink() {
		n.Link = e.Link
	}
	return n
}

// newFolder makes a folder that no entry describes: mode 0755, root's, from
// 1970, as container engines make missing parents.
func newFolder() *Node {
	return &Node{Attr: Attr{Mode: unix.S_IFDIR | 0o755}, Ref: NoRef}
}

// Tree is a merged tree in memory, to which layers are applied one over the
// other. It is the reference implementation of the layer rules: what a layer
// does depends on the set of its entries, never on their order in the tar.
//
//   - Whiteouts and opaque markers act on the tree of the lower layers, as it
//     is before anything of their own layer is placed.
//   - A folder over a folder replaces the attributes and keeps the lower
//     children; any other pair of types replaces the whole entry.
//   - An entry whose path leads through a symbolic link lands in the folder
//     that the link names inside the image, after all entries whose paths do
//     not. A missing folder on the way is made; ".." stops at the root.
//   - What stands in the way of an entry's parent and is no folder becomes one.
//   - Hard links come last, and join the inode of their target.
//
// A Tree is for one goroutine.
type Tree struct {
	root  *Node
	made  int   // folders that no entry describes
	below *base // what the tree began with; nil: nothing
}

// Limits that keep a hostile layer from growing without end: by parents that
// it does not spell out, and by links that lead through links.
const (
	maxImplicit  = 1 << 19 // folders that no entry describes, in a tree
	maxLinks     = 255     // symbolic links followed on one path, as container engines do
	maxLinkSteps = 1 << 25 // path components walked in targets of links, in a layer
)

// NewTree returns the tree of no layers: one empty folder, root's, 0755.
func NewTree() *Tree { return &Tree{root: newFolder()} }

// Root returns the root folder.
func (t *Tree) Root() *Node { return t.root }

// Apply puts a layer on top. Of entries with the same path the last one
// counts. The errors are ErrLayer and ErrLoop; after one the tree is of no
// further use. The entries are not changed.
func (t *Tree) Apply(entries []LayerEntry) error {
	a := newApplication(t, entries)
	for _, step := range []func() error{a.hide, a.placeDirect, a.placeDeferred, a.placeLinks} {
		if err := step(); err != nil {
			return err
		}
	}
	return t.below.failure()
}

// application is one layer on its way into a tree.
type application struct {
	tree     *Tree
	hides    []*LayerEntry  // whiteouts and opaque markers
	entries  []*LayerEntry  // what is to be placed, sorted, each path once
	deferred []*LayerEntry  // those whose path leads through a symbolic link
	links    []*LayerEntry  // hard links
	linkAt   map[string]int // index in links by path
	steps    int            // components walked in targets of links
}

func newApplication(t *Tree, entries []LayerEntry) *application {
	a := &application{tree: t, linkAt: make(map[string]int)}
	opaque := make(map[string]bool)
	for i := range entries {
		e := &entries[i]
		if e.Opaque && !opaque[e.Path] || e.Whiteout == whiteout.File {
			a.hides = append(a.hides, e)
			opaque[e.Path] = opaque[e.Path] || e.Opaque
		}
		if e.Whiteout == whiteout.None && !e.Implicit {
			a.entries = append(a.entries, e)
		}
	}
	a.sort()
	return a
}

// sort puts the entries into path order, parents first, and keeps the last of
// those with the same path.
func (a *application) sort() {
	slices.SortStableFunc(a.entries, func(x, y *LayerEntry) int { return ComparePaths(x.Path, y.Path) })
	kept := a.entries[:0]
	for _, e := range a.entries {
		if n := len(kept); n > 0 && kept[n-1].Path == e.Path {
			kept[n-1] = e
			continue
		}
		kept = append(kept, e)
	}
	a.entries = kept
}

// ComparePaths orders paths by their components, so that a folder comes
// before what is in it and everything below a folder lies together.
func ComparePaths[P string | []byte](a, b P) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] == b[i] {
			continue
		}
		switch {
		case a[i] == '/':
			return -1
		case b[i] == '/':
			return 1
		}
		return int(a[i]) - int(b[i])
	}
	return len(a) - len(b)
}

// place puts an entry into a folder under a name.
func (a *application) place(dir *Node, name string, e *LayerEntry) {
	if old := dir.Child(name); old != nil && old.IsDir() && e.isDir() {
		old.describe(e)
		return
	}
	dir.put(name, newNode(e))
}

// describe gives a folder the attributes of an entry.
func (n *Node) describe(e *LayerEntry) { n.Attr, n.Ref = e.Attr, e.Ref }

// placeRoot gives the root its attributes.
func (a *application) placeRoot(e *LayerEntry) error {
	if !e.isDir() {
		return fmt.Errorf("%w: the root is not a folder", ErrLayer)
	}
	a.tree.root.describe(e)
	return nil
}

// mkdir makes a folder that no entry describes.
func (a *application) mkdir(dir *Node, name string) (*Node, error) {
	if a.tree.made++; a.tree.made > maxImplicit {
		return nil, fmt.Errorf("%w: more than %d folders that are not in the layer", ErrLayer, maxImplicit)
	}
	n := newFolder()
	dir.put(name, n)
	return n, nil
}

// placeDirect places all entries whose parents are reached without a symbolic
// link; the others, and hard links, are kept for the later steps.
func (a *application) placeDirect() error {
	at := cursor{dir: a.tree.root}
	for i, e := range a.entries {
		if e.Path == "" {
			if err := a.placeRoot(e); err != nil {
				return err
			}
			continue
		}
		if e.Hardlink && !a.hasChildren(i) {
			a.linkAt[e.Path] = len(a.links)
			a.links = append(a.links, e)
			continue
		}
		if err := a.placeOne(&at, e); err != nil {
			return err
		}
	}
	return nil
}

// hasChildren reports whether the layer has an entry below that of entry i.
func (a *application) hasChildren(i int) bool {
	return i+1 < len(a.entries) && below(a.entries[i+1].Path, a.entries[i].Path)
}

func below(path, dir string) bool {
	return len(path) > len(dir) && path[len(dir)] == '/' && strings.HasPrefix(path, dir)
}

// placeOne places an entry at its literal path, or defers it.
func (a *application) placeOne(at *cursor, e *LayerEntry) error {
	parent, name := SplitPath(e.Path)
	if at.path != parent {
		dir, err := a.literalDir(parent)
		if err != nil {
			return err
		}
		if dir == nil {
			a.deferred = append(a.deferred, e)
			return nil
		}
		*at = cursor{path: parent, dir: dir}
	}
	if e.Hardlink { // one with children: they win
		_, err := a.mkdir(at.dir, name)
		return err
	}
	a.place(at.dir, name, e)
	return nil
}

// cursor remembers the folder of the last entry: in path order its neighbours
// follow, and nothing replaces the folder before they are placed.
type cursor struct {
	path string
	dir  *Node
}

// literalDir walks to a folder by its literal path and makes what is missing
// or no folder. It returns nil when a component is a symbolic link.
func (a *application) literalDir(path string) (*Node, error) {
	dir := a.tree.root
	for name := range components(path) {
		child := dir.Child(name)
		if child != nil && child.Attr.IsSymlink() {
			return nil, nil
		}
		if child == nil || !child.IsDir() {
			var err error
			if child, err = a.mkdir(dir, name); err != nil {
				return nil, err
			}
		}
		dir = child
	}
	return dir, nil
}

// placeDeferred places the entries whose parents are reached through symbolic
// links.
func (a *application) placeDeferred() error {
	for _, e := range a.deferred {
		parent, name := SplitPath(e.Path)
		dir, err := a.makeDir(parent)
		if err != nil {
			return fmt.Errorf("place %q: %w", e.Path, err)
		}
		if e.Hardlink {
			if _, err := a.mkdir(dir, name); err != nil {
				return err
			}
			continue
		}
		a.place(dir, name, e)
	}
	return nil
}
