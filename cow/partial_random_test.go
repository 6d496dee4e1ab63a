package cow

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

// model is a file of the union beside what it must hold.
type model struct {
	*bench
	r    *rand.Rand
	name string
	want []byte
}

const modelMax = 3 << 20

// TestRandomPartial does at random what can be done to a file, with the union
// opened anew in between.
func TestRandomPartial(t *testing.T) {
	for _, name := range []string{"big", "holes"} {
		for seed := range uint64(30) {
			t.Run(fmt.Sprint(name, seed), func(t *testing.T) {
				b := newBench(t, Options{})
				m := &model{bench: b, r: rand.New(rand.NewPCG(seed, 7)), name: name, want: b.contents(name)}
				for range 80 {
					m.step()
				}
				m.same(name, m.want)
				m.checkSeek()
			})
		}
	}
}

func (m *model) step() {
	m.t.Helper()
	switch m.r.IntN(16) {
	case 0:
		m.reopen()
	case 1:
		m.resize(m.offset())
	case 2:
		m.fallocate(unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE)
	case 3:
		m.fallocate(unix.FALLOC_FL_ZERO_RANGE | uint32(m.r.IntN(2)))
	case 4:
		m.fallocate(uint32(m.r.IntN(2)))
	case 5:
		m.copyRange()
	case 6:
		m.check(m.fs.Fsync(m.ino(m.name), true))
	case 7:
		m.checkSeek()
	case 8, 9:
		m.readSome()
	case 10:
		if m.r.IntN(8) == 0 {
			m.resize(0)
		}
	default:
		m.writeSome()
	}
}

// offset returns a place in or a little behind the file, often at a block's
// edge.
func (m *model) offset() int64 {
	off := m.r.Int64N(int64(len(m.want)) + 10_000)
	if m.r.IntN(3) == 0 {
		off = off/4096*4096 + m.r.Int64N(3) - 1
	}
	return min(max(off, 0), modelMax)
}

func (m *model) length() int64 {
	if m.r.IntN(20) == 0 {
		return 1 + m.r.Int64N(1<<20)
	}
	return 1 + m.r.Int64N(20_000)
}

func (m *model) grow(size int64) {
	if int64(len(m.want)) < size {
		m.want = append(m.want, make([]byte, size-int64(len(m.want)))...)
	}
}

func (m *model) writeSome() {
	m.t.Helper()
	off, data := m.offset(), make([]byte, m.length())
	for i := range data {
		data[i] = byte(m.r.Uint32())
	}
	n, err := m.fs.Write(m.ino(m.name), data, off, How{KeepMtime: m.r.IntN(2) == 0})
	if err != nil || n != len(data) {
		m.t.Fatalf("write at %d: %d, %v", off, n, err)
	}
	m.grow(off + int64(n))
	copy(m.want[off:], data)
}

func (m *model) readSome() {
	m.t.Helper()
	off, p := m.offset(), make([]byte, m.length())
	n, err := m.fs.Read(m.ino(m.name), p, off)
	m.check(err)
	off = min(off, int64(len(m.want)))
	want := m.want[off:min(off+int64(len(p)), int64(len(m.want)))]
	if !bytes.Equal(p[:n], want) {
		m.t.Fatalf("read of %d at %d differs (%d bytes, want %d)", len(p), off, n, len(want))
	}
}

func (m *model) resize(size int64) {
	m.t.Helper()
	m.truncate(m.name, uint64(size))
	m.grow(size)
	m.want = m.want[:size:size]
}

func (m *model) fallocate(mode uint32) {
	m.t.Helper()
	off, length := m.offset(), m.length()
	err := m.fs.Fallocate(m.ino(m.name), mode, off, length)
	if err == unix.EOPNOTSUPP && mode&unix.FALLOC_FL_ZERO_RANGE != 0 {
		return // tmpfs
	}
	if err != nil {
		m.t.Fatalf("fallocate %#x at %d, %d bytes: %v", mode, off, length, err)
	}
	if mode&unix.FALLOC_FL_KEEP_SIZE == 0 {
		m.grow(off + length)
	}
	if size := int64(len(m.want)); mode&^unix.FALLOC_FL_KEEP_SIZE != 0 && off < size {
		clear(m.want[off:min(off+length, size)])
	}
}

// copyRange copies within the file or from another, which may be the lower's.
func (m *model) copyRange() {
	m.t.Helper()
	from, src := m.name, m.want
	if m.r.IntN(2) == 0 {
		from = "small"
		src = m.contents(from)
	}
	off, to, length := m.r.Int64N(int64(len(src))+1), m.offset(), m.length()
	if from == m.name && off < to+length && to < off+length {
		return // overlaps: the kernel refuses it
	}
	n, err := m.fs.CopyRange(m.ino(from), off, m.ino(m.name), to, int(length))
	m.check(err)
	if want := min(length, int64(len(src))-off); int64(n) != want {
		m.t.Fatalf("copied %d of %d bytes", n, want)
	}
	data := bytes.Clone(src[off : off+int64(n)])
	if n > 0 {
		m.grow(to + int64(n))
		copy(m.want[to:], data)
	}
}

// checkSeek walks data and holes from end to end: a hole must be zeros.
func (m *model) checkSeek() {
	m.t.Helper()
	ino, size := m.ino(m.name), int64(len(m.want))
	for off := int64(0); off < size; {
		data, err := m.fs.Seek(ino, off, unix.SEEK_DATA)
		if err == unix.ENXIO {
			data = size
		} else if err != nil || data < off {
			m.t.Fatalf("data behind %d: %d, %v", off, data, err)
		}
		if i := bytes.IndexFunc(m.want[off:data], func(r rune) bool { return r != 0 }); i >= 0 {
			m.t.Fatalf("byte %d of the hole %d to %d is not zero", off+int64(i), off, data)
		}
		if data == size {
			return
		}
		if off, err = m.fs.Seek(ino, data, unix.SEEK_HOLE); err != nil || off <= data || off > size {
			m.t.Fatalf("hole behind data at %d of %d: %d, %v", data, size, off, err)
		}
	}
	for _, whence := range []int{unix.SEEK_DATA, unix.SEEK_HOLE} {
		if at, err := m.fs.Seek(ino, size, whence); err != unix.ENXIO {
			m.t.Fatalf("seek at the end: %d, %v", at, err)
		}
	}
}
