package dirlower_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"unio/unionfs/dirlower"
	"unio/unionfs/merge"
)

// TestNumbers: they are the same in every process, tell devices apart and are
// one for all names of a file.
func TestNumbers(t *testing.T) {
	needRoot(t)
	d := dirs(t, "one", "two")
	if err := unix.Mount("tmpfs", d[1], "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(d[1], unix.MNT_DETACH) })
	sh(t, d[0], "mkdir a; echo f > a/f; ln a/f g")
	sh(t, d[1], "mkdir a b; echo h > a/h")
	var before []merge.Ino
	for range 2 {
		tree := open(t, dirlower.Options{Dirs: d, Root: true})
		var numbers []merge.Ino
		for _, p := range []string{"a", "a/f", "g", "a/h", "b"} {
			numbers = append(numbers, find(t, tree, p))
		}
		for i, dir := range []string{"one/a", "one/a/f", "one/g", "two/a/h", "two/b"} {
			var st unix.Stat_t
			if err := unix.Stat(filepath.Join(filepath.Dir(d[0]), dir), &st); err != nil {
				t.Fatal(err)
			}
			device := merge.Ino(1)
			if i > 2 {
				device = 2
			}
			if want := device<<48 | merge.Ino(st.Ino); numbers[i] != want {
				t.Errorf("%s has number %x, want %x", dir, numbers[i], want)
			}
		}
		if before != nil && !slices.Equal(before, numbers) {
			t.Errorf("numbers %x, before %x", numbers, before)
		}
		before = numbers
		links, err := tree.Links(numbers[1])
		if err != nil || !slices.Equal(links, []merge.Link{{Dir: numbers[0], Name: "f"}, {Dir: merge.RootIno, Name: "g"}}) {
			t.Errorf("names %v, %v", links, err)
		}
	}
}

// TestForgotten: what nobody refers to goes, with the folders above it, and
// comes back with the same number.
func TestForgotten(t *testing.T) {
	d := dirs(t, "d")
	sh(t, d[0], fmt.Sprintf("mkdir -p deep/er many; echo x > deep/er/f; cd many; seq %d | xargs touch", 3*dirlower.RecentNodes))
	tree := open(t, dirlower.Options{Dirs: d})
	f := find(t, tree, "deep/er/f")
	tree.Remember(f)
	tree.Remember(f)
	others := func() {
		t.Helper()
		if err := tree.ReadDir(find(t, tree, "many"), 0, func(merge.Entry) bool { return true }); err != nil {
			t.Fatal(err)
		}
	}
	others()
	if got, err := content(tree, f); got != "x\n" || err != nil {
		t.Fatalf("reads %q, %v", got, err)
	}
	links, err := tree.Links(f)
	if err != nil || len(links) != 1 {
		t.Fatalf("names %v, %v", links, err)
	}
	if tree.Attr(links[0].Dir, &merge.Attr{}) != nil {
		t.Error("the folder of a file that is known is not")
	}
	if left := tree.Forget(f, 1); left != 1 || tree.References(f) != 1 {
		t.Errorf("%d references left", left)
	}
	others()
	if err := tree.Attr(f, &merge.Attr{}); err != nil {
		t.Errorf("still referred to: %v", err)
	}
	tree.Forget(f, 1)
	for range 3 {
		others()
	}
	if err := tree.Attr(f, &merge.Attr{}); err != merge.ErrStale {
		t.Errorf("forgotten: %v", err)
	}
	if err := tree.Attr(links[0].Dir, &merge.Attr{}); err != merge.ErrStale {
		t.Errorf("its folder: %v", err)
	}
	if n := tree.Known(); n > dirlower.RecentNodes+10 {
		t.Errorf("%d nodes are known", n)
	}
	if got := find(t, tree, "deep/er/f"); got != f {
		t.Errorf("number %x, before %x", got, f)
	}
}

// TestManyAtOnce looks up, lists, reads and forgets from several goroutines.
func TestManyAtOnce(t *testing.T) {
	d := dirs(t, "over", "under")
	sh(t, d[1], "for i in $(seq 30); do mkdir -p d$i/e; seq 200 | sed \"s|^|d$i/e/|\" | xargs touch; echo $i > d$i/f; done")
	sh(t, d[0], "for i in $(seq 2 3 30); do mkdir -p d$i; touch d$i/.wh.e; echo over > d$i/new; done")
	tree := open(t, dirlower.Options{Dirs: d, Names: memfd(t)})
	var wait sync.WaitGroup
	for w := range 8 {
		wait.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 0))
			for range 400 {
				stroll(t, tree, r)
			}
		})
	}
	wait.Wait()
}

