package place

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"unio/build/source"
)

// plan is the tree that a copy makes, before it is written. Only what the
// layer will hold has a node; the rest is looked up below.
type plan struct {
	ctx   context.Context
	c     *Copy
	below source.Tree // nil: nothing is there
	owner *owner      // nil: as the trees have it
	mode  modeChange  // nil: as the trees have it
	root  *node
	open  []io.Closer // archives that are unpacked
}

// node is one entry of the layer.
type node struct {
	entry source.Entry
	kids  map[string]*node
	// fresh says that nothing of the image below shows in it.
	fresh bool
	tree  source.Tree // where a file's content is
	key   fileKey
}

// newPlan begins with an empty layer. With --link there is nothing below, so
// that the layer is the same over any image.
func (c *Copy) newPlan(ctx context.Context, below source.Tree) (*plan, error) {
	if c.Link {
		below = nil
	}
	p := &plan{ctx: ctx, c: c, below: below, root: &node{entry: folderEntry(""), fresh: below == nil}}
	var err error
	if p.mode, err = parseMode(c.Chmod); err != nil {
		return nil, err
	}
	if p.owner, err = parseOwner(c.Chown, below); err != nil {
		return nil, err
	}
	return p, nil
}

// close ends with the archives, which are read until the layer is written.
func (p *plan) close() {
	for _, c := range p.open {
		_ = c.Close() // a temporary file that was only read since
	}
}

// folderEntry is a folder as docker makes those that a source does not have.
func folderEntry(name string) source.Entry {
	return source.Entry{Name: name, Mode: unix.S_IFDIR | 0o755}
}

// Lstat describes a name of the image as the copy leaves it, for
// [source.ResolveMissing].
func (p *plan) Lstat(name string) (source.Entry, error) {
	n := p.root
	if name == "" {
		return n.entry, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		kid, ok := n.kids[part]
		if !ok {
			return p.lstatBelow(n, name)
		}
		n = kid
	}
	return n.entry, nil
}

// lstatBelow describes a name of the image below; n is the last node above it.
func (p *plan) lstatBelow(n *node, name string) (source.Entry, error) {
	if n.fresh || p.below == nil {
		return source.Entry{}, &fs.PathError{Op: "stat", Path: "/" + name, Err: fs.ErrNotExist}
	}
	return p.below.Lstat(name)
}

// folder returns the node of a folder, which is made if it is missing, with
// those above it. No component of name is a link.
func (p *plan) folder(name string) (*node, error) {
	n, at := p.root, ""
	if name == "" {
		return n, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		at = path.Join(at, part)
		kid, err := p.kid(n, at, part)
		if err != nil {
			return nil, err
		}
		if kid == nil {
			kid = p.madeFolder(part)
			n.set(part, kid)
		}
		if !kid.entry.IsDir() {
			return nil, failed(unix.ENOTDIR, "mkdir /%s: not a directory", at)
		}
		n = kid
	}
	return n, nil
}

// madeFolder is a folder that no source has.
func (p *plan) madeFolder(name string) *node {
	kid := &node{entry: folderEntry(name), fresh: true}
	kid.entry.ModTime = p.c.Time
	if p.owner != nil {
		kid.entry.UID, kid.entry.GID = p.owner.uid, p.owner.gid
	}
	return kid
}

