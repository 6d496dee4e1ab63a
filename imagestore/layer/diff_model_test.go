package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"unio/unionfs/merge"
	"unio/whiteout"
)

// model is a tree by path, "/" for its root. Names of one file share an item.
type model map[string]*item

// item is everything about a file that a user can see, but its names.
type item struct {
	mode, uid, gid uint32
	rdev           uint64
	size           int64
	mtime          string
	target         string
	xattrs         string
	sum            string // of the data
}

// capture reads a folder of the host, a mount for instance.
func capture(t testing.TB, dir string) model {
	t.Helper()
	m := make(model)
	seen := make(map[fileID]*item)
	must(t, filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		must(t, unix.Lstat(p, &st))
		rel, _ := filepath.Rel(dir, p)
		key := path.Join("/", rel)
		id := fileID{st.Dev, st.Ino}
		if it := seen[id]; it != nil {
			m[key] = it
			return nil
		}
		it := captureItem(t, p, &st)
		if st.Mode&unix.S_IFMT == unix.S_IFSOCK {
			return nil // no tar holds it
		}
		m[key] = it
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			seen[id] = it
		}
		return nil
	}))
	return m
}

func captureItem(t testing.TB, p string, st *unix.Stat_t) *item {
	t.Helper()
	a := statAttr(st)
	it := &item{
		mode: a.Mode, uid: a.UID, gid: a.GID, rdev: a.Rdev,
		mtime: fmt.Sprintf("%d.%09d", a.Sec, a.Nsec), xattrs: fmt.Sprintf("%q", hostXattrs(t, p)),
	}
	if a.IsSymlink() {
		it.target, _ = os.Readlink(p)
	}
	if a.IsRegular() {
		f, err := os.Open(p)
		must(t, err)
		defer f.Close()
		it.readData(t, f)
	}
	return it
}

func (it *item) readData(t testing.TB, r io.Reader) {
	t.Helper()
	h := sha256.New()
	n, err := io.Copy(h, r)
	must(t, err)
	it.size, it.sum = n, fmt.Sprintf("%x", h.Sum(nil)[:8])
}

// readOrder is how a reader treats whiteouts.
type readOrder int

const (
	inOrder        readOrder = iota // each where it stands, as umoci and docker do
	whiteoutsFirst                  // all of them before anything else
	asOverlay                       // unpacked alone, then laid over the lower, as overlay drivers do
)

var readOrders = map[string]readOrder{"in order": inOrder, "whiteouts first": whiteoutsFirst, "as overlay": asOverlay}

// tarItem is one entry of a tar with its data.
type tarItem struct {
	hdr  *tar.Header
	item *item
}

func readTar(t testing.TB, b []byte) []tarItem {
	t.Helper()
	var list []tarItem
	for tr := tar.NewReader(bytes.NewReader(b)); ; {
		hdr, err := tr.Next()
		if err == io.EOF {
			return list
		}
		must(t, err)
		list = append(list, tarItem{hdr, tarEntry(t, hdr, tr)})
	}
}

func tarEntry(t testing.TB, hdr *tar.Header, r io.Reader) *item {
	t.Helper()
	it := &item{mode: uint32(hdr.Mode), uid: uint32(hdr.Uid), gid: uint32(hdr.Gid)}
	it.mtime = fmt.Sprintf("%d.%09d", hdr.ModTime.Unix(), hdr.ModTime.Nanosecond())
	var xattrs []xattrPair
	for _, k := range slices.Sorted(maps.Keys(hdr.PAXRecords)) {
		if name, ok := strings.CutPrefix(k, xattrRecord); ok {
			xattrs = append(xattrs, xattrPair{name, hdr.PAXRecords[k]})
		}
	}
	it.xattrs = fmt.Sprintf("%q", xattrs)
	switch hdr.Typeflag {
	case tar.TypeDir:
		it.mode |= unix.S_IFDIR
	case tar.TypeSymlink:
		it.mode |= unix.S_IFLNK
		it.target = hdr.Linkname
	case tar.TypeChar, tar.TypeBlock:
		it.mode |= map[byte]uint32{tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK}[hdr.Typeflag]
		it.rdev = unix.Mkdev(uint32(hdr.Devmajor), uint32(hdr.Devminor))
	case tar.TypeFifo:
		it.mode |= unix.S_IFIFO
	default:
		it.mode |= unix.S_IFREG
		it.readData(t, r)
	}
	return it
}

