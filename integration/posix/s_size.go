package main

import (
	"bytes"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	keepSize = unix.FALLOC_FL_KEEP_SIZE
	punch    = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	zero     = unix.FALLOC_FL_ZERO_RANGE
	collapse = unix.FALLOC_FL_COLLAPSE_RANGE
	insert   = unix.FALLOC_FL_INSERT_RANGE
)

// sizes is about truncate(2), fallocate(2), holes and copies.
var sizes = group{
	"shrink": {"f=hello", func(t *T) { t.ok(unix.Truncate("f", 2)); t.eq(t.content("f"), "he") }},
	"grow":   {"f=hello", func(t *T) { t.ok(unix.Truncate("f", 8)); t.eq(t.content("f"), "hello\x00\x00\x00") }},
	"shrink and grow": {"f#10000", func(t *T) {
		t.ok(unix.Truncate("f", 10))
		t.ok(unix.Truncate("f", 10000))
		t.eq(t.content("f"), string(pattern(10))+strings.Repeat("\x00", 9990))
	}},
	"shrink within a page, grow": {"f#300000", func(t *T) {
		t.ok(unix.Truncate("f", 150001))
		t.ok(unix.Truncate("f", 300000))
		t.eq(t.content("f") == string(pattern(150001))+strings.Repeat("\x00", 149999), true)
	}},
	"to nothing":  {"f#300000", func(t *T) { t.ok(unix.Truncate("f", 0)); t.eq(t.content("f"), ""); t.eq(t.lstat("f").Blocks, 0) }},
	"to the same": {"f=hello", func(t *T) { t.ok(unix.Truncate("f", 5)); t.eq(t.content("f"), "hello") }},
	"ftruncate":   {"f=hello", func(t *T) { t.ok(unix.Ftruncate(t.open("f", rdwr), 1)); t.eq(t.content("f"), "h") }},
	"seen by an open file": {"f=hello", func(t *T) {
		fd := t.open("f", rdonly)
		t.ok(unix.Truncate("f", 2))
		t.eq(t.pread(fd, 9, 0), "he")
		t.eq(t.fstat(fd).Size, 2)
	}},
	"write beyond the end": {"f=x", func(t *T) {
		t.pwrite(t.open("f", rdwr), "y", 10000)
		t.eq(t.content("f"), "x"+strings.Repeat("\x00", 9999)+"y")
	}},
	"negative": {"f", func(t *T) {
		t.fails(unix.Truncate("f", -1), unix.EINVAL)
		t.fails(unix.Ftruncate(t.open("f", rdwr), -1), unix.EINVAL)
	}},
	"of a folder":           {"d/", func(t *T) { t.fails(unix.Truncate("d", 0), unix.EISDIR) }},
	"of a fifo":             {"p|", func(t *T) { t.fails(unix.Truncate("p", 0), unix.EINVAL) }},
	"of a device":           {"z%c1,3", func(t *T) { t.fails(unix.Truncate("z", 0), unix.EINVAL) }},
	"ftruncate for reading": {"f=x", func(t *T) { t.fails(unix.Ftruncate(t.open("f", rdonly), 0), unix.EINVAL) }},
	"ftruncate of a folder": {"d/", func(t *T) { t.fails(unix.Ftruncate(t.open("d", rdonly), 0), unix.EINVAL) }},
	"without permission": {"f=x@644", func(t *T) {
		t.as(alice, func() { t.fails(unix.Truncate("f", 0), unix.EACCES) })
		t.eq(t.content("f"), "x")
	}},
	"precedence: EISDIR over EACCES": {"d/@700", func(t *T) { t.as(alice, func() { t.fails(unix.Truncate("d", 0), unix.EISDIR) }) }},
	"too large":                      {"f", func(t *T) { t.fails(unix.Truncate("f", 1<<62), unix.EFBIG) }},
	"1 TiB": {"f=begin", func(t *T) {
		t.ok(unix.Truncate("f", 1<<40))
		fd := t.open("f", rdwr)
		t.pwrite(fd, "end", 1<<40-3)
		t.eq(t.fstat(fd).Size, 1<<40)
		t.eq(t.pread(fd, 10, 1<<40-5), "\x00\x00end")
		t.eq(t.pread(fd, 7, 0), "begin\x00\x00")
		t.holds(t.fstat(fd).Blocks < 1000, "few blocks")
	}},
	"1 TiB that was there": {"f~1099511627776", func(t *T) {
		fd := t.open("f", rdwr)
		t.eq(t.fstat(fd).Size, 1<<40)
		t.pwrite(fd, "middle", 1<<39)
		t.eq(t.pread(fd, 8, 1<<39-1), "\x00middle\x00")
		t.eq(t.pread(fd, 8, 1<<40-2), "\x00\x00")
		t.ok(unix.Ftruncate(fd, 1<<39+3))
		t.eq(t.pread(fd, 8, 1<<39-1), "\x00mid")
	}},
	"seek data": {"f~1000000", func(t *T) {
		fd := t.open("f", rdwr)
		t.pwrite(fd, strings.Repeat("x", 4096), 499712)
		t.eq(t.seek(fd, 0, unix.SEEK_DATA), "499712")
		t.eq(t.seek(fd, 0, unix.SEEK_HOLE), "0")
		t.eq(t.seek(fd, 499712, unix.SEEK_HOLE), "503808")
		t.eq(t.seek(fd, 503808, unix.SEEK_DATA), "ENXIO")
		t.eq(t.seek(fd, 503808, unix.SEEK_HOLE), "503808")
	}},
	"seek in a hole": {"f~1000000", func(t *T) {
		fd := t.open("f", rdonly)
		t.eq(t.seek(fd, 0, unix.SEEK_DATA), "ENXIO")
		t.eq(t.seek(fd, 0, unix.SEEK_HOLE), "0")
	}},
	"seek in data": {"f#1000000", func(t *T) {
		fd := t.open("f", rdonly)
		t.eq(t.seek(fd, 5, unix.SEEK_DATA), "5")
		t.eq(t.seek(fd, 5, unix.SEEK_HOLE), "1000000")
	}},
	"seek behind the end": {"f=hello", func(t *T) {
		fd := t.open("f", rdonly)
		t.eq(t.seek(fd, 5, unix.SEEK_DATA), "ENXIO")
		t.eq(t.seek(fd, 9, unix.SEEK_HOLE), "ENXIO")
		t.eq(t.seek(fd, -1, unix.SEEK_DATA), "ENXIO")
	}},
	"seek in an empty file": {"f", func(t *T) {
		fd := t.open("f", rdonly)
		t.eq(t.seek(fd, 0, unix.SEEK_DATA), "ENXIO")
		t.eq(t.seek(fd, 0, unix.SEEK_HOLE), "ENXIO")
	}},
	"seek sets the position": {"f=hello", func(t *T) {
		fd := t.open("f", rdonly)
		t.eq(t.seek(fd, 2, unix.SEEK_DATA), "2")
		t.eq(t.seek(fd, 0, unix.SEEK_CUR), "2")
	}},
	"seek unknown": {"f=hello", func(t *T) { t.eq(t.seek(t.open("f", rdonly), 0, 99), "EINVAL") }},
	"allocate": {"f=hello", func(t *T) {
		fd := t.open("f", rdwr)
		t.ok(unix.Fallocate(fd, 0, 0, 100000))
		t.eq(t.fstat(fd).Size, 100000)
		t.holds(t.fstat(fd).Blocks >= 196, "blocks are there")
		t.eq(t.content("f"), "hello"+strings.Repeat("\x00", 99995))
	}},
	"allocate, keep size": {"f=hello", func(t *T) {
		fd := t.open("f", rdwr)
		t.ok(unix.Fallocate(fd, keepSize, 0, 100000))
		t.eq(t.fstat(fd).Size, 5)
		t.holds(t.fstat(fd).Blocks >= 196, "blocks are there")
		t.eq(t.content("f"), "hello")
	}},
	"punch": {"f#20000", func(t *T) {
		fd := t.open("f", rdwr)
		t.ok(unix.Fallocate(fd, punch, 4096, 8192))
		t.same(fd, blank(pattern(20000), 4096, 8192))
		t.eq(t.seek(fd, 0, unix.SEEK_HOLE), "4096")
	}},
	"punch part of a page": {"f#20000", func(t *T) {
		fd := t.open("f", rdwr)
		t.ok(unix.Fallocate(fd, punch, 100, 5000))
		t.same(fd, blank(pattern(20000), 100, 5000))
	}},
	"punch behind the end": {"f#5000", func(t *T) {
		fd := t.open("f", rdwr)
		t.ok(unix.Fallocate(fd, punch, 4096, 100000))
		t.same(fd, blank(pattern(5000), 4096, 904))
	}},
	"punch, seen by others": {"f#20000", func(t *T) {
		other := t.open("f", rdonly)
		t.pread(other, 20000, 0)
		t.ok(unix.Fallocate(t.open("f", rdwr), punch, 0, 8192))
		t.same(other, blank(pattern(20000), 0, 8192))
	}},
	"punch without keep": {"f#20000", func(t *T) {
		t.fails(unix.Fallocate(t.open("f", rdwr), unix.FALLOC_FL_PUNCH_HOLE, 0, 4096), unix.EOPNOTSUPP)
	}},
	"zero": {"f#20000", func(t *T) {
		fd := t.open("f", rdwr)
		t.ok(unix.Fallocate(fd, zero, 100, 9000))
		t.same(fd, blank(pattern(20000), 100, 9000))
	}},
	"zero behind the end": {"f#5000", func(t *T) {
		fd := t.open("f", rdwr)
		t.ok(unix.Fallocate(fd, zero, 4096, 8192))
		t.same(fd, blank(append(pattern(5000), make([]byte, 7288)...), 4096, 8192))
	}},
	"zero, keep size": {"f#5000", func(t *T) {
		fd := t.open("f", rdwr)
		t.ok(unix.Fallocate(fd, zero|keepSize, 4096, 8192))
		t.same(fd, blank(pattern(5000), 4096, 904))
	}},
	"collapse": {"f#20480", func(t *T) {
		fd := t.open("f", rdwr)
		t.fallocate(fd, collapse, 4096, 8192, func(p []byte) []byte { return append(p[:4096:4096], p[12288:]...) })
	}},
	"insert": {"f#20480", func(t *T) {
		fd := t.open("f", rdwr)
		t.fallocate(fd, insert, 4096, 8192, func(p []byte) []byte { return append(append(p[:4096:4096], make([]byte, 8192)...), p[4096:]...) })
	}},
	"collapse unaligned": {"f#20480", func(t *T) {
		t.fails(unix.Fallocate(t.open("f", rdwr), collapse, 1, 4096), unix.EINVAL, unix.EOPNOTSUPP)
	}},
	"unshare": {"f#20480", func(t *T) {
		t.fails(unix.Fallocate(t.open("f", rdwr), unix.FALLOC_FL_UNSHARE_RANGE, 0, 4096), unix.EOPNOTSUPP, nil)
	}},
	"fallocate of nothing": {"f", func(t *T) {
		fd := t.open("f", rdwr)
		t.fails(unix.Fallocate(fd, 0, 0, 0), unix.EINVAL)
		t.fails(unix.Fallocate(fd, 0, -1, 9), unix.EINVAL)
	}},
	"fallocate for reading": {"f", func(t *T) { t.fails(unix.Fallocate(t.open("f", rdonly), 0, 0, 9), unix.EBADF) }},
	"fallocate of a fifo":   {"p|", func(t *T) { t.fails(unix.Fallocate(t.open("p", rdwr), 0, 0, 9), unix.ESPIPE) }},
	"fallocate of a folder": {"d/", func(t *T) { t.fails(unix.Fallocate(t.open("d", rdonly), 0, 0, 9), unix.EBADF) }},
	"fallocate too large":   {"f", func(t *T) { t.fails(unix.Fallocate(t.open("f", rdwr), 0, 1<<62, 1<<61), unix.EFBIG) }},
	"fallocate bad flags":   {"f", func(t *T) { t.fails(unix.Fallocate(t.open("f", rdwr), 1<<20, 0, 9), unix.EOPNOTSUPP) }},
	"copy a range": {"f#20000 g=hello", func(t *T) {
		in, out := int64(100), int64(3)
		n, err := unix.CopyFileRange(t.open("f", rdonly), &in, t.open("g", rdwr), &out, 10000, 0)
		t.ok(err)
		t.eq(n, 10000)
		t.eq([]int64{in, out}, []int64{10100, 10003})
		t.eq(t.content("g") == "hel"+string(pattern(20000)[100:10100]), true)
	}},
	"copy a range within a file": {"f#20000", func(t *T) {
		in, out := int64(0), int64(16000)
		fd := t.open("f", rdwr)
		n, err := unix.CopyFileRange(fd, &in, fd, &out, 8000, 0)
		t.ok(err)
		t.eq(n, 8000)
		t.same(fd, append(pattern(16000), pattern(8000)...))
	}},
	"copy a range that overlaps": {"f#20000", func(t *T) {
		in, out := int64(0), int64(100)
		fd := t.open("f", rdwr)
		_, err := unix.CopyFileRange(fd, &in, fd, &out, 8000, 0)
		t.fails(err, unix.EINVAL)
	}},
	"copy a range at the end": {"f=hello g", func(t *T) {
		in := int64(5)
		n, err := unix.CopyFileRange(t.open("f", rdonly), &in, t.open("g", rdwr), nil, 10, 0)
		t.ok(err)
		t.eq(n, 0)
	}},
	"copy to a reader": {"f=x g", func(t *T) {
		_, err := unix.CopyFileRange(t.open("f", rdonly), nil, t.open("g", rdonly), nil, 1, 0)
		t.fails(err, unix.EBADF)
	}},
	"copy to an appender": {"f=x g", func(t *T) {
		_, err := unix.CopyFileRange(t.open("f", rdonly), nil, t.open("g", wronly|unix.O_APPEND), nil, 1, 0)
		t.fails(err, unix.EBADF)
	}},
	"copy of a folder": {"d/ g", func(t *T) {
		_, err := unix.CopyFileRange(t.open("d", rdonly), nil, t.open("g", wronly), nil, 1, 0)
		t.fails(err, unix.EISDIR)
	}},
	"copy what was just written": {"f#20000 g", func(t *T) {
		from, to := t.open("f", rdwr), t.open("g", rdwr)
		t.pwrite(from, "fresh", 0)
		_, err := unix.CopyFileRange(from, nil, to, nil, 20000, 0)
		t.ok(err)
		t.eq(t.pread(to, 5, 0), "fresh")
	}},
	"clone": {"f#20480 g", func(t *T) {
		t.fails(unix.IoctlFileClone(t.open("g", rdwr), t.open("f", rdonly)), unix.EOPNOTSUPP, unix.ENOTTY, nil)
	}},
	"blocks follow the data": {"f", func(t *T) {
		fd := t.open("f", rdwr)
		t.pwrite(fd, strings.Repeat("x", 65536), 0)
		t.ok(unix.Fsync(fd))
		t.eq(t.lstat("f").Blocks, 128)
		t.ok(unix.Ftruncate(fd, 4096))
		t.eq(t.lstat("f").Blocks, 8)
	}},
	"many small writes": {"f#3000", func(t *T) {
		fd, want := t.open("f", rdwr), pattern(3000)
		for i := range 300 {
			off := i * 977 % 2990
			t.pwrite(fd, "abcdefg", int64(off))
			copy(want[off:], "abcdefg")
		}
		t.same(fd, want)
	}},
	"write at every block": {"f#400000", func(t *T) {
		fd, want := t.open("f", rdwr), pattern(400000)
		for off := 4000; off < 399000; off += 8192 {
			t.pwrite(fd, strings.Repeat("w", 300), int64(off))
			copy(want[off:], bytes.Repeat([]byte("w"), 300))
		}
		t.same(fd, want)
	}},
	"large write and read": {"f", func(t *T) {
		fd, want := t.open("f", rdwr), pattern(5<<20)
		n, err := unix.Pwrite(fd, want, 1)
		t.ok(err)
		t.eq(n, len(want))
		t.same(fd, append([]byte{0}, want...))
	}},
}

