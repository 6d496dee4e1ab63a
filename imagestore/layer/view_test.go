package layer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"unio/imagestore/layer"
	"unio/unionfs/merge"
	"unio/unionfs/merge/lowertest"
)

// Nodes are numbered folder by folder, and the same layers give the same
// bytes whatever the order of the tar.
func TestViewIsDeterministic(t *testing.T) {
	lower := tarOf(t, "a/x=1", "a/y/z=2", "b=3")
	var first []byte
	for order := range permutations([]string{"b => a/x", "c/d=4", "a/y/.wh.z", "a/w=5"}) {
		d, err := layer.BuildView([]*layer.Index{mustScan(t, lower), mustScan(t, tarOf(t, order...))})
		check(t, err)
		v, err := d.Open([]io.ReaderAt{bytes.NewReader(lower), bytes.NewReader(nil)})
		check(t, err)
		var numbers []string
		for path, ino := range walkView(t, v) {
			numbers = append(numbers, fmt.Sprint(path, " ", ino))
		}
		slices.Sort(numbers)
		// The root lists a, b (the first name of a/x) and c; then comes what is
		// in a, then what is in c.
		if got := strings.Join(numbers, ", "); got != "a 2, a/w 5, a/x 3, a/y 6, b 3, c 4, c/d 7" {
			t.Fatalf("numbers %s", got)
		}
		var buf bytes.Buffer
		_, err = d.WriteTo(&buf)
		check(t, err)
		// Extents name places in the tar, which do depend on the order.
		if first == nil {
			first = buf.Bytes()
		}
		if len(first) != buf.Len() {
			t.Fatalf("view of %d bytes, before of %d", buf.Len(), len(first))
		}
	}
}

func TestViewLinks(t *testing.T) {
	v := mustView(t, tarOf(t, "a/f=1", "b/", "b/g => a/f", "h => a/f", "s=2"))
	for path, want := range map[string]string{
		"a/f": "/h a/f b/g", "h": "/h a/f b/g", "s": "/s", "b": "/b",
	} {
		links, err := v.Links(find(t, v, path))
		check(t, err)
		var got []string
		for _, l := range links {
			dir := ""
			if l.Dir != merge.RootIno {
				up, err := v.Links(l.Dir)
				check(t, err)
				dir = up[0].Name
			}
			got = append(got, dir+"/"+l.Name)
		}
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("names of %s: %q, want %s", path, got, want)
		}
	}
	if links, err := v.Links(merge.RootIno); len(links) != 0 || err != nil {
		t.Errorf("names of the root: %v, %v", links, err)
	}
	for path, want := range map[string]uint32{"a/f": 3, "s": 1, "a": 2} {
		if a := attrOf(t, v, find(t, v, path)); a.Nlink != want {
			t.Errorf("%s: nlink %d, want %d", path, a.Nlink, want)
		}
	}
	if a := attrOf(t, v, merge.RootIno); a.Nlink != 4 {
		t.Errorf("root: nlink %d", a.Nlink)
	}
}

// TestViewConforms runs what every lower is held to over a view of layers with
// whatever a layer can hold.
func TestViewConforms(t *testing.T) {
	tars := [][]byte{
		tarOf(t, "a/b/c=1", "a/f=one", "h => a/f", "l -> a/f", "gone/x=1", "e/"),
		tarOf(t, "a/.wh.b", "a/n=2", "a/h2 => a/f", "e/.wh..wh..opq", ".wh.gone"),
	}
	for _, c := range sparseTars() {
		tars = append(tars, c.tar)
	}
	for i := range tars[2:] {
		lowertest.Conform(t, mustView(t, tars[0], tars[1], tars[2+i]))
	}
}

