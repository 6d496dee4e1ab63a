package dirlower_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"unio/unionfs/dirlower"
	"unio/unionfs/merge"
)

// sh runs a script in a folder.
func sh(t *testing.T, dir, script string) {
	t.Helper()
	cmd := exec.Command("bash", "-euc", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s\n%s%v", script, out, err)
	}
}

// dirs makes folders below a fresh one.
func dirs(t *testing.T, names ...string) []string {
	t.Helper()
	base := t.TempDir()
	for i, name := range names {
		names[i] = filepath.Join(base, name)
		if err := os.MkdirAll(names[i], 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return names
}

func open(t *testing.T, o dirlower.Options) *dirlower.Tree {
	t.Helper()
	tree, err := dirlower.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	return tree
}

// find walks to a path.
func find(t *testing.T, l merge.Lower, path string) merge.Ino {
	t.Helper()
	ino, err := lookup(l, path)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return ino
}

func lookup(l merge.Lower, path string) (merge.Ino, error) {
	ino := merge.RootIno
	for _, name := range strings.FieldsFunc(path, func(r rune) bool { return r == '/' }) {
		var err error
		if ino, err = l.Lookup(ino, name); err != nil {
			return 0, err
		}
	}
	return ino, nil
}

// content reads a whole file.
func content(l merge.Lower, ino merge.Ino) (string, error) {
	var a merge.Attr
	if err := l.Attr(ino, &a); err != nil {
		return "", err
	}
	buf := make([]byte, a.Size+1)
	n, err := l.ReadAt(ino, buf, 0)
	return string(buf[:n]), err
}
