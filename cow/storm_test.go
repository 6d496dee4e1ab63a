package cow_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"unio/cow"
	"unio/unionfs/merge"
)

// gust is one worker's random calls on a small tree that all share. There is
// no kernel in between that would put them in order.
type gust struct {
	*rack
	rnd *rand.Rand
}

// name picks a folder and a name in it; the folder's number is 0 if it is not
// there just now. The caller forgets it.
func (g *gust) name() (merge.Ino, string) {
	dirs := []string{"", "a", "b", "a/x", "b/y", "l/one", "l/two", "l/one/deep", "a/n1", "l/two/n2"}
	return g.hold(dirs[g.rnd.IntN(len(dirs))]), fmt.Sprint("n", g.rnd.IntN(6))
}

// folder picks a folder that may be moved, as a folder and a name in it.
func (g *gust) folder() (merge.Ino, string) {
	dirs := [][2]string{{"", "a"}, {"", "b"}, {"a", "x"}, {"b", "y"}, {"l", "one"}, {"l", "two"}, {"l/one", "deep"}, {"a", "n1"}, {"l/two", "n2"}}
	d := dirs[g.rnd.IntN(len(dirs))]
	return g.hold(d[0]), d[1]
}

// hold finds a path and counts a reference, as the kernel has one of whatever
// it names in a request.
func (g *gust) hold(path string) merge.Ino {
	ino, err := g.find(path)
	if err != nil {
		return 0
	}
	g.Remember(ino)
	return ino
}

// file holds what a name stands for.
func (g *gust) file() merge.Ino {
	d, name := g.name()
	defer g.Forget(d, 1)
	var st cow.Stat
	if d == 0 || g.Lookup(d, name, &st) != nil {
		return 0
	}
	g.Remember(st.Ino)
	return st.Ino
}

// step makes one call. Most fail, since the others have changed the tree
// meanwhile, which is the point; but none may fail in a way that tells of a
// damaged union.
func (g *gust) step() error {
	var err error
	kinds := []string{"make", "make", "move", "move", "unlink", "rmdir", "link", "list", "change", "change"}
	kind := g.rnd.IntN(len(kinds))
	switch kind {
	case 0, 1:
		err = g.make()
	case 2, 3:
		err = g.move()
	case 4:
		d, name := g.name()
		err = g.Unlink(d, name)
		g.Forget(d, 1)
	case 5:
		d, name := g.folder()
		err = g.Rmdir(d, name)
		g.Forget(d, 1)
	case 6:
		ino := g.file()
		d, name := g.name()
		err = g.Link(ino, d, name, new(cow.Stat))
		g.Forget(ino, 1)
		g.Forget(d, 1)
	case 7:
		err = g.list()
	default:
		ino := g.file()
		err = g.change(ino)
		g.Forget(ino, 1)
	}
	if errors.Is(err, unix.EIO) || errors.Is(err, unix.EBADF) || errors.Is(err, unix.EDEADLK) {
		return fmt.Errorf("%s: %w", kinds[kind], err)
	}
	return nil
}

func (g *gust) make() error {
	d, name := g.name()
	defer g.Forget(d, 1)
	var st cow.Stat
	switch g.rnd.IntN(6) {
	case 0:
		return g.Create(d, name, cow.New{Mode: unix.S_IFDIR | 0o755}, &st)
	case 1:
		return g.Create(d, name, cow.New{Mode: unix.S_IFLNK, Target: name}, &st)
	case 2:
		if err := g.Tmpfile(d, cow.New{Mode: unix.S_IFREG | 0o600}, &st); err != nil {
			return err
		}
		g.Remember(st.Ino)
		defer g.Forget(st.Ino, 1)
		return g.Link(st.Ino, d, name, &st)
	}
	return g.Create(d, name, cow.New{Mode: unix.S_IFREG | 0o644}, &st)
}

func (g *gust) move() error {
	pick := g.name
	if g.rnd.IntN(2) == 0 {
		pick = g.folder
	}
	d, name := pick()
	e, other := pick()
	defer g.Forget(d, 1)
	defer g.Forget(e, 1)
	flags := []uint{0, 0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE}
	return g.Rename(d, name, e, other, flags[g.rnd.IntN(len(flags))])
}

func (g *gust) list() error {
	d, _ := g.name()
	defer g.Forget(d, 1)
	return g.ReadDir(d, 0, func(e cow.Dirent) bool {
		var st cow.Stat
		_ = g.Getattr(e.Ino, &st)
		return true
	})
}

