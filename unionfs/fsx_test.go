package unionfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fsx does to one large file of the lower, at random, all that can be done to
// a file, and knows what must be in it. The idea is that of Apple's and the
// xfstests' fsx.
type fsx struct {
	*rig
	rnd    *rand.Rand
	name   string
	f      *os.File // open all the time
	direct *os.File // the same, with O_DIRECT
	want   []byte
	ops    []string // what was done last
}

const (
	fsxSize = 1<<20 + 300_001
	fsxMax  = 3 << 20
)

// fsxLower makes two large files: one all data, one with holes.
var fsxLower = fmt.Sprintf(`head -c %d /dev/urandom > big; cp big holes
fallocate -p -o 50000 -l 500000 holes; fallocate -p -o 1000000 -l 4096 holes; head -c 3000 /dev/urandom > small`, fsxSize)

// fsxRounds is how many operations a test does.
func fsxRounds() int {
	if os.Getenv("UNIO_TEST_LONG") != "" {
		return 1_000_000
	}
	if testing.Short() { // as for the race detector: one operation at a time is no work for it
		return 3_000
	}
	return 10_000
}

func newFsx(t *testing.T, name string, seed uint64) *fsx {
	x := &fsx{rig: newRig(t, fsxLower), rnd: rand.New(rand.NewPCG(seed, 3)), name: name}
	var err error
	if x.want, err = os.ReadFile(filepath.Join(x.lower, name)); err != nil {
		t.Fatal(err)
	}
	x.mount(false)
	x.open()
	return x
}

func (x *fsx) open() {
	x.t.Helper()
	path := filepath.Join(x.dir, x.name)
	var err error
	if x.f, err = os.OpenFile(path, os.O_RDWR, 0); err != nil {
		x.t.Fatal(err)
	}
	if x.direct, err = os.OpenFile(path, os.O_RDWR|unix.O_DIRECT, 0); err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(x.close) // before that of the mount, which was made before
}

func (x *fsx) close() {
	x.f.Close()
	x.direct.Close()
}

func (x *fsx) fatalf(format string, a ...any) {
	x.t.Helper()
	x.t.Fatalf("last operations:\n%s\n%s", strings.Join(x.ops, "\n"), fmt.Sprintf(format, a...))
}

// change is one operation that was tried: what the file was before and what it
// is if all of it was done.
type change struct {
	old, now []byte
	err      error
	mapped   bool // byte by byte: a sync may write a page while it is filled
}

// place returns an offset, often near a block's edge, and a length.
func (x *fsx) place() (off, length int64) {
	off = x.rnd.Int64N(int64(len(x.want)) + 20_000)
	if x.rnd.IntN(3) == 0 {
		off = off/4096*4096 + x.rnd.Int64N(3) - 1
	}
	off = min(max(off, 0), fsxMax)
	length = 1 + x.rnd.Int64N(30_000)
	if x.rnd.IntN(30) == 0 {
		length = 1 + x.rnd.Int64N(1<<20)
	}
	return off, length
}

// step does one operation and, if it was one that changes something, returns
// what it is to have done. The caller takes it over or not.
func (x *fsx) step() (c change, changes bool) {
	x.t.Helper()
	off, length := x.place()
	x.ops = append(x.ops[max(0, len(x.ops)-40):], "")
	switch x.rnd.IntN(20) {
	case 0:
		return x.truncate(x.newSize(off)), true
	case 1, 2, 3:
		return x.fallocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, length), true
	case 4:
		return x.fallocate(unix.FALLOC_FL_ZERO_RANGE|uint32(x.rnd.IntN(2)), off, length), true
	case 5:
		return x.fallocate(uint32(x.rnd.IntN(2)), off, length), true
	case 6, 7:
		return x.copyRange(off, length), true
	case 8, 9, 10:
		return x.writeMapped(off, length)
	case 11, 12:
		return x.write(x.direct, off/512*512, (length+511)/512*512), true
	case 13:
		return change{err: x.f.Sync()}, false
	case 14:
		return change{err: x.readMapped(off, length)}, false
	case 15:
		return change{err: x.read(x.direct, off/512*512, (length+511)/512*512)}, false
	case 16:
		return change{err: x.read(x.f, off, length)}, false
	default:
		return x.write(x.f, off, length), true
	}
}

