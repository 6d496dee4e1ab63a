package layer

import (
	"encoding/binary"
	"fmt"
	"io"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"unio/unionfs/merge"
)

// View is the merged tree of a chain of layers: one immutable file, mapped,
// and the layers' tars for the content. The number of a node is its position.
// It may be used from several goroutines until it is closed; looking up,
// listing and reading allocate nothing. Where its file turns out damaged it
// answers merge.ErrCorrupt, which is also ErrBadIndex.
type View struct {
	file     *tableFile
	contents []io.ReaderAt
	unmap    bool
}

var (
	_ merge.Lower   = (*View)(nil)
	_ merge.Trimmer = (*View)(nil)
)

// OpenView maps the view at path. contents are the uncompressed layer tars of
// the chain, bottom first; they stay the caller's. What is wrong with the file
// gives ErrBadIndex: it is to be made again by BuildView. Only the header is
// checked here, the rest when it is first used, so that opening takes the same
// time whatever the size.
func OpenView(path string, contents []io.ReaderAt) (*View, error) {
	data, err := mapFile(path)
	if err != nil {
		return nil, err
	}
	v, err := parseView(data, contents)
	if err != nil {
		_ = unix.Munmap(data) // nothing was written through it
		return nil, fmt.Errorf("view %s: %w", path, err)
	}
	v.unmap = true
	return v, nil
}

func parseView(data []byte, contents []io.ReaderAt) (v *View, err error) {
	defer catchFault(debug.SetPanicOnFault(true), &err)
	f, err := parseTables(data, viewMagic)
	if err != nil {
		return nil, err
	}
	return newView(f, contents)
}

func newView(f *tableFile, contents []io.ReaderAt) (*View, error) {
	if int(f.layers) != len(contents) {
		return nil, fmt.Errorf("%w: of %d layers, not %d", ErrBadIndex, f.layers, len(contents))
	}
	v := &View{file: f, contents: contents}
	root, err := v.node(merge.RootIno)
	if err != nil || !root.is(unix.S_IFDIR) {
		return nil, badIndex("no root folder")
	}
	return v, nil
}

// Close releases the view. No string or value it gave out may be used after.
func (v *View) Close() error {
	if !v.unmap {
		return nil
	}
	v.unmap = false
	return unix.Munmap(v.file.data)
}

// Trim takes the view's pages out of the process's memory; they stay in the
// page cache as long as the kernel likes, and come back when they are used.
// What it cannot give back stays, which does no harm.
func (v *View) Trim() {
	if v.unmap {
		_ = unix.Madvise(v.file.data, unix.MADV_DONTNEED)
	}
}

// Nodes returns how many nodes there are.
func (v *View) Nodes() uint64 { return v.file.count[tabRecords] }

// DataSize returns the bytes of content, each file counted once, holes
// included.
func (v *View) DataSize() uint64 { return v.file.content }

// nodeRec is the record of a node.
type nodeRec []byte

func (v *View) node(ino merge.Ino) (nodeRec, error) {
	if ino < merge.RootIno || uint64(ino) > v.file.count[tabRecords] {
		return nil, merge.ErrStale
	}
	b := v.file.record(tabRecords, uint64(ino)-1)
	if b == nil {
		return nil, errDamaged
	}
	return b, nil
}

// nodeOf is node that must be of a type.
func (v *View) nodeOf(ino merge.Ino, typ uint32, other error) (nodeRec, error) {
	n, err := v.node(ino)
	if err == nil && !n.is(typ) {
		return nil, other
	}
	return n, err
}

func (n nodeRec) is(typ uint32) bool { return n.mode()&unix.S_IFMT == typ }
func (n nodeRec) mode() uint32       { return binary.LittleEndian.Uint32(n[nodeMode:]) }
func (n nodeRec) nlink() uint32      { return binary.LittleEndian.Uint32(n[nodeNlink:]) }
func (n nodeRec) size() uint64       { return binary.LittleEndian.Uint64(n[nodeSize:]) }
func (n nodeRec) name() uint32       { return binary.LittleEndian.Uint32(n[nodeName:]) }
func (n nodeRec) list() tableRange   { return getRange(n[nodeList:]) }
func (n nodeRec) xattrs() tableRange { return getRange(n[nodeXattrs:]) }

