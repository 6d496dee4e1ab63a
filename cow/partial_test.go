package cow

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"unio/unionfs/merge"
	"unio/unionfs/merge/mergetest"
)

// bench is one union without a mount, over a lower of large files.
type bench struct {
	t     *testing.T
	dir   string
	lower *mergetest.Memory
	fs    *FS
	log   bytes.Buffer
	o     Options
}

// bigSize is no multiple of a block.
const bigSize = 1<<20 + 1234

// newBench makes a lower of files called big (random bytes), holes (data, a
// hole, data) and small.
func newBench(t *testing.T, o Options) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir(), o: o}
	for _, name := range []string{"lower", "upper", "work"} {
		b.check(os.Mkdir(filepath.Join(b.dir, name), 0o755))
	}
	r := rand.New(rand.NewPCG(1, 2))
	big := make([]byte, bigSize)
	for i := range big {
		big[i] = byte(r.Uint32()) | 1 // never zero
	}
	b.file("big", big)
	clear(big[100_000:600_000])
	b.file("holes", big)
	b.file("small", big[:1000])
	var err error
	b.lower, err = mergetest.FromDir(filepath.Join(b.dir, "lower"))
	b.check(err)
	b.open()
	t.Cleanup(func() { b.fs.Close() })
	return b
}

func (b *bench) check(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) file(name string, data []byte) {
	b.t.Helper()
	b.check(os.WriteFile(filepath.Join(b.dir, "lower", name), data, 0o644))
}

func (b *bench) open() {
	b.t.Helper()
	b.o.Upper, b.o.Work = filepath.Join(b.dir, "upper"), filepath.Join(b.dir, "work")
	b.o.Lower, b.o.Root = b.lower, os.Geteuid() == 0
	b.o.Log = slog.New(slog.NewTextHandler(&b.log, nil))
	var err error
	b.fs, err = Open(b.o)
	b.check(err)
}

// reopen is what a server does that is started again, after a crash too: the
// upper holds all that was written.
func (b *bench) reopen() {
	b.t.Helper()
	b.check(b.fs.Close())
	b.open()
}

func (b *bench) ino(name string) merge.Ino {
	b.t.Helper()
	var st Stat
	b.check(b.fs.Lookup(merge.RootIno, name, &st))
	return st.Ino
}

// state returns where the data of a file is.
func (b *bench) state(name string) dataState {
	n := b.fs.table.get(b.ino(name))
	if n == nil {
		return dataLower
	}
	return n.data.get()
}

// upperBlocks returns how many blocks of 4 KiB of a file the upper has.
func (b *bench) upperBlocks(name string) int64 {
	b.t.Helper()
	var st unix.Stat_t
	b.check(unix.Stat(filepath.Join(b.dir, "upper", name), &st))
	return st.Blocks / 8
}

// contents reads a file through the union.
func (b *bench) contents(name string) []byte {
	b.t.Helper()
	var st Stat
	ino := b.ino(name)
	b.check(b.fs.Getattr(ino, &st))
	p := make([]byte, st.Size+10)
	n, err := b.fs.Read(ino, p, 0)
	b.check(err)
	if uint64(n) != st.Size {
		b.t.Fatalf("%s: %d of %d bytes", name, n, st.Size)
	}
	return p[:n]
}

func (b *bench) same(name string, want []byte) {
	b.t.Helper()
	got := b.contents(name)
	if len(got) != len(want) {
		b.t.Fatalf("%s: %d bytes, want %d", name, len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			b.t.Fatalf("%s: byte %d (block %d) is %#x, want %#x", name, i, i/4096, got[i], want[i])
		}
	}
}

func (b *bench) write(name string, off int64, data string) {
	b.t.Helper()
	n, err := b.fs.Write(b.ino(name), []byte(data), off, How{})
	if err != nil || n != len(data) {
		b.t.Fatalf("write %s: %d, %v", name, n, err)
	}
}

func (b *bench) truncate(name string, size uint64) {
	b.t.Helper()
	var st Stat
	b.check(b.fs.Setattr(b.ino(name), Change{Size: &size}, &st))
	if st.Size != size {
		b.t.Fatalf("size %d, want %d", st.Size, size)
	}
}

