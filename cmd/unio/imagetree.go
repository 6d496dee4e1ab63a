package main

import (
	"context"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"unio/imagestore"
)

// imageTree shows who is built on whom: below each image those whose layers
// begin with all of its own, or that say it is their parent.
type imageTree struct {
	usage    []imagestore.ImageUsage
	children map[digest.Digest][]int // by the parent's ID; "" for those without
	parent   map[digest.Digest]digest.Digest
}

func newImageTree(ctx context.Context, st *imagestore.Store) (*imageTree, error) {
	u, err := st.DiskUsage(ctx)
	if err != nil {
		return nil, err
	}
	t := &imageTree{usage: u.Images, children: map[digest.Digest][]int{}, parent: map[digest.Digest]digest.Digest{}}
	for i := range t.usage {
		p := t.parentOf(i)
		t.parent[t.usage[i].ID] = p
		t.children[p] = append(t.children[p], i)
	}
	return t, nil
}

// parentOf finds the image that image i is built on, empty for none.
func (t *imageTree) parentOf(i int) digest.Digest {
	me := t.usage[i]
	mine := me.DiffIDs()
	var best digest.Digest
	longest := 0
	for j, other := range t.usage {
		theirs := other.DiffIDs()
		if j != i && other.ID == me.Parent {
			return other.ID
		}
		if len(theirs) > longest && len(theirs) < len(mine) && slices.Equal(theirs, mine[:len(theirs)]) {
			best, longest = other.ID, len(theirs)
		}
	}
	return best
}

// treeRow is one image in its place; its methods are what templates may use.
type treeRow struct {
	use  *imagestore.ImageUsage
	line string // what leads to it
	long bool
}

func (r *treeRow) ID() string { return imageID(r.use.ID, r.long) }

// Image is the image's names behind the branch that leads to it.
func (r *treeRow) Image() string {
	if len(r.use.Names) == 0 {
		return r.line + missing
	}
	return r.line + strings.Join(r.use.Names, ", ")
}
func (r *treeRow) CreatedSince() string { return since(r.use.Config.Created) }
func (r *treeRow) Size() string         { return size(r.use.Shared + r.use.Unique) }
func (r *treeRow) SharedSize() string   { return size(r.use.Shared) }

// UniqueSize is what removing the image would free.
func (r *treeRow) UniqueSize() string { return size(r.use.Unique) }

// rows lists the images below parent, each with its own below it.
func (t *imageTree) rows(parent digest.Digest, lead string, long bool) []any {
	var rows []any
	list := t.children[parent]
	for n, i := range list {
		branch, below := "├─ ", "│  "
		if n == len(list)-1 {
			branch, below = "└─ ", "   "
		}
		if parent == "" {
			branch, below = "", ""
		}
		rows = append(rows, &treeRow{use: &t.usage[i], line: lead + branch, long: long})
		rows = append(rows, t.rows(t.usage[i].ID, lead+below, long)...)
	}
	return rows
}

// around keeps what an image is built on and what is built on it.
func (t *imageTree) around(id digest.Digest) *imageTree {
	near := &imageTree{usage: t.usage, children: map[digest.Digest][]int{}, parent: t.parent}
	var below func(digest.Digest)
	below = func(p digest.Digest) {
		near.children[p] = t.children[p]
		for _, i := range t.children[p] {
			below(t.usage[i].ID)
		}
	}
	below(id)
	for id != "" {
		up := t.parent[id]
		at := slices.IndexFunc(t.usage, func(u imagestore.ImageUsage) bool { return u.ID == id })
		near.children[up] = []int{at}
		id = up
	}
	return near
}

func (t *imageTree) print(e *env, format string, long bool) error {
	l := &listing{
		standard: "{{.Image}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}",
		headers: map[string]string{
			"Image": "IMAGE", "ID": "IMAGE ID", "CreatedSince": "CREATED", "Size": "SIZE",
			"SharedSize": "SHARED SIZE", "UniqueSize": "UNIQUE SIZE",
		},
		whole: long,
	}
	return l.print(e.stdout, format, false, t.rows("", "", long))
}
