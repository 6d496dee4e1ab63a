package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"testing"
)

func TestSmoke(t *testing.T) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	w.WriteHeader(&tar.Header{Name: "a/b", Mode: 0o644, Size: 5, Typeflag: '0', PAXRecords: map[string]string{"SCHILY.xattr.user.x": "1"}})
	w.Write([]byte("hello"))
	w.WriteHeader(&tar.Header{Name: "a/c", Typeflag: '1', Linkname: "a/b"})
	w.Close()
	x, err := Scan(context.Background(), bytes.NewReader(buf.Bytes()), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for e := range x.Entries() {
		t.Logf("%+v", e)
	}
	d, err := BuildView([]*Index{x})
	if err != nil {
		t.Fatal(err)
	}
	v, err := d.Open([]io.ReaderAt{bytes.NewReader(buf.Bytes())})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Verify(); err != nil {
		t.Fatal(err)
	}
	ino, err := v.Lookup(1, "a")
	if err != nil {
		t.Fatal(err)
	}
	ino, err = v.Lookup(ino, "c")
	p := make([]byte, 10)
	n, err := v.ReadAt(ino, p, 1)
	if err != nil || string(p[:n]) != "ello" {
		t.Fatal(n, err)
	}
	l, err := v.Links(ino)
	t.Log(l, err)
}
