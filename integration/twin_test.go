package integration

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// twin does the same random things to a plain folder and to a mount. The
// plain folder is the reference: what it refuses the mount must refuse with
// the same error.
type twin struct {
	*rand.Rand
	t            *testing.T
	plain, mount string
	held         []heldPair
	log          []string // what was done, for the report of a failure
	started      time.Time
	inodes       map[inodeKey]uint64     // of the plain folder → of the mount
	lowerLinks   bool                    // a file may have the link count of the lower, which is higher
	foreign      func(xattr string) bool // attributes not to compare
}

// heldPair is one file open on both sides.
type heldPair struct {
	name         string
	plain, mount int
}

func newTwin(t *testing.T, seed uint64, plain, mount string) *twin {
	w := &twin{
		Rand: rand.New(rand.NewPCG(seed, 7)), t: t, plain: plain, mount: mount,
		started: time.Now().Add(-time.Second), inodes: map[inodeKey]uint64{},
	}
	t.Cleanup(w.closeAll)
	return w
}

// weighted is an operation and how often it is taken.
type weighted struct {
	weight int
	do     func()
}

// linkOps are what a test of hard links does; everyOp is all there is.
func (w *twin) linkOps() []weighted {
	return []weighted{
		{6, w.link},
		{4, w.remove},
		{5, w.rename},
		{3, w.appendTo},
		{1, w.rewrite},
		{2, w.chmod},
		{1, w.exchange},
		{1, w.truncate},
		{1, w.chown},
		{1, w.mkdir},
		{1, w.open},
		{1, w.writeHeld},
		{1, w.closeOne},
	}
}

func (w *twin) everyOp() []weighted {
	return append(w.linkOps(), []weighted{
		{4, w.create},
		{3, w.mkdir},
		{8, w.renameFolder},
		{1, w.removeAll},
		{1, w.symlink},
		{1, w.xattr},
		{1, w.device},
		{2, w.times},
		{1, w.writeAt},
		{2, w.open},
		{1, w.readHeld},
		{1, w.chmodHeld},
		{3, w.exchange},
		{1, w.noReplace},
	}...)
}

func (w *twin) do(n int, ops []weighted) {
	w.t.Helper()
	total := 0
	for _, o := range ops {
		total += o.weight
	}
	for range n {
		k := w.IntN(total)
		for _, o := range ops {
			if k -= o.weight; k < 0 {
				o.do()
				break
			}
		}
		if w.t.Failed() {
			w.t.Fatalf("what was done last:\n%s", bytes.Join(w.last(12), []byte("\n")))
		}
	}
}

func (w *twin) last(n int) (lines [][]byte) {
	for _, l := range w.log[max(0, len(w.log)-n):] {
		lines = append(lines, []byte(l))
	}
	return lines
}

// both runs one operation on either side and compares the errors.
func (w *twin) both(what string, do func(root string) error) {
	w.t.Helper()
	want := do(w.plain)
	got := do(w.mount)
	w.log = append(w.log, fmt.Sprintf("%s: %v", what, want))
	if want != got {
		w.t.Errorf("%s: %v on the mount, %v on a plain folder", what, got, want)
	}
}

// pick returns a random path that passes, "." if there is none.
func (w *twin) pick(passes func(fs.DirEntry) bool) string {
	list := []string{}
	_ = filepath.WalkDir(w.plain, func(p string, d fs.DirEntry, err error) error {
		if err == nil && p != w.plain && passes(d) {
			name, _ := filepath.Rel(w.plain, p)
			list = append(list, name)
		}
		return nil
	})
	if len(list) == 0 {
		return "."
	}
	return list[w.IntN(len(list))]
}

func isDir(d fs.DirEntry) bool { return d.IsDir() }
func isReg(d fs.DirEntry) bool { return d.Type().IsRegular() }
func isAny(fs.DirEntry) bool   { return true }
func notDir(d fs.DirEntry) bool {
	return !d.IsDir()
}

// fresh returns a path in a random folder that may or may not be taken.
func (w *twin) fresh() string {
	names := []string{"a", "b", "c", "d", "e", "f", "one", "two", "deep", "sub", "lib", "\xff"}
	folder := "."
	if w.IntN(5) > 0 {
		folder = w.pick(isDir)
	}
	return filepath.Join(folder, names[w.IntN(len(names))])
}