// Attr fills in the attributes of a node.
func (v *View) Attr(ino merge.Ino, a *merge.Attr) (err error) {
	defer catchFault(debug.SetPanicOnFault(true), &err)
	n, err := v.node(ino)
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	*a = merge.Attr{
		Mode: n.mode(), UID: le.Uint32(n[nodeUID:]), GID: le.Uint32(n[nodeGID:]), Nlink: n.nlink(),
		Rdev: le.Uint64(n[nodeRdev:]), Size: n.size(),
		Sec: int64(le.Uint64(n[nodeSec:])), Nsec: le.Uint32(n[nodeNsec:]),
	}
	return nil
}

// Readlink returns the target of a symbolic link.
func (v *View) Readlink(ino merge.Ino) (target string, err error) {
	defer catchFault(debug.SetPanicOnFault(true), &err)
	n, err := v.nodeOf(ino, unix.S_IFLNK, unix.EINVAL)
	if err != nil {
		return "", err
	}
	r := n.list()
	target, ok := v.file.str(heapRef{r.first, r.count})
	if !ok {
		return "", errDamaged
	}
	return target, nil
}

// Xattr returns the value of an extended attribute, which lies in the view and
// must not be changed.
func (v *View) Xattr(ino merge.Ino, name string) (value []byte, err error) {
	defer catchFault(debug.SetPanicOnFault(true), &err)
	n, err := v.node(ino)
	if err != nil {
		return nil, err
	}
	r := n.xattrs()
	for i := range r.count {
		key, value, err := v.xattr(uint64(r.first) + uint64(i))
		if err != nil {
			return nil, err
		}
		if key == name {
			return value, nil
		}
	}
	return nil, merge.ErrNoXattr
}

// xattr returns a record of the table of extended attributes.
func (v *View) xattr(i uint64) (name string, value []byte, err error) {
	b := v.file.record(tabXattrs, i)
	if b == nil {
		return "", nil, errDamaged
	}
	name, ok1 := v.file.str(getRef(b))
	value, ok2 := v.file.heap(getRef(b[8:]))
	if !ok1 || !ok2 {
		return "", nil, errDamaged
	}
	return name, value, nil
}

// Xattrs calls yield for each extended attribute, sorted by name.
func (v *View) Xattrs(ino merge.Ino, yield func(name string, value []byte) bool) (err error) {
	defer catchFault(debug.SetPanicOnFault(true), &err)
	n, err := v.node(ino)
	if err != nil {
		return err
	}
	r := n.xattrs()
	for i := range r.count {
		name, value, err := v.xattr(uint64(r.first) + uint64(i))
		if err != nil {
			return err
		}
		if !yield(name, value) {
			break
		}
	}
	return nil
}

// Verify checks the whole file: every checksum, and that every node and name
// refers to what there is. The error is ErrBadIndex.
func (v *View) Verify() (err error) {
	defer catchFault(debug.SetPanicOnFault(true), &err)
	if err := v.file.checkAll(); err != nil {
		return err
	}
	for ino := merge.RootIno; uint64(ino) <= v.Nodes(); ino++ {
		if err := v.verifyNode(ino); err != nil {
			return fmt.Errorf("node %d: %w", ino, err)
		}
	}
	return nil
}

func (v *View) verifyNode(ino merge.Ino) error {
	n, err := v.node(ino)
	if err != nil {
		return err
	}
	switch n.mode() & unix.S_IFMT {
	case unix.S_IFDIR:
		err = v.verifyFolder(ino, n.list())
	case unix.S_IFREG:
		_, err = v.Segments(ino)
	case unix.S_IFLNK:
		_, err = v.Readlink(ino)
	}
	if err != nil {
		return err
	}
	if _, err := v.Links(ino); err != nil {
		return err
	}
	return v.file.checkXattrs(n.xattrs())
}
