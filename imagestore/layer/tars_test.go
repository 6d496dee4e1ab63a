package layer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"unio/imagestore/layer"
	"unio/unionfs/merge"
)

// headerOf reads an entry in shorthand: "d/" a folder, "f=text" a file,
// "l -> target" a symbolic link, "h => target" a hard link.
func headerOf(spec string) (*tar.Header, string) {
	h := &tar.Header{Format: tar.FormatPAX, Mode: 0o755}
	if name, target, ok := strings.Cut(spec, " -> "); ok {
		h.Name, h.Linkname, h.Typeflag = name, target, tar.TypeSymlink
		return h, ""
	}
	if name, target, ok := strings.Cut(spec, " => "); ok {
		h.Name, h.Linkname, h.Typeflag = name, target, tar.TypeLink
		return h, ""
	}
	if strings.HasSuffix(spec, "/") {
		h.Name, h.Typeflag = spec, tar.TypeDir
		return h, ""
	}
	name, text, _ := strings.Cut(spec, "=")
	h.Name, h.Typeflag, h.Size = name, tar.TypeReg, int64(len(text))
	return h, text
}

// tarOf makes a tar of entries in shorthand.
func tarOf(t testing.TB, specs ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, spec := range specs {
		h, text := headerOf(spec)
		writeEntry(t, w, h, text)
	}
	check(t, w.Close())
	return buf.Bytes()
}

// tarOfHeaders makes a tar of files without content.
func tarOfHeaders(t testing.TB, headers ...*tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		writeEntry(t, w, h, "")
	}
	check(t, w.Close())
	return buf.Bytes()
}

func writeEntry(t testing.TB, w *tar.Writer, h *tar.Header, text string) {
	t.Helper()
	if err := w.WriteHeader(h); err != nil {
		t.Fatalf("write %q: %v", h.Name, err)
	}
	_, err := io.WriteString(w, text)
	check(t, err)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func scan(tarBytes []byte) (*layer.Index, error) {
	return layer.Scan(context.Background(), bytes.NewReader(tarBytes), layer.Limits{})
}

func mustScan(t testing.TB, tarBytes []byte) *layer.Index {
	t.Helper()
	x, err := scan(tarBytes)
	check(t, err)
	return x
}

// throughFile writes an index or view to a file.
func throughFile(t testing.TB, what io.WriterTo) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.idx")
	f, err := os.Create(path)
	check(t, err)
	_, err = what.WriteTo(f)
	check(t, err)
	check(t, f.Close())
	return path
}

// buildView goes the whole way, through the files on disk.
func buildView(t testing.TB, tars ...[]byte) (*layer.View, error) {
	t.Helper()
	var layers []*layer.Index
	var contents []io.ReaderAt
	for _, b := range tars {
		scanned, err := scan(b)
		if err != nil {
			return nil, err
		}
		x, err := layer.OpenIndex(throughFile(t, scanned))
		check(t, err)
		t.Cleanup(func() { check(t, x.Close()) })
		layers = append(layers, x)
		contents = append(contents, bytes.NewReader(b))
	}
	data, err := layer.BuildView(layers)
	checkExtension(t, layers, contents, data, err)
	if err != nil {
		return nil, err
	}
	v, err := layer.OpenView(throughFile(t, data), contents)
	check(t, err)
	t.Cleanup(func() { check(t, v.Close()) })
	check(t, v.Verify())
	return v, nil
}

