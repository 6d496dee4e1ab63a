package merge

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Difference is one path at which two trees differ.
type Difference struct {
	Kind byte   // 'A' only the second tree has it, 'D' only the first, 'C' both
	Path string // absolute
	// What has changed, of a 'C': type, content, mode, owner, time, device,
	// target, xattrs.
	What     []string
	Old, New Attr
	// Size is the bytes of all files at and below the path, of an 'A' or 'D';
	// of a 'C' how many bytes the file has grown.
	Size int64
}

// Compare yields the differences between two trees, in the order of their
// paths, until yield returns false. Everything that was added is listed, of
// what was deleted only the uppermost folder. The time of a folder is not
// compared: it tells of its entries. Times are compared to the nanosecond where
// both trees have nanoseconds.
//
// same may tell, without reading them, whether two files of one length have the
// same content; nil, or not known: they are read.
func Compare(ctx context.Context, a, b Lower, same func(a, b Ino) (same, known bool), yield func(Difference) bool) error {
	c := &comparison{ctx: ctx, a: a, b: b, same: same, yield: yield}
	err := c.pair("/", RootIno, RootIno)
	if err == errEnough {
		return nil
	}
	return err
}

// errEnough ends a comparison that nobody wants to hear more of.
var errEnough = fmt.Errorf("enough")

type comparison struct {
	ctx   context.Context
	a, b  Lower
	same  func(a, b Ino) (same, known bool)
	yield func(Difference) bool
	bufA  []byte
	bufB  []byte
}

func (c *comparison) tell(d Difference) error {
	if !c.yield(d) {
		return errEnough
	}
	return nil
}

// entries returns the entries of a folder by name.
func entries(t Lower, dir Ino) (map[string]Ino, error) {
	list := map[string]Ino{}
	err := t.ReadDir(dir, 0, func(e Entry) bool { list[e.Name] = e.Ino; return true })
	return list, err
}

// pair compares what both trees have at path.
func (c *comparison) pair(path string, x, y Ino) error {
	if err := c.ctx.Err(); err != nil {
		return context.Cause(c.ctx)
	}
	d := Difference{Kind: 'C', Path: path}
	if err := c.a.Attr(x, &d.Old); err != nil {
		return fmt.Errorf("compare %s: %w", path, err)
	}
	if err := c.b.Attr(y, &d.New); err != nil {
		return fmt.Errorf("compare %s: %w", path, err)
	}
	if d.Old.Mode&unix.S_IFMT != d.New.Mode&unix.S_IFMT {
		return c.replaced(d, x, y)
	}
	what, err := c.changes(&d, x, y)
	if err != nil {
		return fmt.Errorf("compare %s: %w", path, err)
	}
	if d.What = what; len(what) > 0 {
		if d.New.IsRegular() {
			d.Size = int64(d.New.Size) - int64(d.Old.Size)
		}
		if err := c.tell(d); err != nil {
			return err
		}
	}
	if !d.Old.IsDir() {
		return nil
	}
	return c.folders(path, x, y)
}

// replaced: what has another type now. What was below it is gone, what is
// below it is new.
func (c *comparison) replaced(d Difference, x, y Ino) error {
	d.What = []string{"type"}
	old, err := c.total(c.a, x)
	if err != nil {
		return err
	}
	now, err := c.total(c.b, y)
	if err != nil {
		return err
	}
	d.Size = now - old
	if err := c.tell(d); err != nil || !d.New.IsDir() {
		return err
	}
	return c.addedBelow(d.Path, y)
}

