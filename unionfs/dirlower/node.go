package dirlower

import (
	"hash/maphash"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"unio/unionfs/merge"
)

// Numbers: 14 bits of device index, 48 bits of inode number. The two highest
// indexes stand for what does not fit; bit 62 is package cow's.
const (
	inodeBits   = 48
	inodeMask   = 1<<inodeBits - 1
	foldedIndex = 1<<14 - 2 // inode numbers of more than 48 bits
	doubleIndex = 1<<14 - 1 // folders whose own number is taken
)

// number returns the number of what stat describes.
func (t *Tree) number(dev, ino uint64) (merge.Ino, error) {
	index, ok := t.devices.index(dev)
	if !ok {
		return 0, unix.EOVERFLOW
	}
	if ino <= inodeMask {
		return merge.Ino(index<<inodeBits | ino), nil
	}
	// Filesystems that use high bits (overlayfs's xino, unio itself) count low
	// ones up from few: the two halves hardly ever meet.
	folded := ino&inodeMask ^ (ino>>inodeBits*0x9e37+index*0x85eb)&0xffff<<32
	return merge.Ino(foldedIndex<<inodeBits | folded), nil
}

// node is a file of the merged tree that somebody knows.
type node struct {
	ino  merge.Ino
	refs atomic.Int64 // of the kernel's and the upper's
	kids atomic.Int32 // nodes that lie in this folder
	flag atomic.Uint32
	name string // its first name …
	up   *node  // … in this folder; nil for the root
	more atomic.Pointer[more]
}

// more is what most nodes need not remember.
type more struct {
	folder *folder // of a folder whose layers have been looked up
	places []place // further names of a file
}

type place struct {
	up   *node
	name string
}

// folder says where the entries of a merged folder come from.
type folder struct {
	stack    []elem // the layers that have it, topmost first
	nlink    atomic.Uint32
	building sync.Mutex // one listing at a time
	listing  atomic.Pointer[listing]
}

// newFolder makes a folder that has not been listed.
func newFolder(stack []elem) *folder { return &folder{stack: stack} }

// elem is a file or folder in one layer.
type elem struct {
	layer uint16
	path  string // in the layer, where a redirect leads; "": the node's name in its parent's folder of that layer
}