// stroll does what the kernel does for a walk down to one file.
func stroll(t *testing.T, tree *dirlower.Tree, r *rand.Rand) {
	i := 1 + r.IntN(30)
	dir, err := tree.Lookup(merge.RootIno, fmt.Sprint("d", i))
	if err != nil {
		t.Error(err)
		return
	}
	tree.Remember(dir)
	defer tree.Forget(dir, 1)
	f, err := tree.Lookup(dir, "f")
	if err != nil {
		t.Error(err)
		return
	}
	tree.Remember(f)
	defer tree.Forget(f, 1)
	if got, err := content(tree, f); got != fmt.Sprint(i, "\n") || err != nil {
		t.Errorf("d%d/f reads %q, %v", i, got, err)
	}
	e, err := tree.Lookup(dir, "e")
	if hidden := i%3 == 2; hidden != (err == merge.ErrNotExist) {
		t.Errorf("d%d/e: %v", i, err)
	}
	if err != nil {
		return
	}
	tree.Remember(e)
	defer tree.Forget(e, 1)
	seen := 0
	err = tree.ReadDir(e, 0, func(entry merge.Entry) bool {
		seen++
		return tree.Attr(entry.Ino, &merge.Attr{}) == nil
	})
	if err != nil || seen != 200 {
		t.Errorf("d%d/e has %d entries, %v", i, seen, err)
	}
}

// TestMemory walks many files as the kernel does that keeps all of them, and
// then forgets them: 1,000,000 with UNIO_TEST_LONG.
func TestMemory(t *testing.T) {
	folders, files, limit := 40, 500, uint64(12<<20)
	if os.Getenv("UNIO_TEST_LONG") != "" {
		folders, files, limit = 1000, 1000, 400<<20
	}
	d := dirs(t, "d")
	sh(t, d[0], fmt.Sprintf("for i in $(seq %d); do mkdir folder$i; done; for i in $(seq %d); do cd folder$i; seq -f file%%g %d | xargs touch; cd ..; done", folders, folders, files))
	tree := open(t, dirlower.Options{Dirs: d})
	before := heap()
	var all []merge.Ino
	remember := func(dir merge.Ino) {
		err := tree.ReadDir(dir, 0, func(e merge.Entry) bool { tree.Remember(e.Ino); all = append(all, e.Ino); return true })
		if err != nil {
			t.Fatal(err)
		}
	}
	remember(merge.RootIno)
	for _, dir := range all[:folders:folders] {
		remember(dir)
	}
	own := uint64(cap(all)) * 8
	used := heap() - before - own
	t.Logf("%d nodes: %d KiB, %d bytes each", len(all), used>>10, used/uint64(len(all)))
	if used > limit {
		t.Errorf("%d nodes take %d bytes", len(all), used)
	}
	for _, ino := range all {
		tree.Forget(ino, 1)
	}
	left := heap() - min(before+own, heap())
	t.Logf("forgotten: %d KiB, %d nodes", left>>10, tree.Known())
	if tree.Known() > dirlower.RecentNodes+folders+10 || left > limit/3 {
		t.Errorf("%d nodes and %d bytes are left", tree.Known(), left)
	}
	runtime.KeepAlive(all)
}

// heap returns the bytes in use on the heap.
func heap() uint64 {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
