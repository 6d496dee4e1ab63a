package blob

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func openTest(t *testing.T) *Store {
	t.Helper()
	root := t.TempDir()
	s, err := Open(root, filepath.Join(root, "tmp"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func temps(t *testing.T, s *Store) int {
	t.Helper()
	list, err := s.Temps()
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestPutAndRead(t *testing.T) {
	s := openTest(t)
	content := []byte("hello")
	d, err := s.Put(context.Background(), content)
	if err != nil {
		t.Fatal(err)
	}
	if want := digest.FromBytes(content); d != want {
		t.Fatalf("digest %s, want %s", d, want)
	}
	got, err := s.ReadAll(d, 100)
	if err != nil || !bytes.Equal(got, content) {
		t.Fatalf("read %q, %v", got, err)
	}
	path, err := s.Path(d)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		if fi, err := os.Stat(name); err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s: mode %v, want %v (%v)", name, fi.Mode().Perm(), want, err)
		}
	}
	if n := temps(t, s); n != 0 {
		t.Errorf("%d temporary files are left", n)
	}
}

func TestReadAllRefuses(t *testing.T) {
	s := openTest(t)
	d, err := s.Put(context.Background(), []byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadAll(d, 4); !errors.Is(err, ErrTooBig) {
		t.Errorf("over the limit: %v", err)
	}
	if _, err := s.ReadAll(digest.FromString("other"), 4); !errors.Is(err, ErrNotFound) {
		t.Errorf("absent: %v", err)
	}
	path, _ := s.Path(d)
	if err := os.WriteFile(path, []byte("hullo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadAll(d, 5); !errors.Is(err, ErrMismatch) {
		t.Errorf("damaged: %v", err)
	}
	if err := s.Verify(d); !errors.Is(err, ErrMismatch) {
		t.Errorf("verify damaged: %v", err)
	}
}

// TestBadDigests makes sure that no digest becomes a path elsewhere.
func TestBadDigests(t *testing.T) {
	s := openTest(t)
	hex := strings.Repeat("a", 64)
	for _, d := range []digest.Digest{
		"", "sha256:", "sha256:../../etc/passwd", "sha256:" + digest.Digest(hex[:63]), "sha256:" + digest.Digest(strings.ToUpper(hex)),
		"sha256:" + digest.Digest(hex+"/x"), "../x:" + digest.Digest(hex), "md5:" + digest.Digest(hex[:32]),
		"sha384:" + digest.Digest(hex+hex[:32]), digest.Digest(hex), "sha256:" + digest.Digest(hex[:62]) + "/.",
	} {
		if _, err := s.Path(d); !errors.Is(err, ErrDigest) {
			t.Errorf("Path(%q): %v", d, err)
		}
		if _, err := s.Open(d); !errors.Is(err, ErrDigest) {
			t.Errorf("Open(%q): %v", d, err)
		}
		if err := s.Remove(d); !errors.Is(err, ErrDigest) {
			t.Errorf("Remove(%q): %v", d, err)
		}
		if s.Has(d) {
			t.Errorf("Has(%q)", d)
		}
	}
}

func TestCommitVerifies(t *testing.T) {
	s := openTest(t)
	w, err := s.Writer(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(digest.FromString("other")); !errors.Is(err, ErrMismatch) {
		t.Fatalf("commit of the wrong content: %v", err)
	}
	if s.Has(digest.FromString("hello")) || temps(t, s) != 0 {
		t.Error("a refused blob left something behind")
	}
}

func TestCommitNeedsBothHalves(t *testing.T) {
	s := openTest(t)
	w, err := s.Writer(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Data().Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Hash().Write([]byte("hell")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(""); !errors.Is(err, ErrMismatch) {
		t.Fatalf("commit: %v", err)
	}
}

func TestCommitKeepsWhatIsThere(t *testing.T) {
	s := openTest(t)
	d, err := s.Put(context.Background(), []byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	path, _ := s.Path(d)
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(context.Background(), []byte("hello")); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(path)
	if err != nil || !os.SameFile(before, after) || temps(t, s) != 0 {
		t.Errorf("the blob was written again (%v)", err)
	}
}

func TestCanceledWriter(t *testing.T) {
	s := openTest(t)
	ctx, cancel := context.WithCancel(context.Background())
	w, err := s.Writer(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := w.Write([]byte("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("write: %v", err)
	}
	if _, err := w.Commit(""); err == nil {
		t.Error("commit after cancel")
	}
	if temps(t, s) != 0 {
		t.Error("a temporary file is left")
	}
}

func TestSHA512(t *testing.T) {
	s := openTest(t)
	w, err := s.WriterFor(context.Background(), digest.SHA512)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	d, err := w.Commit(digest.SHA512.FromString("hello"))
	if err != nil || s.Verify(d) != nil {
		t.Fatalf("commit: %v, verify: %v", err, s.Verify(d))
	}
	n := 0
	for info, err := range s.Walk() {
		if err != nil || info.Digest != d {
			t.Errorf("walk: %v %v", info, err)
		}
		n++
	}
	if n != 1 {
		t.Errorf("walked over %d blobs", n)
	}
}

func TestWalkShowsStrays(t *testing.T) {
	s := openTest(t)
	path, _ := s.Path(digest.FromString("x"))
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "README"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for info, err := range s.Walk() {
		if err != nil || info.Digest != "" || filepath.Base(info.Path) != "README" {
			t.Errorf("walk: %+v %v", info, err)
		}
	}
}

func TestRemoveTemp(t *testing.T) {
	s := openTest(t)
	w, err := s.Writer(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if n, err := s.RemoveTemp(0); err != nil || n < 1000 || temps(t, s) != 0 {
		t.Errorf("removed %d bytes, %v", n, err)
	}
}
