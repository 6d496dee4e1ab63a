package layer_test

import (
	"bytes"
	"io"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"unio/imagestore/layer"
	"unio/unionfs/merge"
)

// TestViewTrim: a view that has given its pages back finds everything again,
// as a mapped file and in memory.
func TestViewTrim(t *testing.T) {
	tar := tarOf(t, "a/f=1", "b=2")
	draft, err := layer.BuildView([]*layer.Index{mustScan(t, tar)})
	check(t, err)
	contents := []io.ReaderAt{bytes.NewReader(tar)}
	inMemory, err := draft.Open(contents)
	check(t, err)
	path := filepath.Join(t.TempDir(), "view")
	file, err := os.Create(path)
	check(t, err)
	_, err = draft.WriteTo(file)
	check(t, err)
	check(t, file.Close())
	mapped, err := layer.OpenView(path, contents)
	check(t, err)
	for _, v := range []*layer.View{inMemory, mapped} {
		before := len(maps.Collect(walkView(t, v)))
		v.Trim()
		if after := len(maps.Collect(walkView(t, v))); after != before || after != 3 {
			t.Errorf("%d names, before %d", after, before)
		}
		p := make([]byte, 9)
		ino, err := v.Lookup(merge.RootIno, "b")
		check(t, err)
		if n, err := v.ReadAt(ino, p, 0); err != nil || string(p[:n]) != "2" {
			t.Errorf("content %q: %v", p[:n], err)
		}
		check(t, v.Close())
		v.Trim() // after the end: nothing
	}
}
