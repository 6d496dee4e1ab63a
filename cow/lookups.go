package cow

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"unio/unionfs/merge"
)

// lookups counts the kernel's references to the nodes of a lower that knows
// all of them: one word per node, in pages that exist only once touched. A
// lower that does not (merge.Counter) counts them itself, as long as the upper
// has no node of that number.
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

// startCounting finds out who counts the references to lower nodes.
func (f *FS) startCounting() error {
	if counter, ok := f.lower.(merge.Counter); ok {
		f.table.counter = counter
		return nil
	}
	return f.lookups.init(f.lower.Nodes())
}

// Remember counts one more reference of the kernel's to a node that a lookup
// gave it.
func (f *FS) Remember(ino merge.Ino) {
	if ino < merge.Ino(len(f.lookups.counts)) {
		f.lookups.counts[ino].Add(1)
	} else if n := f.table.get(ino); n != nil {
		n.lookups.Add(1)
	} else if f.table.counter != nil {
		f.table.counter.Remember(ino)
	}
}

// Forget takes count references back. A node without a name goes with the last.
func (f *FS) Forget(ino merge.Ino, count uint64) {
	if ino == merge.RootIno || f.forget(ino, count) > 0 && !f.resumed {
		return
	}
	n := f.table.get(ino)
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gone && (f.uncounted(n) || f.references(n) <= 0) {
		f.reap(n)
	}
}

// forget takes references back and returns how many are left.
func (f *FS) forget(ino merge.Ino, count uint64) int64 {
	if ino < merge.Ino(len(f.lookups.counts)) {
		return int64(int32(f.lookups.counts[ino].Add(-uint32(count))))
	}
	n := f.table.get(ino)
	switch counter := f.table.counter; {
	case counter == nil && n == nil:
		return 0
	case counter == nil:
		return n.lookups.Add(-int64(count))
	case n == nil:
		return counter.Forget(ino, count)
	}
	// References from before the upper had the node are the lower's.
	if rest := count - n.takeLookups(count); rest > 0 {
		f.table.counter.Forget(ino, rest)
	}
	return f.references(n)
}

// takeLookups takes up to count references back and returns how many.
func (n *node) takeLookups(count uint64) uint64 {
	for {
		have := n.lookups.Load()
		take := min(int64(count), have)
		if take <= 0 {
			return 0
		}
		if n.lookups.CompareAndSwap(have, have-take) {
			return uint64(take)
		}
	}
}

// references tells how often the kernel still holds n.
func (f *FS) references(n *node) int64 {
	if n.ino < merge.Ino(len(f.lookups.counts)) {
		return int64(f.lookups.counts[n.ino].Load())
	}
	count := n.lookups.Load()
	if f.table.counter == nil || n.ino&upperBit != 0 {
		return count
	}
	count += f.table.counter.References(n.ino)
	if n.pinned && n.lower == n.ino {
		count--
	}
	return count
}
