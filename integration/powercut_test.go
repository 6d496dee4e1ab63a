package integration

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// powerRig is a store on an ext4 whose disk is an image file on xfs. A clone of
// that file is one moment of the disk: FICLONE waits for the writes under way
// and lets no other in, so the clone holds every write that the loop device had
// done, and none that it had not.
type powerRig struct {
	*box
	xfs  string
	disk powerDisk
}

// powerDisk is a filesystem whose power is cut. check looks at a clone after
// it has been mounted and unmounted.
type powerDisk struct{ size, mkfs, options, cloneOptions, check string }

// powerDisks are the filesystems of which docs/design.md says that they keep the
// order of changes, or of which it says what is done instead.
func powerDisks() map[string]powerDisk {
	return map[string]powerDisk{
		"ext4":  {size: "192M", mkfs: "mkfs.ext4 -q -E lazy_itable_init=0", options: "loop", cloneOptions: "loop", check: "e2fsck -fn"},
		"xfs":   {size: "320M", mkfs: "mkfs.xfs -q", options: "loop", cloneOptions: "loop,nouuid", check: "xfs_repair -n"},
		"btrfs": {size: "256M", mkfs: "mkfs.btrfs -q", options: "loop,commit=300", cloneOptions: "loop", check: "btrfs check"},
	}
}

func newPowerRig(t *testing.T, disk string) *powerRig {
	b := newBox(t)
	needTool(t, "mkfs.xfs", "mkfs."+disk, "e2fsck", "losetup")
	r := &powerRig{box: b, xfs: b.path("xfs"), disk: powerDisks()[disk]}
	must(t, os.Mkdir(r.xfs, 0o700))
	must(t, os.Mkdir(b.store(), 0o700))
	shell(t, b.dir, `truncate -s 4G xfs.img
		mkfs.xfs -q -m reflink=1 xfs.img && mount -o loop xfs.img xfs`)
	t.Cleanup(func() { r.detach(r.xfs) })
	shell(t, b.dir, "truncate -s "+r.disk.size+" xfs/disk.img && "+r.disk.mkfs+" xfs/disk.img && mount -o "+r.disk.options+" xfs/disk.img store && rm -rf store/lost+found")
	t.Cleanup(func() {
		b.unmountAll()
		r.detach(b.store())
	})
	return r
}

func (r *powerRig) detach(dir string) {
	if err := unmount(dir); err != nil {
		r.t.Errorf("unmount %s: %v", dir, err)
		_ = unix.Unmount(dir, unix.MNT_DETACH) // the loop device goes with the last user
	}
}

// lowerTree fills a folder with what the image holds: files of whole blocks
// with tags, some of them with several names, in folders.
func lowerTree(dir string) error {
	sizes := map[string]int{
		"one": 1, "two": 5, "big": 80, "sub/a": 3, "sub/b": 2, "sub/big": 256, "sub/sub/c": 1, "sub/sub/d": 7, "etc/one": 2, "etc/e": 0,
	}
	for i := range 24 {
		sizes[fmt.Sprintf("many/%d/f%d", i%3, i)] = 1 + i%5
	}
	for name, blocks := range sizes {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		var data []byte
		for i := range blocks {
			data = append(data, pattern(fmt.Sprintf("lower:%s:%d", name, i), 1)...)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return err
		}
	}
	for _, link := range [][2]string{{"two", "etc/two"}, {"two", "sub/two"}, {"sub/sub/d", "sub/d"}} {
		if err := os.Link(filepath.Join(dir, link[0]), filepath.Join(dir, link[1])); err != nil {
			return err
		}
	}
	return nil
}

// look reads a tree below a mount.
func look(root string) (*seen, uint64, error) {
	s := &seen{names: map[key]uint64{}, modes: map[uint64]uint32{}, links: map[uint64]uint32{}, tags: map[uint64][]string{}}
	numbers := map[string]uint64{}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		numbers[path] = st.Ino
		if path == root {
			return nil
		}
		s.names[key{numbers[filepath.Dir(path)], filepath.Base(path)}] = st.Ino
		s.modes[st.Ino] = st.Mode &^ unix.S_IFMT
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return nil
		}
		s.links[st.Ino] = uint32(st.Nlink)
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		s.tags[st.Ino] = tagsOf(data)
		return nil
	})
	return s, numbers[root], err
}

func tagsOf(data []byte) []string {
	tags := []string{}
	for len(data) > 0 {
		n := min(blockLen, len(data))
		tags = append(tags, tagOf(data[:n]))
		data = data[n:]
	}
	return tags
}

