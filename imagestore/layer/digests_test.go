package layer

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// countedReader counts the reads of a tar.
type countedReader struct {
	io.ReaderAt
	reads int
}

func (c *countedReader) ReadAt(p []byte, off int64) (int, error) {
	c.reads++
	return c.ReaderAt.ReadAt(p, off)
}

// TestSumFiles: each file with content has its digest, from one reading of the
// tar, and the digests come back from a file, unless that is damaged.
func TestSumFiles(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	contents := map[string]string{}
	for i := range 5000 {
		contents[fmt.Sprintf("d/f%d", i)] = strings.Repeat(fmt.Sprint(i), i%300)
	}
	for name, text := range contents {
		if err := errors.Join(w.WriteHeader(&tar.Header{Name: name, Size: int64(len(text))}), writeAll(w, text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: "link", Typeflag: tar.TypeLink, Linkname: "d/f7"}), w.Close()); err != nil {
		t.Fatal(err)
	}
	x, err := Scan(t.Context(), bytes.NewReader(b.Bytes()), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	in := &countedReader{ReaderAt: bytes.NewReader(b.Bytes())}
	d, err := SumFiles(t.Context(), x, in)
	if err != nil {
		t.Fatal(err)
	}
	if most := b.Len()/digestsRead + 2; in.reads > most {
		t.Errorf("%d reads of a tar of %d bytes", in.reads, b.Len())
	}
	path := filepath.Join(t.TempDir(), "x.sum")
	checkDigests(t, x, d, contents)
	var file bytes.Buffer
	if _, err := d.WriteTo(&file); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{0, 9, 17, 30, file.Len() - 1} {
		damaged := bytes.Clone(file.Bytes())
		damaged[at] ^= 1
		for _, p := range [][]byte{damaged, file.Bytes()[:at]} {
			if err := os.WriteFile(path, p, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := OpenDigests(path); !errors.Is(err, ErrBadIndex) {
				t.Errorf("damaged at %d of %d: %v", at, len(p), err)
			}
		}
	}
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if d, err = OpenDigests(path); err != nil {
		t.Fatal(err)
	}
	checkDigests(t, x, d, contents)
	if _, err := SumFiles(t.Context(), x, bytes.NewReader(b.Bytes()[:b.Len()/2])); !errors.Is(err, errTruncated) {
		t.Errorf("half a tar: %v", err)
	}
}

func writeAll(w io.Writer, text string) error {
	_, err := io.WriteString(w, text)
	return err
}

func checkDigests(t *testing.T, x *Index, d *Digests, contents map[string]string) {
	t.Helper()
	for name, text := range contents {
		e, ok := x.Find(name)
		if !ok {
			t.Fatalf("no %s", name)
		}
		if len(text) == 0 {
			continue
		}
		if sum, ok := d.At(e.Extents[0].At); !ok || sum != sha256.Sum256([]byte(text)) {
			t.Errorf("%s: digest %x, %v", name, sum, ok)
		}
		if _, ok := d.At(e.Extents[0].At + 1); ok {
			t.Errorf("%s: there is a digest one byte on", name)
		}
	}
}