func (g *gust) change(ino merge.Ino) error {
	var st cow.Stat
	mode, size, owner := uint32(0o600+g.rnd.IntN(64)), uint64(g.rnd.IntN(20000)), uint32(g.rnd.IntN(5))
	if err := g.Getattr(ino, &st); err != nil {
		return err
	}
	kinds := 7
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		kinds = 2 // the kernel sees to it that only regular files are written
	}
	switch g.rnd.IntN(kinds) {
	case 0:
		return g.Setattr(ino, cow.Change{Mode: &mode}, &st)
	case 1:
		return g.Setattr(ino, cow.Change{UID: &owner, GID: &owner}, &st)
	case 2:
		return g.Setattr(ino, cow.Change{Size: &size}, &st)
	case 3:
		return g.Setxattr(ino, "user.x", []byte{byte(mode)}, 0)
	case 4:
		_, err := g.Read(ino, make([]byte, 5000), int64(size))
		return err
	}
	_, err := g.Write(ino, bytes.Repeat([]byte{byte(mode)}, int(mode)), int64(size), cow.How{KillPriv: size%2 == 0})
	return err
}

// census describes the union, a line a name, and checks the link counts.
func (r *rack) census() string {
	r.t.Helper()
	c := census{rack: r, names: map[merge.Ino]int{}, nlink: map[merge.Ino]int{}}
	c.walk(merge.RootIno, "")
	for ino, n := range c.nlink {
		if n != c.names[ino] {
			r.t.Errorf("node %d has %d links and %d names", ino, n, c.names[ino])
		}
	}
	slices.Sort(c.lines)
	return strings.Join(c.lines, "\n")
}

type census struct {
	*rack
	lines        []string
	names, nlink map[merge.Ino]int
}

func (c *census) walk(dir merge.Ino, path string) {
	var names []string
	if err := c.ReadDir(dir, 2, func(e cow.Dirent) bool { names = append(names, e.Name); return true }); err != nil {
		c.t.Errorf("list %s: %v", path, err)
	}
	subdirs := 0
	for _, name := range names {
		var st cow.Stat
		if err := c.Lookup(dir, name, &st); err != nil {
			c.t.Errorf("%s/%s is listed: %v", path, name, err)
			continue
		}
		c.lines = append(c.lines, c.line(path+"/"+name, &st))
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			subdirs++
			c.walk(st.Ino, path+"/"+name)
			continue
		}
		c.names[st.Ino]++
		c.nlink[st.Ino] = int(st.Nlink)
	}
	var st cow.Stat
	if err := c.Getattr(dir, &st); err != nil || int(st.Nlink) != 2+subdirs {
		c.t.Errorf("folder %s: %d links, %d subfolders: %v", path, st.Nlink, subdirs, err)
	}
}

func (c *census) line(path string, st *cow.Stat) string {
	text := fmt.Sprintf("%s %#x %o %d:%d", path, st.Ino, st.Mode, st.UID, st.GID)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		target, err := c.Readlink(st.Ino)
		return fmt.Sprintf("%s %s %v", text, target, err)
	case unix.S_IFREG:
		data := make([]byte, st.Size+1)
		n, err := c.Read(st.Ino, data, 0)
		return fmt.Sprintf("%s %d %d %x %v", text, st.Mtime.Nano(), st.Size, sha256.Sum256(data[:n]), err)
	}
	return text
}

// TestStorm has sixteen goroutines call at random and by each other's side,
// without a kernel that would put them in order: under the race detector this
// is the test of the locks. Whatever comes out, nothing hangs, the tree is
// consistent, and a next mount sees the same, numbers included.
func TestStorm(t *testing.T) {
	r := newRack(t, `mkdir -p l/one/deep l/two a/x b/y
for d in l/one l/two l/one/deep a; do for i in 0 1 2 3; do echo $d$i >$d/n$i; done; done
head -c 50000 /dev/urandom >l/two/n4; ln l/one/n0 l/two/n5; ln l/one/n0 a/n5; rm a/n1 l/two/n2; mkdir a/n1 l/two/n2; echo x >a/n1/n0`, nil)
	rounds, steps := 4, 800
	if os.Getenv("UNIO_TEST_LONG") != "" {
		rounds, steps = 40, 5000
	}
	for round := range rounds {
		r.blow(round, steps)
		live := r.census()
		r.reopen()
		if again := r.census(); again != live {
			t.Fatalf("round %d: the next mount sees another tree:\n%s\nbefore:\n%s", round, again, live)
		}
	}
}

// blow runs sixteen workers to their end.
func (r *rack) blow(round, steps int) {
	r.t.Helper()
	var wait sync.WaitGroup
	for w := range 16 {
		wait.Go(func() {
			g := gust{r, rand.New(rand.NewPCG(uint64(round), uint64(w)))}
			for range steps {
				if err := g.step(); err != nil {
					r.t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wait.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(4 * time.Minute):
		panic("the storm hangs") // with the stacks of all goroutines
	}
}
