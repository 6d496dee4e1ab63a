package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"unio/unionfs/merge"
)

// sampleIndexTar is a small layer with something of everything.
func sampleIndexTar(t testing.TB) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range []*tar.Header{
		{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "d/f", Typeflag: tar.TypeReg, Size: 5, PAXRecords: map[string]string{"SCHILY.xattr.user.a": "1", "SCHILY.xattr.user.b": "2"}},
		{Name: "d/g", Typeflag: tar.TypeLink, Linkname: "d/f"},
		{Name: "e/l", Typeflag: tar.TypeSymlink, Linkname: "../d"},
		{Name: "e/.wh.x", Typeflag: tar.TypeReg},
		{Name: "d/.wh..wh..opq", Typeflag: tar.TypeReg},
	} {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, h.Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func sampleIndex(t testing.TB) *Index {
	t.Helper()
	x, err := Scan(context.Background(), bytes.NewReader(sampleIndexTar(t)), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func sampleView(t testing.TB) []byte {
	t.Helper()
	d, err := BuildView([]*Index{sampleIndex(t)})
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(d.file.data)
}

// resum gives a damaged file right checksums, so that what is behind them is
// reached. Where not even the layout is left it does nothing.
func resum(data []byte) {
	if len(data) < headerSize {
		return
	}
	le := binary.LittleEndian
	sumsAt := le.Uint64(data[hdrSums:])
	if sumsAt < headerSize || sumsAt > uint64(len(data)) {
		return
	}
	sums := data[sumsAt:]
	for i := uint64(0); 4*i+4 <= uint64(len(sums)) && headerSize+i*blockSize < sumsAt; i++ {
		lo := headerSize + i*blockSize
		le.PutUint32(sums[4*i:], checksum(data[lo:min(lo+blockSize, sumsAt)]))
	}
	le.PutUint64(data[hdrSize:], uint64(len(data)))
	le.PutUint32(data[hdrSumsSum:], checksum(sums))
	le.PutUint32(data[hdrSum:], checksum(data[:hdrSum]))
}

// use calls everything an index offers.
func (x *Index) use() {
	for e := range x.Entries() {
		x.Find(e.Path)
	}
	_ = x.DataSize()
}

// useView calls everything a view offers, for every number it may hold.
func useView(t testing.TB, v *View) {
	t.Helper()
	buf := make([]byte, 100)
	for ino := merge.Ino(0); uint64(ino) <= min(v.Nodes(), 1000)+1; ino++ {
		var a merge.Attr
		var names []string
		_, errLink := v.Readlink(ino)
		_, errSegments := v.Segments(ino)
		_, errLinks := v.Links(ino)
		n, errRead := v.ReadAt(ino, buf, 3)
		errDir := v.ReadDir(ino, 0, func(e merge.Entry) bool { names = append(names, e.Name); return len(names) < 1000 })
		errXattrs := v.Xattrs(ino, func(name string, _ []byte) bool { _, _ = v.Xattr(ino, name); return true })
		for _, name := range names {
			_, _ = v.Lookup(ino, name)
		}
		if n < 0 || n > len(buf) {
			t.Fatalf("read %d bytes", n)
		}
		_ = errors.Join(v.Attr(ino, &a), errLink, errSegments, errLinks, errRead, errDir, errXattrs)
	}
	_ = v.Verify()
}

// Every byte of an index counts: none can change without being noticed.
func TestDamagedIndex(t *testing.T) {
	good := sampleIndex(t).file.data
	for i := range good {
		data := bytes.Clone(good)
		data[i] ^= 0x10
		if _, err := parseIndex(data); !errors.Is(err, ErrBadIndex) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	for n := range good {
		if _, err := parseIndex(good[:n:n]); !errors.Is(err, ErrBadIndex) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
}

// With the checksums right again, no change makes an index read elsewhere.
func TestForgedIndex(t *testing.T) {
	good := sampleIndex(t).file.data
	for i := range good {
		for _, bit := range []byte{0x01, 0x80, 0xff} {
			data := bytes.Clone(good)
			data[i] ^= bit
			resum(data)
			if x, err := parseIndex(data); err == nil {
				x.use()
				_, _ = BuildView([]*Index{x})
			} else if !errors.Is(err, ErrBadIndex) {
				t.Fatalf("byte %d: %v", i, err)
			}
		}
	}
}

func TestDamagedView(t *testing.T) {
	good := sampleView(t)
	contents := []io.ReaderAt{bytes.NewReader(sampleIndexTar(t))}
	for i := range good {
		data := bytes.Clone(good)
		data[i] ^= 0x10
		v, err := parseView(data, contents)
		if err == nil {
			useView(t, v)
			err = v.Verify()
		}
		if !errors.Is(err, ErrBadIndex) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
}

func TestForgedView(t *testing.T) {
	good := sampleView(t)
	contents := []io.ReaderAt{bytes.NewReader(sampleIndexTar(t))}
	for i := range good {
		for _, bit := range []byte{0x01, 0x80, 0xff} {
			data := bytes.Clone(good)
			data[i] ^= bit
			resum(data)
			if v, err := parseView(data, contents); err == nil {
				useView(t, v)
			} else if !errors.Is(err, ErrBadIndex) {
				t.Fatalf("byte %d: %v", i, err)
			}
		}
	}
}

func FuzzOpenIndex(f *testing.F) {
	f.Add(bytes.Clone(sampleIndex(f).file.data))
	f.Fuzz(func(t *testing.T, data []byte) {
		data = bytes.Clone(data)
		resum(data)
		x, err := parseIndex(data)
		if err != nil {
			if !errors.Is(err, ErrBadIndex) {
				t.Fatal(err)
			}
			return
		}
		x.use()
		if d, err := BuildView([]*Index{x}); err == nil {
			if v, err := d.Open([]io.ReaderAt{bytes.NewReader(nil)}); err != nil {
				t.Fatal(err)
			} else if err := v.Verify(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzOpenView(f *testing.F) {
	f.Add(sampleView(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		data = bytes.Clone(data)
		resum(data)
		v, err := parseView(data, []io.ReaderAt{bytes.NewReader(make([]byte, 4096))})
		if err != nil {
			if !errors.Is(err, ErrBadIndex) {
				t.Fatal(err)
			}
			return
		}
		useView(t, v)
	})
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	index, view := sampleIndex(t).file.data, sampleView(t)
	older := bytes.Clone(index)
	binary.LittleEndian.PutUint32(older[hdrVersion:], formatVersion+1)
	resum(older)
	for _, c := range []struct {
		name string
		data []byte
		err  error
	}{
		{"missing", nil, os.ErrNotExist},
		{"empty", []byte{}, ErrBadIndex},
		{"short", index[:headerSize-1], ErrBadIndex},
		{"text", bytes.Repeat([]byte("no index "), 100), ErrBadIndex},
		{"view", view, ErrBadIndex},
		{"another version", older, ErrBadIndex},
	} {
		path := filepath.Join(dir, c.name)
		if c.data != nil {
			if err := os.WriteFile(path, c.data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := OpenIndex(path); !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", c.name, err, c.err)
		}
	}
	path := filepath.Join(dir, "view")
	for n, want := range map[int]error{0: ErrBadIndex, 1: nil, 2: ErrBadIndex} {
		v, err := OpenView(path, make([]io.ReaderAt, n))
		if !errors.Is(err, want) {
			t.Errorf("%d tars for a view of one layer: %v", n, err)
		}
		if err == nil {
			_ = v.Close()
		}
	}
}

// A file that the disk can no longer give is an error, not a crash.
func TestFileCutUnderMapping(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "view")
	if err := os.WriteFile(path, sampleView(t), 0o600); err != nil {
		t.Fatal(err)
	}
	v, err := OpenView(path, make([]io.ReaderAt, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	indexPath := filepath.Join(dir, "index")
	if err := os.WriteFile(indexPath, sampleIndex(t).file.data, 0o600); err != nil {
		t.Fatal(err)
	}
	x, err := OpenIndex(indexPath)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	for _, p := range []string{path, indexPath} {
		if err := os.Truncate(p, 0); err != nil {
			t.Fatal(err)
		}
	}
	var a merge.Attr
	_, errLookup := v.Lookup(1, "d")
	_, errRead := v.ReadAt(3, make([]byte, 5), 0)
	_, errLinks := v.Links(2)
	_, errBuild := BuildView([]*Index{x})
	for i, err := range []error{v.Attr(1, &a), errLookup, errRead, errLinks, v.ReadDir(1, 0, func(merge.Entry) bool { return true }), v.Verify(), errBuild} {
		if !errors.Is(err, merge.ErrCorrupt) || !errors.Is(err, ErrBadIndex) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if n := len(collect(x)); n != 0 {
		t.Errorf("%d entries of a file that is gone", n)
	}
	if err := x.Err(); !errors.Is(err, ErrBadIndex) {
		t.Errorf("error of the index: %v", err)
	}
}

func collect(x *Index) (list []Entry) {
	for e := range x.Entries() {
		list = append(list, e)
	}
	return list
}

// A panic of the caller's own goes through.
func TestPanicOfTheCaller(t *testing.T) {
	v, err := parseView(sampleView(t), make([]io.ReaderAt, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if r := fmt.Sprint(recover()); r != "mine" {
			t.Errorf("recovered %q", r)
		}
	}()
	_ = v.ReadDir(1, 0, func(merge.Entry) bool { panic("mine") })
}

func TestReadDataSize(t *testing.T) {
	x := sampleIndex(t)
	var buf bytes.Buffer
	_, err := x.WriteTo(&buf)
	must(t, err)
	path := filepath.Join(t.TempDir(), "x.idx")
	for _, c := range []struct {
		data []byte
		ok   bool
	}{
		{buf.Bytes(), true},
		{buf.Bytes()[:buf.Len()-1], false},
		{buf.Bytes()[:100], false},
		{nil, false},
		{append([]byte("X"), buf.Bytes()[1:]...), false},
	} {
		must(t, os.WriteFile(path, c.data, 0o600))
		n, err := ReadDataSize(path)
		if (err == nil) != c.ok || err == nil && n != x.DataSize() || err != nil && !errors.Is(err, ErrBadIndex) {
			t.Errorf("of %d bytes: %d, %v", len(c.data), n, err)
		}
	}
}
