package cow

import (
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"unio/unionfs/merge"
)

// upperBit marks the numbers of nodes that no lower has; the rest is the inode
// number in the upper's filesystem, so they too survive a restart.
const upperBit merge.Ino = 1 << 62

// node is something that the upper changed, or that has been changed into
// nothing. A lower node without one is untouched.
type node struct {
	ino   merge.Ino
	lower merge.Ino // the lower node it continues; 0 if none
	typ   uint32    // S_IFMT bits
	dir   *folder   // folders only

	lookups atomic.Int64           // the kernel's references, of a node born in the upper
	data    fileData               // regular files: where the bytes are
	cached  atomic.Pointer[handle] // an open descriptor, while the cache keeps it
	settled settled                // what an fsync of it still has to wait for

	copying sync.Mutex // held by the one who copies this node up

	mu      sync.RWMutex // guards the rest, and the node's place on disk
	inUpper bool
	places  []place // its names in the upper
	hubbed  bool    // one of the places is in the hub
	nlink   uint32  // names in the union, of a hubbed node
	lost    uint32  // lower names that went before a copy-up (Options.AllNames)
	gone    bool    // no name is left
	fresh   bool    // it never had one, and may get one (O_TMPFILE)
	held    *handle // keeps a node without a name reachable; set for roots
}

// place is where a node is found in the upper.
type place struct {
	dir  *node
	name string
}

func (n *node) isDir() bool { return n.dir != nil }

// table finds nodes by number.
type table struct{ shards [64]shard }

type shard struct {
	mu    sync.RWMutex
	nodes map[merge.Ino]*node
}

func (t *table) init() {
	for i := range t.shards {
		t.shards[i].nodes = make(map[merge.Ino]*node)
	}
}

func (t *table) shard(ino merge.Ino) *shard { return &t.shards[ino%merge.Ino(len(t.shards))] }

// get returns the node of that number, nil if the upper never touched it.
func (t *table) get(ino merge.Ino) *node {
	s := t.shard(ino)
	s.mu.RLock()
	n := s.nodes[ino]
	s.mu.RUnlock()
	return n
}

// add enters n unless its number is taken, and returns whoever has it.
func (t *table) add(n *node) *node {
	s := t.shard(n.ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	if have := s.nodes[n.ino]; have != nil {
		return have
	}
	s.nodes[n.ino] = n
	return n
}

func (t *table) remove(n *node) {
	s := t.shard(n.ino)
	s.mu.Lock()
	if s.nodes[n.ino] == n {
		delete(s.nodes, n.ino)
	}
	s.mu.Unlock()
}

func (t *table) each(do func(*node)) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.RLock()
		for _, n := range s.nodes {
			do(n)
		}
		s.mu.RUnlock()
	}
}

// size returns how many nodes there are.
func (t *table) size() (n uint64) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.RLock()
		n += uint64(len(s.nodes))
		s.mu.RUnlock()
	}
	return n
}

// lookups counts the kernel's references to lower nodes. It is one word per
// lower node in pages that exist only once touched.
type lookups struct {
	mem    []byte
	counts []atomic.Uint32
}

func (l *lookups) init(nodes uint64) error {
	size := int(nodes+1) * 4
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	l.mem = mem
	l.counts = unsafe.Slice((*atomic.Uint32)(unsafe.Pointer(unsafe.SliceData(mem))), nodes+1)
	return nil
}

func (l *lookups) close() error {
	if l.mem == nil {
		return nil
	}
	mem := l.mem
	l.mem, l.counts = nil, nil
	return unix.Munmap(mem)
}

// Remember counts one more reference of the kernel's to a node that a lookup
// gave it.
func (f *FS) Remember(ino merge.Ino) {
	if ino < merge.Ino(len(f.lookups.counts)) {
		f.lookups.counts[ino].Add(1)
	} else if n := f.table.get(ino); n != nil {
		n.lookups.Add(1)
	}
}

// Forget takes count references back. A node without a name goes with the last.
func (f *FS) Forget(ino merge.Ino, count uint64) {
	if ino == merge.RootIno || f.forget(ino, count) > 0 {
		return
	}
	n := f.table.get(ino)
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gone && f.references(n) <= 0 {
		f.reap(n)
	}
}

func (f *FS) forget(ino merge.Ino, count uint64) int64 {
	if ino < merge.Ino(len(f.lookups.counts)) {
		return int64(int32(f.lookups.counts[ino].Add(-uint32(count))))
	}
	if n := f.table.get(ino); n != nil {
		return n.lookups.Add(-int64(count))
	}
	return 0
}

// references tells how often the kernel still holds n.
func (f *FS) references(n *node) int64 {
	if n.ino < merge.Ino(len(f.lookups.counts)) {
		return int64(f.lookups.counts[n.ino].Load())
	}
	return n.lookups.Load()
}

// node returns the table's node for ino, entering an untouched lower node
// first. ErrStale: nothing has that number.
func (f *FS) node(ino merge.Ino) (*node, error) {
	if n := f.table.get(ino); n != nil {
		return n, nil
	}
	var a merge.Attr
	if err := f.lower.Attr(ino, &a); err != nil {
		return nil, err
	}
	n := &node{ino: ino, lower: ino, typ: a.Mode & unix.S_IFMT}
	if a.IsDir() {
		n = f.newFolder(ino, ino)
		n.dir.subdirs = int64(a.Nlink) - 2
	}
	return f.table.add(n), nil
}

// newFolder makes the node of a folder that shows lower's entries (0: none).
func (f *FS) newFolder(ino, lower merge.Ino) *node {
	return &node{
		ino: ino, lower: lower, typ: unix.S_IFDIR,
		dir: &folder{lower: lower, children: make(map[string]*child)},
	}
}
