package layer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"unio/unionfs/merge"
)

// Upper is the writable folder of a union, as package cow or the kernel's
// overlayfs leaves it. It must not change while it is read: the caller
// flushes a live mount first.
type Upper struct {
	Dir  string // path of the upper folder
	Work string // path of its work folder, for the link hub; "" if there is none
	Root bool   // bookkeeping in trusted.* with real owners; otherwise user.* and override_stat
	// Hide lists paths that are left out where an empty file or folder is new
	// there, outermost first.
	Hide []string
}

// ErrReservedName is returned for a file whose name begins with ".wh.", which
// every reader of a layer would take for a whiteout.
var ErrReservedName = errors.New("a layer cannot hold a name that begins with .wh.")

// ErrChanged is returned for a file that changed while it was written to a
// tar. The tar is well formed all the same.
var ErrChanged = errors.New("file changed while it was read")

// ChangeKind is how a path differs from the lower, in docker's letters.
type ChangeKind byte

// The kinds of change.
const (
	Added    ChangeKind = 'A' // was not there
	Modified ChangeKind = 'C' // was there; or a folder in which something changed
	Deleted  ChangeKind = 'D' // is gone, with all that was below it
)

// String returns docker's letter.
func (k ChangeKind) String() string { return string(rune(k)) }

// Change is one line of a diff.
type Change struct {
	Kind ChangeKind
	Path string // absolute within the image, "/etc/hosts"
	Mode uint32 // st_mode as it is now, 0 when deleted
	Size int64  // bytes of a regular file, else 0
}

// String returns the line that `docker diff` prints.
func (c Change) String() string { return c.Kind.String() + " " + c.Path }

// Changes is what one upper folder changed in its lower. It refers to both:
// they must stay as they are until the last method has returned.
type Changes struct {
	up    Upper
	lower merge.Lower
	root  *changeNode
}

// changeNode is one path of the tree of changes.
type changeNode struct {
	name   string
	kind   ChangeKind // 0: as it was
	mute   bool       // in the layer only for the sake of another name of the file: not listed
	attr   merge.Attr
	xattrs []xattrPair // sorted by name
	target string      // of a symbolic link
	kids   []*changeNode

	from    origin
	low     merge.Ino // folder: the lower folder whose entries it shows; file: where its data is, 0 = its own
	limit   int64     // > 0: only what holes of the file's own hold below that offset is low's
	base    merge.Ino // what the lower shows at this path, 0 = nothing
	hubFile merge.Ino // fromHub: under which number
	id      linkID    // of a file with several names
	file    fileID    // what the upper had there, to know it again
}

// origin tells which side a node was found on.
type origin uint8

const (
	fromUpper origin = iota
	fromHub          // file hubFile of the link hub
	fromLower        // node low of the lower
)

// fileID names an inode of the host.
type fileID struct{ dev, ino uint64 }

// linkID names a file that may have several names in the merged tree. The
// zero value stands for one that has not.
type linkID struct {
	fileID
	lower bool // ino is a number of the lower, not of the host
}

// Diff finds what the upper folder changed. It walks the upper only, and of
// the lower just the folders that were replaced or renamed. What was copied
// up and is as before counts as no change: type, mode, owner, device number,
// size, modification time, extended attributes and link target are compared,
// and the data only when all of these agree.
func Diff(ctx context.Context, up Upper, lower merge.Lower) (*Changes, error) {
	w, err := newMergeWalk(up, lower)
	if err != nil {
		return nil, err
	}
	defer w.close()
	c := &Changes{up: up, lower: lower}
	if c.root, err = w.diffRoot(ctx); err != nil {
		return nil, err
	}
	if err := w.completeLinks(ctx, c.root); err != nil {
		return nil, err
	}
	c.root.hide(up.Hide)
	c.root.settle()
	return c, w.settleRoot(c.root)
}

// Empty reports whether nothing changed.
func (c *Changes) Empty() bool { return c.root.kind == 0 && len(c.root.kids) == 0 }

// List returns the changes sorted by path, as `docker diff` prints them. The
// root folder is never listed, nor is what did not change itself and is in the
// layer because another name of the same file did.
func (c *Changes) List() []Change {
	var list []Change
	c.root.list("", &list)
	slices.SortFunc(list, func(a, b Change) int { return cmp.Compare(a.Path, b.Path) })
	return list
}

// list adds the changes below n, whose path this is.
func (n *changeNode) list(path string, list *[]Change) {
	for _, k := range n.kids {
		if k.mute {
			continue
		}
		p := path + "/" + k.name
		ch := Change{Kind: k.kind, Path: p}
		if k.kind != Deleted {
			ch.Mode = k.attr.Mode
		}
		if k.kind != Deleted && k.attr.IsRegular() {
			ch.Size = int64(k.attr.Size)
		}
		*list = append(*list, ch)
		k.list(p, list)
	}
}

func (n *changeNode) isDir() bool { return n.kind != Deleted && n.attr.IsDir() }

// kid finds the entry of that name. Preconditions: n.kids is sorted by name.
func (n *changeNode) kid(name string) (int, bool) {
	return slices.BinarySearchFunc(n.kids, name, func(k *changeNode, s string) int { return cmp.Compare(k.name, s) })
}

// diffRoot returns the tree of everything the upper names, changed or not;
// completeLinks and settle make the changes of it.
func (w *mergeWalk) diffRoot(ctx context.Context) (*changeNode, error) {
	f, n, err := w.root()
	if err != nil {
		return nil, err
	}
	f.base, n.base = merge.RootIno, merge.RootIno
	if n.kind, err = w.kindOf(ctx, f.dir, n); err != nil {
		return nil, f.wrap("", err)
	}
	return n, w.diffFolder(ctx, f, n)
}

