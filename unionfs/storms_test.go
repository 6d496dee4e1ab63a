package unionfs_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// rounds is how often a storm repeats a thing: more under make test-long.
func rounds(n int) int {
	if os.Getenv("UNIO_TEST_LONG") != "" {
		return 20 * n
	}
	return n
}

// crowd lets sixteen workers do something by each other's side.
func crowd(do func(w int, rnd *rand.Rand)) {
	var wait sync.WaitGroup
	for w := range 16 {
		wait.Go(func() { do(w, rand.New(rand.NewPCG(uint64(w), 7))) })
	}
	wait.Wait()
}

// settle compares the tree live, as the next mount sees it, and with what the
// test demands of it; numbers of files stay too.
func (r *rig) settle(check string) {
	r.t.Helper()
	describe := func() string {
		return r.tree(r.dir) + r.run(`find . -printf '%P %i\n' | sort`)
	}
	live := describe()
	r.run(check)
	r.remount()
	r.equal("after remount", describe(), live)
	r.run(check)
	if out := strings.TrimSpace(r.sh(r.work, "find . -type f -path '*/tmp/*'")); out != "" {
		r.t.Errorf("left in the work folder: %s", out)
	}
}

// TestRenameStorm moves files and whole folders between two trees of folders,
// lower ones and new ones, both ways at once. None is lost, none is doubled.
func TestRenameStorm(t *testing.T) {
	r := newRig(t, `for d in a b; do for s in 1 2 3; do mkdir -p $d/$s; for i in 0 1 2 3 4; do echo $d$s$i >$d/$s/f$d$s$i; done; done; done`)
	r.mount(false)
	r.run(`for d in a b; do for s in 4 5; do mkdir $d/$s; for i in 0 1 2 3 4; do echo $d$s$i >$d/$s/f$d$s$i; done; done; done`)
	crowd(func(w int, rnd *rand.Rand) {
		for range rounds(400) {
			from, to := filepath.Join(r.dir, "a"), filepath.Join(r.dir, "b")
			if rnd.IntN(2) == 0 {
				from, to = to, from
			}
			r.blow(rnd, from, to)
		}
	})
	r.settle(`test "$(find . -type f | wc -l)" = 50
find . -type f -printf '%f\n' | sort | uniq -d | grep . && exit 1
find . -type f | while read -r f; do test "f$(cat "$f")" = "$(basename "$f")"; done`)
}

// blow makes one move from one tree into the other, or inside it.
func (r *rig) blow(rnd *rand.Rand, from, to string) {
	folder := func(tree string) string { return filepath.Join(tree, fmt.Sprint(1+rnd.IntN(6))) }
	switch rnd.IntN(5) {
	case 0: // a folder, over an empty one or to where none is
		unix.Renameat2(unix.AT_FDCWD, folder(from), unix.AT_FDCWD, folder(to), 0)
	case 1: // two folders change places
		unix.Renameat2(unix.AT_FDCWD, folder(from), unix.AT_FDCWD, folder(to), unix.RENAME_EXCHANGE)
	case 2: // a folder below another
		unix.Rename(folder(from), filepath.Join(folder(to), "6"))
	case 3:
		unix.Rename(filepath.Join(folder(to), "6"), folder(from))
	default:
		src := folder(from)
		entries, _ := os.ReadDir(src)
		for _, e := range entries {
			if !e.IsDir() {
				unix.Renameat2(unix.AT_FDCWD, filepath.Join(src, e.Name()), unix.AT_FDCWD, filepath.Join(folder(to), e.Name()), unix.RENAME_NOREPLACE)
				return
			}
		}
	}
}

// TestFolderStorm creates, removes and lists in one folder of lower and new
// names. What nobody touches is in every listing, once.
func TestFolderStorm(t *testing.T) {
	r := newRig(t, `mkdir d; for i in $(seq 300); do echo $i >d/stays$i; echo $i >d/goes$i; done`)
	r.mount(false)
	dir := filepath.Join(r.dir, "d")
	crowd(func(w int, rnd *rand.Rand) {
		for i := range rounds(60) {
			for k := range 8 {
				name := filepath.Join(dir, fmt.Sprintf("new%d-%d", w, k))
				if err := os.WriteFile(name, []byte("x"), 0o644); err != nil {
					t.Error(err)
				}
			}
			os.Remove(filepath.Join(dir, fmt.Sprint("goes", rnd.IntN(300)+1)))
			seen := map[string]int{}
			entries, err := os.ReadDir(dir)
			for _, e := range entries {
				seen[e.Name()]++
			}
			for k := range 300 {
				if name := fmt.Sprint("stays", k+1); err != nil || seen[name] != 1 {
					t.Errorf("round %d: %s is listed %d times: %v", i, name, seen[name], err)
					return
				}
			}
			for k := range 8 {
				name := fmt.Sprintf("new%d-%d", w, k)
				if seen[name] != 1 {
					t.Errorf("round %d: %s is listed %d times", i, name, seen[name])
				}
				if err := os.Remove(filepath.Join(dir, name)); err != nil {
					t.Error(err)
				}
			}
		}
	})
	r.settle(`cd d; test "$(ls | grep -c stays)" = 300; test "$(ls | grep -c new || true)" = 0`)
}