func TestWriteCopiesBlocks(t *testing.T) {
	b := newBench(t, Options{})
	want := b.contents("big")
	b.write("big", 5000, "X")
	b.write("big", 8190, "across")
	b.write("big", bigSize-1, "end and more")
	copy(want[5000:], "X")
	copy(want[8190:], "across")
	want = append(want[:bigSize-1], "end and more"...)
	b.same("big", want)
	if got := b.upperBlocks("big"); got < 2 || got > 4 { // the last may be a small one
		t.Errorf("%d blocks in the upper, want 3 and at most one of metadata", got)
	}
	b.reopen()
	if b.state("big") != dataPartial {
		t.Error("the file is no longer partial")
	}
	b.same("big", want)
}

func TestSmallFilesAreCopiedWhole(t *testing.T) {
	b := newBench(t, Options{})
	b.write("small", 0, "X")
	if b.state("small") != dataWhole {
		t.Error("a small file is partial")
	}
}

func TestMetadataThenBlocks(t *testing.T) {
	b := newBench(t, Options{})
	want := b.contents("big")
	mode := uint32(0o600)
	var st Stat
	b.check(b.fs.Setattr(b.ino("big"), Change{Mode: &mode}, &st))
	if b.state("big") != dataLower {
		t.Fatal("chmod has copied data")
	}
	b.reopen()
	b.write("big", 9000, "X")
	want[9000] = 'X'
	b.same("big", want)
	b.reopen()
	b.same("big", want)
	if b.state("big") != dataPartial || b.upperBlocks("big") > 2 {
		t.Errorf("state %d, %d blocks", b.state("big"), b.upperBlocks("big"))
	}
}

// TestUnfinishedCopyIsCleared is a whole copy that was cut off in the upper
// file of a metadata copy: none of it may count.
func TestUnfinishedCopyIsCleared(t *testing.T) {
	b := newBench(t, Options{})
	want := b.contents("big")
	mode := uint32(0o600)
	var st Stat
	b.check(b.fs.Setattr(b.ino("big"), Change{Mode: &mode}, &st))
	f, err := os.OpenFile(filepath.Join(b.dir, "upper", "big"), os.O_WRONLY, 0)
	b.check(err)
	_, err = f.WriteAt(want[:1500], 0)
	b.check(err)
	b.check(f.Close())
	b.reopen()
	b.write("big", 70_000, "X")
	want[70_000] = 'X'
	b.same("big", want)
}

func TestTruncateNeverCopies(t *testing.T) {
	b := newBench(t, Options{})
	b.truncate("big", 0)
	if b.state("big") != dataWhole || b.upperBlocks("big") > 1 {
		t.Errorf("state %d, %d blocks", b.state("big"), b.upperBlocks("big"))
	}
	b.truncate("big", 100_000)
	b.same("big", make([]byte, 100_000))
}

func TestTruncateAndExtend(t *testing.T) {
	for _, cut := range []uint64{300_000, 299_008, 5, 4096} {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			b := newBench(t, Options{})
			want := b.contents("big")
			b.write("big", 8192, "X")
			want[8192] = 'X'
			b.truncate("big", cut)
			b.truncate("big", bigSize)
			clear(want[cut:])
			b.same("big", want)
			b.reopen()
			b.same("big", want)
			b.write("big", int64(cut)+1, "Y")
			want[cut+1] = 'Y'
			b.same("big", want)
		})
	}
}

// TestCrashInTruncation leaves the attribute as it was when the size has
// changed.
func TestCrashInTruncation(t *testing.T) {
	for _, cut := range []int64{0, 300_000, 299_008} {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			b := newBench(t, Options{})
			want := b.contents("big")
			b.write("big", 500_000, "X")
			b.write("big", 10, "X")
			b.write("big", 299_999, string(want[299_999])) // truncation makes this block the upper's
			want[10] = 'X'
			b.check(b.fs.Close())
			b.check(os.Truncate(filepath.Join(b.dir, "upper", "big"), cut))
			b.open()
			b.same("big", want[:cut])
			b.write("big", 600_000, "end")
			want = append(append(want[:cut], make([]byte, 600_000-cut)...), "end"...)
			b.same("big", want)
			b.reopen()
			b.same("big", want)
		})
	}
}

