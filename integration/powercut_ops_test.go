package integration

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// worker makes random changes below a mount, one at a time, and records each
// in a history before it is made.
type worker struct {
	*history
	root    string
	rootIno uint64
	rnd     *rand.Rand
	syncs   [3]int // how often it calls fsync, fdatasync and fsync of a folder
}

// step makes one change, or none where the choice does not fit.
func (w *worker) step() error {
	steps := []struct {
		weight int
		do     func() error
	}{
		{6, w.create},
		{8, w.overwrite},
		{3, w.grow},
		{2, w.shrink},
		{2, w.rewrite},
		{2, w.mapped},
		{w.syncs[0], func() error { return w.sync(false) }},
		{w.syncs[1], func() error { return w.sync(true) }},
		{w.syncs[2], w.syncFolder},
		{5, w.move},
		{3, w.moveFolder},
		{2, w.swap},
		{4, w.unlink},
		{2, w.rmdir},
		{3, w.mkdir},
		{3, w.link},
		{4, w.chmod},
	}
	total := 0
	for _, s := range steps {
		total += s.weight
	}
	n := w.rnd.IntN(total)
	for _, s := range steps {
		if n -= s.weight; n < 0 {
			return s.do()
		}
	}
	return nil
}

// pattern fills count blocks with a tag.
func pattern(tag string, count int) []byte {
	line := []byte(tag + "\n")
	block := bytes.Repeat(line, blockLen/len(line)+1)[:blockLen]
	return bytes.Repeat(block, count)
}

// tagOf reads the tag of a block; one that is not of one piece is told as such.
func tagOf(block []byte) string {
	if len(bytes.Trim(block, "\x00")) == 0 {
		return ""
	}
	tag, _, _ := strings.Cut(string(block), "\n")
	if len(tag) < 40 && bytes.Equal(block, pattern(tag, 1)[:len(block)]) {
		return tag
	}
	return fmt.Sprintf("torn: %.60q…", block)
}

// path returns where the name is now.
func (w *worker) path(k key) string {
	parts := []string{k.name}
	for dir := k.dir; dir != w.rootIno; {
		up := w.places[dir][0]
		parts = append(parts, up.name)
		dir = up.dir
	}
	slices.Reverse(parts)
	return filepath.Join(w.root, filepath.Join(parts...))
}

// pick returns a random name of a file or of a folder.
func (w *worker) pick(folder bool) (key, uint64, bool) {
	var list []key
	for k, ino := range w.live {
		if _, is := w.folders[ino]; is == folder {
			list = append(list, k)
		}
	}
	if len(list) == 0 {
		return key{}, 0, false
	}
	slices.SortFunc(list, func(a, b key) int {
		return strings.Compare(fmt.Sprint(a.dir, a.name), fmt.Sprint(b.dir, b.name))
	})
	k := list[w.rnd.IntN(len(list))]
	return k, w.live[k], true
}

// place returns a random name in a random folder, taken or not.
func (w *worker) place() key {
	dir := w.rootIno
	if k, ino, ok := w.pick(true); ok && w.rnd.IntN(5) > 0 {
		dir = ino
		if w.rnd.IntN(3) == 0 {
			return key{dir, filepath.Base(k.name)}
		}
	}
	names := []string{"a", "b", "c", "d", "e", "one", "two", "big", "sub"}
	return key{dir, names[w.rnd.IntN(len(names))]}
}

// free returns a place where nothing is.
func (w *worker) free() (key, bool) {
	for range 8 {
		if k := w.place(); w.live[k] == 0 {
			return k, true
		}
	}
	return key{}, false
}

func inoOf(path string) (uint64, error) {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	return st.Ino, err
}

// fresh makes something new at k and returns its number. That is not known
// before, so a cut waits until the change is recorded.
func (w *worker) fresh(k key, mode uint32, build func(path string) error) (uint64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	path := w.path(k)
	if err := build(path); err != nil {
		return 0, err
	}
	ino, err := inoOf(path)
	if err != nil {
		return 0, err
	}
	w.beginLocked(fmt.Sprintf("new %v = %d", k, ino), map[key]uint64{k: ino}, map[uint64]uint32{ino: mode &^ unix.S_IFMT})
	if mode&unix.S_IFMT == unix.S_IFDIR {
		w.folders[ino] = struct{}{}
		return ino, nil
	}
	delete(w.folders, ino)
	w.born(ino, nil)
	return ino, nil
}

