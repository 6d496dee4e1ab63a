package main

import (
	"bytes"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmap maps a file that it opens.
func (t *T) mmap(name string, size, prot, flags int) []byte {
	mode := rdonly
	if prot&unix.PROT_WRITE != 0 && flags&unix.MAP_SHARED != 0 {
		mode = rdwr
	}
	return t.mmapFd(t.open(name, mode), size, prot, flags)
}

func (t *T) mmapFd(fd, size, prot, flags int) []byte {
	m, err := unix.Mmap(fd, 0, size, prot, flags)
	t.ok(err)
	t.cleanup = append(t.cleanup, func() { _ = unix.Munmap(m) })
	return m
}

const both = unix.PROT_READ | unix.PROT_WRITE

// mapping is about mmap(2) beside read and write.
var mapping = group{
	"reads what is there": {"f#20000", func(t *T) {
		m := t.mmap("f", 20000, unix.PROT_READ, unix.MAP_SHARED)
		t.eq(bytes.Equal(m, pattern(20000)), true)
	}},
	"zeros behind the end": {"f=hello", func(t *T) {
		m := t.mmap("f", 4096, unix.PROT_READ, unix.MAP_SHARED)
		t.eq(string(m[:8]), "hello\x00\x00\x00")
		t.eq(m[4095], 0)
	}},
	"sees a write": {"f#20000", func(t *T) {
		m := t.mmap("f", 20000, unix.PROT_READ, unix.MAP_SHARED)
		t.sink += m[5000]
		t.pwrite(t.open("f", rdwr), "new", 5000)
		t.eq(string(m[5000:5003]), "new")
	}},
	"sees an append": {"f=hello", func(t *T) {
		m := t.mmap("f", 4096, unix.PROT_READ, unix.MAP_SHARED)
		t.sink += m[0]
		t.append("f", " there")
		t.eq(string(m[:11]), "hello there")
	}},
	"private sees a write": {"f#20000", func(t *T) {
		m := t.mmap("f", 20000, unix.PROT_READ, unix.MAP_PRIVATE)
		t.sink += m[0]
		t.pwrite(t.open("f", rdwr), "new", 0)
		t.eq(string(m[:3]), "new")
	}},
	"shared write is read": {"f#20000", func(t *T) {
		fd := t.open("f", rdonly)
		m := t.mmap("f", 20000, both, unix.MAP_SHARED)
		copy(m[5000:], "mapped")
		t.eq(t.pread(fd, 6, 5000), "mapped")
		t.eq(t.content("f")[5000:5006], "mapped")
	}},
	"shared write is synced": {"f#20000", func(t *T) {
		m := t.mmap("f", 20000, both, unix.MAP_SHARED)
		copy(m[5000:], "mapped")
		t.ok(unix.Msync(m, unix.MS_SYNC))
		fd := t.open("f", rdonly|unix.O_DIRECT)
		b := aligned(8192)
		_, err := unix.Pread(fd, b, 4096)
		t.ok(err)
		t.eq(string(b[5000-4096:5006-4096]), "mapped")
	}},
	"shared write after close": {"f#20000", func(t *T) {
		fd, err := unix.Open("f", rdwr, 0)
		t.ok(err)
		m := t.mmapFd(fd, 20000, both, unix.MAP_SHARED)
		t.ok(t.close(fd))
		copy(m, "later")
		t.eq(t.content("f")[:5], "later")
	}},
	"shared write after unlink": {"f#20000", func(t *T) {
		fd := t.open("f", rdwr)
		m := t.mmapFd(fd, 20000, both, unix.MAP_SHARED)
		t.remove("f")
		copy(m, "later")
		t.ok(unix.Msync(m, unix.MS_SYNC))
		t.eq(t.pread(fd, 5, 0), "later")
	}},
	"shared write after rename": {"f#20000", func(t *T) {
		m := t.mmap("f", 20000, both, unix.MAP_SHARED)
		t.ok(unix.Rename("f", "g"))
		copy(m, "later")
		t.ok(unix.Msync(m, unix.MS_SYNC))
		t.eq(t.content("g")[:5], "later")
	}},
	"private write stays private": {"f#20000", func(t *T) {
		m := t.mmap("f", 20000, both, unix.MAP_PRIVATE)
		copy(m, "mine")
		t.eq(t.content("f") == string(pattern(20000)), true)
		t.eq(string(m[:4]), "mine")
	}},
	"two shared mappings": {"f#20000", func(t *T) {
		a, b := t.mmap("f", 20000, both, unix.MAP_SHARED), t.mmap("f", 20000, unix.PROT_READ, unix.MAP_SHARED)
		t.sink += b[9000]
		copy(a[9000:], "seen")
		t.eq(string(b[9000:9004]), "seen")
	}},
	"mapped before the copy-up": {"f#300000", func(t *T) {
		m := t.mmap("f", 300000, unix.PROT_READ, unix.MAP_SHARED)
		t.sink += m[299999]
		t.sink += m[0]
		fd := t.open("f", rdwr)
		t.pwrite(fd, "X", 0)
		t.pwrite(fd, "Y", 299999)
		t.eq(string([]byte{m[0], m[299999]}), "XY")
	}},
	"shared for reading": {"f=x", func(t *T) {
		_, err := unix.Mmap(t.open("f", rdonly), 0, 4096, both, unix.MAP_SHARED)
		t.fails(err, unix.EACCES)
	}},
	"private for reading": {"f=x", func(t *T) {
		m := t.mmapFd(t.open("f", rdonly), 4096, both, unix.MAP_PRIVATE)
		m[0] = 'y'
		t.eq(t.content("f"), "x")
	}},
	"for writing alone": {"f=x", func(t *T) {
		_, err := unix.Mmap(t.open("f", wronly), 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
		t.fails(err, unix.EACCES)
	}},
	"of a folder": {"d/", func(t *T) {
		_, err := unix.Mmap(t.open("d", rdonly), 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
		t.fails(err, unix.ENODEV)
	}},
	"of no length": {"f=x", func(t *T) {
		_, _, errno := unix.Syscall6(unix.SYS_MMAP, 0, 0, 1, 1, uintptr(t.open("f", rdonly)), 0)
		t.fails(errno, unix.EINVAL)
	}},
	"truncated away, then back": {"f#20000", func(t *T) {
		m := t.mmap("f", 20000, unix.PROT_READ, unix.MAP_SHARED)
		t.sink += m[9000]
		t.ok(unix.Truncate("f", 100))
		t.ok(unix.Truncate("f", 20000))
		t.eq(m[9000], 0)
		t.eq(string(m[:8]), "0000000\n")
	}},
	"hole is punched": {"f#20000", func(t *T) {
		m := t.mmap("f", 20000, unix.PROT_READ, unix.MAP_SHARED)
		t.sink += m[5000]
		t.ok(unix.Fallocate(t.open("f", rdwr), punch, 4096, 4096))
		t.eq(m[5000], 0)
	}},
	"write into a hole": {"f~100000", func(t *T) {
		m := t.mmap("f", 100000, both, unix.MAP_SHARED)
		m[50000] = 'x'
		t.ok(unix.Msync(m, unix.MS_SYNC))
		t.eq(strings.Trim(t.content("f"), "\x00"), "x")
	}},
	"write on two names": {"f#20000 h==f", func(t *T) {
		a, b := t.mmap("f", 20000, both, unix.MAP_SHARED), t.mmap("h", 20000, both, unix.MAP_SHARED)
		copy(a, "one")
		copy(b[5000:], "two")
		t.eq(string(b[:3])+string(a[5000:5003]), "onetwo")
	}},
	"direct write is seen": {"f#20480", func(t *T) {
		m := t.mmap("f", 20480, unix.PROT_READ, unix.MAP_SHARED)
		t.sink += m[4096]
		b := aligned(4096)
		copy(b, "direct")
		_, err := unix.Pwrite(t.open("f", wronly|unix.O_DIRECT), b, 4096)
		t.ok(err)
		t.eq(string(m[4096:4102]), "direct")
	}},
	"read from the mapping": {"f#20000", func(t *T) {
		m := t.mmap("f", 20000, unix.PROT_READ, unix.MAP_SHARED)
		t.put("g", string(m[:10000]))
		t.eq(t.content("g") == string(pattern(10000)), true)
	}},
	"write from its own mapping": {"f#20000", func(t *T) {
		fd := t.open("f", rdwr)
		m := t.mmapFd(fd, 20000, unix.PROT_READ, unix.MAP_SHARED)
		n, err := unix.Pwrite(fd, m[:8000], 8000)
		t.ok(err)
		t.eq(n, 8000)
		t.eq(t.pread(fd, 8, 8000), "0000000\n")
	}},
	"msync flags": {"f#8192", func(t *T) {
		m := t.mmap("f", 8192, both, unix.MAP_SHARED)
		m[0] = 'x'
		t.ok(unix.Msync(m, unix.MS_ASYNC))
		t.ok(unix.Msync(m, unix.MS_SYNC|unix.MS_INVALIDATE))
		t.fails(unix.Msync(m, unix.MS_SYNC|unix.MS_ASYNC), unix.EINVAL)
	}},
	"advice": {"f#100000", func(t *T) {
		m := t.mmap("f", 100000, unix.PROT_READ, unix.MAP_SHARED)
		t.ok(unix.Madvise(m, unix.MADV_WILLNEED))
		t.ok(unix.Madvise(m, unix.MADV_DONTNEED))
		t.eq(string(m[:8]), "0000000\n")
		t.ok(unix.Fadvise(t.open("f", rdonly), 0, 0, unix.FADV_DONTNEED))
		t.eq(string(m[80000:80008]), "0010000\n")
	}},
	"mincore": {"f#8192", func(t *T) {
		m := t.mmap("f", 8192, unix.PROT_READ, unix.MAP_SHARED)
		t.sink += m[0]
		vec := make([]byte, 2)
		_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(unsafe.SliceData(m))), 8192, uintptr(unsafe.Pointer(unsafe.SliceData(vec))))
		t.fails(errnoOf(errno), nil)
		t.eq(vec[0]&1, 1)
	}},
}

// syncing is about fsync(2) and its kin, splice(2), sendfile(2), ioctl(2) and
// what else acts on descriptors.
var syncing = group{
	"fsync": {"f=x", func(t *T) {
		fd := t.open("f", rdwr)
		t.pwrite(fd, "y", 0)
		t.ok(unix.Fsync(fd))
		t.ok(unix.Fdatasync(fd))
	}},
	"fsync for reading":         {"f=x", func(t *T) { t.ok(unix.Fsync(t.open("f", rdonly))); t.ok(unix.Fdatasync(t.open("f", rdonly))) }},
	"fsync of a folder":         {"d/ d/f", func(t *T) { fd := t.open("d", rdonly); t.remove("d/f"); t.ok(unix.Fsync(fd)); t.ok(unix.Fdatasync(fd)) }},
	"fsync of an unlinked file": {"f=x", func(t *T) { fd := t.open("f", rdwr); t.remove("f"); t.pwrite(fd, "y", 0); t.ok(unix.Fsync(fd)) }},
	"fsync of a removed folder": {"d/", func(t *T) { fd := t.open("d", rdonly); t.remove("d"); t.ok(unix.Fsync(fd)) }},
	"fsync of a fifo":           {"p|", func(t *T) { t.fails(unix.Fsync(t.open("p", rdwr)), unix.EINVAL) }},
	"fsync of a pipe": {"", func(t *T) {
		var p [2]int
		t.ok(unix.Pipe(p[:]))
		defer closeBoth(p)
		t.fails(unix.Fsync(p[0]), unix.EINVAL)
	}},
	"syncfs": {"f=x d/", func(t *T) { t.ok(unix.Syncfs(t.open("f", rdonly))); t.ok(unix.Syncfs(t.open("d", rdonly))) }},
	"sync_file_range": {"f#20000", func(t *T) {
		fd := t.open("f", rdwr)
		t.pwrite(fd, "y", 0)
		t.ok(unix.SyncFileRange(fd, 0, 8192, unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER))
		t.fails(unix.SyncFileRange(fd, -1, 0, 0), unix.EINVAL)
	}},
	"readahead": {"f#20000", func(t *T) {
		_, _, errno := unix.Syscall(unix.SYS_READAHEAD, uintptr(t.open("f", rdonly)), 0, 8192)
		t.fails(errnoOf(errno), nil)
	}},
	"sendfile from": {"f#200000", func(t *T) {
		t.pipeFrom("f", func(in, out int) (int, error) { return unix.Sendfile(out, in, nil, 50000) })
	}},
	"splice from": {"f#200000", func(t *T) {
		t.pipeFrom("f", func(in, out int) (int, error) { n, err := unix.Splice(in, nil, out, nil, 50000, 0); return int(n), err })
	}},
	"sendfile to": {"f#200000 g", func(t *T) {
		n, err := unix.Sendfile(t.open("g", rdwr), t.open("f", rdonly), nil, 200000)
		t.ok(err)
		t.eq(t.content("g") == string(pattern(200000)[:n]), true)
	}},
	"sendfile to an appender": {"f#20 g", func(t *T) {
		_, err := unix.Sendfile(t.open("g", wronly|unix.O_APPEND), t.open("f", rdonly), nil, 20)
		t.fails(err, unix.EINVAL)
	}},
	"splice to": {"f=old", func(t *T) { t.splice("spliced", t.open("f", rdwr)); t.eq(t.content("f"), "spliced") }},
	"splice to an offset": {"f=0123456789", func(t *T) {
		fd := t.open("f", rdwr)
		_, err := unix.Seek(fd, 4, 0)
		t.ok(err)
		t.splice("abc", fd)
		t.eq(t.content("f"), "0123abc789")
	}},
	"flags of a file": {"f", func(t *T) {
		_, err := unix.IoctlGetInt(t.open("f", rdonly), unix.FS_IOC_GETFLAGS)
		t.fails(err, nil, unix.ENOTTY)
	}},
	"unknown ioctl": {"f d/", func(t *T) {
		for _, n := range []string{"f", "d"} {
			_, err := unix.IoctlGetInt(t.open(n, rdonly), 0x1234)
			t.fails(err, unix.ENOTTY)
		}
	}},
	"terminal ioctl": {"f", func(t *T) {
		_, err := unix.IoctlGetTermios(t.open("f", rdonly), unix.TCGETS)
		t.fails(err, unix.ENOTTY)
	}},
	"bytes to read": {"f=hello", func(t *T) { n, err := unix.IoctlGetInt(t.open("f", rdonly), unix.TIOCINQ); t.ok(err); t.eq(n, 5) }},
	"extents": {"f#20000", func(t *T) {
		var m [64]byte // struct fiemap without room for extents (include/uapi/linux/fiemap.h)
		for i := 8; i < 16; i++ {
			m[i] = 0xff
		}
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(t.open("f", rdonly)), 0xc020660b, uintptr(unsafe.Pointer(&m)))
		t.fails(errnoOf(errno), nil, unix.EOPNOTSUPP)
	}},
	"file handle": {"f=hello d/", func(t *T) {
		for _, n := range []string{"f", "d"} {
			h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, n, 0)
			t.fails(err, nil, unix.EOPNOTSUPP)
			if err == nil {
				t.holds(h.Size() > 0, "the handle has bytes")
			}
		}
	}},
	"file handle opened": {"f=hello", func(t *T) {
		h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, "f", 0)
		t.fails(err, nil, unix.EOPNOTSUPP)
		if err != nil {
			return
		}
		fd, err := unix.OpenByHandleAt(t.open(".", rdonly), h, rdonly)
		t.ok(err)
		t.eq(t.pread(fd, 9, 0), "hello")
		t.ok(t.close(fd))
	}},
	"poll": {"f=hello", func(t *T) {
		p := []unix.PollFd{{Fd: int32(t.open("f", rdwr)), Events: unix.POLLIN | unix.POLLOUT}}
		n, err := unix.Poll(p, 0)
		t.ok(err)
		t.eq(n, 1)
		t.eq(p[0].Revents, unix.POLLIN|unix.POLLOUT)
	}},
	"epoll": {"f=hello", func(t *T) {
		ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		t.ok(err)
		defer t.close(ep)
		t.fails(unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, t.open("f", rdonly), &unix.EpollEvent{Events: unix.EPOLLIN}), unix.EPERM, nil)
	}},
	"fcntl flags": {"f", func(t *T) {
		fl, err := unix.FcntlInt(uintptr(t.open("f", rdwr|unix.O_APPEND)), unix.F_GETFL, 0)
		t.ok(err)
		t.eq(fl&(unix.O_ACCMODE|unix.O_APPEND), rdwr|unix.O_APPEND)
	}},
	"direct by fcntl": {"f#8192", func(t *T) {
		fd := t.open("f", rdwr)
		_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, unix.O_DIRECT)
		t.ok(err)
		n, err := unix.Pread(fd, aligned(4096), 0)
		t.ok(err)
		t.eq(n, 4096)
	}},
	"preadv2 without waiting": {"f#8192", func(t *T) {
		fd := t.open("f", rdonly)
		t.pread(fd, 8192, 0)
		b := make([]byte, 8)
		_, err := unix.Preadv2(fd, [][]byte{b}, 0, unix.RWF_NOWAIT)
		t.fails(err, nil, unix.EAGAIN, unix.EOPNOTSUPP)
	}},
	"pwritev2 appends": {"f=hello", func(t *T) {
		_, err := unix.Pwritev2(t.open("f", rdwr), [][]byte{[]byte("!")}, 0, unix.RWF_APPEND)
		t.ok(err)
		t.eq(t.content("f"), "hello!")
	}},
	"pwritev2 syncs": {"f=hello", func(t *T) {
		_, err := unix.Pwritev2(t.open("f", rdwr), [][]byte{[]byte("J")}, 0, unix.RWF_DSYNC)
		t.ok(err)
		t.eq(t.content("f"), "Jello")
	}},
}

func closeBoth(p [2]int) { _, _ = unix.Close(p[0]), unix.Close(p[1]) }

// splice moves a text out of a pipe into a file.
func (t *T) splice(text string, fd int) {
	var p [2]int
	t.ok(unix.Pipe2(p[:], unix.O_CLOEXEC))
	defer closeBoth(p)
	_, err := unix.Write(p[1], []byte(text))
	t.ok(err)
	n, err := unix.Splice(p[0], nil, fd, nil, len(text), 0)
	t.ok(err)
	t.eq(n, len(text))
}

// pipeFrom moves what is in a file into a pipe by move.
func (t *T) pipeFrom(name string, move func(in, out int) (int, error)) {
	var p [2]int
	t.ok(unix.Pipe2(p[:], unix.O_CLOEXEC))
	defer closeBoth(p)
	n, err := move(t.open(name, rdonly), p[1])
	t.ok(err)
	b := make([]byte, n)
	got, err := unix.Read(p[0], b)
	t.ok(err)
	t.eq(string(b[:got]) == string(pattern(got)), true)
	t.holds(got == n && n > 0, "all of it came")
}
