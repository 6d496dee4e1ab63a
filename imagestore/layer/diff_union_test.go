package layer

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"unio/cow"
	"unio/unionfs"
)

// unionDir is set for the process that serves the union in that folder: a
// process must never touch a mount it serves, so the test starts itself again.
const (
	unionDir  = "UNIO_TEST_UNION"
	unionUser = "UNIO_TEST_USER" // set: the upper is that of an ordinary user
)

// union is our own mount over the view of one layer.
type union struct {
	dir  string
	user string // "" for an upper with privilege
	base []byte // the layer
	stop func()
}

func newUnion(t *testing.T, user string) *union {
	t.Helper()
	needRoot(t)
	u := &union{dir: shortTemp(t), user: user}
	for _, name := range []string{"lower", "upper", "work", "mnt"} {
		must(t, os.Mkdir(filepath.Join(u.dir, name), 0o755))
	}
	shell(t, filepath.Join(u.dir, "lower"), baseTree)
	var base bytes.Buffer
	must(t, WriteTree(context.Background(), newHostLower(t, filepath.Join(u.dir, "lower")), &base))
	u.base = base.Bytes()
	must(t, os.WriteFile(filepath.Join(u.dir, "base.tar"), u.base, 0o600))
	t.Cleanup(func() { u.unmount() })
	return u
}

func (u *union) mnt() string { return filepath.Join(u.dir, "mnt") }

func (u *union) mount(t *testing.T) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestServeUnion$")
	cmd.Env = append(os.Environ(), unionDir+"="+u.dir, unionUser+"="+u.user)
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	u.stop = func() {
		_ = unix.Unmount(u.mnt(), 0)
		_ = cmd.Wait()
	}
	for range 1000 {
		var st unix.Statfs_t
		if unix.Statfs(u.mnt(), &st) == nil && st.Type == unix.FUSE_SUPER_MAGIC {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("the union is not served")
}

func (u *union) unmount() {
	if u.stop != nil {
		u.stop()
		u.stop = nil
	}
}

// TestServeUnion is the serving process of TestUnionRoundTrip, no test.
func TestServeUnion(t *testing.T) {
	dir := os.Getenv(unionDir)
	if dir == "" {
		return
	}
	base, err := os.ReadFile(filepath.Join(dir, "base.tar"))
	must(t, err)
	v := viewOf(t, base)
	fs, err := cow.Open(cow.Options{
		Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work"), Lower: v, Root: os.Getenv(unionUser) == "",
	})
	must(t, err)
	s, err := unionfs.Mount(unionfs.Options{Lower: v, Cow: fs, Dir: filepath.Join(dir, "mnt"), FsName: "test", Writeback: true})
	must(t, err)
	must(t, s.Wait())
	must(t, fs.Close())
}

// TestUnionRoundTrip is the round trip over our own union: renamed folders,
// the link hub and metadata-only files come as package cow really makes them.
func TestUnionRoundTrip(t *testing.T) {
	for _, user := range []string{"", "user"} {
		for seed := range uint64(10) {
			t.Run(fmt.Sprint(user, seed), func(t *testing.T) {
				u := newUnion(t, user)
				u.mount(t)
				r := &randomChanges{rand.New(rand.NewPCG(seed, 2)), u.mnt()}
				r.do(40 + int(seed)*8)
				if seed%2 == 0 { // go on over an upper of before
					u.unmount()
					u.mount(t)
					r.do(40)
				}
				want := capture(t, u.mnt())
				u.unmount()
				u.check(t, want)
			})
		}
	}
}

func (u *union) check(t *testing.T, want model) {
	t.Helper()
	up := Upper{Dir: filepath.Join(u.dir, "upper"), Work: filepath.Join(u.dir, "work"), Root: u.user == ""}
	base := viewOf(t, u.base)
	_, layerTar := layerOf(t, up, base)
	committed := viewOf(t, u.base, layerTar)
	compare(t, "committed", captureLower(t, committed), want)
	var merged, flat bytes.Buffer
	must(t, WriteMerged(context.Background(), up, base, &merged))
	must(t, WriteTree(context.Background(), committed, &flat))
	if !bytes.Equal(merged.Bytes(), flat.Bytes()) {
		t.Error("the export of the container is not that of the image it was committed to")
	}
}
