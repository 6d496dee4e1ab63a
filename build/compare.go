package build

import (
	"context"
	"slices"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"unio/imagestore"
	"unio/imagestore/layer"
	"unio/unionfs/merge"
)

// fewFiles is how many pairs of files a comparison reads before it has the
// digests of all files of their layers computed, which takes a reading of the
// whole layers, once.
const fewFiles = 64

// Contents knows of files of two trees, without reading them, whether they are
// the same: because they lie at the same place of the same layer, or by their
// digests. It is for one goroutine.
type Contents struct {
	ctx   context.Context
	st    *imagestore.Store
	a, b  *Tree
	known map[digest.Digest]*layer.Digests // nil: cannot be had
	pairs map[[2]digest.Digest]int         // how many were not known
}

// CompareContents is for trees of one store.
func CompareContents(ctx context.Context, st *imagestore.Store, a, b *Tree) *Contents {
	return &Contents{
		ctx: ctx, st: st, a: a, b: b,
		known: map[digest.Digest]*layer.Digests{}, pairs: map[[2]digest.Digest]int{},
	}
}

// Same tells what is known of two files of one length.
func (c *Contents) Same(mine, theirs merge.Ino) (same, known bool) {
	l, at, ok := c.a.Place(mine)
	m, with, ok2 := c.b.Place(theirs)
	if !ok || !ok2 {
		return false, false
	}
	one, two := c.a.diffIDs[l], c.b.diffIDs[m]
	switch {
	case one == "" || two == "": // what a container has changed
		return false, false
	case one == two && at == with:
		return true, true
	case !c.ready(one, two):
		return false, false
	}
	x, ok := c.known[one].At(at)
	y, ok2 := c.known[two].At(with)
	return x == y, ok && ok2
}

// ready reports whether there are digests for the files of two layers. They
// are computed for many files only.
func (c *Contents) ready(one, two digest.Digest) bool {
	x, tried := c.known[one]
	y, tried2 := c.known[two]
	if tried && tried2 {
		return x != nil && y != nil
	}
	pair := [2]digest.Digest{one, two}
	c.pairs[pair]++
	there := c.pairs[pair] == 1 && c.st.HasFileDigests(one) && c.st.HasFileDigests(two)
	if !there && c.pairs[pair] < fewFiles {
		return false
	}
	c.load(one, two)
	return c.known[one] != nil && c.known[two] != nil
}

// load gets the digests of two layers at the same time. A comparison that
// cannot have them reads the files.
func (c *Contents) load(layers ...digest.Digest) {
	slices.Sort(layers)
	layers = slices.DeleteFunc(slices.Compact(layers), func(d digest.Digest) bool { _, tried := c.known[d]; return tried })
	got := make([]*layer.Digests, len(layers))
	var g errgroup.Group
	for i, d := range layers {
		g.Go(func() (err error) {
			got[i], err = c.st.FileDigests(c.ctx, d)
			return err
		})
	}
	_ = g.Wait() // the reading that follows tells what is wrong
	for i, d := range layers {
		c.known[d] = got[i]
	}
}
