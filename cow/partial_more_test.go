package cow

import (
	"bytes"
	"math"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"unio/unionfs/merge"
)

// TestWritersOfOneBlock has writers that share each block, and readers who must
// see either the lower's byte or the new one.
func TestWritersOfOneBlock(t *testing.T) {
	b := newBench(t, Options{})
	want := b.contents("big")
	old := bytes.Clone(want)
	const writers, blocks = 8, 60
	var wg sync.WaitGroup
	ino := b.ino("big")
	for w := range writers {
		wg.Go(func() {
			for i := range blocks {
				off := int64(i*4096 + w*500)
				if _, err := b.fs.Write(ino, []byte{byte(w * 2)}, off, How{}); err != nil {
					t.Errorf("write at %d: %v", off, err)
				}
			}
		})
		for i := range blocks {
			want[i*4096+w*500] = byte(w * 2)
		}
	}
	for range 2 {
		wg.Go(func() { readMeanwhile(t, b.fs, ino, old, want[:blocks*4096]) })
	}
	wg.Wait()
	b.same("big", want)
	b.reopen()
	b.same("big", want)
}

func readMeanwhile(t *testing.T, fs *FS, ino merge.Ino, old, now []byte) {
	p := make([]byte, len(now))
	for range 20 {
		if n, err := fs.Read(ino, p, 0); n != len(p) || err != nil {
			t.Errorf("read: %d, %v", n, err)
		}
		for i := range p {
			if p[i] != old[i] && p[i] != now[i] {
				t.Errorf("byte %d is %#x, neither %#x nor %#x", i, p[i], old[i], now[i])
				return
			}
		}
	}
}

// TestShiftingFallocate takes a range out of a partial file and puts one in,
// for which all of the file is copied up first.
func TestShiftingFallocate(t *testing.T) {
	b := newBench(t, Options{})
	want := b.contents("big")
	b.write("big", 5, "X")
	want[5] = 'X'
	err := b.fs.Fallocate(b.ino("big"), unix.FALLOC_FL_COLLAPSE_RANGE, 65536, 65536)
	if err == nil {
		want = append(want[:65536:65536], want[2*65536:]...)
	} else if err != unix.EOPNOTSUPP {
		t.Fatal(err)
	}
	if b.state("big") != dataWhole {
		t.Error("the file is still partial")
	}
	b.same("big", want)
	err = b.fs.Fallocate(b.ino("big"), unix.FALLOC_FL_INSERT_RANGE, 65536, 65536)
	if err == nil {
		want = append(append(want[:65536:65536], make([]byte, 65536)...), want[65536:]...)
	}
	b.reopen()
	b.same("big", want)
}

// TestFallocateAllocates checks that the blocks of a range are the upper's
// afterwards: writing to them cannot fail on a full disk.
func TestFallocateAllocates(t *testing.T) {
	b := newBench(t, Options{})
	want := b.contents("big")
	b.check(b.fs.Fallocate(b.ino("big"), 0, 100_001, 400_000))
	b.same("big", want)
	if got := b.upperBlocks("big"); got < 98 || got > 101 {
		t.Errorf("%d blocks in the upper, want 99", got)
	}
	b.reopen()
	b.same("big", want)
}

// TestPunchToTheEnd makes zeros of all from one place on by a change of the
// limit: nothing is written for it but the block it begins in.
func TestPunchToTheEnd(t *testing.T) {
	b := newBench(t, Options{})
	want := b.contents("big")
	b.write("big", 900_000, "X")
	b.check(b.fs.Fallocate(b.ino("big"), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 100_001, 1<<40))
	clear(want[100_001:])
	b.same("big", want)
	if got := b.upperBlocks("big"); got > 3 {
		t.Errorf("%d blocks in the upper", got)
	}
	b.reopen()
	b.same("big", want)
}

