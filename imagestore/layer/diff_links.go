package layer

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"unio/unionfs/merge"
)

// completeLinks makes every hard link group of the tree whole: a layer that
// changes one name of a file must carry all of them, or the others would stay
// the lower's old file. Names that only the lower has are added where the file
// is in the link hub or has come up elsewhere in a renamed folder.
func (w *mergeWalk) completeLinks(ctx context.Context, root *changeNode) error {
	inos := make(map[merge.Ino]bool, len(w.hub)+len(w.moved))
	maps.Copy(inos, w.moved)
	for ino := range w.hub {
		inos[ino] = true
	}
	places := make(map[merge.Ino]*changeNode)
	root.inPlace(places)
	for _, ino := range slices.Sorted(maps.Keys(inos)) {
		links, err := w.lower.Links(ino)
		if err != nil {
			return fmt.Errorf("names of lower node %d: %w", ino, err)
		}
		for _, l := range links {
			if err := w.addName(ctx, places, ino, l); err != nil {
				return fmt.Errorf("name %q of lower node %d: %w", l.Name, ino, err)
			}
		}
	}
	groups := make(map[linkID][]*changeNode)
	root.groupLinks(groups)
	for _, g := range groups {
		markGroup(g)
	}
	return nil
}

// addName enters one name of a lower file into the tree, if the upper leaves
// it visible and does not have it itself.
func (w *mergeWalk) addName(ctx context.Context, places map[merge.Ino]*changeNode, ino merge.Ino, l merge.Link) error {
	n, steps, err := w.nearest(places, l.Dir)
	if err != nil || n == nil {
		return err
	}
	for _, s := range steps {
		if n, err = w.step(n, s); n == nil || err != nil {
			return err
		}
	}
	i, have := n.kid(l.Name)
	if have {
		return nil
	}
	k, err := w.lowerNode(l.Name, ino)
	if err != nil {
		return err
	}
	k.base = ino
	if k.kind, err = w.kindOf(ctx, nil, k); err != nil {
		return err
	}
	n.kids = slices.Insert(n.kids, i, k)
	return nil
}

// pathStep is one folder on a path through the lower.
type pathStep struct {
	name string
	ino  merge.Ino
}

// inPlace collects the folders that show a lower folder where the lower has it,
// be the folders above them what they may.
func (n *changeNode) inPlace(places map[merge.Ino]*changeNode) {
	if n.low != 0 && n.low == n.base {
		places[n.low] = n
	}
	for _, k := range n.kids {
		if k.isDir() {
			k.inPlace(places)
		}
	}
}

// nearest returns the folder of the tree that shows lower folder dir or the
// nearest one above it, and the steps from there down to dir; nil if the upper
// hides them all.
func (w *mergeWalk) nearest(places map[merge.Ino]*changeNode, dir merge.Ino) (*changeNode, []pathStep, error) {
	var steps []pathStep
	for places[dir] == nil {
		if dir == merge.RootIno {
			return nil, nil, nil
		}
		links, err := w.lower.Links(dir)
		if err != nil {
			return nil, nil, err
		}
		if len(links) != 1 || uint64(len(steps)) > w.lower.Nodes() {
			return nil, nil, fmt.Errorf("folder %d has no place in the tree: %w", dir, merge.ErrCorrupt)
		}
		steps = append(steps, pathStep{links[0].Name, dir})
		dir = links[0].Dir
	}
	slices.Reverse(steps)
	return places[dir], steps, nil
}

// step goes down into one folder of the lower, nil if the upper hides it. A
// folder that the upper does not have is entered into the tree as unchanged.
func (w *mergeWalk) step(n *changeNode, s pathStep) (*changeNode, error) {
	i, have := n.kid(s.name)
	if have {
		if k := n.kids[i]; k.isDir() && k.low == s.ino {
			return k, nil
		}
		return nil, nil
	}
	k, err := w.lowerNode(s.name, s.ino)
	if err != nil {
		return nil, err
	}
	k.base = s.ino
	n.kids = slices.Insert(n.kids, i, k)
	return k, nil
}

// groupLinks collects the names of each file that may have several.
func (n *changeNode) groupLinks(groups map[linkID][]*changeNode) {
	for _, k := range n.kids {
		if k.kind != Deleted && k.id != (linkID{}) {
			groups[k.id] = append(groups[k.id], k)
		}
		k.groupLinks(groups)
	}
}

// markGroup makes all names of a file changes when one is, muting those that
// did not change themselves, and when the lower has different files there.
func markGroup(names []*changeNode) {
	changed, split := false, false
	for _, n := range names {
		changed = changed || n.kind != 0
		split = split || n.base != names[0].base
	}
	for _, n := range names {
		if n.kind == 0 && (changed || split) {
			n.kind, n.mute = Modified, changed
		}
	}
}