func (w *worker) create() error {
	k, ok := w.free()
	if !ok {
		return nil
	}
	ino, err := w.fresh(k, unix.S_IFREG|0o644, func(path string) error {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		return f.Close()
	})
	if err != nil {
		return err
	}
	return w.writeAt(k, ino, 0, 1+w.rnd.IntN(4))
}

func (w *worker) mkdir() error {
	k, ok := w.free()
	if !ok || len(w.folders) > 16 {
		return nil
	}
	_, err := w.fresh(k, unix.S_IFDIR|0o755, func(path string) error { return os.Mkdir(path, 0o755) })
	return err
}

func (w *worker) writeAt(k key, ino uint64, first, count int) error {
	f, err := os.OpenFile(w.path(k), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	tag := w.write(ino, first, count)
	_, err = f.WriteAt(pattern(tag, count), int64(first)*blockLen)
	if err != nil || w.rnd.IntN(6) > 0 {
		return err
	}
	return w.syncFile(f, ino, w.syncs[0] == 0)
}

// overwrite writes some blocks of a file in place.
func (w *worker) overwrite() error {
	k, ino, ok := w.pick(false)
	if !ok || w.file(ino).size() == 0 {
		return nil
	}
	size := w.file(ino).size()
	first := w.rnd.IntN(size)
	return w.writeAt(k, ino, first, 1+w.rnd.IntN(min(size-first, 8)))
}

func (w *worker) grow() error {
	k, ino, ok := w.pick(false)
	if !ok || w.file(ino).size() > 300 {
		return nil
	}
	return w.writeAt(k, ino, w.file(ino).size()+w.rnd.IntN(3), 1+w.rnd.IntN(3))
}

func (w *worker) shrink() error {
	k, ino, ok := w.pick(false)
	if !ok {
		return nil
	}
	size := w.rnd.IntN(w.file(ino).size() + 2)
	path := w.path(k)
	w.truncate(ino, size)
	return os.Truncate(path, int64(size)*blockLen)
}

// rewrite replaces the content by O_TRUNC.
func (w *worker) rewrite() error {
	k, ino, ok := w.pick(false)
	if !ok {
		return nil
	}
	path := w.path(k)
	w.truncate(ino, 0)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	f.Close()
	return w.writeAt(k, ino, 0, 1+w.rnd.IntN(3))
}

// mapped writes a block through a shared mapping and, where the round syncs
// data, msyncs it.
func (w *worker) mapped() error {
	k, ino, ok := w.pick(false)
	if !ok || w.file(ino).size() == 0 {
		return nil
	}
	f, err := os.OpenFile(w.path(k), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	block := w.rnd.IntN(w.file(ino).size())
	mem, err := unix.Mmap(int(f.Fd()), int64(block)*blockLen, blockLen, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	defer unix.Munmap(mem)
	copy(mem, pattern(w.write(ino, block, 1), 1))
	if w.syncs[1] == 0 {
		return nil
	}
	if err := unix.Msync(mem, unix.MS_SYNC); err != nil {
		return err
	}
	w.keep(ino, true)
	return nil
}

func (w *worker) sync(dataOnly bool) error {
	k, ino, ok := w.pick(false)
	if !ok {
		return nil
	}
	f, err := os.Open(w.path(k))
	if err != nil {
		return err
	}
	defer f.Close()
	return w.syncFile(f, ino, dataOnly)
}

func (w *worker) syncFile(f *os.File, ino uint64, dataOnly bool) error {
	call := unix.Fsync
	if dataOnly {
		call = unix.Fdatasync
	}
	if err := call(int(f.Fd())); err != nil {
		return err
	}
	w.keep(ino, dataOnly)
	return nil
}

func (w *worker) syncFolder() error {
	path, ino := w.root, w.rootIno
	if k, picked, ok := w.pick(true); ok {
		path, ino = w.path(k), picked
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return err
	}
	w.keep(ino, false)
	return nil
}

// move renames a file, over another one or to a free name.
func (w *worker) move() error {
	from, ino, ok := w.pick(false)
	to := w.place()
	if !ok || w.live[to] == ino {
		return nil
	}
	if _, folder := w.folders[w.live[to]]; folder {
		return nil
	}
	return w.rename(from, to, ino)
}

func (w *worker) rename(from, to key, ino uint64) error {
	a, b := w.path(from), w.path(to)
	w.begin(fmt.Sprintf("rename %v %v (%d over %d)", from, to, ino, w.live[to]), map[key]uint64{from: 0, to: ino}, nil)
	if err := unix.Rename(a, b); err != nil {
		return err
	}
	if w.rnd.IntN(4) == 0 && w.syncs[2] > 0 {
		return w.syncFolderOf(b, to.dir)
	}
	return nil
}

func (w *worker) syncFolderOf(path string, dir uint64) error {
	f, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return err
	}
	w.keep(dir, false)
	return nil
}

// moveFolder renames a folder, to a free name or over an empty folder.
func (w *worker) moveFolder() error {
	from, ino, ok := w.pick(true)
	if !ok {
		return nil
	}
	to := w.place()
	over := w.live[to]
	if _, folder := w.folders[over]; over != 0 && (!folder || !w.isEmpty(over)) {
		return nil
	}
	if over == ino || w.isBelow(to.dir, ino) {
		return nil
	}
	if err := w.rename(from, to, ino); err != nil {
		return err
	}
	delete(w.folders, over)
	return nil
}

func (w *worker) isEmpty(dir uint64) bool {
	for k := range w.live {
		if k.dir == dir {
			return false
		}
	}
	return true
}

// isBelow reports whether folder dir is top or lies below it.
func (w *worker) isBelow(dir, top uint64) bool {
	for dir != w.rootIno && dir != top {
		dir = w.places[dir][0].dir
	}
	return dir == top
}

// swap exchanges two files.
func (w *worker) swap() error {
	a, one, ok := w.pick(false)
	b, two, _ := w.pick(false)
	if !ok || one == two {
		return nil
	}
	p, q := w.path(a), w.path(b)
	w.begin(fmt.Sprintf("exchange %v %v (%d, %d)", a, b, one, two), map[key]uint64{a: two, b: one}, nil)
	return unix.Renameat2(unix.AT_FDCWD, p, unix.AT_FDCWD, q, unix.RENAME_EXCHANGE)
}

func (w *worker) unlink() error {
	k, ino, ok := w.pick(false)
	if !ok || len(w.live) < 12 {
		return nil
	}
	path := w.path(k)
	w.begin(fmt.Sprintf("unlink %v (%d)", k, ino), map[key]uint64{k: 0}, nil)
	return os.Remove(path)
}

func (w *worker) rmdir() error {
	k, ino, ok := w.pick(true)
	if !ok || !w.isEmpty(ino) {
		return nil
	}
	path := w.path(k)
	w.begin(fmt.Sprintf("rmdir %v (%d)", k, ino), map[key]uint64{k: 0}, nil)
	delete(w.folders, ino)
	return unix.Rmdir(path)
}

func (w *worker) link() error {
	from, ino, ok := w.pick(false)
	to, free := w.free()
	if !ok || !free {
		return nil
	}
	a, b := w.path(from), w.path(to)
	w.begin(fmt.Sprintf("link %v %v (%d)", from, to, ino), map[key]uint64{to: ino}, nil)
	return os.Link(a, b)
}

func (w *worker) chmod() error {
	k, ino, ok := w.pick(w.rnd.IntN(3) == 0)
	if !ok {
		return nil
	}
	mode := uint32(0o600 | w.rnd.IntN(0o100))
	if _, folder := w.folders[ino]; folder {
		mode |= 0o700
	}
	path := w.path(k)
	w.begin(fmt.Sprintf("chmod %v (%d) %o", k, ino, mode), nil, map[uint64]uint32{ino: mode})
	return os.Chmod(path, os.FileMode(mode))
}
