package layer

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// randomChanges does n random things to a tree. What the filesystem refuses
// is left undone.
type randomChanges struct {
	*rand.Rand
	dir string
}

func (r *randomChanges) do(n int) {
	ops := []func(){
		r.write, r.write, r.write, r.appendTo, r.appendTo, r.truncate, r.mkdir, r.mkdir, r.remove, r.remove, r.removeAll,
		r.rename, r.rename, r.rename, r.link, r.link, r.symlink, r.chmod, r.chown, r.xattr, r.device, r.times, r.rewrite,
	}
	for range n {
		ops[r.IntN(len(ops))]()
	}
}

// some returns a random path of the tree, of a folder if dirs.
func (r *randomChanges) some(dirs bool) string {
	var list []string
	_ = filepath.WalkDir(r.dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && (d.IsDir() || !dirs) && (p != r.dir || dirs) {
			list = append(list, p)
		}
		return nil
	})
	if len(list) == 0 {
		return r.dir
	}
	return list[r.IntN(len(list))]
}

// fresh returns a path in a random folder that may or may not be taken.
func (r *randomChanges) fresh() string {
	names := []string{"a", "b", "c", "a.so", "etc", "lib", "conf.d", "deep", "x", "one", "two", "zz", ".wh", "\xff"}
	return filepath.Join(r.some(true), names[r.IntN(len(names))])
}

func (r *randomChanges) data() []byte {
	b := make([]byte, r.IntN(3000))
	for i := range b {
		b[i] = byte(r.IntN(4))
	}
	return b
}

// write makes or overwrites a file; a device or fifo is never opened.
func (r *randomChanges) write() {
	p := r.fresh()
	if fi, err := os.Stat(p); err != nil || fi.Mode().IsRegular() {
		_ = os.WriteFile(p, r.data(), 0o644)
	}
}

func (r *randomChanges) rewrite() {
	p := r.some(false)
	if fi, err := os.Lstat(p); err == nil && fi.Mode().IsRegular() {
		_ = os.WriteFile(p, r.data(), 0o600)
	}
}

func (r *randomChanges) appendTo() {
	p := r.some(false)
	if fi, err := os.Lstat(p); err != nil || !fi.Mode().IsRegular() {
		return
	}
	if f, err := os.OpenFile(p, os.O_WRONLY|os.O_APPEND, 0); err == nil {
		_, _ = f.Write(r.data())
		_ = f.Close()
	}
}

func (r *randomChanges) truncate() {
	p := r.some(false)
	if fi, err := os.Lstat(p); err == nil && fi.Mode().IsRegular() {
		_ = os.Truncate(p, int64(r.IntN(300000)))
	}
}

func (r *randomChanges) mkdir()     { _ = os.Mkdir(r.fresh(), 0o700+fs.FileMode(r.IntN(64))) }
func (r *randomChanges) remove()    { _ = os.Remove(r.some(false)) }
func (r *randomChanges) removeAll() { _ = os.RemoveAll(r.fresh()) }
func (r *randomChanges) rename()    { _ = os.Rename(r.some(false), r.fresh()) }
func (r *randomChanges) link()      { _ = os.Link(r.some(false), r.fresh()) }
func (r *randomChanges) symlink()   { _ = os.Symlink(r.fresh(), r.fresh()) }

func (r *randomChanges) chmod() {
	p := r.some(false)
	if fi, err := os.Lstat(p); err == nil && fi.Mode()&fs.ModeSymlink == 0 {
		_ = unix.Chmod(p, uint32(r.IntN(0o10000)))
	}
}

func (r *randomChanges) chown() { _ = os.Lchown(r.some(false), r.IntN(3), r.IntN(3)<<30) }

func (r *randomChanges) xattr() {
	p, name := r.some(false), []string{"user.a", "trusted.b", "user.note"}[r.IntN(3)]
	if r.IntN(3) == 0 {
		_ = unix.Lremovexattr(p, name)
		return
	}
	_ = unix.Lsetxattr(p, name, []byte("value")[:r.IntN(6)], 0)
}

func (r *randomChanges) device() {
	types := []uint32{unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO}
	_ = unix.Mknod(r.fresh(), types[r.IntN(3)]|0o640, int(unix.Mkdev(uint32(1+r.IntN(9)), uint32(r.IntN(9)))))
}

func (r *randomChanges) times() {
	ts := unix.NsecToTimespec(time.Unix(int64(r.IntN(3)), int64(r.IntN(2))*500).UnixNano())
	_ = unix.UtimesNanoAt(unix.AT_FDCWD, r.some(false), []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

// TestRandomChanges is the round trip: what a mount shows after random
// changes is what its layer makes of the lower.
func TestRandomChanges(t *testing.T) {
	seeds := uint64(16)
	if testing.Short() {
		seeds = 4
	}
	for _, options := range []string{"", "metacopy=on,redirect_dir=on"} {
		for seed := range seeds {
			t.Run(fmt.Sprintf("%s/%d", options, seed), func(t *testing.T) {
				o := newOverlay(t, baseTree, options)
				r := &randomChanges{rand.New(rand.NewPCG(seed, 1)), o.merged}
				r.do(30 + int(seed)*5)
				o.check(t)
			})
		}
	}
}
