package dirlower

import (
	"strings"

	"golang.org/x/sys/unix"

	"unio/cow/fsat"
	"unio/whiteout"
)

// walk is the search for one name through the layers of a folder, as
// ovl_lookup does it (the kernel's fs/overlayfs/namei.c): from the top down,
// each layer says whether the next is asked, and under which name. The parts
// of a merged folder may therefore have other names, and lie in other folders,
// than the folder itself.
type walk struct {
	t        *Tree
	up       *node
	name     string // as asked for
	want     string // as the next layer calls it; absolute behind an absolute redirect
	redirect string // what was looked at last is called this in the layers below
	bottom   int    // the last layer, below which nothing is hidden
	data     bool   // every layer of a file is wanted, not only the first
	stop     bool   // layers further down have no say
	folder   bool   // what was found first is a folder
	below    bool   // the file found last has data in the layers below
	st       unix.Stat_t
	stack    []elem // the layers that have a part in it, topmost first
}

// run looks from layer first on. Nothing found: the stack stays empty.
func (w *walk) run(first int) error {
	f, err := w.t.folderOf(w.up)
	if err != nil {
		return err
	}
	for i := range f.stack {
		e := &f.stack[i]
		if int(e.layer) < first {
			continue
		}
		if err := w.inFolder(i, int(e.layer)); err != nil {
			return err
		}
		if w.stop || len(w.stack) > 0 && !w.folder && !w.data {
			return nil
		}
		if w.want[0] == '/' {
			return w.fromRoots(int(e.layer) + 1)
		}
	}
	return nil
}

// fromRoots goes on in all layers: an absolute redirect does not ask which of
// them have the parent.
func (w *walk) fromRoots(first int) error {
	for layer := first; layer <= w.bottom && !w.stop; layer++ {
		if err := w.inLayer(layer); err != nil {
			return err
		}
	}
	return nil
}

// inFolder looks into the parent's folder of one layer.
func (w *walk) inFolder(i, layer int) error {
	dir, err := w.t.dirHandle(w.up, i)
	if err != nil {
		return err
	}
	defer dir.release()
	at := elem{layer: uint16(layer)}
	if w.want != w.name {
		path, err := w.t.pathIn(w.up, i)
		if err != nil {
			return err
		}
		at.path = join(path, w.want)
	}
	found, err := w.look(&probe{fd: dir.fd, name: w.want, layer: layer, last: true})
	if err != nil || !found {
		return err
	}
	w.stack = append(w.stack, at)
	if w.redirect != "" {
		w.want = w.redirect
	}
	return nil
}

// inLayer walks an absolute path from a layer's root. Folders on the way can
// be redirects themselves, which count for the layers further down.
func (w *walk) inLayer(layer int) error {
	path := w.want[1:] // what this layer has; a redirect on the way changes it for those below
	top := w.t.layers[layer].fd
	p := probe{fd: top, layer: layer, rest: path}
	defer func() {
		if p.fd != top {
			fsat.Close(p.fd)
		}
	}()
	for {
		p.next()
		found, err := w.step(&p)
		if err != nil || !found {
			return err
		}
		if p.last {
			w.stack = append(w.stack, elem{layer: uint16(layer), path: path})
			return nil
		}
		sub, err := openFolder(p.fd, p.name)
		if err != nil {
			return err
		}
		if p.fd != top {
			fsat.Close(p.fd)
		}
		p.fd = sub
	}
}

// probe is one component of a path in one layer.
type probe struct {
	fd    int // the folder it is looked for in
	name  string
	rest  string // the components behind it
	layer int
	last  bool // it is what is looked for, and not a folder on the way
}

// next goes on to the next component.
func (p *probe) next() {
	var more bool
	p.name, p.rest, more = strings.Cut(p.rest, "/")
	p.last = !more
}

// step looks at one component of an absolute path.
func (w *walk) step(p *probe) (found bool, err error) {
	found, err = w.look(p)
	if err != nil || !found || w.redirect == "" {
		return found, err
	}
	tail := ""
	if !p.last {
		tail = "/" + p.rest
	}
	to := w.redirect
	if to[0] != '/' { // a sibling: only this component is replaced
		to = parentOf(strings.TrimSuffix(w.want, tail)) + "/" + to
	}
	w.want = to + tail
	return true, nil
}

