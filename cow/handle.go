package cow

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"unio/cow/fsat"
)

// handle is an open descriptor with a count of its users. The last one to
// release it closes it, so nobody ever uses a number that has been given to
// another file.
type handle struct {
	fd   int
	refs atomic.Int32
}

func newHandle(fd int) *handle {
	h := &handle{fd: fd}
	h.refs.Store(1)
	return h
}

// acquire adds a user, unless the last one has left already.
func (h *handle) acquire() bool {
	for {
		r := h.refs.Load()
		if r <= 0 {
			return false
		}
		if h.refs.CompareAndSwap(r, r+1) {
			return true
		}
	}
}

func (h *handle) release() {
	if h.refs.Add(-1) == 0 {
		fsat.Close(h.fd)
	}
}

// handles bounds how many nodes keep a descriptor open: a ring of them, from
// which the oldest loses its own when a new one comes.
type handles struct {
	mu   sync.Mutex
	ring []*node
	next int
}

func (h *handles) init(limit int) { h.ring = make([]*node, max(limit, 16)) }

// keep enters n, whose handle has just been cached.
func (h *handles) keep(n *node) {
	h.mu.Lock()
	old := h.ring[h.next]
	h.ring[h.next] = n
	h.next = (h.next + 1) % len(h.ring)
	h.mu.Unlock()
	if old != nil && old != n {
		uncache(old)
	}
}

// uncache takes the cache's reference to n's descriptor away.
func uncache(n *node) {
	if h := n.cached.Swap(nil); h != nil {
		h.release()
	}
}

func (f *FS) dropHandles(n *node) {
	uncache(n)
	n.mu.Lock()
	held := n.held
	n.held = nil
	n.mu.Unlock()
	if held != nil {
		held.release()
	}
}

// handleOf returns an open descriptor of a folder or regular file of the
// upper; the caller releases it. Regular files are open for reading and
// writing, folders for reading.
func (f *FS) handleOf(n *node) (*handle, error) {
	if h := n.cached.Load(); h != nil && h.acquire() {
		return h, nil
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	return f.handleLocked(n)
}

// handleLocked is handleOf. Preconditions: n.mu is held.
func (f *FS) handleLocked(n *node) (*handle, error) {
	if n.held != nil && n.held.acquire() {
		return n.held, nil
	}
	if len(n.places) == 0 {
		return nil, unix.ESTALE
	}
	at := n.places[0]
	parent, err := f.handleOf(at.dir)
	if err != nil {
		return nil, err
	}
	defer parent.release()
	fd, err := fsat.Open(parent.fd, at.name, openFlags(n.typ), 0)
	if err != nil {
		return nil, err
	}
	return f.cache(n, fd), nil
}

func openFlags(typ uint32) int {
	switch typ {
	case unix.S_IFREG:
		return unix.O_RDWR
	case unix.S_IFDIR:
		return unix.O_RDONLY | unix.O_DIRECTORY
	}
	return unix.O_PATH
}

// cache keeps a fresh descriptor of n for later and returns it for use.
func (f *FS) cache(n *node, fd int) *handle {
	h := newHandle(fd)
	h.refs.Add(1)
	if n.cached.CompareAndSwap(nil, h) {
		f.handles.keep(n)
		return h
	}
	h.release() // somebody else was first: this one is used once
	return h
}

// spot is where attribute calls reach a node: a descriptor and a name, which
// is empty when the descriptor is the node's own (package fsat).
type spot struct {
	fd     int
	name   string
	h      *handle
	locked *node // its place stays as it is until release
}

func (s *spot) release() {
	s.h.release()
	if s.locked != nil {
		s.locked.mu.RUnlock()
	}
}

// spotOf finds where n is in the upper. Until the caller releases the spot, n
// is not moved.
func (f *FS) spotOf(n *node) (spot, error) {
	if h := n.cached.Load(); h != nil && h.acquire() {
		return spot{fd: h.fd, h: h}, nil
	}
	n.mu.RLock()
	s, err := f.spotLocked(n)
	if err != nil {
		n.mu.RUnlock()
		return s, err
	}
	s.locked = n
	return s, nil
}

// spotLocked is spotOf. Preconditions: n.mu is held.
func (f *FS) spotLocked(n *node) (spot, error) {
	if n.held != nil && n.held.acquire() {
		return spot{fd: n.held.fd, h: n.held}, nil
	}
	if len(n.places) == 0 {
		return spot{}, unix.ESTALE
	}
	at := n.places[0]
	parent, err := f.handleOf(at.dir)
	if err != nil {
		return spot{}, err
	}
	return spot{fd: parent.fd, name: at.name, h: parent}, nil
}
