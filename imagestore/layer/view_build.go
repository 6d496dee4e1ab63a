package layer

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"unio/unionfs/merge"
)

// ViewData is the merged tree of a chain of layers, to be written to the file
// that OpenView maps.
type ViewData struct{ file *tableFile }

// WriteTo writes the view in the form that OpenView reads. The same layers
// give the same bytes.
func (d *ViewData) WriteTo(w io.Writer) (int64, error) { return d.file.writeTo(w) }

// Open gives the view without a file between.
func (d *ViewData) Open(contents []io.ReaderAt) (*View, error) { return newView(d.file, contents) }

// BuildView merges a chain of layers, bottom first, by the rules of
// merge.Tree. Nodes are numbered folder by folder, so that what is listed
// together lies together; the numbers depend on nothing but the layers.
// Errors: merge.ErrLayer and merge.ErrLoop with the number of the layer, from
// 0; ErrLimit; ErrBadIndex when a mapped index can no longer be read.
func BuildView(layers []*Index) (d *ViewData, err error) {
	defer catchFault(debug.SetPanicOnFault(true), &err)
	tree := merge.NewTree()
	for i, x := range layers {
		if err := tree.Apply(x.layerEntries(i)); err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
	}
	b := viewBuilder{layers: layers, number: make(map[*merge.Node]uint32), interns: make(map[string]heapRef)}
	if err := b.build(tree.Root()); err != nil {
		return nil, err
	}
	f, err := parseTables(b.encode(), viewMagic)
	if err != nil {
		return nil, err
	}
	return &ViewData{file: f}, nil
}

// viewNode is a node of the view as it is built.
type viewNode struct {
	node   *merge.Node
	nlink  uint32     // counted as names are added
	name   uint32     // number of the dirent of the first name
	list   tableRange // folder: dirents; file: extents
	xattrs tableRange
}

// viewBuilder numbers the nodes of a tree and fills the tables.
type viewBuilder struct {
	layers  []*Index
	nodes   []viewNode // node number - 1
	number  map[*merge.Node]uint32
	dirents []byte
	more    map[uint32][]uint32 // further names, as dirents, of nodes with several
	links   []byte
	extents []byte
	xattrs  []byte
	heap    []byte
	interns map[string]heapRef
	content uint64
}

func (b *viewBuilder) build(root *merge.Node) error {
	b.more = make(map[uint32][]uint32)
	b.addNode(root, 0)
	todo := []uint32{uint32(merge.RootIno)} // folders to be listed, the next one last
	for len(todo) > 0 {
		dir := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		first := len(todo)
		todo = b.addFolder(dir, todo)
		reverse(todo[first:])
	}
	if b.tooLarge() {
		return fmt.Errorf("%w: view too large for 32-bit numbers", ErrLimit)
	}
	for i := range b.nodes {
		b.addTables(&b.nodes[i])
	}
	if b.tooLarge() {
		return fmt.Errorf("%w: view too large for 32-bit numbers", ErrLimit)
	}
	return nil
}

func (b *viewBuilder) tooLarge() bool {
	return len(b.heap) > math.MaxUint32 || len(b.dirents)/direntSize > math.MaxUint32 ||
		len(b.extents)/extentSize > math.MaxUint32 || len(b.xattrs)/xattrSize > math.MaxUint32
}

func reverse(s []uint32) {
	for i, j := 0, len(s)-1; i < j; i, j = i+1, j-1 {
		s[i], s[j] = s[j], s[i]
	}
}

// addNode gives a node the next number.
func (b *viewBuilder) addNode(n *merge.Node, dirent uint32) uint32 {
	nlink := uint32(1)
	if n.IsDir() {
		nlink = 2
	}
	b.nodes = append(b.nodes, viewNode{node: n, nlink: nlink, name: dirent})
	ino := uint32(len(b.nodes))
	if !n.IsDir() {
		b.number[n] = ino
	}
	return ino
}

// addFolder numbers all that is in a folder before anything below it, so that
// a listing with attributes reads neighbouring records. It returns todo with
// the subfolders.
func (b *viewBuilder) addFolder(dir uint32, todo []uint32) []uint32 {
	node := b.nodes[dir-1].node
	names := node.Names()
	b.nodes[dir-1].list = tableRange{b.direntCount(), uint32(len(names))}
	for _, name := range names {
		child := node.Child(name)
		ino := b.addName(child)
		if child.IsDir() {
			todo = append(todo, ino)
			b.nodes[dir-1].nlink++
		}
		b.addDirent(name, ino, dir, child.Attr.Mode)
	}
	return todo
}

func (b *viewBuilder) direntCount() uint32 { return uint32(len(b.dirents) / direntSize) }

// addName counts the name that is about to be added, and returns its node,
// numbered now unless another name of it came before.
func (b *viewBuilder) addName(child *merge.Node) uint32 {
	ino, seen := b.number[child]
	if !seen {
		return b.addNode(child, b.direntCount())
	}
	b.nodes[ino-1].nlink++
	b.more[ino] = append(b.more[ino], b.direntCount())
	return ino
}