// at returns the place of a layer in the stack, -1 if it is not there.
func (f *folder) at(layer int) int {
	lo, hi := 0, len(f.stack)
	for lo < hi {
		if mid := (lo + hi) / 2; int(f.stack[mid].layer) < layer {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(f.stack) && int(f.stack[lo].layer) == layer {
		return lo
	}
	return -1
}

// Bits of node.flag, above the number of the layer that has the topmost file.
const (
	layerMask = 1<<16 - 1
	queued    = 1 << 16 // in the ring of recent nodes
	touched   = 1 << 17 // asked for since it got there
	isFolder  = 1 << 18
	dead      = 1 << 19 // no longer in the table
	recorded  = 1 << 20 // in the journal
)

// layer returns the topmost layer that has the node.
func (n *node) layer() int { return int(n.flag.Load() & layerMask) }

// isDir reports whether the node is a folder.
func (n *node) isDir() bool { return n.up == nil || n.flag.Load()&isFolder != 0 }

// table finds nodes by number.
type table struct {
	seed   maphash.Seed
	shards [64]shard
}

type shard struct {
	mu    sync.Mutex
	nodes map[merge.Ino]*node
}

func (t *table) init() {
	t.seed = maphash.MakeSeed()
	for i := range t.shards {
		t.shards[i].nodes = make(map[merge.Ino]*node)
	}
}

func (t *table) shard(ino merge.Ino) *shard { return &t.shards[ino%merge.Ino(len(t.shards))] }

// enter puts a node in, whatever was there.
func (t *table) enter(n *node) {
	s := t.shard(n.ino)
	s.mu.Lock()
	s.nodes[n.ino] = n
	s.mu.Unlock()
}

// get returns the node of that number.
func (t *Tree) get(ino merge.Ino) (*node, error) {
	s := t.table.shard(ino)
	s.mu.Lock()
	n := s.nodes[ino]
	if n != nil {
		n.flag.Or(touched)
	}
	s.mu.Unlock()
	if n == nil {
		return t.resolve(ino)
	}
	return n, nil
}

// Remember implements [merge.Counter].
func (t *Tree) Remember(ino merge.Ino) {
	s := t.table.shard(ino)
	s.mu.Lock()
	n := s.nodes[ino]
	if n != nil {
		n.refs.Add(1)
	}
	s.mu.Unlock()
	if n != nil {
		t.record(n)
	}
}

// Forget implements [merge.Counter].
func (t *Tree) Forget(ino merge.Ino, count uint64) int64 {
	s := t.table.shard(ino)
	s.mu.Lock()
	n := s.nodes[ino]
	var left int64
	if n != nil && n != t.top {
		left = n.refs.Add(-int64(count))
	}
	s.mu.Unlock()
	if n != nil && left <= 0 && n != t.top {
		t.queue(n)
	}
	return left
}

// References implements [merge.Counter].
func (t *Tree) References(ino merge.Ino) int64 {
	s := t.table.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.nodes[ino]; n != nil {
		return n.refs.Load()
	}
	return 0
}

// recent keeps nodes that nobody refers to for a while: a number handed out is
// counted by Remember only after its attributes have been asked for.
type recent struct {
	mu   sync.Mutex
	ring [8192]*node
	next int
}

// queue puts a node into the ring, and ends the one that has been there
// longest unless somebody wants it.
func (t *Tree) queue(n *node) {
	for n != nil {
		if n.flag.Or(queued)&queued != 0 {
			return
		}
		r := &t.recent
		r.mu.Lock()
		old := r.ring[r.next]
		r.ring[r.next] = n
		r.next = (r.next + 1) % len(r.ring)
		r.mu.Unlock()
		if n = old; n != nil {
			n = t.expire(n)
		}
	}
}

// expire takes a node out of the table that nobody refers to. What has been
// asked for lately comes back into the ring: it is returned, and so is a
// parent that has lost its last child.
func (t *Tree) expire(n *node) (again *node) {
	s := t.table.shard(n.ino)
	s.mu.Lock()
	if n.flag.And(^uint32(queued))&dead != 0 {
		s.mu.Unlock()
		return nil
	}
	wanted := n.flag.And(^uint32(touched))&touched != 0
	if n.refs.Load() > 0 || n.kids.Load() > 0 || wanted {
		s.mu.Unlock()
		if wanted && n.refs.Load() <= 0 {
			return n
		}
		return nil
	}
	if s.nodes[n.ino] == n {
		delete(s.nodes, n.ino)
	}
	n.flag.Or(dead)
	s.mu.Unlock()
	t.release(n)
	t.unrecord(n)
	return t.leave(n)
}

// release frees what a node held.
func (t *Tree) release(n *node) {
	t.handles.drop(handleKey{n, dataOf})
	m := n.more.Load()
	if m == nil || m.folder == nil {
		return
	}
	for i := range m.folder.stack {
		t.handles.drop(handleKey{n, i})
	}
	t.lists.drop(m.folder)
}

// leave tells the folders of a node that it is gone, and returns the one that
// nobody else needs.
func (t *Tree) leave(n *node) (again *node) {
	if m := n.more.Load(); m != nil {
		for _, p := range m.places {
			if p.up.kids.Add(-1) <= 0 && p.up.refs.Load() <= 0 {
				t.queue(p.up)
			}
		}
	}
	if n.up != nil && n.up.kids.Add(-1) <= 0 && n.up.refs.Load() <= 0 {
		return n.up
	}
	return nil
}

// born is what is known of a file of the host that becomes a node.
type born struct {
	ino    merge.Ino
	layer  int
	folder bool
	stack  []elem // of a folder, if known
}

// enter returns the node called name in folder up, a new one if nobody knows
// it.
func (t *Tree) enter(up *node, name string, b born) *node {
	for ino := b.ino; ; ino = t.double(up, name, ino) {
		n, fresh := t.enterAs(up, name, ino, &b)
		if n == nil {
			continue
		}
		if fresh || n.refs.Load() <= 0 {
			t.queue(n)
		}
		return n
	}
}

// enterAs is enter with a given number. Nil: a folder elsewhere has it.
func (t *Tree) enterAs(up *node, name string, ino merge.Ino, b *born) (n *node, fresh bool) {
	s := t.table.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.nodes[ino]; n != nil {
		if !n.isAt(up, name) && !n.addPlace(up, name, b.folder) {
			return nil, false
		}
		n.flag.Or(touched)
		if b.stack != nil {
			n.setStack(b.stack)
		}
		return n, false
	}
	n = &node{ino: ino, name: name, up: up}
	flag := uint32(b.layer)
	if b.folder {
		flag |= isFolder
	}
	n.flag.Store(flag)
	if b.stack != nil {
		n.setStack(b.stack)
	}
	up.kids.Add(1)
	s.nodes[ino] = n
	return n, true
}

// isAt reports whether the node is known by that name.
func (n *node) isAt(up *node, name string) bool {
	return n.up != nil && n.name == name && n.up.ino == up.ino
}

// addPlace gives a file a further name. False: it is a folder, which has one
// only. Preconditions: the node's shard is locked.
func (n *node) addPlace(up *node, name string, folder bool) bool {
	if folder || n.isDir() {
		return false
	}
	m := n.more.Load()
	if m == nil {
		m = &more{}
	}
	for _, p := range m.places {
		if p.name == name && p.up.ino == up.ino {
			return true
		}
	}
	// Readers hold the old one: it is never changed.
	places := append(m.places[:len(m.places):len(m.places)], place{up, name})
	n.more.Store(&more{folder: m.folder, places: places})
	up.kids.Add(1)
	return true
}

// setStack records where a folder's entries come from, unless that is known.
// Preconditions: the node's shard is locked.
func (n *node) setStack(stack []elem) {
	if n.more.Load() == nil {
		n.more.Store(&more{folder: newFolder(stack)})
	}
}

// double returns another number to try for a folder that is seen in two
// places: from its place, so that it mostly stays the same.
func (t *Tree) double(up *node, name string, last merge.Ino) merge.Ino {
	if last>>inodeBits == doubleIndex {
		return doubleIndex<<inodeBits | (last+1)&inodeMask
	}
	h := uint64(14695981039346656037) ^ uint64(up.ino) // FNV-1a: the same in every process
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 1099511628211
	}
	return merge.Ino(doubleIndex<<inodeBits | h&inodeMask)
}
