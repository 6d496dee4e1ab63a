package dirlower

import (
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"unio/cow/fsat"
	"unio/unionfs/merge"
)

// handle is an open file with a count of its users; the last one closes it.
type handle struct {
	fd      int
	content *content // of a regular file
	refs    atomic.Int32
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

// release takes a user away. Nobody uses a descriptor's number after the last,
// so it never means another file.
func (h *handle) release() {
	if h == nil || h.refs.Add(-1) > 0 {
		return
	}
	if h.content != nil {
		h.content.close()
		return
	}
	fsat.Close(h.fd)
}

// handleKey names an open file: a folder by its place in the node's stack, a
// file's data by dataOf.
type handleKey struct {
	n    *node
	elem int
}

const dataOf = -1

// handles keeps files open that were used lately, a bounded number of them.
type handles struct{ parts [8]handlePart }

type handlePart struct {
	mu   sync.Mutex
	open map[handleKey]*handle
	ring []handleKey
	next int
}

// init bounds the cache to about limit files.
func (h *handles) init(limit int) {
	for i := range h.parts {
		h.parts[i].open = make(map[handleKey]*handle)
		h.parts[i].ring = make([]handleKey, max(limit/len(h.parts), 4))
	}
}

// handleLimit leaves most descriptors of the process to its other needs.
func handleLimit() int {
	const most = 2048
	var rl unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &rl); err != nil {
		return 128
	}
	return int(min(rl.Cur/4, most))
}

// part spreads the files over several locks.
func (h *handles) part(k handleKey) *handlePart {
	return &h.parts[(uint64(k.n.ino)+uint64(k.elem))%uint64(len(h.parts))]
}

// get returns an open file for use.
func (h *handles) get(k handleKey) *handle {
	p := h.part(k)
	p.mu.Lock()
	defer p.mu.Unlock()
	if have := p.open[k]; have != nil && have.acquire() {
		return have
	}
	return nil
}

// keep enters an open file, for which the caller keeps its own reference.
func (h *handles) keep(k handleKey, fresh *handle) {
	p := h.part(k)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[k] != nil {
		return
	}
	old := p.ring[p.next]
	p.ring[p.next] = k
	p.next = (p.next + 1) % len(p.ring)
	if was := p.open[old]; was != nil {
		delete(p.open, old)
		was.release()
	}
	fresh.refs.Add(1)
	p.open[k] = fresh
}

// drop closes what is kept of a file.
func (h *handles) drop(k handleKey) {
	p := h.part(k)
	p.mu.Lock()
	defer p.mu.Unlock()
	if was := p.open[k]; was != nil {
		delete(p.open, k)
		was.release()
	}
}

// close closes all but what is in use, which its users close.
func (h *handles) close() {
	for i := range h.parts {
		p := &h.parts[i]
		p.mu.Lock()
		for k, was := range p.open {
			delete(p.open, k)
			was.release()
		}
		p.mu.Unlock()
	}
}

const handleOnly = unix.O_PATH | unix.O_DIRECTORY

// openFolder opens a folder as a mere handle: that needs no permission to read
// it, and does not change its access time.
func openFolder(fd int, name string) (int, error) { return fsat.Open(fd, name, handleOnly, 0) }

// dirHandle returns folder n as the i-th of its layers has it; the caller
// releases it.
func (t *Tree) dirHandle(n *node, i int) (*handle, error) {
	f, err := t.folderOf(n)
	if err != nil {
		return nil, err
	}
	e := &f.stack[i]
	if n.up == nil {
		h := &handle{fd: t.layers[e.layer].fd} // closed with the tree
		h.refs.Store(1 << 20)
		return h, nil
	}
	k := handleKey{n, i}
	if h := t.handles.get(k); h != nil {
		return h, nil
	}
	fd, err := t.openElem(n, e)
	if err != nil {
		return nil, err
	}
	h := &handle{fd: fd}
	h.refs.Store(1)
	t.handles.keep(k, h)
	return h, nil
}

// openElem opens a folder in one layer.
func (t *Tree) openElem(n *node, e *elem) (int, error) {
	if e.path != "" {
		return openBelow(t.layers[e.layer].fd, e.path, handleOnly)
	}
	up, err := t.dirOf(n.up, int(e.layer))
	if err != nil {
		return -1, err
	}
	defer up.release()
	return openFolder(up.fd, n.name)
}

// dirOf returns folder n in a given layer.
func (t *Tree) dirOf(n *node, layer int) (*handle, error) {
	f, err := t.folderOf(n)
	if err != nil {
		return nil, err
	}
	i := f.at(layer)
	if i < 0 {
		return nil, merge.ErrStale
	}
	return t.dirHandle(n, i)
}

// pathIn returns the path of folder n in the i-th of its layers.
func (t *Tree) pathIn(n *node, i int) (string, error) {
	var names []string
	for n.up != nil {
		f, err := t.folderOf(n)
		if err != nil {
			return "", err
		}
		e := &f.stack[i]
		if e.path != "" {
			names = append(names, e.path)
			break
		}
		names = append(names, n.name)
		n = n.up
		if f, err = t.folderOf(n); err != nil {
			return "", err
		}
		if i = f.at(int(e.layer)); i < 0 {
			return "", merge.ErrStale
		}
	}
	path := ""
	for i := len(names) - 1; i >= 0; i-- {
		path = join(path, names[i])
	}
	return path, nil
}

// openBelow opens a path below a folder, without leaving it or following a
// link. Paths longer than a system call takes, and kernels without openat2,
// are walked.
func openBelow(fd int, path string, flags int) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	if len(path) < unix.PathMax {
		for {
			got, err := unix.Openat2(fd, path, &how)
			switch err {
			case unix.EINTR, unix.EAGAIN:
				continue
			case unix.ENOSYS, unix.EPERM:
			default:
				return got, err
			}
			break
		}
	}
	return walkBelow(fd, path, flags)
}

// walkBelow is openBelow by single components, none of which may be a link.
func walkBelow(fd int, path string, flags int) (int, error) {
	at := fd
	for {
		name, rest, more := strings.Cut(path, "/")
		how := flags
		if more {
			how = handleOnly
		}
		next, err := fsat.Open(at, name, how, 0)
		if at != fd {
			fsat.Close(at)
		}
		if err != nil || !more {
			return next, err
		}
		at, path = next, rest
	}
}