// newSize returns off as it is, or what keeps most of the file: one that was
// cut short shows little of the lower.
func (x *fsx) newSize(off int64) int64 {
	size := int64(len(x.want))
	switch x.rnd.IntN(16) {
	case 0:
		return 0
	case 1, 2:
		return off
	case 3:
		return size
	case 4, 5, 6, 7, 8, 9:
		return max(0, size-x.rnd.Int64N(10_000))
	}
	return max(off, size)
}

func (x *fsx) note(format string, a ...any) {
	x.ops[len(x.ops)-1] = fmt.Sprintf("size %d: ", len(x.want)) + fmt.Sprintf(format, a...)
}

// with returns the content with data put in at off.
func (x *fsx) with(off int64, data []byte) []byte {
	now := x.sized(max(int64(len(x.want)), off+int64(len(data))))
	copy(now[off:], data)
	return now
}

// sized returns a copy of the content cut or filled up with zeros.
func (x *fsx) sized(size int64) []byte {
	now := make([]byte, size)
	copy(now, x.want)
	return now
}

func (x *fsx) random(length int64) []byte {
	data := make([]byte, length)
	for i := 0; i < len(data); i += 8 {
		v := x.rnd.Uint64()
		for j := i; j < min(i+8, len(data)); j++ {
			data[j] = byte(v) | 1
			v >>= 8
		}
	}
	return data
}

var errShort = errors.New("short")

func (x *fsx) write(f *os.File, off, length int64) change {
	x.note("write %d at %d (direct %v)", length, off, f == x.direct)
	data := x.random(length)
	n, err := unix.Pwrite(int(f.Fd()), data, off)
	if err == nil && n < len(data) {
		err = errShort
	}
	return change{old: x.want, now: x.with(off, data), err: err}
}

func (x *fsx) truncate(size int64) change {
	x.note("truncate to %d", size)
	return change{old: x.want, now: x.sized(size), err: x.f.Truncate(size)}
}

func (x *fsx) fallocate(mode uint32, off, length int64) change {
	x.note("fallocate %#x %d at %d", mode, length, off)
	c := change{old: x.want, now: x.want}
	if mode&unix.FALLOC_FL_KEEP_SIZE == 0 {
		c.now = x.sized(max(int64(len(x.want)), off+length))
	}
	if mode&^unix.FALLOC_FL_KEEP_SIZE != 0 {
		c.now = bytes.Clone(c.now)
		if size := int64(len(c.now)); off < size {
			clear(c.now[off:min(off+length, size)])
		}
	}
	c.err = unix.Fallocate(int(x.f.Fd()), mode, off, length)
	if c.err == unix.EOPNOTSUPP && mode&unix.FALLOC_FL_ZERO_RANGE != 0 {
		c = change{old: x.want, now: x.want} // tmpfs
	}
	return c
}

// copyRange copies from elsewhere in the file or from another of the lower.
func (x *fsx) copyRange(to, length int64) change {
	src, from := x.f, x.rnd.Int64N(int64(len(x.want))+1)
	data := x.want
	if x.rnd.IntN(2) == 0 {
		other, err := os.Open(filepath.Join(x.dir, "small"))
		if err != nil {
			return change{old: x.want, now: x.want, err: err}
		}
		defer other.Close()
		if data, err = os.ReadFile(filepath.Join(x.lower, "small")); err != nil {
			x.t.Fatal(err)
		}
		src, from = other, 0
	}
	length = min(length, int64(len(data))-from)
	if src == x.f && from < to+length && to < from+length {
		length = 0 // the kernel refuses what overlaps
	}
	x.note("copy %d from %d of %s to %d", length, from, filepath.Base(src.Name()), to)
	c := change{old: x.want, now: x.want}
	if length > 0 {
		c.now = x.with(to, data[from:from+length])
		c.err = copyAll(src, from, x.f, to, length)
	}
	return c
}

func copyAll(src *os.File, from int64, dst *os.File, to, length int64) error {
	for length > 0 {
		n, err := unix.CopyFileRange(int(src.Fd()), &from, int(dst.Fd()), &to, int(length), 0)
		if err == nil && n == 0 {
			err = errShort
		}
		if err != nil {
			return err
		}
		length -= int64(n)
	}
	return nil
}

