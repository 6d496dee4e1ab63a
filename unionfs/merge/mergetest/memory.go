// Package mergetest holds a [merge.Lower] in memory for tests: a copy of a
// folder of the host, complete with owners, times, links and attributes.
package mergetest

import (
	"slices"
	"sort"

	"golang.org/x/sys/unix"

	"unio/cow/fsat"
	"unio/unionfs/merge"
)

// Memory is a tree read from a folder.
type Memory struct {
	nodes []*node // by number - 1
}

type node struct {
	attr     merge.Attr
	target   string
	data     []byte
	xattrs   map[string][]byte
	children []merge.Entry // sorted by name
	links    []merge.Link
}

var _ merge.Lower = (*Memory)(nil)

// FromDir copies the folder at path.
func FromDir(path string) (*Memory, error) {
	fd, err := fsat.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	defer fsat.Close(fd)
	m := &Memory{}
	r := reader{m: m, seen: make(map[uint64]merge.Ino)}
	_, err = r.add(fd, ".", merge.Link{})
	return m, err
}

type reader struct {
	m    *Memory
	seen map[uint64]merge.Ino // inode of the host → number, of files with several names
}

func (r *reader) add(dirfd int, name string, at merge.Link) (merge.Ino, error) {
	var st unix.Stat_t
	if err := fsat.Stat(dirfd, name, &st); err != nil {
		return 0, err
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if ino := r.seen[st.Ino]; ino != 0 && !isDir {
		n := r.m.nodes[ino-1]
		n.links = append(n.links, at)
		return ino, nil
	}
	n := &node{xattrs: make(map[string][]byte)}
	r.m.nodes = append(r.m.nodes, n)
	ino := merge.Ino(len(r.m.nodes))
	r.seen[st.Ino] = ino
	if at.Dir != 0 {
		n.links = []merge.Link{at}
	}
	n.attr = merge.Attr{
		Mode: st.Mode, UID: st.Uid, GID: st.Gid, Nlink: uint32(st.Nlink), Rdev: st.Rdev,
		Size: uint64(st.Size), Sec: st.Mtim.Sec, Nsec: uint32(st.Mtim.Nsec),
	}
	if err := n.readXattrs(dirfd, name); err != nil {
		return 0, err
	}
	return ino, r.content(n, ino, dirfd, name)
}

func (n *node) readXattrs(dirfd int, name string) error {
	names, err := fsat.ListXattr(dirfd, name)
	if err != nil {
		return err
	}
	for _, x := range names {
		if n.xattrs[x], err = fsat.XattrValue(dirfd, name, x); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) content(n *node, ino merge.Ino, dirfd int, name string) (err error) {
	switch n.attr.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		n.target, err = fsat.Readlink(dirfd, name)
	case unix.S_IFREG:
		n.data, err = readFile(dirfd, name, int(n.attr.Size))
	case unix.S_IFDIR:
		err = r.folder(n, ino, dirfd, name)
	}
	return err
}

func readFile(dirfd int, name string, size int) ([]byte, error) {
	fd, err := fsat.Open(dirfd, name, unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer fsat.Close(fd)
	data := make([]byte, size)
	for done := 0; done < size; {
		k, err := unix.Pread(fd, data[done:], int64(done))
		if err != nil || k == 0 {
			return nil, err
		}
		done += k
	}
	return data, nil
}

func (r *reader) folder(n *node, ino merge.Ino, dirfd int, name string) error {
	fd, err := fsat.OpenDir(dirfd, name)
	if err != nil {
		return err
	}
	defer fsat.Close(fd)
	names, err := fsat.Names(fd, ".")
	if err != nil {
		return err
	}
	slices.Sort(names)
	n.attr.Nlink = 2
	for i, name := range names {
		child, err := r.add(fd, name, merge.Link{Dir: ino, Name: name})
		if err != nil {
			return err
		}
		typ := r.m.nodes[child-1].attr.Mode & unix.S_IFMT
		if typ == unix.S_IFDIR {
			n.attr.Nlink++
		}
		n.children = append(n.children, merge.Entry{Name: name, Ino: child, Type: typ, Cookie: uint64(i + 1)})
	}
	return nil
}

func (m *Memory) node(ino merge.Ino) (*node, error) {
	if ino == 0 || uint64(ino) > uint64(len(m.nodes)) {
		return nil, merge.ErrStale
	}
	return m.nodes[ino-1], nil
}

// Lookup implements [merge.Lower].
func (m *Memory) Lookup(dir merge.Ino, name string) (merge.Ino, error) {
	n, err := m.node(dir)
	if err != nil {
		return 0, err
	}
	if !n.attr.IsDir() {
		return 0, unix.ENOTDIR
	}
	i := sort.Search(len(n.children), func(i int) bool { return n.children[i].Name >= name })
	if i == len(n.children) || n.children[i].Name != name {
		return 0, merge.ErrNotExist
	}
	return n.children[i].Ino, nil
}

// Attr implements [merge.Lower].
func (m *Memory) Attr(ino merge.Ino, a *merge.Attr) error {
	n, err := m.node(ino)
	if err == nil {
		*a = n.attr
	}
	return err
}

// ReadDir implements [merge.Lower].
func (m *Memory) ReadDir(dir merge.Ino, after uint64, yield func(merge.Entry) bool) error {
	n, err := m.node(dir)
	if err != nil {
		return err
	}
	if !n.attr.IsDir() {
		return unix.ENOTDIR
	}
	for _, e := range n.children[min(after, uint64(len(n.children))):] {
		if !yield(e) {
			break
		}
	}
	return nil
}

// Readlink implements [merge.Lower].
func (m *Memory) Readlink(ino merge.Ino) (string, error) {
	n, err := m.node(ino)
	if err != nil {
		return "", err
	}
	if !n.attr.IsSymlink() {
		return "", unix.EINVAL
	}
	return n.target, nil
}

// Xattr implements [merge.Lower].
func (m *Memory) Xattr(ino merge.Ino, name string) ([]byte, error) {
	n, err := m.node(ino)
	if err != nil {
		return nil, err
	}
	value, ok := n.xattrs[name]
	if !ok {
		return nil, merge.ErrNoXattr
	}
	return value, nil
}

// Xattrs implements [merge.Lower].
func (m *Memory) Xattrs(ino merge.Ino, yield func(string, []byte) bool) error {
	n, err := m.node(ino)
	if err != nil {
		return err
	}
	names := make([]string, 0, len(n.xattrs))
	for name := range n.xattrs {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if !yield(name, n.xattrs[name]) {
			break
		}
	}
	return nil
}

// ReadAt implements [merge.Lower].
func (m *Memory) ReadAt(ino merge.Ino, p []byte, off int64) (int, error) {
	n, err := m.node(ino)
	if err != nil {
		return 0, err
	}
	if !n.attr.IsRegular() {
		return 0, unix.EISDIR
	}
	if off < 0 || off >= int64(len(n.data)) {
		return 0, nil
	}
	return copy(p, n.data[off:]), nil
}

// Segments implements [merge.Lower]; pages of zeros are holes.
func (m *Memory) Segments(ino merge.Ino) ([]merge.Segment, error) {
	n, err := m.node(ino)
	if err != nil {
		return nil, err
	}
	const page = 4096
	var out []merge.Segment
	for off := 0; off < len(n.data); off += page {
		part := n.data[off:min(off+page, len(n.data))]
		if !slices.ContainsFunc(part, func(b byte) bool { return b != 0 }) {
			continue
		}
		if k := len(out) - 1; k >= 0 && out[k].Off+out[k].Len == int64(off) {
			out[k].Len += int64(len(part))
		} else {
			out = append(out, merge.Segment{Off: int64(off), Len: int64(len(part))})
		}
	}
	return out, nil
}

// Links implements [merge.Lower].
func (m *Memory) Links(ino merge.Ino) ([]merge.Link, error) {
	n, err := m.node(ino)
	if err != nil {
		return nil, err
	}
	return n.links, nil
}

// Nodes implements [merge.Lower].
func (m *Memory) Nodes() uint64 { return uint64(len(m.nodes)) }

// DataSize implements [merge.Lower].
func (m *Memory) DataSize() (total uint64) {
	for _, n := range m.nodes {
		total += uint64(len(n.data))
	}
	return total
}