func (c *comparison) folders(path string, x, y Ino) error {
	old, err := entries(c.a, x)
	if err != nil {
		return fmt.Errorf("compare %s: %w", path, err)
	}
	now, err := entries(c.b, y)
	if err != nil {
		return fmt.Errorf("compare %s: %w", path, err)
	}
	names := slices.Sorted(maps.Keys(now))
	for name := range old {
		if _, ok := now[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if err := c.one(join(path, name), old[name], now[name]); err != nil {
			return err
		}
	}
	return nil
}

// one compares an entry, which has number 0 where it is missing.
func (c *comparison) one(path string, x, y Ino) error {
	switch {
	case y == 0:
		return c.deleted(path, x)
	case x == 0:
		return c.added(path, y)
	}
	return c.pair(path, x, y)
}

func join(dir, name string) string { return strings.TrimSuffix(dir, "/") + "/" + name }

func (c *comparison) deleted(path string, x Ino) error {
	d := Difference{Kind: 'D', Path: path}
	err := c.a.Attr(x, &d.Old)
	if err == nil {
		d.Size, err = c.total(c.a, x)
	}
	if err != nil {
		return fmt.Errorf("compare %s: %w", path, err)
	}
	return c.tell(d)
}

func (c *comparison) added(path string, y Ino) error {
	d := Difference{Kind: 'A', Path: path}
	err := c.b.Attr(y, &d.New)
	if err == nil {
		d.Size, err = c.total(c.b, y)
	}
	if err != nil {
		return fmt.Errorf("compare %s: %w", path, err)
	}
	if err := c.tell(d); err != nil || !d.New.IsDir() {
		return err
	}
	return c.addedBelow(path, y)
}

func (c *comparison) addedBelow(path string, y Ino) error {
	list, err := entries(c.b, y)
	if err != nil {
		return fmt.Errorf("compare %s: %w", path, err)
	}
	for _, name := range slices.Sorted(maps.Keys(list)) {
		if err := c.added(join(path, name), list[name]); err != nil {
			return err
		}
	}
	return nil
}

// total adds up the bytes of the regular files at and below a node.
func (c *comparison) total(t Lower, ino Ino) (int64, error) {
	var a Attr
	if err := t.Attr(ino, &a); err != nil {
		return 0, err
	}
	if a.IsRegular() {
		return int64(a.Size), nil
	}
	if !a.IsDir() {
		return 0, nil
	}
	if err := c.ctx.Err(); err != nil {
		return 0, context.Cause(c.ctx)
	}
	list, err := entries(t, ino)
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, child := range list {
		n, err := c.total(t, child)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// changes lists in what two nodes of one type differ.
func (c *comparison) changes(d *Difference, x, y Ino) ([]string, error) {
	var what []string
	add := func(differs bool, word string) {
		if differs {
			what = append(what, word)
		}
	}
	content, err := c.contentDiffers(d, x, y)
	if err != nil {
		return nil, err
	}
	add(content, "content")
	target, err := c.targetDiffers(d, x, y)
	if err != nil {
		return nil, err
	}
	add(target, "target")
	add(d.Old.Mode != d.New.Mode && !d.Old.IsSymlink(), "mode")
	add(d.Old.UID != d.New.UID || d.Old.GID != d.New.GID, "owner")
	add(d.Old.Rdev != d.New.Rdev, "device")
	add(!d.Old.IsDir() && timesDiffer(&d.Old, &d.New), "time")
	xattrs, err := c.xattrsDiffer(x, y)
	add(xattrs, "xattrs")
	return what, err
}

// timesDiffer compares modification times. Many tars keep whole seconds: no
// nanoseconds say nothing about them.
func timesDiffer(a, b *Attr) bool {
	return a.Sec != b.Sec || a.Nsec != b.Nsec && a.Nsec != 0 && b.Nsec != 0
}

func (c *comparison) contentDiffers(d *Difference, x, y Ino) (bool, error) {
	switch {
	case !d.Old.IsRegular():
		return false, nil
	case d.Old.Size != d.New.Size:
		return true, nil
	case d.Old.Size == 0:
		return false, nil
	}
	if c.same != nil {
		if same, known := c.same(x, y); known {
			return !same, nil
		}
	}
	return c.bytesDiffer(x, y)
}

func (c *comparison) bytesDiffer(x, y Ino) (bool, error) {
	const step = 1 << 20
	if c.bufA == nil {
		c.bufA, c.bufB = make([]byte, step), make([]byte, step)
	}
	for off := int64(0); ; {
		n, err := c.a.ReadAt(x, c.bufA, off)
		if err != nil {
			return false, err
		}
		m, err := c.b.ReadAt(y, c.bufB, off)
		if err != nil {
			return false, err
		}
		if !bytes.Equal(c.bufA[:n], c.bufB[:m]) {
			return true, nil
		}
		if n < step {
			return false, nil
		}
		off += int64(n)
		if c.ctx.Err() != nil {
			return false, context.Cause(c.ctx)
		}
	}
}

func (c *comparison) targetDiffers(d *Difference, x, y Ino) (bool, error) {
	if !d.Old.IsSymlink() {
		return false, nil
	}
	old, err := c.a.Readlink(x)
	if err != nil {
		return false, err
	}
	now, err := c.b.Readlink(y)
	return old != now, err
}

func (c *comparison) xattrsDiffer(x, y Ino) (bool, error) {
	old, now := map[string]string{}, map[string]string{}
	if err := c.a.Xattrs(x, func(name string, v []byte) bool { old[name] = string(v); return true }); err != nil {
		return false, err
	}
	err := c.b.Xattrs(y, func(name string, v []byte) bool { now[name] = string(v); return true })
	return !maps.Equal(old, now), err
}
