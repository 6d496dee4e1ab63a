package merge_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"unio/unionfs/merge"
	"unio/unionfs/merge/mergetest"
)

// treeOf makes a folder by a shell script and reads it.
func treeOf(t *testing.T, script string) merge.Lower {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-e", "-c", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	tree, err := mergetest.FromDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

const commonTree = `
	mkdir -p keep dir/deep; echo same >keep/a; echo one >dir/f; echo x >dir/deep/g
	ln -s target link; echo big >grow; echo abc >equal; echo t >touched; echo p >mode; echo k >kind
	find . -exec touch -h -d @1000 {} +
`

func TestCompare(t *testing.T) {
	a := treeOf(t, commonTree)
	b := treeOf(t, commonTree+`
		rm -r dir; mkdir -p new/sub; echo 12345 >new/sub/h; echo bigger >grow; echo abd >equal
		ln -sfn other link; touch -d @2000 touched; chmod 600 mode; rm kind; mkdir kind; echo in >kind/in
		touch -h -d @1000 link grow equal
	`)
	var got []string
	err := merge.Compare(t.Context(), a, b, nil, func(d merge.Difference) bool {
		got = append(got, strings.TrimSpace(fmt.Sprintf("%c %s %d %s", d.Kind, d.Path, d.Size, strings.Join(d.What, ","))))
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"D /dir 6", "C /equal 0 content", "C /grow 3 content", "C /kind 1 type", "A /kind/in 3", "C /link 0 target",
		"C /mode 0 mode", "A /new 6", "A /new/sub 6", "A /new/sub/h 6", "C /touched 0 time",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A tree does not differ from itself; what is known to be the same is not read.
func TestCompareSame(t *testing.T) {
	a, b := treeOf(t, commonTree), treeOf(t, commonTree)
	none := func(d merge.Difference) bool { t.Errorf("differs: %c %s %v", d.Kind, d.Path, d.What); return true }
	if err := merge.Compare(t.Context(), a, b, nil, none); err != nil {
		t.Fatal(err)
	}
	unread := unreadable{a}
	known := func(x, y merge.Ino) (same, known bool) { return x == y, true }
	if err := merge.Compare(t.Context(), unread, a, known, none); err != nil {
		t.Fatal(err)
	}
	if err := merge.Compare(t.Context(), unread, a, nil, none); !errors.Is(err, merge.ErrCorrupt) {
		t.Errorf("an error of reading: %v", err)
	}
}

func TestCompareEnds(t *testing.T) {
	a, b := treeOf(t, "mkdir d"), treeOf(t, "mkdir d; touch a b c d/e")
	n := 0
	if err := merge.Compare(t.Context(), a, b, nil, func(merge.Difference) bool { n++; return n < 2 }); err != nil || n != 2 {
		t.Errorf("%d differences, %v", n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := merge.Compare(ctx, a, b, nil, func(merge.Difference) bool { return true }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// unreadable is a tree whose files cannot be read.
type unreadable struct{ merge.Lower }

func (unreadable) ReadAt(merge.Ino, []byte, int64) (int, error) { return 0, merge.ErrCorrupt }
