package main

import (
	"golang.org/x/sys/unix"
)

// making is about mkdir(2), mknod(2), umask(2) and setgid folders.
var making = group{
	"folder": {"", func(t *T) {
		t.ok(unix.Mkdir("d", 0o755))
		st := t.lstat("d")
		t.eq(st.Mode, unix.S_IFDIR|0o755)
		t.eq(st.Nlink, 2)
		t.eq(t.list("d"), "[]")
	}},
	"folder's parent counts": {"", func(t *T) {
		n := t.nlink(".")
		t.ok(unix.Mkdir("d", 0o755))
		t.eq(t.nlink("."), n+1)
	}},
	"folder with all bits":  {"", func(t *T) { t.ok(unix.Mkdir("d", 0o1777)); t.eq(t.mode("d"), "1777") }},
	"folder ignores set-id": {"", func(t *T) { t.ok(unix.Mkdir("d", 0o7755)); t.eq(t.mode("d"), "1755") }},
	"folder with slash":     {"", func(t *T) { t.ok(unix.Mkdir("d/", 0o755)) }},
	"folder through a link": {"l->d", func(t *T) {
		t.fails(unix.Mkdir("l", 0o755), unix.EEXIST)
		t.fails(unix.Mkdir("l/", 0o755), unix.EEXIST)
	}},
	"folder over a folder": {"d/", func(t *T) {
		t.fails(unix.Mkdir("d/", 0o755), unix.EEXIST)
		t.fails(unix.Mkdir("d/.", 0o755), unix.EEXIST)
	}},
	"folder touches":       {"", func(t *T) { t.touches(".:mc", func() { t.ok(unix.Mkdir("d", 0o755)) }) }},
	"fresh folder's times": {"", func(t *T) { t.ok(unix.Mkdir("d", 0o755)); a := t.times("d"); t.eq(a.m, a.c); t.eq(a.a, a.c) }},
	"fresh file's times":   {"", func(t *T) { t.put("f", ""); a := t.times("f"); t.eq(a.m, a.c); t.eq(a.a, a.c) }},
	"fresh link's times":   {"", func(t *T) { t.ok(unix.Symlink("x", "l")); a := t.times("l"); t.eq(a.m, a.c); t.eq(a.a, a.c) }},
	"fifo":                 {"", func(t *T) { t.ok(unix.Mkfifo("p", 0o640)); t.eq(t.lstat("p").Mode, unix.S_IFIFO|0o640) }},
	"socket": {"", func(t *T) {
		t.ok(unix.Mknod("s", unix.S_IFSOCK|0o640, 0))
		t.eq(t.lstat("s").Mode, unix.S_IFSOCK|0o640)
	}},
	"regular file": {"", func(t *T) {
		t.ok(unix.Mknod("f", unix.S_IFREG|0o4755, 0))
		t.eq(t.lstat("f").Mode, unix.S_IFREG|0o4755)
	}},
	"file without a type": {"", func(t *T) { t.ok(unix.Mknod("f", 0o600, 0)); t.eq(t.lstat("f").Mode, unix.S_IFREG|0o600) }},
	"mknod of a folder":   {"", func(t *T) { t.fails(unix.Mknod("d", unix.S_IFDIR|0o755, 0), unix.EPERM) }},
	"mknod of a link":     {"", func(t *T) { t.fails(unix.Mknod("l", unix.S_IFLNK|0o755, 0), unix.EINVAL) }},
	"mknod of no type":    {"", func(t *T) { t.fails(unix.Mknod("x", 0o170000|0o644, 0), unix.EINVAL) }},
	"character device": {"", func(t *T) {
		t.ok(unix.Mknod("z", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))))
		st := t.lstat("z")
		t.eq(st.Mode, unix.S_IFCHR|0o600)
		t.eq(st.Rdev, unix.Mkdev(1, 5))
		t.eq(t.pread(t.open("z", rdonly), 2, 0), "\x00\x00")
	}},
	"block device": {"", func(t *T) {
		t.ok(unix.Mknod("b", unix.S_IFBLK|0o600, int(unix.Mkdev(7, 200))))
		t.eq(t.lstat("b").Rdev, unix.Mkdev(7, 200))
	}},
	"device with large numbers": {"", func(t *T) {
		for _, dev := range []uint64{unix.Mkdev(4095, 1048575), unix.Mkdev(300, 70000), unix.Mkdev(1, 256), unix.Mkdev(256, 1)} {
			t.ok(unix.Mknod("z", unix.S_IFCHR|0o600, int(dev)))
			t.eq(t.lstat("z").Rdev, dev)
			t.remove("z")
		}
	}},
	"device without privilege": {".@777", func(t *T) {
		t.as(alice, func() {
			t.fails(unix.Mknod("z", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))), unix.EPERM)
			t.fails(unix.Mknod("b", unix.S_IFBLK|0o600, int(unix.Mkdev(7, 5))), unix.EPERM)
			t.ok(unix.Mkfifo("p", 0o600))
			t.ok(unix.Mknod("s", unix.S_IFSOCK|0o600, 0))
		})
	}},
	"owner is who makes": {".@777", func(t *T) {
		t.as(alice, func() {
			t.put("f", "")
			t.ok(unix.Mkdir("d", 0o755))
			t.ok(unix.Symlink("x", "l"))
			t.ok(unix.Mkfifo("p", 0o600))
		})
		for _, name := range []string{"f", "d", "l", "p"} {
			t.eq(t.owner(name), "1001:1001")
		}
	}},
	"mkdir without permission": {"d/@755", func(t *T) {
		t.as(alice, func() {
			t.fails(unix.Mkdir("d/x", 0o755), unix.EACCES)
			t.fails(unix.Mkfifo("d/x", 0o755), unix.EACCES)
			t.fails(unix.Symlink("x", "d/x"), unix.EACCES)
		})
	}},
	"by group permission": {"d/@770:0:77", func(t *T) { t.as(alice, func() { t.ok(unix.Mkdir("d/x", 0o755)) }, 77) }},
	"umask of a file":     {"", func(t *T) { t.umask(0o027, func() { t.put("f", ""); t.eq(t.mode("f"), "640") }) }},
	"umask of a folder":   {"", func(t *T) { t.umask(0o077, func() { t.ok(unix.Mkdir("d", 0o777)); t.eq(t.mode("d"), "700") }) }},
	"umask of a fifo":     {"", func(t *T) { t.umask(0o022, func() { t.ok(unix.Mkfifo("p", 0o666)); t.eq(t.mode("p"), "644") }) }},
	"umask of a symlink":  {"", func(t *T) { t.umask(0o777, func() { t.ok(unix.Symlink("x", "l")); t.eq(t.mode("l"), "777") }) }},
	"umask of everything": {"", func(t *T) {
		t.umask(0o777, func() { fd := t.open("f", rdwr|creat); t.pwrite(fd, "x", 0); t.eq(t.mode("f"), "0") })
	}},
	"umask spares set-id": {"", func(t *T) {
		t.umask(0o777, func() { t.ok(unix.Mknod("f", unix.S_IFREG|0o6777, 0)); t.eq(t.mode("f"), "6000") })
	}},
	"setgid: file gets the group": {".@2777:0:77", func(t *T) {
		t.as(alice, func() { t.put("f", "") })
		t.eq(t.owner("f"), "1001:77")
		t.eq(t.mode("f"), "644")
	}},
	"setgid: folder gets the bit": {".@2777:0:77", func(t *T) {
		t.as(alice, func() { t.ok(unix.Mkdir("d", 0o755)) })
		t.eq(t.owner("d"), "1001:77")
		t.eq(t.mode("d"), "2755")
	}},
	"setgid: folder in a folder": {".@2777:0:77", func(t *T) {
		t.ok(unix.Mkdir("d", 0o755))
		t.ok(unix.Mkdir("d/e", 0o700))
		t.put("d/e/f", "")
		t.eq(t.owner("d/e/f"), "0:77")
		t.eq(t.mode("d/e"), "2700")
	}},
	"setgid: symlink and fifo": {".@2777:0:77", func(t *T) {
		t.ok(unix.Symlink("x", "l"))
		t.ok(unix.Mkfifo("p", 0o644))
		t.eq(t.owner("l"), "0:77")
		t.eq(t.owner("p"), "0:77")
	}},
	"setgid: a stranger's setgid file": {".@2777:0:77", func(t *T) {
		t.as(alice, func() { fd, err := unix.Open("f", wronly|creat, 0o2755); t.ok(err); t.ok(t.close(fd)) })
		t.eq(t.mode("f"), "755")
	}},
	"setgid: a member's setgid file": {".@2777:0:77", func(t *T) {
		t.as(alice, func() { fd, err := unix.Open("f", wronly|creat, 0o2755); t.ok(err); t.ok(t.close(fd)) }, 77)
		t.eq(t.mode("f"), "2755")
	}},
	"setgid: root's setgid file": {".@2777:0:77", func(t *T) {
		fd, err := unix.Open("f", wronly|creat, 0o2755)
		t.ok(err)
		t.ok(t.close(fd))
		t.eq(t.mode("f"), "2755")
	}},
	"setgid: over a removed name": {".@2777:0:77 f d/", func(t *T) {
		t.remove("f", "d")
		t.put("f", "")
		t.ok(unix.Mkdir("d", 0o755))
		t.eq(t.owner("f"), "0:77")
		t.eq(t.mode("d"), "2755")
	}},
	"setgid: a rename changes nothing": {"g/@2777:0:77 f d/", func(t *T) {
		t.ok(unix.Rename("f", "g/f"))
		t.ok(unix.Rename("d", "g/d"))
		t.eq(t.owner("g/f"), "0:0")
		t.eq(t.mode("g/d"), "755")
	}},
	"no setgid: own group": {".@777:0:77", func(t *T) { t.as(alice, func() { t.put("f", "") }, 77); t.eq(t.owner("f"), "1001:1001") }},
	"over a removed name": {"f=old@600 d/@700 d/x", func(t *T) {
		t.remove("f", "d/x", "d")
		t.ok(unix.Mkdir("f", 0o755))
		t.ok(unix.Mkfifo("d", 0o644))
		t.eq(t.list("f"), "[]")
		t.eq(t.mode("f"), "755")
		t.eq(t.lstat("d").Mode, unix.S_IFIFO|0o644)
	}},
	"number of a new file is new": {"f", func(t *T) { ino := t.lstat("f").Ino; t.put("g", ""); t.holds(t.lstat("g").Ino != ino, "two numbers") }},
	"numbers stay": {"f=x d/ d/g", func(t *T) {
		f, d, g := t.lstat("f"), t.lstat("d"), t.lstat("d/g")
		t.append("f", "y")
		t.ok(unix.Chmod("d", 0o700))
		t.ok(unix.Chown("d/g", 3, 4))
		t.eq([]uint64{t.lstat("f").Ino, t.lstat("d").Ino, t.lstat("d/g").Ino}, []uint64{f.Ino, d.Ino, g.Ino})
		t.eq([]uint64{t.lstat("f").Dev, t.lstat("d").Dev}, []uint64{d.Dev, d.Dev})
	}},
}

// umask runs f under a mask.
func (t *T) umask(mask int, f func()) {
	old := unix.Umask(mask)
	defer unix.Umask(old)
	f()
}