// kid returns the node of a name in a folder, taken from below if it is there;
// nil: there is nothing of that name.
func (p *plan) kid(n *node, name, part string) (*node, error) {
	if kid, ok := n.kids[part]; ok {
		return kid, nil
	}
	e, err := p.lstatBelow(n, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	kid := &node{entry: e}
	if e.IsDir() { // anything else is only looked at
		n.set(part, kid)
	}
	return kid, nil
}

// set takes up an entry; the map is made late, as most nodes are files.
func (n *node) set(name string, kid *node) {
	if n.kids == nil {
		n.kids = map[string]*node{}
	}
	n.kids[name] = kid
}

// place puts one match where it belongs.
func (p *plan) place(i int, m *match) error {
	name, folder := p.c.destination()
	dest, err := source.ResolveMissing(p, name)
	if err != nil {
		return failed(err, "%s", err) // below a file, or a loop
	}
	switch {
	case m.parents:
		return p.placeUnder(i, m, dest)
	case m.entry.IsDir():
		return p.placeFolder(i, m, dest)
	case m.unpack:
		return p.unpack(i, m, dest)
	}
	e, err := p.Lstat(dest)
	if err == nil && !e.IsDir() && folder {
		return failed(unix.ENOTDIR, "failed to create new directory: mkdir /%s: not a directory", dest)
	}
	if folder || err == nil && e.IsDir() {
		if _, err := p.folder(dest); err != nil {
			return err
		}
		dest = path.Join(dest, m.as)
	}
	return p.put(dest, m.entry, &node{tree: m.tree, key: fileKey{i, m.name}})
}

// placeFolder merges what is in a folder into the destination.
func (p *plan) placeFolder(i int, m *match, dest string) error {
	if e, err := p.Lstat(dest); err == nil && !e.IsDir() {
		return failed(unix.ENOTDIR, "failed to copy directory: mkdir /%s: not a directory", dest)
	}
	if _, err := p.folder(dest); err != nil {
		return err
	}
	return p.c.walk(p.ctx, m, func(rel, name string, e *source.Entry) error {
		return p.put(path.Join(dest, rel), *e, &node{tree: m.tree, key: fileKey{i, name}})
	})
}

// placeUnder puts a match of --parents below the folders it is in.
func (p *plan) placeUnder(i int, m *match, dest string) error {
	if _, err := p.folder(dest); err != nil {
		return err
	}
	err := m.eachParent(func(rel string, e *source.Entry) error {
		return p.put(path.Join(dest, rel), *e, &node{})
	})
	if err != nil {
		return err
	}
	dest = path.Join(dest, m.under, m.as)
	if m.as != "" {
		if err := p.put(dest, m.entry, &node{tree: m.tree, key: fileKey{i, m.name}}); err != nil {
			return err
		}
	}
	if m.entry.IsDir() {
		return p.placeFolder(i, m, dest)
	}
	return nil
}

// unpack puts what is in an archive into the destination, with the owners that
// it has there.
func (p *plan) unpack(i int, m *match, dest string) error {
	f, err := m.tree.Open(m.name)
	if err != nil {
		return err
	}
	defer f.Close()
	archive, err := source.OpenTar(p.ctx, f, source.Options{KeepOwners: true})
	if err != nil {
		return fmt.Errorf("%s: %w", m.as, err)
	}
	p.open = append(p.open, archive)
	mode := p.mode
	p.mode = nil // as in BuildKit
	// Content of an archive is never compared: the archive itself was.
	err = p.placeFolder(-1-i, &match{tree: archive, entry: folderEntry("")}, dest)
	p.mode = mode
	return err
}

// put places one entry. A folder merges with one that is there and gives it
// its attributes; anything else takes the place of what is there.
func (p *plan) put(name string, e source.Entry, n *node) error {
	dir, base := path.Split(name)
	parent, err := p.folder(strings.TrimSuffix(dir, "/"))
	if err != nil {
		return err
	}
	if base == "" {
		return nil // the root keeps its attributes
	}
	n.entry, n.fresh = p.changed(e), true
	n.entry.Name = base
	if e.IsDir() {
		old, err := p.kid(parent, name, base)
		if err != nil {
			return err
		}
		if old != nil && old.entry.IsDir() {
			n.kids, n.fresh = old.kids, old.fresh
		}
	}
	parent.set(base, n)
	return nil
}

// changed applies --chown and --chmod.
func (p *plan) changed(e source.Entry) source.Entry {
	if p.owner != nil {
		e.UID, e.GID = p.owner.uid, p.owner.gid
	}
	if p.mode != nil && !e.IsLink() {
		e.Mode = e.Mode&unix.S_IFMT | p.mode(e.Mode)
	}
	return e
}

// time is what a header says: whole seconds, and none later than Latest.
func (c *Copy) time(t time.Time) time.Time {
	if t.IsZero() {
		t = time.Unix(0, 0)
	}
	if !c.Latest.IsZero() && t.After(c.Latest) {
		t = c.Latest
	}
	return time.Unix(t.Unix(), 0)
}
