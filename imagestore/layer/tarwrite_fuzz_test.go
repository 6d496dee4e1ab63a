package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	"unio/unionfs/merge"
)

// FuzzTreeRoundTrip checks that whatever tree a tar makes, the flat tar that we
// write of it makes the same tree, and is itself written the same again.
func FuzzTreeRoundTrip(f *testing.F) {
	for _, b := range seedTars(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v := fuzzView(t, b)
		if v == nil {
			return
		}
		defer v.Close()
		var once, twice bytes.Buffer
		if WriteTree(context.Background(), v, &once) != nil {
			return // of a device number that no tar of ours holds, say
		}
		again := fuzzView(t, once.Bytes())
		if again == nil {
			t.Fatal("what we wrote cannot be read")
		}
		defer again.Close()
		compare(t, "round trip", captureLower(t, again), captureLower(t, v))
		must(t, WriteTree(context.Background(), again, &twice))
		if !bytes.Equal(once.Bytes(), twice.Bytes()) {
			t.Error("written differently the second time")
		}
	})
}

// fuzzView returns the view of a tar, nil if it is none or holds large files.
func fuzzView(t *testing.T, b []byte) *View {
	t.Helper()
	x, err := Scan(context.Background(), bytes.NewReader(b), Limits{})
	if err != nil {
		return nil
	}
	d, err := BuildView([]*Index{x})
	if err != nil {
		return nil
	}
	v, err := d.Open([]io.ReaderAt{bytes.NewReader(b)})
	if err != nil {
		t.Fatal(err)
	}
	for ino := merge.RootIno; uint64(ino) <= v.Nodes(); ino++ {
		var a merge.Attr
		if v.Attr(ino, &a) != nil || a.Size > 1<<20 {
			v.Close()
			return nil
		}
	}
	return v
}

func seedTars(t testing.TB) [][]byte {
	t.Helper()
	write := func(hdrs ...tar.Header) []byte {
		var b bytes.Buffer
		tw := tar.NewWriter(&b)
		for _, h := range hdrs {
			h.Format, h.ModTime = tar.FormatPAX, time.Unix(1e9, 5)
			must(t, tw.WriteHeader(&h))
			_, err := tw.Write(make([]byte, h.Size))
			must(t, err)
		}
		must(t, tw.Close())
		return b.Bytes()
	}
	return [][]byte{
		nil,
		write(tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o700}, tar.Header{Typeflag: tar.TypeReg, Name: "a/b", Size: 600, Uid: 1 << 30}),
		write(tar.Header{Typeflag: tar.TypeReg, Name: "z"}, tar.Header{Typeflag: tar.TypeLink, Name: "a", Linkname: "z"}),
		write(tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "../\xff"}, tar.Header{Typeflag: tar.TypeReg, Name: "l/x", Size: 1}),
		write(tar.Header{Typeflag: tar.TypeChar, Name: "c", Devmajor: 1, Devminor: 3}, tar.Header{Typeflag: tar.TypeFifo, Name: "f", Mode: 0o7777}),
		write(tar.Header{
			Typeflag: tar.TypeReg, Name: "x",
			PAXRecords: map[string]string{"SCHILY.xattr.user.a": "1\x00", "SCHILY.xattr.trusted.overlay.opaque": "y"},
		}),
		write(tar.Header{Typeflag: tar.TypeReg, Name: "d/.wh.x"}, tar.Header{Typeflag: tar.TypeReg, Name: "d/.wh..wh..opq"}, tar.Header{Typeflag: tar.TypeDir, Name: "d/x/"}),
	}
}
