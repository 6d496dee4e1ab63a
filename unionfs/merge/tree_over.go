package merge

import (
	"errors"
	"slices"
	"strings"
)

// base is the Lower that a tree began with.
type base struct {
	lower Lower
	err   error // the first that it gave
}

// baseNode is what a node was in the Lower that its tree began with.
type baseNode struct {
	of    *base
	ino   Ino
	shows bool // folder: its entries show where Node.children has nothing to say
}

// TreeOver returns a tree that begins with what a Lower shows, so that a layer
// over it costs what the layer holds. Nothing is read before a layer asks
// for it. made says how many folders of the Lower, at most, no layer describes;
// they count for the limit. The Lower must stay open.
//
// [Node.Names] of such a tree does not know the Lower's names; [Node.Base] and
// [Node.Changes] together tell what is in a folder.
func TreeOver(lower Lower, made int) (*Tree, error) {
	b := &base{lower: lower}
	root := b.node(RootIno)
	return &Tree{root: root, made: made, below: b}, b.err
}

// failure is what went wrong with the Lower. A tree without one has no error.
func (b *base) failure() error {
	if b == nil {
		return nil
	}
	return b.err
}

func (b *base) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

// node makes the node that stands for one of the Lower; nil after an error.
func (b *base) node(ino Ino) *Node {
	n := &Node{Ref: NoRef}
	if err := b.lower.Attr(ino, &n.Attr); err != nil {
		b.fail(err)
		return nil
	}
	n.Attr.Nlink = 0
	n.base = &baseNode{of: b, ino: ino, shows: n.IsDir()}
	if n.Attr.IsSymlink() {
		target, err := b.lower.Readlink(ino)
		if err != nil {
			b.fail(err)
			return nil
		}
		n.Link = strings.Clone(target)
	}
	return n
}

// child looks a name up in a folder of the Lower; nil: it has none. Another
// name of the same file gives another node with the same number.
func (n *baseNode) child(name string) *Node {
	ino, err := n.of.lower.Lookup(n.ino, name)
	if err == nil {
		return n.of.node(ino)
	}
	if !errors.Is(err, ErrNotExist) {
		n.of.fail(err)
	}
	return nil
}

// Base returns the number that the node has in the Lower that its tree began
// with, 0 if it has none there, and for a folder whether the Lower's entries
// show, but for [Node.Changes]. A file with a number is in all the Lower's; a
// folder is so as long as Ref is NoRef.
func (n *Node) Base() (ino Ino, shows bool) {
	if n.base == nil {
		return 0, false
	}
	return n.base.ino, n.base.shows
}

// Change is a name in a folder whose node may be another than in the Lower
// below the tree. Without a node it is gone.
type Change struct {
	Name string
	Node *Node
}

// Changes returns the names in a folder that a layer has asked for or placed,
// sorted by byte value.
func (n *Node) Changes() []Change {
	list := make([]Change, 0, len(n.children))
	for name, child := range n.children {
		list = append(list, Change{name, child})
	}
	slices.SortFunc(list, func(a, b Change) int { return strings.Compare(a.Name, b.Name) })
	return list
}
