package layer

import (
	"encoding/binary"
	"fmt"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"unio/unionfs/merge"
)

// ExtendView puts one more layer over a view, and gives the very bytes that
// [BuildView] makes of the whole chain, so that numbers depend on the layers
// alone. It reads no index but the new layer's and makes no tree of what the
// layer leaves alone, so it takes a tenth of the time. Errors are those of
// BuildView, where ErrLimit may come earlier: BuildView has the last word.
func ExtendView(v *View, top *Index) (d *ViewData, err error) {
	defer catchFault(debug.SetPanicOnFault(true), &err)
	x := viewExtender{base: v, top: top}
	made, err := x.readBase()
	if err != nil {
		return nil, err
	}
	tree, err := merge.TreeOver(v, made)
	if err != nil {
		return nil, err
	}
	if err := tree.Apply(top.layerEntries(int(v.file.layers))); err != nil {
		return nil, fmt.Errorf("layer %d: %w", v.file.layers, err)
	}
	if err := x.run(tree.Root()); err != nil {
		return nil, err
	}
	f, err := parseTables(x.encode(), viewMagic)
	if err != nil {
		return nil, err
	}
	return &ViewData{file: f}, nil
}

// CheckExtension tells whether ExtendView can put a layer over a view, at the
// cost of what the layer holds.
func CheckExtension(v *View, top *Index) (err error) {
	defer catchFault(debug.SetPanicOnFault(true), &err)
	tree, err := merge.TreeOver(v, 0)
	if err != nil {
		return err
	}
	return tree.Apply(top.layerEntries(int(v.file.layers)))
}

// extNode is a node of the view as it is built.
type extNode struct {
	node   *merge.Node // nil: all is as in the base
	old    uint32      // number in the base of what has its attributes and tables; 0: the new layer
	nlink  uint32
	name   uint32 // number of the dirent of the first name
	list   tableRange
	xattrs tableRange
}

// viewExtender numbers the nodes in the order of viewBuilder, but takes those
// that the new layer leaves alone from the tables of the base.
type viewExtender struct {
	viewBuilder // tables and counters; its nodes are not used
	base        *View
	top         *Index
	nodes       []extNode // node number - 1
	moved       []uint32  // new number by old one; 0: it has none yet
	records     []byte    // of the base
	dirents     []byte
}

// readBase takes the base's tables, and counts folders in it that may have been
// made for want of an entry.
func (x *viewExtender) readBase() (made int, err error) {
	f := x.base.file
	var ok1, ok2 bool
	x.records, ok1 = f.records(tabRecords, 0, uint32(f.count[tabRecords]))
	x.dirents, ok2 = f.records(tabDirents, 0, uint32(f.count[tabDirents]))
	if !ok1 || !ok2 {
		return 0, errDamaged
	}
	for b := x.records; len(b) >= nodeRecSize; b = b[nodeRecSize:] {
		if n := nodeRec(b); n.mode() == unix.S_IFDIR|0o755 && binary.LittleEndian.Uint64(n[nodeSec:]) == 0 {
			made++
		}
	}
	x.moved = make([]uint32, len(x.records)/nodeRecSize+1)
	more := x.top.Len()
	x.nodes = make([]extNode, 0, len(x.moved)+more)
	x.viewBuilder.dirents = make([]byte, 0, len(x.dirents)+more*direntSize)
	x.extents = make([]byte, 0, (int(f.count[tabExtents])+more)*extentSize)
	x.heap = make([]byte, 0, int(f.count[tabHeap])+len(x.top.file.data))
	x.interns = make(map[string]heapRef)
	x.more = make(map[uint32][]uint32)
	return made, nil
}

// old returns the record of a node of the base.
func (x *viewExtender) old(ino uint32) nodeRec {
	return x.records[(ino-1)*nodeRecSize:][:nodeRecSize]
}