// TestLinkStorm gives one file new names in several folders, takes them away
// and moves them, lower names and new ones. The link count is right at the
// end, and all names show the same file.
func TestLinkStorm(t *testing.T) {
	r := newRig(t, `mkdir a b c; echo shared >a/base; ln a/base b/l0; ln a/base c/l1; echo other >c/other; ln c/other a/o1`)
	r.mount(false)
	r.run(`echo third >b/third; ln b/third a/t1`)
	crowd(func(w int, rnd *rand.Rand) {
		name := func() string {
			return filepath.Join(r.dir, string("abc"[rnd.IntN(3)]), fmt.Sprint([]string{"l", "o", "t"}[rnd.IntN(3)], rnd.IntN(6)))
		}
		bases := []string{"a/base", "c/other", "b/third"}
		for range rounds(400) {
			switch rnd.IntN(5) {
			case 0, 1:
				unix.Link(filepath.Join(r.dir, bases[rnd.IntN(3)]), name())
			case 2:
				unix.Unlink(name())
			case 3:
				unix.Rename(name(), name())
			case 4:
				unix.Link(name(), name())
			}
		}
	})
	r.settle(`for base in a/base c/other b/third; do
	i=$(stat -c %i $base); test "$(find . -inum $i | wc -l)" = "$(stat -c %h $base)"
	find . -inum $i | while read -r f; do cmp $base $f; done
done`)
}

// TestCopyUpStorm has everybody change the same untouched files at once, each
// in his own place. All that was written is there.
func TestCopyUpStorm(t *testing.T) {
	const files, size = 6, 400_000 // large enough for a copy-up of parts
	r := newRig(t, fmt.Sprintf(`mkdir d; for i in $(seq 0 %d); do head -c %d /dev/urandom >d/f$i; done; ln d/f5 d/g5`, files-1, size))
	r.mount(false)
	crowd(func(w int, rnd *rand.Rand) {
		for i := range files {
			f, err := os.OpenFile(filepath.Join(r.dir, "d", fmt.Sprint("f", i)), os.O_RDWR, 0)
			if err != nil {
				t.Error(err)
				continue
			}
			for range 10 {
				at := int64(w*25_000 + 1000*rnd.IntN(25))
				if _, err := f.WriteAt(bytes.Repeat([]byte{byte('A' + w)}, 777), at); err != nil {
					t.Error(err)
				}
				f.Chmod(os.FileMode(0o600 + rnd.IntN(64)))
				f.Chown(rnd.IntN(3), rnd.IntN(3))
			}
			f.Close()
		}
	})
	r.settle(fmt.Sprintf(`cd d; test "$(stat -c %%s f* | sort -u)" = %d; test $(stat -c %%i f5) = $(stat -c %%i g5)`, size))
	r.untouched(files, size)
}

// untouched compares the bytes that nobody wrote with the lower's.
func (r *rig) untouched(files, size int) {
	r.t.Helper()
	for i := range files {
		name := filepath.Join("d", fmt.Sprint("f", i))
		got, err := os.ReadFile(filepath.Join(r.dir, name))
		want, wantErr := os.ReadFile(filepath.Join(r.lower, name))
		if err != nil || wantErr != nil || len(got) != size {
			r.t.Fatalf("%s: %d bytes, %v, %v", name, len(got), err, wantErr)
		}
		changed := 0
		for at, b := range got {
			worker := byte('A' + at/25_000)
			if b != want[at] && b != worker {
				r.t.Fatalf("%s: byte %d is %q", name, at, b)
			}
			if b != want[at] {
				changed++
			}
		}
		if changed < 16*700 {
			r.t.Errorf("%s: only %d bytes were changed", name, changed)
		}
	}
}

// TestMixedStorm truncates, extends, writes, chmods and replaces the same few
// files. A reader never finds what nobody wrote: every byte of a file is the
// one letter that the file is of, or zero.
func TestMixedStorm(t *testing.T) {
	r := newRig(t, `mkdir d; for i in 0 1 2 3; do head -c 300000 /dev/zero | tr '\0' "$i" >d/f$i; done`)
	r.mount(false)
	crowd(func(w int, rnd *rand.Rand) {
		for range rounds(120) {
			i := rnd.IntN(4)
			if err := mixed(rnd, filepath.Join(r.dir, "d", fmt.Sprint("f", i)), byte('0'+i)); err != nil {
				t.Error(err)
			}
		}
	})
	r.settle(`for i in 0 1 2 3; do test -z "$(tr -d "$i\0" <d/f$i | head -c 1)"; done`)
}

func mixed(rnd *rand.Rand, path string, letter byte) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	at := int64(rnd.IntN(400_000))
	switch rnd.IntN(6) {
	case 0:
		return f.Truncate(at)
	case 1:
		return f.Chmod(os.FileMode(0o600 + rnd.IntN(64)))
	case 2:
		return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, 5000)
	case 3:
		return f.Chown(rnd.IntN(3), rnd.IntN(3))
	case 4:
		_, err = f.WriteAt(bytes.Repeat([]byte{letter}, 6000), at)
		return err
	}
	data := make([]byte, 50_000)
	n, _ := f.ReadAt(data, at)
	for _, b := range data[:n] {
		if b != letter && b != 0 {
			return fmt.Errorf("%s: holds %q near %d", path, b, at)
		}
	}
	return nil
}
