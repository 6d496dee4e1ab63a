package unionfs_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// storm is one worker's random changes in a small tree that all share.
type storm struct {
	root string
	rnd  *rand.Rand
}

func (s *storm) path() string {
	dirs := []string{"", "a", "b", "a/x", "b/y", "lower/one", "lower/two", "lower/one/deep"}
	return filepath.Join(s.root, dirs[s.rnd.IntN(len(dirs))], fmt.Sprint("n", s.rnd.IntN(6)))
}

// dir names a folder that may be moved.
func (s *storm) dir() string {
	dirs := []string{"a", "b", "a/x", "b/y", "lower/one", "lower/two", "lower/one/deep", "a/n1", "b/n2"}
	return filepath.Join(s.root, dirs[s.rnd.IntN(len(dirs))])
}

// step makes one change. Most fail, as the others have changed the tree
// meanwhile; which is the point.
func (s *storm) step() {
	p, q := s.path(), s.path()
	switch s.rnd.IntN(12) {
	case 0, 1:
		os.WriteFile(p, []byte(q), 0o644)
	case 2:
		os.Remove(p)
	case 3, 4:
		os.Rename(p, q)
	case 5:
		os.Link(p, q)
	case 6:
		os.Mkdir(p, 0o755)
	case 7:
		os.Rename(s.dir(), s.dir())
	case 8:
		unix.Renameat2(unix.AT_FDCWD, p, unix.AT_FDCWD, q, unix.RENAME_EXCHANGE)
	case 9:
		if f, err := os.OpenFile(p, os.O_WRONLY|os.O_APPEND, 0); err == nil {
			os.Remove(p)
			f.WriteString("more")
			f.Close()
		}
	case 10:
		os.ReadDir(filepath.Dir(p))
		os.Chmod(p, os.FileMode(0o600+s.rnd.IntN(64)))
	case 11:
		os.Symlink(q, p)
	}
}

// TestStorm has eight workers change one tree at random. Whatever comes out,
// nothing hangs, and the upper on disk says the same as the live union.
func TestStorm(t *testing.T) {
	for lower, env := range lowerKinds {
		t.Run(lower, func(t *testing.T) { stormOver(t, env) })
	}
}

func stormOver(t *testing.T, env []string) {
	t.Helper()
	r := newRig(t, `mkdir -p lower/one/deep lower/two a b/y
for d in lower/one lower/two lower/one/deep a; do for i in 0 1 2 3; do echo $d$i > $d/n$i; done; done
ln lower/one/n0 lower/two/n5; ln lower/one/n0 a/n5`)
	r.env = env
	r.mount(false)
	for round := range 3 {
		var wait sync.WaitGroup
		for w := range 8 {
			wait.Go(func() {
				s := storm{r.dir, rand.New(rand.NewPCG(uint64(round), uint64(w)))}
				for range 1500 {
					s.step()
				}
			})
		}
		wait.Wait()
		live := r.tree(r.dir)
		r.remount()
		r.equal(fmt.Sprint("round ", round), r.tree(r.dir), live)
	}
	if out := r.sh(r.work, "ls -A tmp"); len(out) > 3 {
		t.Errorf("left in the work folder: %s", out)
	}
}