// seek is lseek(2): the new position, or the name of the error.
func (t *T) seek(fd int, off int64, whence int) string {
	pos, err := unix.Seek(fd, off, whence)
	if err != nil {
		return errName(err)
	}
	return itoa(int(pos))
}

// blank gives p with n bytes of zeros at off.
func blank(p []byte, off, n int) []byte {
	clear(p[off:min(off+n, len(p))])
	return p
}

// same expects a file to hold just that.
func (t *T) same(fd int, want []byte) {
	got := make([]byte, len(want)+1)
	n, err := unix.Pread(fd, got, 0)
	t.ok(err)
	if bytes.Equal(got[:n], want) {
		return
	}
	i := 0
	for i < min(n, len(want)) && got[i] == want[i] {
		i++
	}
	t.errorf("%d bytes, want %d; they differ from byte %d on", n, len(want), i)
}

// fallocate is fallocate(2) with a flag that a filesystem above another may
// lack (EOPNOTSUPP); with it the content must be as want makes it.
func (t *T) fallocate(fd int, flags uint32, off, n int64, want func([]byte) []byte) {
	before := pattern(int(t.fstat(fd).Size))
	err := unix.Fallocate(fd, flags, off, n)
	t.fails(err, nil, unix.EOPNOTSUPP)
	if err == nil {
		before = want(before)
	}
	t.same(fd, before)
}