func (w *twin) data() []byte {
	b := make([]byte, w.IntN(9000))
	for i := range b {
		b[i] = byte(w.IntN(200))
	}
	return b
}

func writeFile(path string, flags int, data []byte, off int64) error {
	fd, err := unix.Open(path, flags|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o644)
	if err != nil {
		return err
	}
	if off >= 0 {
		_, err = unix.Pwrite(fd, data, off)
	} else {
		_, err = unix.Write(fd, data)
	}
	if closeErr := unix.Close(fd); err == nil {
		err = closeErr
	}
	return err
}

// create makes or overwrites a file; a device or fifo is never opened.
func (w *twin) create() {
	name, data := w.fresh(), w.data()
	var st unix.Stat_t
	if unix.Lstat(filepath.Join(w.plain, name), &st) == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		return
	}
	w.both("create "+name, func(root string) error {
		return writeFile(filepath.Join(root, name), unix.O_CREAT|unix.O_TRUNC, data, -1)
	})
}

func (w *twin) rewrite() { w.write("rewrite", unix.O_TRUNC, -1) }
func (w *twin) appendTo() {
	w.write("append", unix.O_APPEND, -1)
}
func (w *twin) writeAt() { w.write("write", 0, int64(w.IntN(600_000))) }

func (w *twin) write(what string, flags int, off int64) {
	name, data := w.pick(isReg), w.data()
	w.both(fmt.Sprintf("%s %s at %d", what, name, off), func(root string) error {
		return writeFile(filepath.Join(root, name), flags, data, off)
	})
}

func (w *twin) truncate() {
	name, size := w.pick(isReg), int64(w.IntN(600_000))
	w.both(fmt.Sprintf("truncate %s to %d", name, size), func(root string) error {
		return unix.Truncate(filepath.Join(root, name), size)
	})
}

func (w *twin) mkdir() {
	name, mode := w.fresh(), uint32(0o700+w.IntN(64))
	w.both("mkdir "+name, func(root string) error { return unix.Mkdir(filepath.Join(root, name), mode) })
}

func (w *twin) remove() {
	name := w.pick(isAny)
	w.both("remove "+name, func(root string) error {
		err := unix.Unlink(filepath.Join(root, name))
		if err == unix.EISDIR {
			err = unix.Rmdir(filepath.Join(root, name))
		}
		return err
	})
}

func (w *twin) removeAll() {
	name := w.pick(isDir)
	if name == "." || filepath.Dir(name) == "." && w.IntN(6) > 0 {
		return // or little stays to work on
	}
	w.both("rm -r "+name, func(root string) error { return os.RemoveAll(filepath.Join(root, name)) })
}

func (w *twin) rename()       { w.move(w.pick(notDir), w.fresh(), 0) }
func (w *twin) renameFolder() { w.move(w.pick(isDir), w.target(), 0) }
func (w *twin) noReplace()    { w.move(w.pick(isAny), w.target(), unix.RENAME_NOREPLACE) }
func (w *twin) exchange()     { w.move(w.pick(isAny), w.pick(isAny), unix.RENAME_EXCHANGE) }

// target is a place to rename to: a name somewhere, or what is there.
func (w *twin) target() string {
	if w.IntN(2) == 0 {
		return w.pick(isDir)
	}
	return w.fresh()
}

func (w *twin) move(from, to string, flags uint) {
	if from == "." || to == "." {
		return // nothing is left to move
	}
	w.both(fmt.Sprintf("rename %s %s (flags %d)", from, to, flags), func(root string) error {
		return unix.Renameat2(unix.AT_FDCWD, filepath.Join(root, from), unix.AT_FDCWD, filepath.Join(root, to), flags)
	})
}

func (w *twin) link() {
	from, to := w.pick(notDir), w.fresh()
	w.both("link "+from+" "+to, func(root string) error {
		return unix.Link(filepath.Join(root, from), filepath.Join(root, to))
	})
}

func (w *twin) symlink() {
	name, to := w.fresh(), w.fresh()
	w.both("symlink "+name, func(root string) error { return unix.Symlink(to, filepath.Join(root, name)) })
}