// apply returns lower with a layer tar applied in one of three ways.
func apply(t testing.TB, lower model, layerTar []byte, order readOrder) model {
	t.Helper()
	m := maps.Clone(lower)
	list := readTar(t, layerTar)
	if order == whiteoutsFirst {
		sort.SliceStable(list, func(i, j int) bool { return isWhiteout(list[i]) && !isWhiteout(list[j]) })
	}
	if order == asOverlay {
		return m.lay(t, list)
	}
	for _, e := range list {
		m.put(t, e)
	}
	return m
}

func isWhiteout(e tarItem) bool { return whiteout.IsReserved(path.Base(e.hdr.Name)) }

func (m model) put(t testing.TB, e tarItem) {
	t.Helper()
	name := path.Join("/", e.hdr.Name)
	dir, base := path.Split(name)
	if _, ok := m[path.Clean(dir)]; !ok {
		t.Errorf("%s stands before its parent", name)
	}
	if kind, hides, err := whiteout.Parse(base); kind == whiteout.File {
		if _, ok := m[path.Join(dir, hides)]; !ok {
			t.Errorf("whiteout of %s%s, which is not there", dir, hides)
		}
		m.remove(path.Join(dir, hides))
		return
	} else if kind != whiteout.None || err != nil {
		t.Fatalf("unexpected whiteout %s", name)
	}
	if old := m[name]; old != nil && (old.mode&unix.S_IFMT != unix.S_IFDIR || e.item.mode&unix.S_IFMT != unix.S_IFDIR) {
		m.remove(name)
	}
	if e.hdr.Typeflag != tar.TypeLink {
		m[name] = e.item
		return
	}
	first := m[path.Join("/", e.hdr.Linkname)]
	if first == nil {
		t.Fatalf("link %s stands before its target %s", name, e.hdr.Linkname)
	}
	m[name] = first
}

func (m model) remove(name string) {
	for p := range m {
		if p == name || strings.HasPrefix(p, name+"/") {
			delete(m, p)
		}
	}
}

// lay unpacks the layer into a folder of its own, where whiteouts are devices
// and nothing is opaque, and lays that over m.
func (m model) lay(t testing.TB, list []tarItem) model {
	t.Helper()
	layer, hidden := make(model), make(map[string]bool)
	for _, e := range list {
		name := path.Join("/", e.hdr.Name)
		dir, base := path.Split(name)
		if kind, hides, _ := whiteout.Parse(base); kind == whiteout.File {
			hidden[path.Join(dir, hides)] = true
			continue
		}
		if hidden[name] {
			t.Errorf("%s is hidden and made again in one layer", name)
		}
		if e.hdr.Typeflag == tar.TypeLink {
			e.item = layer[path.Join("/", e.hdr.Linkname)]
		}
		if e.item == nil {
			t.Fatalf("link %s to what is not in the layer: %s", name, e.hdr.Linkname)
		}
		layer[name] = e.item
	}
	merged := maps.Clone(m)
	for name := range hidden {
		merged.remove(name)
	}
	for name, it := range layer {
		if it.mode&unix.S_IFMT != unix.S_IFDIR || merged[name] == nil || merged[name].mode&unix.S_IFMT != unix.S_IFDIR {
			if it.mode&unix.S_IFMT == unix.S_IFDIR {
				delete(merged, name)
			} else {
				merged.remove(name)
			}
		}
	}
	maps.Copy(merged, layer)
	return merged
}

// lines describes a model, with link groups named by their first path.
func (m model) lines() []string {
	first := make(map[*item]string)
	var list []string
	for _, p := range slices.Sorted(maps.Keys(m)) {
		it := m[p]
		line := fmt.Sprintf("%s %o %d:%d dev %#x size %d time %s -> %q xattrs %s data %s",
			p, it.mode, it.uid, it.gid, it.rdev, it.size, it.mtime, it.target, it.xattrs, it.sum)
		if f, ok := first[it]; ok {
			line += " link of " + f
		} else {
			first[it] = p
		}
		list = append(list, line)
	}
	return list
}

// compare reports every path in which two trees differ.
func compare(t testing.TB, what string, got, want model) {
	t.Helper()
	g, w := got.lines(), want.lines()
	for _, line := range without(g, w) {
		t.Errorf("%s: got  %s", what, line)
	}
	for _, line := range without(w, g) {
		t.Errorf("%s: want %s", what, line)
	}
}

// without returns the lines of a that are not in b.
func without(a, b []string) []string {
	in := make(map[string]bool, len(b))
	for _, s := range b {
		in[s] = true
	}
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return in[s] })
}

