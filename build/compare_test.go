package build

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"unio/imagestore"
	"unio/unionfs/merge"
)

// counted counts the reads of files.
type counted struct {
	merge.Lower
	reads *int
}

func (c counted) ReadAt(ino merge.Ino, p []byte, off int64) (int, error) {
	*c.reads++
	return c.Lower.ReadAt(ino, p, off)
}

// manyFiles is the tar of a layer of n small files. The content depends on the
// number alone, but for every thousandth, where it depends on other too.
func manyFiles(t *testing.T, n, uid int, backward bool, other byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for k := range n {
		i := k
		if backward {
			i = n - 1 - k
		}
		text := fmt.Appendf(nil, "content of file %d", i)
		if i%1000 == 0 {
			text[0] = other
		}
		if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("d%03d/f%d", i/100, i), Size: int64(len(text)), Mode: 0o644, Uid: uid}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func addTar(t *testing.T, st *imagestore.Store, p []byte) digest.Digest {
	t.Helper()
	l, err := st.AddLayer(t.Context(), bytes.NewReader(p), imagestore.LayerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return l.DiffID
}

// differences compares two chains of layers, and counts what was found and how
// many reads of files it took.
func differences(t *testing.T, st *imagestore.Store, a, b []digest.Digest) (found, reads int) {
	t.Helper()
	var trees []*Tree
	for _, ids := range [][]digest.Digest{a, b} {
		tree, err := LayersTree(t.Context(), st, ids...)
		if err != nil {
			t.Fatal(err)
		}
		defer tree.Close()
		trees = append(trees, tree)
	}
	same := CompareContents(t.Context(), st, trees[0], trees[1]).Same
	err := merge.Compare(t.Context(), counted{trees[0], &reads}, counted{trees[1], &reads}, same, func(merge.Difference) bool {
		found++
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return found, reads
}

// TestCompareReadsNothing compares images of 80,000 files by their indexes:
// files of one layer need not be read at all, nor those of others once their
// digests are known.
func TestCompareReadsNothing(t *testing.T) {
	t.Parallel()
	const n = 80_000
	st, err := imagestore.Open(t.TempDir(), imagestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	base := addTar(t, st, manyFiles(t, n, 0, false, 'x'))
	owned := addTar(t, st, manyFiles(t, n, 5, false, 'x'))
	again := addTar(t, st, manyFiles(t, n, 0, true, 'y'))
	few := addTar(t, st, manyFiles(t, 20, 0, false, 'z'))
	for _, c := range []struct {
		what   string
		a, b   []digest.Digest
		differ int
		first  int // reads at most, the first time
	}{
		{"the same image", []digest.Digest{base}, []digest.Digest{base}, 0, 0},
		{"one layer more with 20 of the files", []digest.Digest{base}, []digest.Digest{base, few}, 1, 2 * 20},
		{"a layer over it that changes all owners", []digest.Digest{base}, []digest.Digest{base, owned}, n, 2 * fewFiles},
		{"the same files in another order, some with other content", []digest.Digest{base}, []digest.Digest{again}, n / 1000, 2 * fewFiles},
	} {
		found, reads := differences(t, st, c.a, c.b)
		if found != c.differ || reads > c.first {
			t.Errorf("%s: %d differences, want %d; %d reads, at most %d", c.what, found, c.differ, reads, c.first)
		}
		if len(c.b) > 1 && c.b[1] == few {
			continue // so few files are read each time
		}
		if found, reads = differences(t, st, c.a, c.b); found != c.differ || reads != 0 {
			t.Errorf("%s, again: %d differences, want %d; %d reads", c.what, found, c.differ, reads)
		}
	}
	spoilDigests(t, st)
	if found, _ := differences(t, st, []digest.Digest{base}, []digest.Digest{again}); found != n/1000 {
		t.Errorf("with damaged digests: %d differences", found)
	}
}

// spoilDigests damages all files of digests: they are made anew.
func spoilDigests(t *testing.T, st *imagestore.Store) {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(st.Root(), "layers/*.sum"))
	if err != nil || len(list) != 3 {
		t.Fatalf("files of digests: %v, %v", list, err)
	}
	for _, path := range list {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.Seek(100, io.SeekStart)
		if err == nil {
			_, err = f.WriteString("damage")
		}
		if cerr := f.Close(); err != nil || cerr != nil {
			t.Fatal(err, cerr)
		}
	}
}