// diffFolder fills in what n, the node of folder f, holds: every entry of the
// upper, changed or not, and everything else that changed.
func (w *mergeWalk) diffFolder(ctx context.Context, f folder, n *changeNode) error {
	kids, err := w.children(ctx, f)
	if err != nil {
		return err
	}
	for _, c := range kids {
		k, err := w.diffChild(ctx, f, c)
		if err != nil {
			return err
		}
		if k != nil {
			n.kids = append(n.kids, k)
		}
	}
	if f.unmoved() {
		return nil
	}
	return w.addDeleted(f, n)
}

// diffChild returns the node of one entry, nil for a whiteout of nothing.
func (w *mergeWalk) diffChild(ctx context.Context, f folder, c child) (*changeNode, error) {
	base, err := w.lookup(f.base, c.name)
	if err != nil {
		return nil, f.wrap(c.name, err)
	}
	if c.up != nil && c.up.whiteout {
		if base == 0 || !f.unmoved() { // addDeleted names what a moved folder hides
			return nil, nil
		}
		return &changeNode{name: c.name, kind: Deleted, base: base}, nil
	}
	n, err := w.node(f, c)
	if err != nil {
		return nil, f.wrap(c.name, err)
	}
	n.base = base
	if n.kind, err = w.kindOf(ctx, f.dir, n); err != nil {
		return nil, f.wrap(c.name, err)
	}
	if !n.isDir() {
		return n, nil
	}
	sub, err := w.enter(f, n)
	if err != nil {
		return nil, err
	}
	defer sub.close()
	return n, w.diffFolder(ctx, sub, n)
}

// addDeleted adds what the lower shows in this folder and the merged tree no
// longer does: the folder was replaced by another of the same name. Explicit
// whiteouts are the one form that every reader of a layer understands.
func (w *mergeWalk) addDeleted(f folder, n *changeNode) error {
	if f.base == 0 {
		return nil
	}
	var gone []*changeNode
	err := w.lower.ReadDir(f.base, 0, func(e merge.Entry) bool {
		if _, ok := n.kid(e.Name); !ok {
			gone = append(gone, &changeNode{name: e.Name, kind: Deleted, base: e.Ino})
		}
		return true
	})
	if err != nil {
		return f.wrap("", err)
	}
	n.kids = append(n.kids, gone...)
	n.sortKids()
	return nil
}

// sortKids orders by the bytes of the names, which is the order of the tar.
func (n *changeNode) sortKids() {
	slices.SortFunc(n.kids, func(a, b *changeNode) int { return cmp.Compare(a.name, b.name) })
}

// settleRoot decides about the root folder when nothing else changed: a time
// of its own alone is no change, preparing a mount is enough to move it.
func (w *mergeWalk) settleRoot(root *changeNode) error {
	if root.kind == 0 || len(root.kids) > 0 {
		return nil
	}
	var b merge.Attr
	if err := w.lower.Attr(merge.RootIno, &b); err != nil {
		return fmt.Errorf("/: %w", err)
	}
	timeless := *root
	timeless.attr.Sec, timeless.attr.Nsec = b.Sec, b.Nsec
	same, err := w.sameMeta(&timeless, &b)
	if same {
		root.kind = 0
	}
	return err
}

// hide drops what is there for the moment only, if it is new and empty. The
// innermost come last in the list.
func (n *changeNode) hide(paths []string) {
	for _, path := range slices.Backward(paths) {
		at, names := n, strings.Split(strings.Trim(path, "/"), "/")
		for i, name := range names {
			k, ok := at.kid(name)
			if !ok {
				break
			}
			if next := at.kids[k]; i < len(names)-1 {
				at = next
			} else if next.kind == Added && len(next.kids) == 0 && (next.isDir() || next.attr.IsRegular() && next.attr.Size == 0) {
				at.kids = slices.Delete(at.kids, k, k+1)
			}
		}
	}
}

// settle drops unchanged nodes below n and makes every folder that holds a
// change a change itself.
func (n *changeNode) settle() {
	n.kids = slices.DeleteFunc(n.kids, func(k *changeNode) bool {
		k.settle()
		if k.kind == 0 && len(k.kids) > 0 {
			k.kind = Modified
			k.mute = !slices.ContainsFunc(k.kids, func(c *changeNode) bool { return !c.mute })
		}
		return k.kind == 0
	})
}

// wrap adds the path of an entry to an error.
func (f folder) wrap(name string, err error) error {
	if err == nil {
		return nil
	}
	path := f.path
	if name != "" || path == "" {
		path += "/" + name
	}
	return fmt.Errorf("%s: %w", path, err)
}

// errnoIs reports whether err is one of the errnos.
func errnoIs(err error, errnos ...unix.Errno) bool {
	for _, e := range errnos {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// ClampTimes gives everything that was modified after latest that time, so
// that a layer made by the same program at another time is the same.
func (c *Changes) ClampTimes(latest time.Time) {
	c.root.clamp(latest.Unix(), uint32(latest.Nanosecond()))
}

func (n *changeNode) clamp(sec int64, nsec uint32) {
	if n.attr.Sec > sec || n.attr.Sec == sec && n.attr.Nsec > nsec {
		n.attr.Sec, n.attr.Nsec = sec, nsec
	}
	for _, k := range n.kids {
		k.clamp(sec, nsec)
	}
}