// layerOf returns diff and layer tar of an upper, written twice to see that
// the bytes are the same.
func layerOf(t testing.TB, up Upper, lower merge.Lower) (*Changes, []byte) {
	t.Helper()
	c, err := Diff(context.Background(), up, lower)
	must(t, err)
	var bufs [2]bytes.Buffer
	must(t, c.WriteTar(context.Background(), &bufs[0]))
	again, err := Diff(context.Background(), up, lower)
	must(t, err)
	must(t, again.WriteTar(context.Background(), &bufs[1]))
	if !bytes.Equal(bufs[0].Bytes(), bufs[1].Bytes()) {
		t.Error("the same upper gave different bytes")
	}
	if c.Empty() != (len(readTar(t, bufs[0].Bytes())) == 0) && len(c.List()) == 0 {
		t.Errorf("Empty() = %v, but the tar says otherwise", c.Empty())
	}
	return c, bufs[0].Bytes()
}

// checkLayer applies the layer of an upper in every way, and the flat export,
// and compares with what should be there.
func checkLayer(t testing.TB, up Upper, lowerDir string, want model) *Changes {
	t.Helper()
	lower := newHostLower(t, lowerDir)
	c, layerTar := layerOf(t, up, lower)
	below := capture(t, lowerDir)
	for name, order := range readOrders {
		got := apply(t, below, layerTar, order)
		if c.root.kind == 0 && len(c.root.kids) == 0 {
			got["/"] = want["/"] // a time of the root alone is no change
		}
		compare(t, name, got, want)
	}
	var flat bytes.Buffer
	must(t, WriteMerged(context.Background(), up, lower, &flat))
	compare(t, "export", apply(t, model{"/": nil}, flat.Bytes(), inOrder), want)
	checkView(t, lower, layerTar, want)
	return c
}

// checkView stacks the layer on the lower as a layer of its own and compares
// the view of both with what should be there.
func checkView(t testing.TB, lower merge.Lower, layerTar []byte, want model) {
	t.Helper()
	var base bytes.Buffer
	must(t, WriteTree(context.Background(), lower, &base))
	v := viewOf(t, base.Bytes(), layerTar)
	got := captureLower(t, v)
	if len(readTar(t, layerTar)) == 0 {
		got["/"] = want["/"] // a time of the root alone is no change
	}
	compare(t, "view", got, want)
}

// viewOf opens the view of some layers, the lowest first.
func viewOf(t testing.TB, tars ...[]byte) *View {
	t.Helper()
	var layers []*Index
	var contents []io.ReaderAt
	for _, b := range tars {
		x, err := Scan(context.Background(), bytes.NewReader(b), Limits{})
		must(t, err)
		layers, contents = append(layers, x), append(contents, bytes.NewReader(b))
	}
	d, err := BuildView(layers)
	must(t, err)
	v, err := d.Open(contents)
	must(t, err)
	t.Cleanup(func() { must(t, v.Close()) })
	return v
}

// captureLower reads a whole tree through the contract.
func captureLower(t testing.TB, l merge.Lower) model {
	t.Helper()
	m, seen := make(model), make(map[merge.Ino]*item)
	var add func(path string, ino merge.Ino)
	add = func(p string, ino merge.Ino) {
		it := seen[ino]
		if it == nil {
			it = lowerItem(t, l, ino)
		}
		m[p] = it
		if it.mode&unix.S_IFMT != unix.S_IFDIR {
			seen[ino] = it
			return
		}
		must(t, l.ReadDir(ino, 0, func(e merge.Entry) bool { add(path.Join(p, e.Name), e.Ino); return true }))
	}
	add("/", merge.RootIno)
	return m
}

func lowerItem(t testing.TB, l merge.Lower, ino merge.Ino) *item {
	t.Helper()
	var a merge.Attr
	must(t, l.Attr(ino, &a))
	w := &mergeWalk{sources: sources{lower: l}}
	xattrs, err := w.lowerXattrs(ino)
	must(t, err)
	it := &item{
		mode: a.Mode, uid: a.UID, gid: a.GID, rdev: a.Rdev,
		mtime: fmt.Sprintf("%d.%09d", a.Sec, a.Nsec), xattrs: fmt.Sprintf("%q", xattrs),
	}
	if a.IsSymlink() {
		it.target, err = l.Readlink(ino)
		must(t, err)
	}
	if a.IsRegular() {
		data := make([]byte, a.Size)
		_, err := l.ReadAt(ino, data, 0)
		must(t, err)
		it.readData(t, bytes.NewReader(data))
	}
	return it
}

// docker returns the lines of docker diff.
func (c *Changes) docker() string {
	var s []string
	for _, ch := range c.List() {
		s = append(s, ch.String())
	}
	return strings.Join(s, "\n")
}

// needRoot skips a test that makes devices, owners or mounts.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make devices, owners and mounts")
	}
}