// checkExtension checks that the view of all layers but the last, extended by
// that one, is what BuildView came to, byte by byte, or fails as it did.
func checkExtension(t testing.TB, layers []*layer.Index, contents []io.ReaderAt, want *layer.ViewData, wantErr error) {
	t.Helper()
	last := len(layers) - 1
	if last < 0 {
		return
	}
	below, err := layer.BuildView(layers[:last])
	if err != nil {
		return
	}
	v, err := layer.OpenView(throughFile(t, below), contents[:last])
	check(t, err)
	defer v.Close()
	got, err := layer.ExtendView(v, layers[last])
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("ExtendView: %v, BuildView: %v", err, wantErr)
	}
	if err != nil {
		return
	}
	var a, b bytes.Buffer
	for buf, d := range map[*bytes.Buffer]*layer.ViewData{&a: want, &b: got} {
		_, err := d.WriteTo(buf)
		check(t, err)
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Fatalf("ExtendView gave other %d bytes than BuildView's %d", b.Len(), a.Len())
	}
}

func mustView(t testing.TB, tars ...[]byte) *layer.View {
	t.Helper()
	v, err := buildView(t, tars...)
	check(t, err)
	return v
}

// entriesOf lists a folder of a view.
func entriesOf(t testing.TB, v merge.Lower, dir merge.Ino) (list []merge.Entry) {
	t.Helper()
	check(t, v.ReadDir(dir, 0, func(e merge.Entry) bool { list = append(list, e); return true }))
	return list
}

// walkView yields all paths of a view but the root, folders before what is in
// them.
func walkView(t testing.TB, v merge.Lower) iter.Seq2[string, merge.Ino] {
	var walk func(dir merge.Ino, path string, yield func(string, merge.Ino) bool) bool
	walk = func(dir merge.Ino, path string, yield func(string, merge.Ino) bool) bool {
		for _, e := range entriesOf(t, v, dir) {
			if !yield(path+e.Name, e.Ino) {
				return false
			}
			if e.Type == unix.S_IFDIR && !walk(e.Ino, path+e.Name+"/", yield) {
				return false
			}
		}
		return true
	}
	return func(yield func(string, merge.Ino) bool) { walk(merge.RootIno, "", yield) }
}

// listing shows a view in the shorthand of headerOf; a file with n > 1 names
// has *n behind its content.
func listing(t testing.TB, v merge.Lower) string {
	t.Helper()
	var list []string
	for path, ino := range walkView(t, v) {
		a := attrOf(t, v, ino)
		switch {
		case a.IsDir():
			path += "/"
		case a.IsSymlink():
			target, err := v.Readlink(ino)
			check(t, err)
			path += " -> " + target
		case a.Size > 0:
			path += "=" + string(readAll(t, v, ino))
		}
		if !a.IsDir() && a.Nlink > 1 {
			path += fmt.Sprintf("*%d", a.Nlink)
		}
		list = append(list, path)
	}
	sort.Strings(list)
	return strings.Join(list, ", ")
}

func attrOf(t testing.TB, v merge.Lower, ino merge.Ino) merge.Attr {
	t.Helper()
	var a merge.Attr
	check(t, v.Attr(ino, &a))
	return a
}

func readAll(t testing.TB, v merge.Lower, ino merge.Ino) []byte {
	t.Helper()
	p := make([]byte, attrOf(t, v, ino).Size)
	n, err := v.ReadAt(ino, p, 0)
	check(t, err)
	return p[:n]
}

// find walks to a path by Lookup.
func find(t testing.TB, v merge.Lower, path string) merge.Ino {
	t.Helper()
	ino := merge.RootIno
	for name := range strings.SplitSeq(path, "/") {
		var err error
		if ino, err = v.Lookup(ino, name); err != nil {
			t.Fatalf("look up %q of %q: %v", name, path, err)
		}
	}
	return ino
}

// permutations yields all orders of list.
func permutations(list []string) iter.Seq[[]string] {
	var permute func(k int, yield func([]string) bool) bool
	permute = func(k int, yield func([]string) bool) bool {
		if k >= len(list)-1 {
			return yield(list)
		}
		for i := k; i < len(list); i++ {
			list[k], list[i] = list[i], list[k]
			more := permute(k+1, yield)
			list[k], list[i] = list[i], list[k]
			if !more {
				return false
			}
		}
		return true
	}
	return func(yield func([]string) bool) { permute(0, yield) }
}
