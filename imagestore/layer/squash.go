package layer

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"unio/unionfs/merge"
)

// WriteSquash writes one layer that makes top of base, by the same rules as
// [Changes.WriteTar]. The layers of base must be the first ones of top: a file
// whose data lies at another place of the layers counts as changed.
func WriteSquash(ctx context.Context, base, top *View, w io.Writer) error {
	s := &squash{ctx: ctx, base: base, top: top, links: map[merge.Ino]*linkGroup{}}
	walk, err := newMergeWalk(Upper{}, top)
	if err != nil {
		return err
	}
	defer walk.close()
	s.walk = walk
	_, root, err := walk.root()
	if err != nil {
		return err
	}
	if root.kind, err = s.kindOf(root, merge.RootIno); err != nil {
		return err
	}
	if err := s.folder(root, merge.RootIno); err != nil {
		return err
	}
	changed := root.kind
	s.settle(root)
	root.kind = changed // a change below is none of the root itself
	c := &Changes{lower: top, root: root}
	return c.WriteTar(ctx, w)
}

// squash compares two views name by name.
type squash struct {
	ctx       context.Context
	base, top *View
	walk      *mergeWalk // over top
	links     map[merge.Ino]*linkGroup
}

// linkGroup is a file of top with several names. If one of them is not what it
// was, all are written, so that they stay one file.
type linkGroup struct {
	was     merge.Ino // what its names are in base
	changed bool
}

// folder fills in what n, a folder of top, holds; was is the folder of base at
// its path, 0 if there is none.
func (s *squash) folder(n *changeNode, was merge.Ino) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	var problem error
	err := s.top.ReadDir(n.low, 0, func(e merge.Entry) bool {
		k, err := s.child(e, was)
		n.kids = append(n.kids, k)
		problem = err
		return err == nil
	})
	if err = cmp.Or(err, problem); err != nil {
		return fmt.Errorf("compare %s: %w", n.name, err)
	}
	slices.SortFunc(n.kids, func(a, b *changeNode) int { return cmp.Compare(a.name, b.name) })
	if was == 0 {
		return nil
	}
	return s.addGone(n, was)
}

// child describes one entry of top with all that is below it.
func (s *squash) child(e merge.Entry, was merge.Ino) (*changeNode, error) {
	k, err := s.walk.lowerNode(e.Name, e.Ino)
	if err != nil {
		return k, err
	}
	before, err := find(s.base, was, e.Name)
	if err != nil {
		return k, err
	}
	if k.kind, err = s.kindOf(k, before); err != nil {
		return k, err
	}
	if k.id != (linkID{}) {
		s.group(k, before)
	}
	if !k.isDir() {
		return k, nil
	}
	var a merge.Attr
	if before != 0 {
		if err := s.base.Attr(before, &a); err != nil {
			return k, err
		}
	}
	if !a.IsDir() {
		before = 0
	}
	return k, s.folder(k, before)
}

// find looks a name up; 0: it is not there.
func find(v *View, dir merge.Ino, name string) (merge.Ino, error) {
	if dir == 0 {
		return 0, nil
	}
	ino, err := v.Lookup(dir, name)
	if err == merge.ErrNotExist {
		return 0, nil
	}
	return ino, err
}

// kindOf tells how a node differs from what base has at its path; 0: it does
// not.
func (s *squash) kindOf(n *changeNode, was merge.Ino) (ChangeKind, error) {
	if was == 0 {
		return Added, nil
	}
	b := &mergeWalk{sources: sources{lower: s.base}}
	old, err := b.lowerNodePlain(was)
	if err != nil {
		return 0, err
	}
	x, y := n.attr, old.attr
	x.Nlink, y.Nlink = 0, 0
	if x != y || n.target != old.target || !slices.Equal(n.xattrs, old.xattrs) {
		return Modified, nil
	}
	if n.attr.IsRegular() && n.attr.Size > 0 {
		l, at, ok := s.top.Place(n.low)
		m, with, ok2 := s.base.Place(was)
		if !ok || !ok2 || l != m || at != with {
			return Modified, nil
		}
	}
	return 0, nil
}

// lowerNodePlain is lowerNode without a name and regard to links.
func (w *mergeWalk) lowerNodePlain(ino merge.Ino) (*changeNode, error) {
	n := &changeNode{from: fromLower, low: ino}
	err := w.lower.Attr(ino, &n.attr)
	if err == nil && n.attr.IsSymlink() {
		n.target, err = w.lower.Readlink(ino)
		n.attr.Size = uint64(len(n.target))
	}
	if err == nil {
		n.xattrs, err = w.lowerXattrs(ino)
	}
	return n, err
}

// group notes one name of a file with several.
func (s *squash) group(n *changeNode, was merge.Ino) {
	g := s.links[n.low]
	if g == nil {
		g = &linkGroup{was: was}
		s.links[n.low] = g
		var a merge.Attr
		if was != 0 && s.base.Attr(was, &a) == nil && a.Nlink != n.attr.Nlink {
			g.changed = true
		}
	}
	if n.kind != 0 || g.was != was {
		g.changed = true
	}
}

// addGone adds what base has in a folder and top has not.
func (s *squash) addGone(n *changeNode, was merge.Ino) error {
	var gone []*changeNode
	err := s.base.ReadDir(was, 0, func(e merge.Entry) bool {
		if _, ok := n.kid(e.Name); !ok {
			gone = append(gone, &changeNode{name: e.Name, kind: Deleted, base: e.Ino})
		}
		return true
	})
	n.kids = append(n.kids, gone...)
	slices.SortFunc(n.kids, func(a, b *changeNode) int { return cmp.Compare(a.name, b.name) })
	return err
}

// settle drops what did not change; a folder with a change in it counts as
// changed. It reports whether anything is left of n.
func (s *squash) settle(n *changeNode) bool {
	if g := s.links[n.low]; g != nil && g.changed && n.id != (linkID{}) && n.kind == 0 {
		n.kind = Modified
	}
	n.kids = slices.DeleteFunc(n.kids, func(k *changeNode) bool { return !s.settle(k) })
	if n.kind == 0 && len(n.kids) > 0 {
		n.kind = Modified
	}
	return n.kind != 0
}
