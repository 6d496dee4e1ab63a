package layer

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"unio/cow/fsat"
	"unio/unionfs/merge"
)

// hostLower is a folder of the host as a merge.Lower, read once, so that tests
// of the diff depend on nothing but the diff.
type hostLower struct {
	nodes []*hostNode // node n at index n-1
	paths map[string]merge.Ino
}

type hostNode struct {
	path   string // on the host
	attr   merge.Attr
	names  []string // of a folder, sorted
	kids   []merge.Ino
	links  []merge.Link
	target string
	xattrs []xattrPair
}

func newHostLower(t testing.TB, dir string) *hostLower {
	t.Helper()
	l := &hostLower{paths: make(map[string]merge.Ino)}
	seen := make(map[fileID]merge.Ino)
	l.add(t, dir, "/", seen)
	return l
}

func (l *hostLower) add(t testing.TB, path, inside string, seen map[fileID]merge.Ino) merge.Ino {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Lstat(path, &st))
	id := fileID{st.Dev, st.Ino}
	if ino := seen[id]; ino != 0 {
		l.paths[inside] = ino
		return ino
	}
	n := &hostNode{path: path, attr: statAttr(&st)}
	l.nodes = append(l.nodes, n)
	ino := merge.Ino(len(l.nodes))
	l.paths[inside] = ino
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		seen[id] = ino
	}
	n.xattrs = hostXattrs(t, path)
	if n.attr.IsSymlink() {
		n.target, _ = os.Readlink(path)
	}
	if !n.attr.IsDir() {
		return ino
	}
	list, err := os.ReadDir(path)
	must(t, err)
	for _, e := range list {
		kid := l.add(t, filepath.Join(path, e.Name()), filepath.Join(inside, e.Name()), seen)
		n.names, n.kids = append(n.names, e.Name()), append(n.kids, kid)
		k := l.nodes[kid-1]
		k.links = append(k.links, merge.Link{Dir: ino, Name: e.Name()})
	}
	return ino
}

// hostXattrs returns what a user sees: the attributes that are no union's
// bookkeeping.
func hostXattrs(t testing.TB, path string) []xattrPair {
	t.Helper()
	names, err := fsat.ListXattr(unix.AT_FDCWD, path)
	must(t, err)
	slices.Sort(names)
	var list []xattrPair
	for _, n := range names {
		v, err := fsat.XattrValue(unix.AT_FDCWD, path, n)
		must(t, err)
		list = append(list, xattrPair{n, string(v)})
	}
	return list
}

func (l *hostLower) node(ino merge.Ino) (*hostNode, error) {
	if ino == 0 || int(ino) > len(l.nodes) {
		return nil, merge.ErrStale
	}
	return l.nodes[ino-1], nil
}

func (l *hostLower) Lookup(dir merge.Ino, name string) (merge.Ino, error) {
	n, err := l.node(dir)
	if err != nil {
		return 0, err
	}
	if !n.attr.IsDir() {
		return 0, unix.ENOTDIR
	}
	i, ok := slices.BinarySearch(n.names, name)
	if !ok {
		return 0, merge.ErrNotExist
	}
	return n.kids[i], nil
}

func (l *hostLower) Attr(ino merge.Ino, a *merge.Attr) error {
	n, err := l.node(ino)
	if err == nil {
		*a = n.attr
	}
	return err
}

func (l *hostLower) ReadDir(dir merge.Ino, after uint64, yield func(merge.Entry) bool) error {
	n, err := l.node(dir)
	if err != nil {
		return err
	}
	for i := int(after); i < len(n.names); i++ {
		typ := l.nodes[n.kids[i]-1].attr.Mode & unix.S_IFMT
		if !yield(merge.Entry{Name: n.names[i], Ino: n.kids[i], Type: typ, Cookie: uint64(i + 1)}) {
			return nil
		}
	}
	return nil
}

func (l *hostLower) Readlink(ino merge.Ino) (string, error) {
	n, err := l.node(ino)
	if err != nil {
		return "", err
	}
	return n.target, nil
}

func (l *hostLower) Xattr(ino merge.Ino, name string) ([]byte, error) {
	n, err := l.node(ino)
	if err != nil {
		return nil, err
	}
	for _, x := range n.xattrs {
		if x.name == name {
			return []byte(x.value), nil
		}
	}
	return nil, merge.ErrNoXattr
}

func (l *hostLower) Xattrs(ino merge.Ino, yield func(string, []byte) bool) error {
	n, err := l.node(ino)
	if err != nil {
		return err
	}
	for _, x := range n.xattrs {
		if !yield(x.name, []byte(x.value)) {
			break
		}
	}
	return nil
}

func (l *hostLower) ReadAt(ino merge.Ino, p []byte, off int64) (int, error) {
	n, err := l.node(ino)
	if err != nil {
		return 0, err
	}
	f, err := os.Open(n.path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return (&upperFile{f: f}).readAt(p, off)
}

func (l *hostLower) Segments(ino merge.Ino) ([]merge.Segment, error) {
	n, err := l.node(ino)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(n.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var segs []merge.Segment
	u := &upperFile{f: f}
	for off := int64(0); off < int64(n.attr.Size); {
		start, end, err := u.next(off)
		if err != nil || start >= int64(n.attr.Size) {
			return segs, err
		}
		segs = append(segs, merge.Segment{Off: start, Len: end - start})
		off = end
	}
	return segs, nil
}

func (l *hostLower) Links(ino merge.Ino) ([]merge.Link, error) {
	n, err := l.node(ino)
	if err != nil {
		return nil, err
	}
	return n.links, nil
}

func (l *hostLower) Nodes() uint64    { return uint64(len(l.nodes)) }
func (l *hostLower) DataSize() uint64 { return 0 }

// ino returns the number of a path in the lower.
func (l *hostLower) ino(t testing.TB, path string) merge.Ino {
	t.Helper()
	ino := l.paths[path]
	if ino == 0 {
		t.Fatalf("the lower has no %s", path)
	}
	return ino
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
