package cow

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"unio/unionfs/merge"
)

// upperBit marks the numbers of nodes that no lower has; the rest is the inode
// number in the upper's filesystem, so they too survive a restart.
const upperBit merge.Ino = 1 << 62

// node is something that the upper changed, or that has been changed into
// nothing. A lower node without one is untouched. It stays as long as the mount,
// so the order of its fields leaves few gaps.
type node struct {
	ino   merge.Ino
	lower merge.Ino // the lower node it continues; 0 if none
	dir   *folder   // folders only
	typ   uint32    // S_IFMT bits

	counted bool                   // lookups has them all: this server made the node
	pinned  bool                   // the lower counts a reference of ours to lower
	lookups atomic.Int64           // the kernel's references, as far as they are counted here
	data    fileData               // regular files: where the bytes are
	cached  atomic.Pointer[handle] // an open descriptor, while the cache keeps it
	settled settled                // what an fsync of it still has to wait for
	moved   atomic.Bool            // it has got a name, which may not be on the disk

	copying sync.Mutex // held by the one who copies this node up

	mu      sync.RWMutex // guards the rest, and the node's place on disk
	nlink   uint32       // names in the union, of a hubbed node
	lost    uint32       // lower names that went before a copy-up (Options.AllNames)
	inUpper bool
	hubbed  bool    // one of the places is in the hub
	gone    bool    // no name is left
	fresh   bool    // it never had one, and may get one (O_TMPFILE)
	places  []place // its names in the upper
	lostAt  int64   // when the last of the lost went, in nanoseconds since 1970: its change time
	held    *handle // of roots: the union's, and the folders of WORK; see also holdOpen
}

// place is where a node is found in the upper.
type place struct {
	dir  *node
	name string
}

func (n *node) isDir() bool { return n.dir != nil }

// table finds nodes by number. What is in it keeps its lower node known.
type table struct {
	shards  [64]shard
	counter merge.Counter // nil: the lower knows all its nodes anyway
}

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
	t.pin(n)
	return n
}

// fresh enters n, whose upper file has just been made. Who has its number is a
// file that is gone from the disk, as the upper gives a number out again at
// once, but not yet from here: its removal has not come to its end.
func (t *table) fresh(n *node) {
	s := t.shard(n.ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	if have := s.nodes[n.ino]; have != nil {
		t.unpin(have)
	}
	s.nodes[n.ino] = n
	t.pin(n)
}

// pin keeps the lower node of n known. One that the lower does not know yet
// counts for n's number only.
func (t *table) pin(n *node) {
	if t.counter == nil || n.lower == 0 {
		return
	}
	t.counter.Remember(n.lower)
	n.pinned = t.counter.References(n.lower) > 0
}

func (t *table) remove(n *node) {
	s := t.shard(n.ino)
	s.mu.Lock()
	if s.nodes[n.ino] == n {
		delete(s.nodes, n.ino)
		t.unpin(n)
	}
	s.mu.Unlock()
}

// unpin undoes pin.
func (t *table) unpin(n *node) {
	if n.pinned {
		t.counter.Forget(n.lower, 1)
		n.pinned = false
	}
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

// node returns the table's node for ino, entering an untouched lower node
// first. ErrStale: nothing has that number.
// Preconditions: no folder is locked.
func (f *FS) node(ino merge.Ino) (*node, error) { return f.enterLower(ino, false) }

// enterLower is node. named says that the number was found under a name of the
// union, so the node is not one of those that have none left.
func (f *FS) enterLower(ino merge.Ino, named bool) (*node, error) {
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
		n.dir.subdirs = subdirsOf(&a)
		f.untouched.pass(ino, &n.dir.listed)
	}
	if !named {
		f.recall(n)
	}
	return f.table.add(n), nil
}

// newFolder makes the node of a folder that shows lower's entries (0: none).
func (f *FS) newFolder(ino, lower merge.Ino) *node {
	return &node{
		ino: ino, lower: lower, typ: unix.S_IFDIR,
		dir: &folder{lower: lower, children: make(map[string]*child), changes: 1},
	}
}