// newWorker starts the history of a mount with what it shows now.
func newWorker(t *testing.T, mnt string, seed uint64) *worker {
	t.Helper()
	s, root, err := look(mnt)
	must(t, err)
	w := &worker{history: newHistory(), root: mnt, rootIno: root, rnd: rand.New(rand.NewPCG(seed, 1))}
	w.syncs = [][3]int{{4, 3, 4}, {4, 0, 0}, {0, 6, 0}, {0, 0, 6}, {1, 6, 2}}[w.rnd.IntN(5)]
	w.begin("the image", s.names, s.modes)
	clear(w.touched)
	w.kept = w.seq
	for ino := range s.modes {
		if tags, ok := s.tags[ino]; ok {
			w.born(ino, tags)
		} else {
			w.folders[ino] = struct{}{}
		}
	}
	return w
}

// cut lets the worker go on for a while, and clones the disk meanwhile.
func (r *powerRig) cut(w *worker, clone string, after time.Duration) (promise, int) {
	r.t.Helper()
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if err := w.step(); err != nil {
				done <- err
				return
			}
		}
	}()
	time.Sleep(after)
	p := w.promised()
	err := ficlone(filepath.Join(r.xfs, "disk.img"), clone)
	last := w.now()
	close(stop)
	if failed := <-done; failed != nil {
		r.t.Fatalf("worker: %v", failed)
	}
	must(r.t, err)
	return p, last
}

func ficlone(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err != nil {
		return err
	}
	if err := unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())); err != nil {
		dst.Close()
		return fmt.Errorf("clone %s: %w", from, err)
	}
	return dst.Close()
}

// inspect mounts a clone, and the container in it, and runs look on that.
func (r *powerRig) inspect(clone, name string, look func(mnt string)) {
	r.t.Helper()
	other := &box{t: r.t, dir: filepath.Join(r.dir, "cut")}
	must(r.t, os.MkdirAll(other.store(), 0o700))
	shell(r.t, r.dir, "mount -o "+r.disk.cloneOptions+" "+clone+" "+other.store())
	defer func() {
		other.unmountAll()
		r.detach(other.store())
		if out := shell(r.t, r.dir, r.disk.check+" "+clone+" 2>&1 || echo exit code $?"); strings.Contains(out, "exit code") {
			r.t.Errorf("check of the cut disk: %s", out)
		}
		must(r.t, os.Remove(clone))
	}()
	mnt := other.mount(name)
	work := other.run("inspect", "--format", "{{.GraphDriver.Data.WorkDir}}", name)
	if left := shell(r.t, work, "find tmp orphan -mindepth 1 2>/dev/null || true"); left != "" {
		r.t.Errorf("left in the work folder: %s", left)
	}
	look(mnt)
	other.run("fsck")
}

// TestPowerCut cuts the power of a disk under a container at random moments of
// random changes. After each cut the names must be as they were after one of the
// changes, not before the last that an fsync covered; every block must hold
// what was last fsynced or something written later, whole; and nothing may be
// zeros that was not.
func TestPowerCut(t *testing.T) {
	r := newPowerRig(t, "ext4")
	shell(t, r.store(), "mount -o remount,commit=1 .")
	must(t, lowerTree(r.path("lower")))
	pack(t, r.path("lower"), r.path("lower.tar"))
	r.run("import", "-q", r.path("lower.tar"), "example/pc:1")
	rounds, most := 10, 500*time.Millisecond
	if os.Getenv("UNIO_TEST_LONG") != "" {
		rounds, most = 200, time.Second
	}
	seed := uint64(time.Now().UnixNano())
	for round := range rounds {
		name := fmt.Sprintf("pc%d", round)
		w := newWorker(t, r.box.mount("--name", name, "example/pc:1"), seed+uint64(round))
		unix.Sync()
		clone := filepath.Join(r.xfs, "cut.img")
		p, last := r.cut(w, clone, time.Duration(w.rnd.Int64N(int64(most))))
		r.inspect(clone, name, func(mnt string) { judge(t, w, mnt, p, last) })
		if t.Failed() {
			t.Fatalf("in round %d of seed %d, syncs %d", round, seed, w.syncs)
		}
		r.run("umount", w.root)
		r.run("rm", name)
	}
}

func judge(t *testing.T, w *worker, mnt string, p promise, last int) {
	t.Helper()
	s, _, err := look(mnt)
	if err != nil {
		t.Errorf("read the tree after the cut: %v", err)
		return
	}
	at, err := w.match(s, p, last)
	if err != nil {
		t.Error(err)
		return
	}
	t.Logf("syncs %d: cut at change %d, kept %d, found %d", w.syncs, last, p.names, at)
	for _, problem := range w.checkFiles(s, p, at, last) {
		t.Error(problem)
	}
}