func TestViewErrors(t *testing.T) {
	v := mustView(t, tarOf(t, "d/", "f=1", "l -> f"))
	d, f, l := find(t, v, "d"), find(t, v, "f"), find(t, v, "l")
	none := func(merge.Entry) bool { return true }
	for _, c := range []struct {
		name string
		err  error
		want error
	}{
		{"attributes of 0", v.Attr(0, new(merge.Attr)), merge.ErrStale},
		{"attributes of the next", v.Attr(merge.Ino(v.Nodes()+1), new(merge.Attr)), merge.ErrStale},
		{"attributes of a huge number", v.Attr(1<<63, new(merge.Attr)), merge.ErrStale},
		{"list a file", v.ReadDir(f, 0, none), unix.ENOTDIR},
		{"list from far behind", v.ReadDir(d, 1<<63, none), nil},
		{"look up in a file", second(v.Lookup(f, "x")), unix.ENOTDIR},
		{"look up nothing", second(v.Lookup(d, "x")), merge.ErrNotExist},
		{"look up dot", second(v.Lookup(d, ".")), merge.ErrNotExist},
		{"read link of a file", second(v.Readlink(f)), unix.EINVAL},
		{"read a folder", second(v.ReadAt(d, make([]byte, 1), 0)), unix.EISDIR},
		{"read a link", second(v.ReadAt(l, make([]byte, 1), 0)), unix.EINVAL},
		{"read before the start", second(v.ReadAt(f, make([]byte, 1), -1)), unix.EINVAL},
		{"segments of a folder", second(v.Segments(d)), unix.EISDIR},
		{"no attribute", second(v.Xattr(f, "user.x")), merge.ErrNoXattr},
	} {
		if !errors.Is(c.err, c.want) || c.want == nil && c.err != nil {
			t.Errorf("%s: %v, want %v", c.name, c.err, c.want)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// Reading agrees with the plain content at every offset and length.
func TestViewReadAt(t *testing.T) {
	for _, c := range sparseTars() {
		v := mustView(t, c.tar)
		ino := find(t, v, "f")
		whole := []byte(strings.ReplaceAll(c.want, "-", "\x00"))
		for off := range len(whole) + 2 {
			for n := range len(whole) + 3 {
				p := bytes.Repeat([]byte("?"), n)
				want := whole[min(off, len(whole)):min(off+n, len(whole))]
				got, err := v.ReadAt(ino, p, int64(off))
				if err != nil || !bytes.Equal(p[:got], want) {
					t.Fatalf("%s: %d bytes at %d: %q, %v; want %q", c.name, n, off, p[:got], err, want)
				}
			}
		}
	}
}

// brokenTar fails as a disk does.
type brokenTar struct{ io.Reader }

func (b brokenTar) ReadAt([]byte, int64) (int, error) { return 0, unix.EIO }

func TestViewReadErrors(t *testing.T) {
	b := tarOf(t, "f=content")
	d, err := layer.BuildView([]*layer.Index{mustScan(t, b)})
	check(t, err)
	for _, c := range []struct {
		name    string
		content io.ReaderAt
		want    error
	}{
		{"short tar", bytes.NewReader(b[:514]), merge.ErrCorrupt},
		{"no tar", bytes.NewReader(nil), merge.ErrCorrupt},
		{"disk error", brokenTar{iotest.ErrReader(nil)}, unix.EIO},
	} {
		v, err := d.Open([]io.ReaderAt{c.content})
		check(t, err)
		if _, err := v.ReadAt(2, make([]byte, 7), 0); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// ReadDir goes on where it stopped.
func TestViewReadDirCookies(t *testing.T) {
	v := mustView(t, tarOf(t, "a", "b", "c/", "d", "e"))
	var names []string
	for cookie, more := uint64(0), true; more; {
		more = false
		check(t, v.ReadDir(merge.RootIno, cookie, func(e merge.Entry) bool {
			names, cookie, more = append(names, e.Name), e.Cookie, true
			return len(names)%2 == 1
		}))
	}
	if got := strings.Join(names, ""); got != "abcde" {
		t.Errorf("names %s", got)
	}
}

func TestViewAllocatesNothing(t *testing.T) {
	specs := []string{"f=content", "l -> f"}
	for i := range 1000 {
		specs = append(specs, fmt.Sprintf("d/f%04d=x", i))
	}
	v := mustView(t, tarOf(t, specs...))
	d, f, l := find(t, v, "d"), find(t, v, "f"), find(t, v, "l")
	var a merge.Attr
	buf := make([]byte, 100)
	count := 0
	each := func(merge.Entry) bool { count++; return true }
	for name, call := range map[string]func(){
		"Lookup":      func() { _, _ = v.Lookup(d, "f0777") },
		"Lookup none": func() { _, _ = v.Lookup(d, "none") },
		"Attr":        func() { _ = v.Attr(f, &a) },
		"ReadDir":     func() { _ = v.ReadDir(d, 0, each) },
		"ReadAt":      func() { _, _ = v.ReadAt(f, buf, 2) },
		"Readlink":    func() { _, _ = v.Readlink(l) },
		"Xattr":       func() { _, _ = v.Xattr(f, "security.capability") },
	} {
		if n := testing.AllocsPerRun(100, call); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestViewInParallel(t *testing.T) {
	var specs []string
	for i := range 2000 {
		specs = append(specs, fmt.Sprintf("d%d/f%04d=content %d", i%7, i, i))
	}
	v := mustView(t, tarOf(t, specs...))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 2000 {
				ino := find(t, v, fmt.Sprintf("d%d/f%04d", i%7, i))
				if got := string(readAll(t, v, ino)); got != fmt.Sprintf("content %d", i) {
					t.Errorf("file %d: %q", i, got)
				}
			}
		})
	}
	wg.Wait()
}

// Offsets beyond 4 GiB in the tar, without such a tar.
func TestViewBeyond4GiBOfTar(t *testing.T) {
	const gap = 5 << 30
	head := rawHeader{name: "large", typ: '0', magic: ustar, size: octal(gap)}.block()
	tail := archive(rawHeader{name: "f", typ: '0', magic: ustar}.with("content"))
	r := io.MultiReader(bytes.NewReader(head), io.LimitReader(zeros{}, gap), bytes.NewReader(tail))
	x, err := layer.Scan(context.Background(), r, layer.Limits{})
	check(t, err)
	d, err := layer.BuildView([]*layer.Index{x})
	check(t, err)
	v, err := d.Open([]io.ReaderAt{shifted{bytes.NewReader(tail), gap + 512}})
	check(t, err)
	if got := readAll(t, v, find(t, v, "f")); string(got) != "content" {
		t.Errorf("content %q", got)
	}
	if x.TarSize() != gap+512+int64(len(tail)) || v.DataSize() != gap+7 {
		t.Errorf("tar of %d bytes, %d of content", x.TarSize(), v.DataSize())
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// shifted is the end of a tar, from base on.
type shifted struct {
	io.ReaderAt
	base int64
}

func (s shifted) ReadAt(p []byte, off int64) (int, error) { return s.ReaderAt.ReadAt(p, off-s.base) }

func TestChainID(t *testing.T) {
	a, b := digest.FromString("a"), digest.FromString("b")
	if got := layer.ChainID([]digest.Digest{a}); got != a {
		t.Errorf("of one layer: %s", got)
	}
	if got, want := layer.ChainID([]digest.Digest{a, b}), digest.FromString(a.String()+" "+b.String()); got != want {
		t.Errorf("of two: %s, want %s", got, want)
	}
	if got := layer.ChainID(nil); got != "" {
		t.Errorf("of none: %q", got)
	}
}

// benchLayer is a layer of n files in folders of 100.
func benchLayer(b *testing.B, n, size int) []byte {
	b.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	text := strings.Repeat("x", size)
	for i := range n {
		if i%100 == 0 {
			writeEntry(b, w, &tar.Header{Name: fmt.Sprintf("usr/share/doc/package-%05d/", i/100), Typeflag: tar.TypeDir, Mode: 0o755}, "")
		}
		writeEntry(b, w, &tar.Header{Name: fmt.Sprintf("usr/share/doc/package-%05d/file-%05d.gz", i/100, i), Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(size)}, text)
	}
	check(b, w.Close())
	return buf.Bytes()
}

func BenchmarkScan(b *testing.B) {
	tarBytes := benchLayer(b, 25_000, 2000)
	b.SetBytes(int64(len(tarBytes)))
	b.ReportAllocs()
	for b.Loop() {
		mustScan(b, tarBytes)
	}
}

func BenchmarkBuildView(b *testing.B) {
	for _, n := range []int{25_000, 250_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x := mustScan(b, benchLayer(b, n, 1))
			b.ReportAllocs()
			for b.Loop() {
				_, err := layer.BuildView([]*layer.Index{x})
				check(b, err)
			}
		})
	}
}

func benchView(b *testing.B, n int) (string, []io.ReaderAt) {
	b.Helper()
	d, err := layer.BuildView([]*layer.Index{mustScan(b, benchLayer(b, n, 1))})
	check(b, err)
	return throughFile(b, d), []io.ReaderAt{bytes.NewReader(nil)}
}

func BenchmarkOpenView(b *testing.B) {
	for _, n := range []int{25_000, 250_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			path, contents := benchView(b, n)
			b.ReportAllocs()
			for b.Loop() {
				v, err := layer.OpenView(path, contents)
				check(b, err)
				check(b, v.Close())
			}
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	path, contents := benchView(b, 25_000)
	v, err := layer.OpenView(path, contents)
	check(b, err)
	defer v.Close()
	dir := find(b, v, "usr/share/doc/package-00123")
	var a merge.Attr
	b.ReportAllocs()
	for b.Loop() {
		ino, err := v.Lookup(dir, "file-12345.gz")
		if err != nil || v.Attr(ino, &a) != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadDir(b *testing.B) {
	path, contents := benchView(b, 25_000)
	v, err := layer.OpenView(path, contents)
	check(b, err)
	defer v.Close()
	dir := find(b, v, "usr/share/doc/package-00123")
	b.ReportAllocs()
	for b.Loop() {
		check(b, v.ReadDir(dir, 0, func(merge.Entry) bool { return true }))
	}
}