// TestCopyBetween copies between files in every state.
func TestCopyBetween(t *testing.T) {
	b := newBench(t, Options{})
	big := b.contents("big")
	var st Stat
	b.check(b.fs.Create(merge.RootIno, "new", New{Mode: unix.S_IFREG | 0o644}, &st))
	b.write("holes", 5, "X")
	holes := b.contents("holes")
	for _, c := range []struct {
		from, to string
		data     []byte
	}{{"big", "new", big}, {"holes", "new", holes}, {"new", "big", holes}, {"small", "holes", nil}} {
		data := c.data
		if data == nil {
			data = b.contents(c.from)
		}
		want := append(bytes.Clone(data), b.contents(c.to)[min(len(data), len(b.contents(c.to))):]...)
		for off := int64(0); off < int64(len(data)); {
			n, err := b.fs.CopyRange(b.ino(c.from), off, b.ino(c.to), off, 1<<30)
			if err != nil || n == 0 {
				t.Fatalf("%s to %s at %d: %d, %v", c.from, c.to, off, n, err)
			}
			off += int64(n)
		}
		b.same(c.to, want)
	}
	if n, err := b.fs.CopyRange(b.ino("big"), bigSize+5, b.ino("new"), 0, 10); n != 0 || err != nil {
		t.Errorf("behind the end: %d, %v", n, err)
	}
	if _, err := b.fs.CopyRange(merge.RootIno, 0, b.ino("new"), 0, 10); err != unix.EINVAL {
		t.Errorf("from a folder: %v", err)
	}
}

// TestUnlinkedPartial goes on with a file that has lost its name.
func TestUnlinkedPartial(t *testing.T) {
	b := newBench(t, Options{})
	want := b.contents("big")
	ino := b.ino("big")
	b.fs.Remember(ino)
	b.check(b.fs.Unlink(merge.RootIno, "big"))
	_, err := b.fs.Write(ino, []byte("X"), 5000, How{})
	b.check(err)
	want[5000] = 'X'
	got := make([]byte, len(want))
	_, err = b.fs.Read(ino, got, 0)
	b.check(err)
	if !bytes.Equal(got, want) {
		t.Error("the unlinked file is not as it was written")
	}
	b.fs.Forget(ino, 1)
}

// TestOddOffsets: what no kernel asks for is refused, and changes nothing.
func TestOddOffsets(t *testing.T) {
	const most = math.MaxInt64
	b := newBench(t, Options{})
	for _, name := range []string{"big", "small"} {
		ino := b.ino(name)
		var before, st Stat
		for round := range 2 { // of the lower, then copied up
			b.check(b.fs.Getattr(ino, &before))
			buf := make([]byte, 4096)
			for _, off := range []int64{-1, -4096, math.MinInt64, most, most - 100, most - 4095} {
				if n, err := b.fs.Read(ino, buf, off); n != 0 || off < 0 && err == nil {
					t.Errorf("%s: read at %x: %d, %v", name, off, n, err)
				}
				if _, err := b.fs.Write(ino, buf, off, How{}); err == nil {
					t.Errorf("%s: written at %x", name, off)
				}
				if b.fs.Fallocate(ino, 0, off, 4096) == nil || b.fs.Fallocate(ino, 0, 0, off) == nil && off < 0 {
					t.Errorf("%s: allocated at %x", name, off)
				}
				if n, err := b.fs.CopyRange(ino, 0, ino, off, 4096); err == nil {
					t.Errorf("%s: %d bytes copied to %x", name, n, off)
				}
				if n, err := b.fs.CopyRange(ino, off, ino, 0, 4096); n != 0 {
					t.Errorf("%s: %d bytes copied from %x, %v", name, n, off, err)
				}
			}
			for _, size := range []uint64{1 << 63, math.MaxUint64} {
				if b.fs.Setattr(ino, Change{Size: &size}, &st) == nil {
					t.Errorf("%s: truncated to %x", name, size)
				}
			}
			b.check(b.fs.Getattr(ino, &st))
			if st.Size != before.Size {
				t.Errorf("%s, round %d: %d bytes, before %d", name, round, st.Size, before.Size)
			}
			_, err := b.fs.Write(ino, []byte("x"), 0, How{})
			b.check(err)
		}
	}
}
