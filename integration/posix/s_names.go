package main

import (
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// linking is about link(2), symlink(2) and readlink(2).
var linking = group{
	"two names, one file": {"f=hello", func(t *T) {
		ino := t.lstat("f").Ino
		t.ok(unix.Link("f", "g"))
		t.eq(t.lstat("g").Ino, ino)
		t.eq(t.lstat("f").Ino, ino)
		t.eq(t.nlink("f"), 2)
		t.append("g", "!")
		t.eq(t.content("f"), "hello!")
		t.ok(unix.Chmod("g", 0o600))
		t.eq(t.mode("f"), "600")
	}},
	"names that were there": {"f=hello h==f d/ d/h==f", func(t *T) {
		t.eq(t.lstat("f").Ino, t.lstat("d/h").Ino)
		t.eq(t.nlink("h"), 3)
		t.append("h", "!")
		t.eq(t.content("d/h"), "hello!")
		t.eq(t.content("f"), "hello!")
		t.eq(t.lstat("f").Ino, t.lstat("d/h").Ino)
		t.remove("f")
		t.eq(t.nlink("h"), 2)
		t.append("d/h", "?")
		t.eq(t.content("h"), "hello!?")
	}},
	"a name more of several": {"f=hello h==f", func(t *T) {
		t.ok(unix.Link("h", "i"))
		t.eq(t.nlink("f"), 3)
		t.eq(t.lstat("i").Ino, t.lstat("f").Ino)
		t.remove("f", "h")
		t.eq(t.nlink("i"), 1)
		t.eq(t.content("i"), "hello")
	}},
	"of a folder":               {"d/", func(t *T) { t.fails(unix.Link("d", "e"), unix.EPERM) }},
	"to what is there":          {"f g", func(t *T) { t.fails(unix.Link("f", "g"), unix.EEXIST) }},
	"to itself":                 {"f", func(t *T) { t.fails(unix.Link("f", "f"), unix.EEXIST) }},
	"of a folder that is taken": {"d/ e/", func(t *T) { t.fails(unix.Link("d", "e"), unix.EEXIST) }},
	"of a symbolic link": {"f=hello l->f", func(t *T) {
		t.ok(unix.Link("l", "m"))
		t.eq(t.lstat("m").Mode&unix.S_IFMT == unix.S_IFLNK, true)
		t.eq(t.nlink("l"), 2)
		t.eq(t.lstat("l").Ino, t.lstat("m").Ino)
	}},
	"of a symbolic link, followed": {"f=hello l->f", func(t *T) {
		t.ok(unix.Linkat(unix.AT_FDCWD, "l", unix.AT_FDCWD, "g", unix.AT_SYMLINK_FOLLOW))
		t.eq(t.lstat("g").Ino, t.lstat("f").Ino)
	}},
	"of a fifo": {"p|", func(t *T) { t.ok(unix.Link("p", "q")); t.eq(t.nlink("p"), 2); t.eq(t.lstat("p").Ino, t.lstat("q").Ino) }},
	"of a device": {"z%c1,5", func(t *T) {
		t.ok(unix.Link("z", "y"))
		t.eq(t.nlink("z"), 2)
		t.eq(t.lstat("y").Rdev, t.lstat("z").Rdev)
	}},
	"of an open file": {"f=hello", func(t *T) {
		fd := t.open("f", rdwr)
		t.ok(unix.Link("f", "g"))
		t.pwrite(fd, "J", 0)
		t.eq(t.content("g"), "Jello")
		t.eq(t.fstat(fd).Nlink, 2)
	}},
	"of a file that is gone": {"f=hello", func(t *T) {
		fd := t.open("f", rdonly)
		t.remove("f")
		t.fails(unix.Linkat(unix.AT_FDCWD, self(fd), unix.AT_FDCWD, "g", unix.AT_SYMLINK_FOLLOW), unix.ENOENT)
	}},
	"by descriptor": {"f=hello", func(t *T) {
		t.ok(unix.Linkat(t.open("f", rdonly), "", unix.AT_FDCWD, "g", unix.AT_EMPTY_PATH))
		t.eq(t.content("g"), "hello")
	}},
	"bad flags":               {"f", func(t *T) { t.fails(unix.Linkat(unix.AT_FDCWD, "f", unix.AT_FDCWD, "g", 0x10), unix.EINVAL) }},
	"to another filesystem":   {"f", func(t *T) { t.fails(unix.Link("f", "/dev/unio-posix"), unix.EXDEV) }},
	"from another filesystem": {"", func(t *T) { t.fails(unix.Link("/proc/version", "x"), unix.EXDEV) }},
	"into a missing folder":   {"f", func(t *T) { t.fails(unix.Link("f", "d/x"), unix.ENOENT) }},
	"after unlink of the name": {"f=one g=two", func(t *T) {
		t.remove("g")
		t.ok(unix.Link("f", "g"))
		t.eq(t.content("g"), "one")
		t.eq(t.list("."), "[f g]")
	}},
	"touches":                    {"f=x d/", func(t *T) { t.touches("f:c .: d:mc", func() { t.ok(unix.Link("f", "d/g")) }) }},
	"that fails touches nothing": {"f=x g", func(t *T) { t.touches("f: .: g:", func() { t.fails(unix.Link("f", "g"), unix.EEXIST) }) }},
	"many": {"f=x", func(t *T) {
		for i := range 500 {
			t.ok(unix.Link("f", "l"+itoa(i)))
		}
		t.eq(t.nlink("f"), 501)
		for i := range 500 {
			t.remove("l" + itoa(i))
		}
		t.eq(t.nlink("f"), 1)
	}},
	"not of another's": {".@777 f=x@600", func(t *T) { t.as(alice, func() { t.fails(unix.Link("f", "g"), t.protected(unix.EPERM)) }) }},
	"symlink": {"", func(t *T) {
		t.ok(unix.Symlink("some/where", "l"))
		st := t.lstat("l")
		t.eq(st.Size, 10)
		t.eq(st.Mode&unix.S_IFMT == unix.S_IFLNK, true)
		t.eq(st.Mode&0o777 == 0o777, true)
		t.eq(t.target("l"), "some/where")
	}},
	"symlink that was there": {"l->some/where", func(t *T) { t.eq(t.target("l"), "some/where"); t.eq(t.lstat("l").Size, 10) }},
	"symlink of 4,095 bytes": {"", func(t *T) {
		target := strings.Repeat("t/", 2047) + "t"
		t.ok(unix.Symlink(target, "l"))
		t.eq(t.target("l"), target)
		t.eq(t.lstat("l").Size, 4095)
	}},
	"symlink of 4,096 bytes":    {"", func(t *T) { t.fails(unix.Symlink(strings.Repeat("t", 4096), "l"), unix.ENAMETOOLONG) }},
	"symlink to nothing at all": {"", func(t *T) { t.fails(unix.Symlink("", "l"), unix.ENOENT) }},
	"symlink touches":           {"", func(t *T) { t.touches(".:mc", func() { t.ok(unix.Symlink("x", "l")) }) }},
	"symlink with slash":        {"", func(t *T) { t.fails(unix.Symlink("x", "l/"), unix.ENOENT) }},
	"readlink of a file":        {"f", func(t *T) { _, err := unix.Readlink("f", make([]byte, 9)); t.fails(err, unix.EINVAL) }},
	"readlink of a folder":      {"d/", func(t *T) { _, err := unix.Readlink("d", make([]byte, 9)); t.fails(err, unix.EINVAL) }},
	"readlink into a small buffer": {"l->hello", func(t *T) {
		b := make([]byte, 3)
		n, err := unix.Readlink("l", b)
		t.ok(err)
		t.eq(string(b[:n]), "hel")
	}},
	"readlink into nothing": {"l->hello", func(t *T) {
		dirfd := unix.AT_FDCWD
		path, _ := unix.BytePtrFromString("l")
		t.fails(readlinkRaw(dirfd, path, 0), unix.EINVAL)
	}},
	"readlink touches": {"l->f", func(t *T) { t.touches("l: .:", func() { t.lstat("l") }) }},
	"symlink renamed":  {"l->f", func(t *T) { t.ok(unix.Rename("l", "m")); t.eq(t.target("m"), "f"); t.holds(!exists("l"), "it moved") }},
	"symlink removed":  {"f=x l->f", func(t *T) { t.ok(unix.Unlink("l")); t.eq(t.content("f"), "x"); t.eq(t.list("."), "[f]") }},
	"folder through a symlink": {"d/ d/f=x l->d", func(t *T) {
		t.eq(t.list("l"), "[f]")
		t.put("l/g", "y")
		t.eq(t.list("d"), "[f g]")
		t.fails(unix.Rmdir("l"), unix.ENOTDIR)
		t.fails(unix.Unlink("l/"), unix.ENOTDIR)
	}},
}

// removing is about unlink(2) and rmdir(2).
var removing = group{
	"file":                         {"f=x g", func(t *T) { t.ok(unix.Unlink("f")); t.eq(t.list("."), "[g]"); t.fails(unix.Unlink("f"), unix.ENOENT) }},
	"folder":                       {"d/ g", func(t *T) { t.ok(unix.Rmdir("d")); t.eq(t.list("."), "[g]"); t.fails(unix.Rmdir("d"), unix.ENOENT) }},
	"unlink a folder":              {"d/", func(t *T) { t.fails(unix.Unlink("d"), unix.EISDIR) }},
	"rmdir a file":                 {"f", func(t *T) { t.fails(unix.Rmdir("f"), unix.ENOTDIR) }},
	"rmdir a link":                 {"d/ l->d", func(t *T) { t.fails(unix.Rmdir("l"), unix.ENOTDIR) }},
	"rmdir with something in it":   {"d/ d/f", func(t *T) { t.fails(unix.Rmdir("d"), unix.ENOTEMPTY) }},
	"rmdir with something hidden":  {"d/ d/.f", func(t *T) { t.fails(unix.Rmdir("d"), unix.ENOTEMPTY) }},
	"rmdir when it is emptied":     {"d/ d/f d/e/", func(t *T) { t.remove("d/f", "d/e", "d"); t.holds(!exists("d"), "gone") }},
	"rmdir with a new thing in it": {"d/ d/f", func(t *T) { t.remove("d/f"); t.put("d/g", ""); t.fails(unix.Rmdir("d"), unix.ENOTEMPTY) }},
	"rmdir dot":                    {"d/", func(t *T) { t.fails(unix.Rmdir("d/."), unix.EINVAL); t.fails(unix.Rmdir("."), unix.EINVAL) }},
	"rmdir dot dot":                {"d/ d/e/", func(t *T) { t.fails(unix.Rmdir("d/e/.."), unix.ENOTEMPTY) }},
	"unlink dot":                   {"d/", func(t *T) { t.fails(unix.Unlink("d/."), unix.EINVAL, unix.EISDIR) }},
	"unlink with slash":            {"f", func(t *T) { t.fails(unix.Unlink("f/"), unix.ENOTDIR) }},
	"rmdir with slash":             {"d/", func(t *T) { t.ok(unix.Rmdir("d/")) }},
	"rmdir of a mount point":       {"", func(t *T) { t.fails(unix.Rmdir("/proc"), unix.EBUSY) }},
	"unlinkat bad flags":           {"f", func(t *T) { t.fails(unix.Unlinkat(unix.AT_FDCWD, "f", 0x8000), unix.EINVAL) }},
	"open file stays": {"f=hello", func(t *T) {
		fd := t.open("f", rdwr)
		t.remove("f")
		t.eq(t.pread(fd, 5, 0), "hello")
		t.pwrite(fd, "Jolly", 0)
		t.eq(t.pread(fd, 5, 0), "Jolly")
		t.eq(t.fstat(fd).Nlink, 0)
		t.eq(t.fstat(fd).Size, 5)
		t.ok(unix.Ftruncate(fd, 2))
		t.ok(unix.Fchmod(fd, 0o600))
		t.ok(unix.Fchown(fd, 5, 6))
		st := t.fstat(fd)
		t.eq([]uint32{st.Mode & 0o777, st.Uid, st.Gid, uint32(st.Size)}, []uint32{0o600, 5, 6, 2})
	}},
	"open file takes attributes": {"f=hello", func(t *T) {
		fd := t.open("f", rdwr)
		t.remove("f")
		t.ok(unix.Fsetxattr(fd, "user.x", []byte("v"), 0))
		b := make([]byte, 9)
		n, err := unix.Fgetxattr(fd, "user.x", b)
		t.ok(err)
		t.eq(string(b[:n]), "v")
		t.ok(unix.Fsync(fd))
		t.ok(unix.Fallocate(fd, 0, 0, 100))
		t.eq(t.fstat(fd).Size, 100)
	}},
	"open file, and a new one of the name": {"f=hello", func(t *T) {
		fd := t.open("f", rdwr)
		t.remove("f")
		t.put("f", "other")
		t.eq(t.pread(fd, 9, 0), "hello")
		t.eq(t.content("f"), "other")
		t.holds(t.fstat(fd).Ino != t.lstat("f").Ino, "two inodes")
	}},
	"hard link counts": {"f=x", func(t *T) {
		t.ok(unix.Link("f", "g"))
		fd := t.open("f", rdonly)
		t.remove("f")
		t.eq(t.fstat(fd).Nlink, 1)
		t.remove("g")
		t.eq(t.fstat(fd).Nlink, 0)
	}},
	"open folder stays": {"d/", func(t *T) {
		fd := t.open("d", rdonly|dirOnly)
		t.remove("d")
		t.eq(t.fstat(fd).Nlink, 0)
		_, err := unix.Openat(fd, "x", wronly|creat, 0o644)
		t.fails(err, unix.ENOENT)
		t.fails(unix.Mkdirat(fd, "x", 0o755), unix.ENOENT)
		_, err = unix.Getdents(fd, make([]byte, 4096))
		t.fails(err, unix.ENOENT)
	}},
	"folder counts": {"d/ d/a/ d/b/ d/f", func(t *T) {
		t.eq(t.nlink("d"), 4)
		t.remove("d/a")
		t.eq(t.nlink("d"), 3)
		t.ok(unix.Mkdir("d/c", 0o755))
		t.eq(t.nlink("d"), 4)
		t.remove("d/b", "d/c")
		t.eq(t.nlink("d"), 2)
		t.eq(t.nlink("d/f"), 1)
	}},
	"and made again as a folder": {"f=x", func(t *T) { t.remove("f"); t.ok(unix.Mkdir("f", 0o755)); t.eq(t.list("f"), "[]"); t.put("f/g", "") }},
	"folder made again is empty": {"d/ d/f d/g", func(t *T) {
		t.remove("d/f", "d/g", "d")
		t.ok(unix.Mkdir("d", 0o700))
		t.eq(t.list("d"), "[]")
		t.eq(t.mode("d"), "700")
		t.fails(tryOpen("d/f", rdonly), unix.ENOENT)
	}},
	"folder made again as a file": {"d/ d/f", func(t *T) {
		t.remove("d/f", "d")
		t.put("d", "now a file")
		t.eq(t.content("d"), "now a file")
		t.fails(tryOpen("d/f", rdonly), unix.ENOTDIR)
	}},
	"unlink touches": {"f=x g==f", func(t *T) { t.touches("g:c .:mc", func() { t.ok(unix.Unlink("f")) }) }},
	"unlink touches an open file": {"f=x", func(t *T) {
		fd := t.open("f", rdonly)
		t.touches("fd:"+itoa(fd)+":c .:mc", func() { t.ok(unix.Unlink("f")) })
	}},
	"rmdir touches": {"d/", func(t *T) { t.touches(".:mc", func() { t.ok(unix.Rmdir("d")) }) }},
	"failing touches nothing": {"d/ d/f g", func(t *T) {
		t.touches(".: d: d/f: g:", func() {
			t.fails(unix.Rmdir("d"), unix.ENOTEMPTY)
			t.fails(unix.Unlink("d"), unix.EISDIR)
			t.fails(unix.Rmdir("g"), unix.ENOTDIR)
		})
	}},
	"needs the folder's permission": {"f@666 d/@777", func(t *T) {
		t.as(alice, func() { t.fails(unix.Unlink("f"), unix.EACCES); t.fails(unix.Rmdir("d"), unix.EACCES) })
	}},
	"needs not the file's":           {".@777 f@0 d/@0", func(t *T) { t.as(alice, func() { t.ok(unix.Unlink("f")); t.ok(unix.Rmdir("d")) }) }},
	"precedence: EACCES over EISDIR": {"d/", func(t *T) { t.as(alice, func() { t.fails(unix.Unlink("d"), unix.EACCES) }) }},
	"precedence: ENOENT over EACCES": {"", func(t *T) {
		t.as(alice, func() { t.fails(unix.Unlink("x"), unix.ENOENT); t.fails(unix.Rmdir("x"), unix.ENOENT) })
	}},
	"precedence: EACCES over ENOTEMPTY": {"d/@777 d/f", func(t *T) { t.as(alice, func() { t.fails(unix.Rmdir("d"), unix.EACCES) }) }},
	"sticky: another's file":            {".@1777 f@666", func(t *T) { t.as(alice, func() { t.fails(unix.Unlink("f"), unix.EPERM) }) }},
	"sticky: one's own file":            {".@1777 f@600:1001:1001", func(t *T) { t.as(alice, func() { t.ok(unix.Unlink("f")) }) }},
	"sticky: one's own folder":          {".@1777:1001:1001 f@600:1002:1002", func(t *T) { t.as(alice, func() { t.ok(unix.Unlink("f")) }) }},
	"sticky: another's folder":          {".@1777 d/@777", func(t *T) { t.as(alice, func() { t.fails(unix.Rmdir("d"), unix.EPERM) }) }},
	"tree": {"d/ d/a/ d/a/b/ d/a/b/f=x d/a/g d/h->a d/p|", func(t *T) {
		t.remove("d/a/b/f", "d/a/b", "d/a/g", "d/a", "d/h", "d/p", "d")
		t.eq(t.list("."), "[]")
	}},
	"again and again": {"f=0", func(t *T) {
		for i := range 50 {
			t.remove("f")
			t.put("f", itoa(i))
			t.eq(t.content("f"), itoa(i))
		}
	}},
}

func (t *T) target(name string) string {
	b := make([]byte, 5000)
	n, err := unix.Readlink(name, b)
	t.ok(err)
	return string(b[:n])
}

func readlinkRaw(dirfd int, path *byte, size int) error {
	buf := make([]byte, 1)
	_, _, errno := unix.Syscall6(unix.SYS_READLINKAT, uintptr(dirfd), uintptr(unsafe.Pointer(path)),
		uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(size), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// protected gives err where the machine forbids links to what one may not
// read and write (fs.protected_hardlinks, proc_sys_fs(5)), else success.
func (t *T) protected(err error) error {
	b, readErr := os.ReadFile("/proc/sys/fs/protected_hardlinks")
	if readErr == nil && strings.TrimSpace(string(b)) == "1" {
		return err
	}
	return nil
}