func (w *twin) chmod() {
	name, mode := w.pick(func(d fs.DirEntry) bool { return d.Type()&fs.ModeSymlink == 0 }), uint32(w.IntN(0o10000))
	w.both(fmt.Sprintf("chmod %o %s", mode, name), func(root string) error {
		return unix.Chmod(filepath.Join(root, name), mode)
	})
}

func (w *twin) chown() {
	name, uid, gid := w.pick(isAny), w.IntN(3), w.IntN(3)<<30
	w.both("chown "+name, func(root string) error { return unix.Lchown(filepath.Join(root, name), uid, gid) })
}

func (w *twin) xattr() {
	name, attr := w.pick(isAny), []string{"user.a", "trusted.b", "trusted.overlay.opaque", "trusted.unio.origin"}[w.IntN(4)]
	value, remove := []byte("value")[:1+w.IntN(5)], w.IntN(3) == 0
	w.both("xattr "+attr+" of "+name, func(root string) error {
		if remove {
			return unix.Lremovexattr(filepath.Join(root, name), attr)
		}
		return unix.Lsetxattr(filepath.Join(root, name), attr, value, 0)
	})
}

func (w *twin) device() {
	name, mode := w.fresh(), []uint32{unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO}[w.IntN(3)]|0o640
	dev := int(unix.Mkdev(uint32(1+w.IntN(9)), uint32(w.IntN(9))))
	w.both("mknod "+name, func(root string) error { return unix.Mknod(filepath.Join(root, name), mode, dev) })
}

func (w *twin) times() {
	name := w.pick(isAny)
	ts := []unix.Timespec{{Sec: int64(w.IntN(3)), Nsec: int64(w.IntN(1e9))}, {Sec: int64(w.IntN(9)), Nsec: int64(w.IntN(1e9))}}
	w.both("utimes "+name, func(root string) error {
		return unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(root, name), ts, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// open opens a file on both sides and keeps it.
func (w *twin) open() {
	if len(w.held) >= 8 {
		w.closeOne()
	}
	name, flags := w.pick(isReg), []int{unix.O_RDONLY, unix.O_RDWR, unix.O_RDWR | unix.O_APPEND}[w.IntN(3)]
	if name == "." {
		return
	}
	pair := heldPair{name: name}
	w.both("open "+name, func(root string) error {
		fd, err := unix.Open(filepath.Join(root, name), flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if root == w.plain {
			pair.plain = fd
		} else {
			pair.mount = fd
		}
		return err
	})
	w.held = append(w.held, pair)
}

// withHeld runs an operation on an open file.
func (w *twin) withHeld(what string, do func(fd int) error) {
	if len(w.held) == 0 {
		return
	}
	h := w.held[w.IntN(len(w.held))]
	w.both(what+" open "+h.name, func(root string) error {
		if root == w.plain {
			return do(h.plain)
		}
		return do(h.mount)
	})
}

func (w *twin) writeHeld() {
	data, off := w.data(), int64(w.IntN(20_000))
	w.withHeld("write to", func(fd int) error { _, err := unix.Pwrite(fd, data, off); return err })
}

func (w *twin) chmodHeld() {
	mode := uint32(w.IntN(0o1000))
	w.withHeld("chmod", func(fd int) error { return unix.Fchmod(fd, mode) })
}

// readHeld compares what two descriptors of one file say.
func (w *twin) readHeld() {
	var said []string
	w.withHeld("read", func(fd int) error {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		data := make([]byte, st.Size)
		n, err := unix.Pread(fd, data, 0)
		said = append(said, fmt.Sprintf("mode %o nlink %d size %d read %d sum %x", st.Mode, st.Nlink, st.Size, n, sumOf(data)))
		return err
	})
	if len(said) == 2 && said[0] != said[1] {
		w.t.Errorf("an open file: %s; on a plain folder %s", said[1], said[0])
	}
}

func (w *twin) closeOne() {
	if len(w.held) == 0 {
		return
	}
	i := w.IntN(len(w.held))
	h := w.held[i]
	w.held = append(w.held[:i], w.held[i+1:]...)
	_, _ = unix.Close(h.plain), unix.Close(h.mount)
}

func (w *twin) closeAll() {
	for len(w.held) > 0 {
		w.closeOne()
	}
}
