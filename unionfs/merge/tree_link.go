package merge

import (
	"fmt"

	"unio/whiteout"
)

// linkState is how far a hard link of a layer has come.
type linkState uint8

const (
	linkNew     linkState = iota
	linkPending           // its target is being placed
	linkPlaced
)

// placeLinks places the hard links of the layer, each after its target when
// that is one of them too.
func (a *application) placeLinks() error {
	state := make([]linkState, len(a.links))
	var chain []int
	for i := range a.links {
		var err error
		if chain, err = a.linkChain(chain[:0], i, state); err != nil {
			return err
		}
		for len(chain) > 0 {
			last := chain[len(chain)-1]
			chain = chain[:len(chain)-1]
			if err := a.placeLink(a.links[last]); err != nil {
				return err
			}
			state[last] = linkPlaced
		}
	}
	return nil
}

// linkChain collects a link and the links that must be placed before it, the
// first to be placed last.
func (a *application) linkChain(chain []int, i int, state []linkState) ([]int, error) {
	for state[i] != linkPlaced {
		if state[i] == linkPending {
			return nil, fmt.Errorf("%w: hard link %q leads to itself", ErrLayer, a.links[i].Path)
		}
		state[i] = linkPending
		chain = append(chain, i)
		next, ok := a.linkAt[a.links[i].Link]
		if !ok {
			break
		}
		i = next
	}
	return chain, nil
}

// placeLink gives the target of a hard link its further name.
func (a *application) placeLink(e *LayerEntry) error {
	target, err := a.find(e.Link)
	switch {
	case err != nil:
		return fmt.Errorf("hard link %q to %q: %w", e.Path, e.Link, err)
	case target == nil:
		return fmt.Errorf("%w: hard link %q to %q, %s", ErrLayer, e.Path, e.Link, a.whyMissing(e.Link))
	case target.IsDir():
		return fmt.Errorf("%w: hard link %q to %q, a folder", ErrLayer, e.Path, e.Link)
	}
	parent, name := SplitPath(e.Path)
	dir, err := a.makeDir(parent)
	if err != nil {
		return fmt.Errorf("hard link %q: %w", e.Path, err)
	}
	dir.put(name, target)
	return nil
}

// whyMissing tells a target that this layer deletes from one that never was.
func (a *application) whyMissing(path string) string {
	for _, h := range a.hides {
		hidden := h.Whiteout == whiteout.File && (h.Path == path || below(path, h.Path))
		if hidden || h.Opaque && (h.Path == "" || below(path, h.Path)) {
			return "which this layer deletes"
		}
	}
	return "which does not exist"
}