// A dirent is u32 offset of the name in the heap, u16 length, u16 type (the
// type bits of the mode shifted right by 12), u32 node, u32 folder.
func (b *viewBuilder) addDirent(name string, ino, dir, mode uint32) {
	le := binary.LittleEndian
	b.dirents = le.AppendUint32(b.dirents, b.text(name).off)
	b.dirents = le.AppendUint16(b.dirents, uint16(len(name)))
	b.dirents = le.AppendUint16(b.dirents, uint16(mode&unix.S_IFMT>>12))
	b.dirents = le.AppendUint32(b.dirents, ino)
	b.dirents = le.AppendUint32(b.dirents, dir)
}

func (b *viewBuilder) text(s string) heapRef {
	r := heapRef{uint32(len(b.heap)), uint32(len(s))}
	b.heap = append(b.heap, s...)
	return r
}

func (b *viewBuilder) intern(s string) heapRef {
	r, ok := b.interns[s]
	if !ok {
		r = b.text(s)
		b.interns[s] = r
	}
	return r
}

// addTables adds what a node has in other tables: names, attributes, data.
func (b *viewBuilder) addTables(n *viewNode) {
	if further := b.more[b.number[n.node]]; len(further) > 0 {
		n.name = b.addLinks(n.name, further)
	}
	var x *Index
	if n.node.Ref != merge.NoRef {
		x = b.layers[n.node.Ref>>32]
	}
	b.addNodeTables(n, x)
}

// addLinks lists all names of a node that has several.
func (b *viewBuilder) addLinks(name uint32, further []uint32) (first uint32) {
	first = uint32(len(b.links) / linkSize)
	b.links = binary.LittleEndian.AppendUint32(b.links, name)
	for _, dirent := range further {
		b.links = binary.LittleEndian.AppendUint32(b.links, dirent)
	}
	return first
}

// addNodeTables adds attributes and data of a node from the index of its layer.
// A range of nothing is all zeros, whatever came before.
func (b *viewBuilder) addNodeTables(n *viewNode, x *Index) {
	switch {
	case n.node.Attr.IsSymlink():
		r := b.text(n.node.Link)
		n.list = tableRange{r.off, r.len}
	case n.node.Attr.IsRegular():
		b.content += n.node.Attr.Size
	}
	if n.node.Ref == merge.NoRef {
		return
	}
	r := x.record(int(uint32(n.node.Ref)))
	if n.node.Attr.IsRegular() && r.extents.count > 0 {
		n.list = tableRange{uint32(len(b.extents) / extentSize), r.extents.count}
		for e := range x.file.extentSeq(r.extents) {
			b.extents = appendExtent(b.extents, e, uint32(n.node.Ref>>32))
		}
	}
	if r.xattrs.count == 0 {
		return
	}
	n.xattrs = tableRange{uint32(len(b.xattrs) / xattrSize), r.xattrs.count}
	for a := range x.file.xattrSeq(r.xattrs) {
		b.xattrs = appendRef(appendRef(b.xattrs, b.intern(a.Name)), b.intern(string(a.Value)))
	}
}

// Offsets in a node record of a view.
const (
	nodeMode   = 0  // u32
	nodeUID    = 4  // u32
	nodeGID    = 8  // u32
	nodeNlink  = 12 // u32
	nodeRdev   = 16 // u64
	nodeSize   = 24 // u64
	nodeSec    = 32 // i64
	nodeNsec   = 40 // u32
	nodeName   = 44 // u32, dirent, or first link of a file with several names
	nodeList   = 48 // u32, u32: dirents, extents, or target in the heap
	nodeXattrs = 56 // u32 first, u32 count
)

func (b *viewBuilder) encode() []byte {
	records := make([]byte, len(b.nodes)*nodeRecSize)
	for i := range b.nodes {
		b.nodes[i].encode(records[i*nodeRecSize:])
	}
	return b.encodeWith(records, uint32(len(b.layers)))
}

// encodeWith lays out the file, given the nodes.
func (b *viewBuilder) encodeWith(records []byte, layers uint32) []byte {
	t := tables{magic: viewMagic, layers: layers, content: b.content}
	t.body[tabRecords] = records
	t.body[tabExtents] = b.extents
	t.body[tabXattrs] = b.xattrs
	t.body[tabHeap] = b.heap
	t.body[tabDirents] = b.dirents
	t.body[tabLinks] = b.links
	return t.encode()
}

func (n *viewNode) encode(out []byte) {
	le := binary.LittleEndian
	a := &n.node.Attr
	le.PutUint32(out[nodeMode:], a.Mode)
	le.PutUint32(out[nodeUID:], a.UID)
	le.PutUint32(out[nodeGID:], a.GID)
	le.PutUint32(out[nodeNlink:], n.nlink)
	le.PutUint64(out[nodeRdev:], a.Rdev)
	le.PutUint64(out[nodeSize:], a.Size)
	le.PutUint64(out[nodeSec:], uint64(a.Sec))
	le.PutUint32(out[nodeNsec:], a.Nsec)
	le.PutUint32(out[nodeName:], n.name)
	putRange(out[nodeList:], n.list)
	putRange(out[nodeXattrs:], n.xattrs)
}
