package archive

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"unio/imagestore"
)

// noise is text that does not compress.
func noise(n int) string {
	p := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(p) // never fails
	return string(p)
}

// TestCutAt64K cuts archives at every boundary of 64 KiB, as a full disk or a
// broken copy does, and loads them from a file and from a pipe: one line, no
// image, nothing left.
func TestCutAt64K(t *testing.T) {
	t.Parallel()
	const step = 64 << 10
	s := newSample(t, "x", layerTar(t, "a", noise(500_000)), layerTar(t, "b", strings.Repeat("text", 60_000)), layerTar(t, "c", noise(100_000)))
	archives := map[string]string{}
	for _, w := range writers() {
		switch w.name {
		case "docker 1.10 to 24", "docker 25 to 28", "buildah push oci-archive", "kaniko, crane, ko":
			archives[w.name] = string(pack(t, w.write(t, s)))
		}
	}
	archives["save, compressed"] = compress(t, archives["docker 25 to 28"])
	for name, whole := range archives {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "cut.tar")
			for n := step; n < len(whole)-2*tarBlock; n += step {
				must(t, os.WriteFile(file, []byte(whole[:n]), 0o600))
				refuses(t, fmt.Sprintf("file cut at %d", n), Source{Path: file}, nil)
				refuses(t, fmt.Sprintf("pipe cut at %d", n), Source{Reader: pipe(t, whole[:n])}, nil)
			}
			_, err := Load(bg, newStore(t), Source{Reader: pipe(t, whole)}, LoadOptions{})
			must(t, err)
		})
	}
}

// pipe gives text through a pipe of the kernel.
func pipe(t *testing.T, text string) io.Reader {
	t.Helper()
	r, w, err := os.Pipe()
	must(t, err)
	go func() {
		_, _ = io.WriteString(w, text) // nobody reads all of it
		_ = w.Close()
	}()
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// TestCutSavesNothing: a save that fails part ways, here into a pipe that is
// closed, says so, and leaves no file behind.
func TestCutSavesNothing(t *testing.T) {
	t.Parallel()
	st, _, _, _ := filled(t)
	r, w, err := os.Pipe()
	must(t, err)
	must(t, r.Close())
	defer w.Close()
	if err := Save(bg, st, []string{"local:1"}, w, SaveOptions{}); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("into a closed pipe: %v", err)
	}
	dir := t.TempDir()
	err = WriteFile(filepath.Join(dir, "a.tar"), func(io.Writer) error { return imagestore.ErrCorrupt })
	left, rerr := os.ReadDir(dir)
	must(t, rerr)
	if err == nil || len(left) != 0 {
		t.Errorf("error %v, left over %v", err, left)
	}
}
