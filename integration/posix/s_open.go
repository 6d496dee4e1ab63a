package main

import (
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	rdonly  = unix.O_RDONLY
	wronly  = unix.O_WRONLY
	rdwr    = unix.O_RDWR
	creat   = unix.O_CREAT
	excl    = unix.O_EXCL
	trunc   = unix.O_TRUNC
	dirOnly = unix.O_DIRECTORY
	noLinks = unix.O_NOFOLLOW
	opath   = unix.O_PATH
	tmpfile = unix.O_TMPFILE
)

// opening is about open(2) and its flags.
var opening = group{
	"missing":             {"", func(t *T) { t.fails(tryOpen("x", rdonly), unix.ENOENT) }},
	"missing for writing": {"", func(t *T) { t.fails(tryOpen("x", wronly|trunc), unix.ENOENT) }},
	"empty path":          {"", func(t *T) { t.fails(tryOpen("", rdonly|creat), unix.ENOENT) }},
	"bad pointer": {"", func(t *T) {
		dirfd := unix.AT_FDCWD
		_, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(dirfd), 1, rdonly, 0, 0, 0)
		t.fails(errno, unix.EFAULT)
	}},
	"bad descriptor": {"", func(t *T) {
		_, err := unix.Openat(9999, "x", rdonly, 0)
		t.fails(err, unix.EBADF)
	}},
	"descriptor of a file": {"f", func(t *T) {
		_, err := unix.Openat(t.open("f", rdonly), "x", rdonly, 0)
		t.fails(err, unix.ENOTDIR)
	}},
	"folder for writing":          {"d/", func(t *T) { t.fails(tryOpen("d", wronly), unix.EISDIR) }},
	"folder for both":             {"d/", func(t *T) { t.fails(tryOpen("d", rdwr), unix.EISDIR) }},
	"folder with creat":           {"d/", func(t *T) { t.fails(tryOpen("d", rdonly|creat), unix.EISDIR) }},
	"folder with creat and excl":  {"d/", func(t *T) { t.fails(tryOpen("d", wronly|creat|excl), unix.EEXIST) }},
	"folder with trunc":           {"d/", func(t *T) { t.fails(tryOpen("d", rdonly|trunc), unix.EISDIR) }},
	"folder cannot be read":       {"d/", func(t *T) { _, err := unix.Read(t.open("d", rdonly), make([]byte, 1)); t.fails(err, unix.EISDIR) }},
	"directory of a file":         {"f", func(t *T) { t.fails(tryOpen("f", rdonly|dirOnly), unix.ENOTDIR) }},
	"directory of a folder":       {"d/", func(t *T) { t.fails(tryOpen("d", rdonly|dirOnly), nil) }},
	"directory with creat":        {"", func(t *T) { t.fails(tryOpen("x", rdonly|creat|dirOnly), unix.EINVAL) }},
	"file with slash":             {"f", func(t *T) { t.fails(tryOpen("f/", rdonly), unix.ENOTDIR) }},
	"folder with slash and creat": {"d/", func(t *T) { t.fails(tryOpen("d/", rdonly|creat), unix.EISDIR) }},
	"missing with slash and creat": {"", func(t *T) {
		t.fails(tryOpen("x/", rdwr|creat), unix.EISDIR)
		t.holds(!exists("x"), "nothing was made")
	}},
	"creat makes": {"", func(t *T) {
		t.open("x", wronly|creat)
		t.eq(t.mode("x"), "644")
		t.eq(t.lstat("x").Size, 0)
		t.eq(t.nlink("x"), 1)
	}},
	"creat keeps what is there": {"f=hello@600", func(t *T) {
		t.open("f", rdwr|creat)
		t.eq(t.content("f"), "hello")
		t.eq(t.mode("f"), "600")
	}},
	"excl of a file":    {"f", func(t *T) { t.fails(tryOpen("f", wronly|creat|excl), unix.EEXIST) }},
	"excl of a link":    {"l->gone", func(t *T) { t.fails(tryOpen("l", wronly|creat|excl), unix.EEXIST) }},
	"excl after unlink": {"f=old", func(t *T) { t.ok(unix.Unlink("f")); t.open("f", wronly|creat|excl); t.eq(t.content("f"), "") }},
	"creat through a dangling link": {"l->x", func(t *T) {
		t.open("l", wronly|creat)
		t.holds(exists("x"), "the target was made")
	}},
	"creat in a missing folder": {"", func(t *T) { t.fails(tryOpen("d/x", wronly|creat), unix.ENOENT) }},
	"creat without permission":  {"d/@755", func(t *T) { t.as(alice, func() { t.fails(tryOpen("d/x", wronly|creat), unix.EACCES) }) }},
	"creat that is mode 0 stays open": {".@777", func(t *T) {
		t.as(alice, func() {
			fd, err := unix.Open("x", rdwr|creat|excl, 0)
			t.ok(err)
			n, err := unix.Write(fd, []byte("hello"))
			t.ok(err)
			t.eq(n, 5)
			t.eq(t.pread(fd, 5, 0), "hello")
			t.ok(t.close(fd))
			t.fails(tryOpen("x", rdonly), unix.EACCES)
		})
	}},
	"creat with sticky mode bits": {"", func(t *T) {
		fd, err := unix.Open("x", wronly|creat, 0o7777)
		t.ok(err)
		t.ok(t.close(fd))
		t.eq(t.mode("x"), "7777")
	}},
	"nofollow of a link":        {"f l->f", func(t *T) { t.fails(tryOpen("l", rdonly|noLinks), unix.ELOOP) }},
	"nofollow of a file":        {"f", func(t *T) { t.fails(tryOpen("f", rdonly|noLinks), nil) }},
	"nofollow behind a link":    {"d/ d/f l->d", func(t *T) { t.fails(tryOpen("l/f", rdonly|noLinks), nil) }},
	"nofollow and directory":    {"d/ l->d", func(t *T) { t.fails(tryOpen("l", rdonly|noLinks|dirOnly), unix.ENOTDIR) }},
	"link to itself":            {"l->l", func(t *T) { t.fails(tryOpen("l", rdonly), unix.ELOOP) }},
	"links in a circle":         {"a->b b->a", func(t *T) { t.fails(tryOpen("a", wronly|creat), unix.ELOOP) }},
	"fifo for writing, no wait": {"p|", func(t *T) { t.fails(tryOpen("p", wronly|unix.O_NONBLOCK), unix.ENXIO) }},
	"fifo for reading, no wait": {"p|", func(t *T) { t.fails(tryOpen("p", rdonly|unix.O_NONBLOCK), nil) }},
	"socket": {"", func(t *T) {
		t.ok(unix.Mknod("s", unix.S_IFSOCK|0o666, 0))
		t.fails(tryOpen("s", rdonly), unix.ENXIO)
	}},
	"device": {"z%c1,5", func(t *T) { t.eq(t.pread(t.open("z", rdonly), 4, 0), "\x00\x00\x00\x00") }},
	"device of no driver": {"", func(t *T) {
		t.ok(unix.Mknod("x", unix.S_IFCHR|0o666, int(unix.Mkdev(240, 77))))
		t.fails(tryOpen("x", rdonly), unix.ENXIO)
	}},
	"append": {"f=hello", func(t *T) {
		fd := t.open("f", rdwr|unix.O_APPEND)
		_, err := unix.Write(fd, []byte(" there"))
		t.ok(err)
		t.eq(t.content("f"), "hello there")
	}},
	"append ignores pwrite's offset": {"f=hello", func(t *T) {
		t.pwrite(t.open("f", rdwr|unix.O_APPEND), "!", 0)
		t.eq(t.content("f"), "hello!")
	}},
	"append after another's append": {"f=a", func(t *T) {
		x, y := t.open("f", wronly|unix.O_APPEND), t.open("f", wronly|unix.O_APPEND)
		for i, fd := range []int{x, y, x, y} {
			_, err := unix.Write(fd, []byte{byte('b' + i)})
			t.ok(err)
		}
		t.eq(t.content("f"), "abcde")
	}},
	"append after fcntl": {"f=hello", func(t *T) {
		fd := t.open("f", wronly)
		_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, unix.O_APPEND)
		t.ok(err)
		t.pwrite(fd, "!", 0)
		t.eq(t.content("f"), "hello!")
	}},
	"trunc":                 {"f=hello", func(t *T) { t.open("f", wronly|trunc); t.eq(t.content("f"), "") }},
	"trunc of a large file": {"f#300000", func(t *T) { t.open("f", wronly|trunc); t.eq(t.lstat("f").Blocks, 0) }},
	"trunc for reading":     {"f=hello", func(t *T) { t.open("f", rdonly|trunc); t.eq(t.content("f"), "") }},
	"trunc seen by others":  {"f=hello", func(t *T) { fd := t.open("f", rdonly); t.open("f", wronly|trunc); t.eq(t.pread(fd, 5, 0), "") }},
	"trunc without permission": {"f=hello@444", func(t *T) {
		t.as(alice, func() { t.fails(tryOpen("f", rdonly|trunc), unix.EACCES) })
		t.eq(t.content("f"), "hello")
	}},
	"trunc through a link":       {"f=hello l->f", func(t *T) { t.open("l", wronly|trunc); t.eq(t.content("f"), "") }},
	"trunc of a hard link":       {"f=hello h==f", func(t *T) { t.open("h", wronly|trunc); t.eq(t.content("f"), "") }},
	"trunc touches":              {"f=hello", func(t *T) { t.touches("f:mc .:", func() { t.open("f", wronly|trunc) }) }},
	"trunc of nothing touches":   {"f", func(t *T) { t.touches("f:mc", func() { t.open("f", wronly|trunc) }) }},
	"creat touches":              {"", func(t *T) { t.touches(".:mc", func() { t.open("x", wronly|creat) }) }},
	"creat of what is there":     {"f=x", func(t *T) { t.touches(".: f:", func() { t.open("f", wronly|creat) }) }},
	"for writing touches not":    {"f=x", func(t *T) { t.touches("f: .:", func() { t.open("f", rdwr) }) }},
	"reading is not for writing": {"f=x", func(t *T) { _, err := unix.Write(t.open("f", rdonly), []byte("y")); t.fails(err, unix.EBADF) }},
	"writing is not for reading": {"f=x", func(t *T) { _, err := unix.Read(t.open("f", wronly), make([]byte, 1)); t.fails(err, unix.EBADF) }},
	"access mode 3": {"f=x", func(t *T) {
		fd := t.open("f", 3)
		_, err := unix.Read(fd, make([]byte, 1))
		t.fails(err, unix.EBADF)
	}},
	"path handle": {"f=hello", func(t *T) {
		fd := t.open("f", opath)
		t.eq(t.fstat(fd).Size, 5)
		_, err := unix.Read(fd, make([]byte, 1))
		t.fails(err, unix.EBADF)
		t.fails(unix.Fchmod(fd, 0o600), unix.EBADF)
		t.fails(unix.Fsync(fd), unix.EBADF)
		t.fails(unix.Ftruncate(fd, 0), unix.EBADF, unix.EINVAL)
	}},
	"path handle of a link": {"l->f", func(t *T) {
		fd := t.open("l", opath|noLinks)
		buf := make([]byte, 10)
		n, err := unix.Readlinkat(fd, "", buf)
		t.ok(err)
		t.eq(string(buf[:n]), "f")
	}},
	"path handle needs no permission": {"f@0", func(t *T) { t.as(alice, func() { t.fails(tryOpen("f", opath), nil) }) }},
	"path handle after unlink": {"f=hello", func(t *T) {
		fd := t.open("f", opath)
		t.ok(unix.Unlink("f"))
		st := t.fstat(fd)
		t.eq(st.Nlink, 0)
		t.eq(st.Size, 5)
	}},
	"path handle reopened": {"f=hello", func(t *T) {
		fd := t.open("f", opath)
		t.ok(unix.Rename("f", "g"))
		t.eq(t.content(self(fd)), "hello")
	}},
	"unlinked file reopened": {"f=hello", func(t *T) {
		fd := t.open("f", rdonly)
		t.ok(unix.Unlink("f"))
		again := t.open(self(fd), rdwr)
		t.pwrite(again, "J", 0)
		t.eq(t.pread(fd, 10, 0), "Jello")
	}},
	"noatime of another's": {"f=x@666", func(t *T) { t.as(alice, func() { t.fails(tryOpen("f", rdonly|unix.O_NOATIME), unix.EPERM) }) }},
	"noatime of one's own": {"f=x@644:1001:1001", func(t *T) { t.as(alice, func() { t.fails(tryOpen("f", rdonly|unix.O_NOATIME), nil) }) }},
	"read permission":      {"f=x@200", func(t *T) { t.as(alice, func() { t.fails(tryOpen("f", rdonly), unix.EACCES) }) }},
	"write permission":     {"f=x@444", func(t *T) { t.as(alice, func() { t.fails(tryOpen("f", rdwr), unix.EACCES) }) }},
	"owner's bits count":   {"f=x@077:1001:1001", func(t *T) { t.as(alice, func() { t.fails(tryOpen("f", rdonly), unix.EACCES) }) }},
	"group's bits count":   {"f=x@604:0:1001", func(t *T) { t.as(alice, func() { t.fails(tryOpen("f", rdonly), unix.EACCES) }) }},
	"further groups count": {"f=x@640:0:77", func(t *T) { t.as(alice, func() { t.fails(tryOpen("f", rdonly), nil) }, 77) }},
	"search permission":    {"d/@700 d/f=x", func(t *T) { t.as(alice, func() { t.fails(tryOpen("d/f", rdonly), unix.EACCES) }) }},
	"search without read": {"d/@711 d/f=x", func(t *T) {
		t.as(alice, func() { t.fails(tryOpen("d/f", rdonly), nil); t.fails(tryOpen("d", rdonly), unix.EACCES) })
	}},
	"read without search": {"d/@744 d/f=x", func(t *T) {
		t.as(alice, func() { t.eq(t.list("d"), "[f]"); t.fails(tryOpen("d/f", rdonly), unix.EACCES) })
	}},
	"permission that went": {"f=x", func(t *T) {
		t.as(alice, func() { t.open("f", rdonly) })
		t.ok(unix.Chmod("f", 0))
		t.as(alice, func() { t.fails(tryOpen("f", rdonly), unix.EACCES) })
	}},
	"permission that came": {"d/@700 d/f=x", func(t *T) {
		t.as(alice, func() { t.fails(tryOpen("d/f", rdonly), unix.EACCES) })
		t.ok(unix.Chmod("d", 0o755))
		t.as(alice, func() { t.fails(tryOpen("d/f", rdonly), nil) })
	}},
	"permission stays open": {"f=hello@644", func(t *T) {
		t.as(alice, func() {
			fd := t.open("f", rdonly)
			t.become(0, nil)
			t.ok(unix.Chmod("f", 0))
			t.become(alice, nil)
			t.eq(t.pread(fd, 5, 0), "hello")
		})
	}},
	"precedence: EISDIR over EACCES": {"d/@700", func(t *T) {
		t.as(alice, func() { t.fails(tryOpen("d", wronly), unix.EISDIR) })
	}},
	"precedence: EEXIST over EACCES": {"f@0", func(t *T) { t.as(alice, func() { t.fails(tryOpen("f", wronly|creat|excl), unix.EEXIST) }) }},
	"precedence: EEXIST over the folder's EACCES": {"d/ d/f", func(t *T) {
		t.as(alice, func() { t.fails(tryOpen("d/f", wronly|creat|excl), unix.EEXIST) })
	}},
	"precedence: ENOTDIR over EACCES": {"f@0", func(t *T) { t.as(alice, func() { t.fails(tryOpen("f", rdonly|dirOnly), unix.ENOTDIR) }) }},
	"direct": {"f#8192", func(t *T) {
		fd := t.open("f", rdwr|unix.O_DIRECT)
		b := aligned(4096)
		n, err := unix.Pread(fd, b, 4096)
		t.ok(err)
		t.eq(n, 4096)
		t.eq(string(b[:8]), "0000512\n")
		copy(b, strings.Repeat("x", 4096))
		n, err = unix.Pwrite(fd, b, 4096)
		t.ok(err)
		t.eq(n, 4096)
		t.eq(t.content("f"), string(pattern(4096))+strings.Repeat("x", 4096))
	}},
	"direct past the end": {"f#5000", func(t *T) {
		n, err := unix.Pread(t.open("f", rdonly|unix.O_DIRECT), aligned(8192), 0)
		t.ok(err)
		t.eq(n, 5000)
	}},
	"direct extends": {"f=x", func(t *T) {
		fd := t.open("f", wronly|unix.O_DIRECT)
		_, err := unix.Pwrite(fd, aligned(4096), 8192)
		t.ok(err)
		t.eq(t.fstat(fd).Size, 12288)
		t.eq(t.content("f"), "x"+strings.Repeat("\x00", 12287))
	}},
	"direct beside buffered": {"f#8192", func(t *T) {
		direct, plain := t.open("f", rdwr|unix.O_DIRECT), t.open("f", rdwr)
		t.pwrite(plain, "plain", 0)
		b := aligned(4096)
		_, err := unix.Pread(direct, b, 0)
		t.ok(err)
		t.eq(string(b[:5]), "plain")
		copy(b, "direct")
		_, err = unix.Pwrite(direct, b, 0)
		t.ok(err)
		t.eq(t.pread(plain, 6, 0), "direct")
	}},
	"sync flags": {"f=x", func(t *T) {
		for _, flag := range []int{unix.O_SYNC, unix.O_DSYNC, unix.O_RSYNC} {
			t.pwrite(t.open("f", rdwr|flag), "synced", 0)
		}
		t.eq(t.content("f"), "synced")
	}},
	"openat2 beneath": {"d/ d/f=x d/l->../d/f", func(t *T) {
		how := unix.OpenHow{Flags: rdonly, Resolve: unix.RESOLVE_BENEATH}
		dir := t.open("d", rdonly|dirOnly)
		fd, err := unix.Openat2(dir, "f", &how)
		t.ok(err)
		t.ok(t.close(fd))
		_, err = unix.Openat2(dir, "l", &how)
		t.fails(err, unix.EXDEV)
		_, err = unix.Openat2(dir, "../d/f", &how)
		t.fails(err, unix.EXDEV)
	}},
	"openat2 no symlinks": {"d/ d/f l->d", func(t *T) {
		_, err := unix.Openat2(unix.AT_FDCWD, "l/f", &unix.OpenHow{Flags: rdonly, Resolve: unix.RESOLVE_NO_SYMLINKS})
		t.fails(err, unix.ELOOP)
	}},
	"many descriptors of one file": {"f=hello", func(t *T) {
		for range 200 {
			t.eq(t.pread(t.open("f", rdwr), 5, 0), "hello")
		}
	}},
	"lseek": {"f=hello", func(t *T) {
		fd := t.open("f", rdwr)
		off, err := unix.Seek(fd, -2, unix.SEEK_END)
		t.ok(err)
		t.eq(off, 3)
		_, err = unix.Seek(fd, -1, unix.SEEK_SET)
		t.fails(err, unix.EINVAL)
		_, err = unix.Seek(fd, 10, unix.SEEK_CUR)
		t.ok(err)
		_, err = unix.Write(fd, []byte("!"))
		t.ok(err)
		t.eq(t.content("f"), "hello"+strings.Repeat("\x00", 8)+"!")
	}},
	"lseek end after another's append": {"f=hello", func(t *T) {
		fd := t.open("f", rdonly)
		t.append("f", " there")
		off, err := unix.Seek(fd, 0, unix.SEEK_END)
		t.ok(err)
		t.eq(off, 11)
	}},
	"dup shares the offset": {"f=hello", func(t *T) {
		fd := t.open("f", rdonly)
		two, err := unix.Dup(fd)
		t.ok(err)
		b := make([]byte, 2)
		_, err = unix.Read(fd, b)
		t.ok(err)
		_, err = unix.Read(two, b)
		t.ok(err)
		t.eq(string(b), "ll")
		t.ok(t.close(two))
	}},
	"readv and writev": {"f", func(t *T) {
		fd := t.open("f", rdwr)
		n, err := unix.Writev(fd, [][]byte{[]byte("ab"), {}, []byte("cde")})
		t.ok(err)
		t.eq(n, 5)
		a, b := make([]byte, 3), make([]byte, 10)
		n, err = unix.Preadv(fd, [][]byte{a, b}, 0)
		t.ok(err)
		t.eq(n, 5)
		t.eq(string(a)+string(b[:2]), "abcde")
	}},
	"negative offset": {"f=x", func(t *T) {
		_, err := unix.Pread(t.open("f", rdwr), make([]byte, 1), -1)
		t.fails(err, unix.EINVAL)
	}},
	"read into a bad pointer": {"f=hello", func(t *T) {
		_, _, errno := unix.Syscall(unix.SYS_READ, uintptr(t.open("f", rdonly)), 1, 5)
		t.fails(errno, unix.EFAULT)
	}},
	"write from a bad pointer": {"f=hello", func(t *T) {
		_, _, errno := unix.Syscall(unix.SYS_WRITE, uintptr(t.open("f", wronly)), 1, 5)
		t.fails(errno, unix.EFAULT)
		t.eq(t.content("f"), "hello")
	}},
}

// self is the path of an open descriptor.
func self(fd int) string { return "/proc/thread-self/fd/" + itoa(fd) }

// aligned gives a buffer that O_DIRECT takes.
func aligned(n int) []byte {
	const page = 4096
	b := make([]byte, n+page)
	off := page - int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))%page)
	return b[off : off+n : off+n]
}

// remove removes what is there, file or folder.
func (t *T) remove(names ...string) {
	for _, name := range names {
		t.ok(os.Remove(name))
	}
}