// run numbers all nodes, folder by folder as viewBuilder.build, and fills the
// tables.
func (x *viewExtender) run(root *merge.Node) error {
	x.add(refOf(root), 0)
	todo := []uint32{uint32(merge.RootIno)}
	for len(todo) > 0 {
		dir := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		first := len(todo)
		var err error
		if todo, err = x.addFolder(dir, todo); err != nil {
			return err
		}
		reverse(todo[first:])
	}
	if x.tooLarge() {
		return fmt.Errorf("%w: view too large for 32-bit numbers", ErrLimit)
	}
	for i := range x.nodes {
		if err := x.addTables(uint32(i) + 1); err != nil {
			return err
		}
	}
	if x.tooLarge() {
		return fmt.Errorf("%w: view too large for 32-bit numbers", ErrLimit)
	}
	return nil
}

// ref is what a name leads to: a node of the base that is as it was (no node),
// or one of the tree.
type ref struct {
	node *merge.Node
	old  uint32
}

// refOf tells what there is to say of a node of the tree.
func refOf(n *merge.Node) ref {
	ino, _ := n.Base()
	if ino != 0 && !n.IsDir() {
		return ref{nil, uint32(ino)}
	}
	if n.Ref != merge.NoRef {
		return ref{n, 0}
	}
	return ref{n, uint32(ino)}
}

func (x *viewExtender) mode(r ref) uint32 {
	if r.node != nil {
		return r.node.Attr.Mode
	}
	return x.old(r.old).mode()
}

// add gives a node the next number.
func (x *viewExtender) add(r ref, dirent uint32) uint32 {
	nlink := uint32(1)
	if x.mode(r)&unix.S_IFMT == unix.S_IFDIR {
		nlink = 2
	}
	x.nodes = append(x.nodes, extNode{node: r.node, old: r.old, nlink: nlink, name: dirent})
	return uint32(len(x.nodes))
}

// addFolder numbers what is in a folder: see viewBuilder.addFolder.
func (x *viewExtender) addFolder(dir uint32, todo []uint32) ([]uint32, error) {
	first := x.direntCount()
	n := &x.nodes[dir-1]
	var olds []byte
	from, shows := n.old, true
	if n.node != nil {
		var ino merge.Ino
		ino, shows = n.node.Base()
		from = uint32(ino)
	}
	if from != 0 && shows {
		r := x.old(from).list()
		if uint64(r.first)+uint64(r.count) > uint64(len(x.dirents)/direntSize) {
			return nil, errDamaged
		}
		olds = x.dirents[uint64(r.first)*direntSize:][:uint64(r.count)*direntSize]
	}
	var changes []merge.Change
	if n.node != nil {
		changes = n.node.Changes()
	}
	todo, err := x.addNames(dir, olds, changes, todo)
	x.nodes[dir-1].list = tableRange{first, x.direntCount() - first}
	return todo, err
}

// addNames adds the names of the base and those of the new layer, which win, in
// their order.
func (x *viewExtender) addNames(dir uint32, olds []byte, changes []merge.Change, todo []uint32) ([]uint32, error) {
	for ; len(olds) > 0; olds = olds[direntSize:] {
		d := direntRec(olds[:direntSize])
		name, ok := x.base.file.str(d.nameRef())
		if !ok || uint64(d.ino())-1 >= x.base.Nodes() {
			return nil, errDamaged
		}
		for len(changes) > 0 && changes[0].Name < name {
			todo = x.addChange(dir, changes[0], todo)
			changes = changes[1:]
		}
		if len(changes) > 0 && changes[0].Name == name {
			todo = x.addChange(dir, changes[0], todo)
			changes = changes[1:]
			continue
		}
		todo = x.addName(dir, name, ref{nil, uint32(d.ino())}, todo)
	}
	for _, c := range changes {
		todo = x.addChange(dir, c, todo)
	}
	return todo, nil
}

func (x *viewExtender) addChange(dir uint32, c merge.Change, todo []uint32) []uint32 {
	if c.Node == nil {
		return todo
	}
	return x.addName(dir, c.Name, refOf(c.Node), todo)
}