// look examines one component in one layer, as ovl_lookup_single does. A
// whiteout by name is looked for only where there is nothing else, and where
// layers below could be hidden: it costs a system call more.
func (w *walk) look(p *probe) (found bool, err error) {
	w.redirect = ""
	var st unix.Stat_t
	switch err := fsat.Stat(p.fd, p.name, &st); err {
	case nil:
	case unix.ENOENT, unix.ENAMETOOLONG:
		w.stop = w.stop || p.layer < w.bottom && exists(p.fd, whiteout.Name(p.name))
		return false, nil
	default:
		return false, err
	}
	if whiteout.IsDevice(st.Mode, st.Rdev) {
		w.stop = true
		return false, nil
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return w.lookFolder(p, &st)
	}
	return w.lookFile(p, &st)
}

// lookFolder takes a folder that was found. It ends the search if it is opaque,
// also by a whiteout of its own name beside it: that acts on the layers below,
// and the folder was made after.
func (w *walk) lookFolder(p *probe, st *unix.Stat_t) (bool, error) {
	if w.below && p.last { // data of a file is looked for
		w.stop = true
		return false, nil
	}
	if p.last && len(w.stack) == 0 {
		w.st, w.folder = *st, true
	}
	if p.layer == w.bottom {
		return true, nil
	}
	m, err := w.t.readMarks(p.fd, p.name)
	if err != nil {
		return false, err
	}
	if m.opaque || exists(p.fd, whiteout.Name(p.name)) || hasOpaqueFile(p.fd, p.name) {
		w.stop = true
		return true, nil
	}
	return true, w.follow(m.redirect)
}

// hasOpaqueFile reports whether a folder holds .wh..wh..opq.
func hasOpaqueFile(fd int, name string) bool {
	dir, err := openFolder(fd, name)
	if err != nil {
		return false
	}
	defer fsat.Close(dir)
	return exists(dir, whiteout.OpaqueName)
}

// lookFile takes anything else that was found. It hides all that is below
// unless its data is there. Whether it is, is asked only by who reads it; and
// only an empty file can be a whiteout by attribute.
func (w *walk) lookFile(p *probe, st *unix.Stat_t) (bool, error) {
	regular := st.Mode&unix.S_IFMT == unix.S_IFREG
	if w.folder || !p.last || w.below && !regular {
		w.stop = true
		return false, nil
	}
	var m marked
	if regular && (st.Size == 0 || w.data) {
		var err error
		if m, err = w.t.readMarks(p.fd, p.name); err != nil {
			return false, err
		}
	}
	if m.white && st.Size == 0 {
		w.stop = true
		return false, nil
	}
	if len(w.stack) == 0 {
		w.st = *st
	}
	if w.below = m.below; !m.below || p.layer == w.bottom {
		w.stop = true
		return true, nil
	}
	return true, w.follow(m.redirect)
}

// follow takes a redirect over: an absolute path or the name of a sibling.
// Anything else is an error, as for the kernel (ovl_get_redirect_xattr).
func (w *walk) follow(redirect string) error {
	if redirect == "" {
		return nil
	}
	path, absolute := strings.CutPrefix(redirect, "/")
	if !cleanPath(path) || !absolute && strings.Contains(path, "/") {
		return w.refuse(redirect)
	}
	if absolute {
		w.stop = false // whatever was opaque on the way here
	}
	w.redirect = redirect
	return nil
}

// refuse makes a bad redirect known: the name then cannot be used at all.
func (w *walk) refuse(redirect string) error {
	w.t.log.Warn("bad redirect in a lower folder", "name", w.name, "redirect", redirect)
	return unix.EINVAL
}

// cleanPath reports whether every component of a relative path is a name.
func cleanPath(path string) bool {
	for name := range strings.SplitSeq(path, "/") {
		if name == "" || name == "." || name == ".." {
			return false
		}
	}
	return true
}

func parentOf(path string) string {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i]
	}
	return ""
}

// join appends a name to the path of a folder in a layer ("" is its root).
func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}
