package dirlower_test

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"unio/unionfs/dirlower"
	"unio/unionfs/merge"
)

// memfd makes a file in memory.
func memfd(t *testing.T) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate("names", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "names")
	t.Cleanup(func() { f.Close() })
	return f
}

// known remembers every node of a tree and returns its number by path.
func known(t *testing.T, tree *dirlower.Tree) map[string]merge.Ino {
	t.Helper()
	all := map[string]merge.Ino{}
	var walk func(dir merge.Ino, path string)
	walk = func(dir merge.Ino, path string) {
		var sub []merge.Entry
		err := tree.ReadDir(dir, 0, func(e merge.Entry) bool {
			tree.Remember(e.Ino)
			all[path+e.Name] = e.Ino
			if e.Type == unix.S_IFDIR {
				sub = append(sub, e)
			}
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range sub {
			walk(e.Ino, path+e.Name+"/")
		}
	}
	walk(merge.RootIno, "")
	return all
}

// TestJournal has three servers follow each other, each of which knows what
// the kernel got from those before.
func TestJournal(t *testing.T) {
	needRoot(t)
	d := dirs(t, "over", "under")
	sh(t, d[1], "mkdir -p a/b/c e d/sub; for p in a a/b a/b/c e d/sub; do for i in 1 2 3; do echo $p $i > $p/$i; done; done; ln a/1 e/link")
	sh(t, d[0], "mkdir -p a/b x; rm -f a/b/1; touch a/b/.wh.2; echo new > a/b/new; setfattr -n trusted.overlay.redirect -v /d x")
	o := dirlower.Options{Dirs: d, Root: true, Names: memfd(t)}
	first := open(t, o)
	all := known(t, first)
	want := map[string]string{}
	for path, ino := range all {
		if got, err := content(first, ino); err == nil {
			want[path] = got
		}
	}
	if all["x/sub"] == all["d/sub"] || len(want) < 15 {
		t.Fatalf("%d files, %v", len(want), all)
	}
	first.Close()
	for range 2 {
		next := open(t, o)
		for path, ino := range all {
			var a merge.Attr
			if err := next.Attr(ino, &a); err != nil {
				t.Errorf("%s: %v", path, err)
			}
			if got, err := content(next, ino); got != want[path] || err != nil && !a.IsDir() {
				t.Errorf("%s reads %q, %v", path, got, err)
			}
		}
		if got := find(t, next, "a/b/c/2"); got != all["a/b/c/2"] {
			t.Errorf("number %x, before %x", got, all["a/b/c/2"])
		}
		if err := next.Attr(1<<48|12345678, &merge.Attr{}); err != merge.ErrStale {
			t.Errorf("an unknown number: %v", err)
		}
		next.Close()
	}
	st, err := o.Names.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Names.Truncate(st.Size() - 3); err != nil { // the last record is not whole
		t.Fatal(err)
	}
	last := open(t, o)
	missing := 0
	for _, ino := range all {
		if last.Attr(ino, &merge.Attr{}) != nil {
			missing++
		}
	}
	if missing > 1 {
		t.Errorf("%d nodes are lost with the last record", missing)
	}
}

// TestJournalStaysSmall forgets most of what it has given out, over and over.
func TestJournalStaysSmall(t *testing.T) {
	const files, rounds = 12000, 6
	d := dirs(t, "d")
	sh(t, d[0], fmt.Sprintf("mkdir kept many; touch kept/f; cd many; seq -f %%060g %d | xargs touch", files))
	o := dirlower.Options{Dirs: d, Names: memfd(t)}
	tree := open(t, o)
	kept := find(t, tree, "kept/f")
	tree.Remember(kept)
	for range rounds {
		var all []merge.Ino
		err := tree.ReadDir(find(t, tree, "many"), 0, func(e merge.Entry) bool {
			tree.Remember(e.Ino)
			all = append(all, e.Ino)
			return true
		})
		if err != nil || len(all) != files {
			t.Fatal(len(all), err)
		}
		for _, ino := range all {
			tree.Forget(ino, 1)
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(o.Names.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	const once = files * (18 + 60)
	if used := st.Blocks * 512; used > 3*once+2<<20 {
		t.Errorf("the journal takes %d bytes for %d files", used, files)
	}
	if st.Size < (rounds-1)*once {
		t.Errorf("%d bytes were written: nothing was given back", st.Size)
	}
	tree.Close()
	next := open(t, o)
	if got, err := content(next, kept); got != "" || err != nil {
		t.Errorf("what is still referred to: %q, %v", got, err)
	}
}

// TestNotAJournal refuses a file of another kind.
func TestNotAJournal(t *testing.T) {
	d := dirs(t, "d")
	for _, text := range []string{"x", "something else altogether", "uniodlj1\xff\xff\xff\xff\xff\xff\xff\x7f"} {
		names := memfd(t)
		names.WriteString(text)
		tree, err := dirlower.Open(dirlower.Options{Dirs: d, Names: names})
		if !errors.Is(err, dirlower.ErrJournal) {
			t.Errorf("%q: %v", text, err)
		}
		if err == nil {
			tree.Close()
		}
	}
}