func TestFsyncEndsPartial(t *testing.T) {
	b := newBench(t, Options{})
	want := bytes.Repeat([]byte("new "), bigSize/4+1)
	b.write("big", 0, string(want))
	if b.state("big") != dataPartial {
		t.Fatal("not partial")
	}
	b.check(b.fs.Fsync(b.ino("big"), true))
	if b.state("big") != dataWhole {
		t.Error("all is written and on the disk, yet the file is partial")
	}
	b.reopen()
	if b.state("big") != dataWhole {
		t.Error("partial again")
	}
	b.same("big", want)
}

func TestOptionsWithoutForms(t *testing.T) {
	b := newBench(t, Options{NoPartial: true, NoMetacopy: true})
	mode := uint32(0o600)
	var st Stat
	b.check(b.fs.Setattr(b.ino("big"), Change{Mode: &mode}, &st))
	b.write("holes", 1, "X")
	for _, name := range []string{"big", "holes"} {
		if b.state(name) != dataWhole {
			t.Errorf("%s is not whole", name)
		}
	}
}

// TestPartialInOtherMode checks that an upper with partial files works in a
// union that makes none.
func TestPartialInOtherMode(t *testing.T) {
	b := newBench(t, Options{})
	want := b.contents("big")
	b.write("big", 5000, "X")
	b.o.NoPartial = true
	b.reopen()
	b.write("big", 50_000, "Y")
	want[5000], want[50_000] = 'X', 'Y'
	b.same("big", want)
}

// TestBadLimit puts what makes no sense into the attribute: what the holes
// held is an error, what was written is there.
func TestBadLimit(t *testing.T) {
	for _, bad := range []string{"", "x", "-1", "99999999999999999999"} {
		b := newBench(t, Options{})
		b.write("big", 4096, string(make([]byte, 4096)))
		b.check(unix.Setxattr(filepath.Join(b.dir, "upper", "big"), b.fs.names.Partial, []byte(bad), 0))
		b.reopen()
		p := make([]byte, 10)
		if _, err := b.fs.Read(b.ino("big"), p, 0); err != unix.EIO {
			t.Errorf("%q: reading a hole: %v", bad, err)
		}
		if _, err := b.fs.Read(b.ino("big"), p, 4096); err != nil {
			t.Errorf("%q: reading a block: %v", bad, err)
		}
		if !bytes.Contains(b.log.Bytes(), []byte("is lost")) {
			t.Errorf("%q: nothing logged", bad)
		}
		b.truncate("big", 0)
		b.write("big", 0, "good again")
		b.same("big", []byte("good again"))
	}
}

func TestAttributeIsPrivate(t *testing.T) {
	b := newBench(t, Options{})
	b.write("big", 0, "X")
	err := b.fs.Listxattr(b.ino("big"), func(name string) { t.Errorf("%s is listed", name) })
	b.check(err)
	if _, err := b.fs.Getxattr(b.ino("big"), b.fs.names.Partial); err != unix.ENODATA {
		t.Errorf("getxattr: %v", err)
	}
}

func TestBlockCounts(t *testing.T) {
	b := newBench(t, Options{})
	var st Stat
	b.check(b.fs.Getattr(b.ino("big"), &st))
	before := st.Blocks
	b.write("big", 0, "X")
	b.check(b.fs.Getattr(b.ino("big"), &st))
	if st.Blocks != before {
		t.Errorf("%d blocks, before the copy-up %d", st.Blocks, before)
	}
}

func TestKeepMtime(t *testing.T) {
	b := newBench(t, Options{})
	var before, after Stat
	b.check(b.fs.Getattr(b.ino("big"), &before))
	_, err := b.fs.Write(b.ino("big"), []byte("X"), 5000, How{KeepMtime: true})
	b.check(err)
	b.check(b.fs.Getattr(b.ino("big"), &after))
	if before.Mtime != after.Mtime {
		t.Errorf("mtime %v, before %v", after.Mtime, before.Mtime)
	}
}