// addName adds one name and returns todo with its node, if that is a folder.
func (x *viewExtender) addName(dir uint32, name string, r ref, todo []uint32) []uint32 {
	mode, ino := x.mode(r), x.numberOf(r)
	switch {
	case ino != 0:
		x.nodes[ino-1].nlink++
		x.more[ino] = append(x.more[ino], x.direntCount())
	default:
		ino = x.add(r, x.direntCount())
		x.setNumber(r, ino)
	}
	if mode&unix.S_IFMT == unix.S_IFDIR {
		todo = append(todo, ino)
		x.nodes[dir-1].nlink++
	}
	x.addDirent(name, ino, dir, mode)
	return todo
}

// numberOf returns the number that a file has already by another name.
func (x *viewExtender) numberOf(r ref) uint32 {
	if r.node != nil {
		return x.number[r.node]
	}
	return x.moved[r.old]
}

func (x *viewExtender) setNumber(r ref, ino uint32) {
	switch {
	case r.node == nil:
		x.moved[r.old] = ino
	case !r.node.IsDir():
		if x.number == nil {
			x.number = make(map[*merge.Node]uint32)
		}
		x.number[r.node] = ino
	}
}

// addTables adds what a node has in other tables: see viewBuilder.addTables.
func (x *viewExtender) addTables(ino uint32) error {
	n := &x.nodes[ino-1]
	if further := x.more[ino]; len(further) > 0 {
		n.name = x.addLinks(n.name, further)
	}
	if n.old != 0 {
		return x.copyTables(n)
	}
	v := viewNode{node: n.node, name: n.name, list: n.list}
	x.addNodeTables(&v, x.top)
	n.list, n.xattrs = v.list, v.xattrs
	return nil
}

// copyTables adds what a node of the base has in other tables.
func (x *viewExtender) copyTables(n *extNode) error {
	old := x.old(n.old)
	r := old.list()
	switch old.mode() & unix.S_IFMT {
	case unix.S_IFLNK:
		target, ok := x.base.file.str(heapRef{r.first, r.count})
		if !ok {
			return errDamaged
		}
		t := x.text(target)
		n.list = tableRange{t.off, t.len}
	case unix.S_IFREG:
		x.content += old.size()
		if r.count == 0 {
			break
		}
		b, ok := x.base.file.records(tabExtents, r.first, r.count)
		if !ok {
			return errDamaged
		}
		n.list = tableRange{uint32(len(x.extents) / extentSize), r.count}
		x.extents = append(x.extents, b...)
	}
	return x.copyXattrs(n, old.xattrs())
}

func (x *viewExtender) copyXattrs(n *extNode, r tableRange) error {
	if r.count == 0 {
		return nil
	}
	n.xattrs = tableRange{uint32(len(x.xattrs) / xattrSize), r.count}
	for i := range uint64(r.count) {
		name, value, err := x.base.xattr(uint64(r.first) + i)
		if err != nil {
			return err
		}
		x.xattrs = appendRef(appendRef(x.xattrs, x.intern(name)), x.intern(string(value)))
	}
	return nil
}

// encode lays out the file.
func (x *viewExtender) encode() []byte {
	le := binary.LittleEndian
	records := make([]byte, len(x.nodes)*nodeRecSize)
	for i := range x.nodes {
		n, out := &x.nodes[i], records[i*nodeRecSize:]
		if n.old == 0 {
			v := viewNode{node: n.node, nlink: n.nlink, name: n.name, list: n.list, xattrs: n.xattrs}
			v.encode(out)
			continue
		}
		copy(out, x.old(n.old))
		le.PutUint32(out[nodeNlink:], n.nlink)
		le.PutUint32(out[nodeName:], n.name)
		putRange(out[nodeList:], n.list)
		putRange(out[nodeXattrs:], n.xattrs)
	}
	return x.encodeWith(records, x.base.file.layers+1)
}