// mapped runs do on a shared mapping of a range of the file, as far as the
// file goes. A server that dies meanwhile is an error.
func (x *fsx) mapped(off, length int64, do func(p []byte) error) (err error) {
	start := off / 4096 * 4096
	p, err := unix.Mmap(int(x.f.Fd()), start, int(off+length-start), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	defer unix.Munmap(p)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() != nil {
			err = unix.EFAULT // SIGBUS
		}
	}()
	if err := do(p[off-start:]); err != nil {
		return err
	}
	return unix.Msync(p, unix.MS_SYNC)
}

func (x *fsx) writeMapped(off, length int64) (change, bool) {
	length = min(length, int64(len(x.want))-off)
	if length <= 0 {
		return change{}, false
	}
	x.note("write %d at %d through a mapping", length, off)
	data := x.random(length)
	err := x.mapped(off, length, func(p []byte) error { copy(p, data); return nil })
	return change{x.want, x.with(off, data), err, true}, true
}

var errDiffers = errors.New("what was read differs")

func (x *fsx) readMapped(off, length int64) error {
	length = min(length, int64(len(x.want))-off)
	if length <= 0 {
		return nil
	}
	x.note("read %d at %d through a mapping", length, off)
	return x.mapped(off, length, func(p []byte) error {
		if !bytes.Equal(p, x.want[off:off+length]) {
			return errDiffers
		}
		return nil
	})
}

func (x *fsx) read(f *os.File, off, length int64) error {
	x.note("read %d at %d (direct %v)", length, off, f == x.direct)
	p := make([]byte, length)
	n, err := unix.Pread(int(f.Fd()), p, off)
	if err != nil {
		return err
	}
	off = min(off, int64(len(x.want)))
	want := x.want[off:min(off+length, int64(len(x.want)))]
	switch {
	case !bytes.HasPrefix(want, p[:n]):
		return errDiffers
	case n < len(want):
		return errShort
	}
	return nil
}

// compare reads all of the file, and looks for its holes, which must be zeros.
func (x *fsx) compare() {
	x.t.Helper()
	got, err := os.ReadFile(x.f.Name())
	if err != nil {
		x.fatalf("read: %v", err)
	}
	if at := firstDifference(got, x.want); at >= 0 {
		x.fatalf("%d bytes, want %d; the first that differs is %d (block %d)", len(got), len(x.want), at, at/4096)
	}
	for off := int64(0); off < int64(len(x.want)); {
		data, err := unix.Seek(int(x.f.Fd()), off, unix.SEEK_DATA)
		if err == unix.ENXIO {
			data = int64(len(x.want))
		} else if err != nil {
			x.fatalf("seek from %d: %v", off, err)
		}
		if len(bytes.Trim(x.want[off:data], "\x00")) > 0 {
			x.fatalf("there is data in the hole %d to %d", off, data)
		}
		if off, err = unix.Seek(int(x.f.Fd()), data, unix.SEEK_HOLE); err == unix.ENXIO {
			return
		}
	}
}

// firstDifference returns where two contents differ, -1 if they do not.
func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	if len(a) != len(b) {
		return min(len(a), len(b))
	}
	return -1
}

// TestFsx works on partial files with the server started anew now and then.
func TestFsx(t *testing.T) {
	for _, name := range []string{"big", "holes"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newFsx(t, name, 1)
			for i := range fsxRounds() / 4 {
				c, changes := x.step()
				if c.err != nil {
					x.fatalf("step %d: %v", i, c.err)
				}
				if changes {
					x.want = c.now
				}
				if i%400 == 399 {
					x.compare()
				}
				if i%800 == 799 {
					x.startAnew()
				}
			}
			x.compare()
		})
	}
}

// startAnew unmounts and mounts. Now and then the container is a fresh one, as
// a file that was written for long has little left of the lower.
func (x *fsx) startAnew() {
	x.t.Helper()
	x.close()
	x.unmount()
	if x.rnd.IntN(2) == 0 {
		x.fresh()
	}
	x.mount(false)
	x.open()
	x.compare()
}

// fresh empties the upper.
func (x *fsx) fresh() {
	x.t.Helper()
	x.sh(x.upper, "find . -mindepth 1 -delete; rm -rf "+x.work+"/*")
	var err error
	if x.want, err = os.ReadFile(filepath.Join(x.lower, x.name)); err != nil {
		x.t.Fatal(err)
	}
	x.ops = append(x.ops, "a fresh upper")
}
