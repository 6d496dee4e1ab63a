package main

import (
	"golang.org/x/sys/unix"
)

// chmodding is about chmod(2).
var chmodding = group{
	"file":   {"f=x@600", func(t *T) { t.ok(unix.Chmod("f", 0o7751)); t.eq(t.mode("f"), "7751"); t.eq(t.content("f"), "x") }},
	"folder": {"d/ d/f", func(t *T) { t.ok(unix.Chmod("d", 0o1770)); t.eq(t.mode("d"), "1770"); t.eq(t.list("d"), "[f]") }},
	"fifo":   {"p|", func(t *T) { t.ok(unix.Chmod("p", 0o600)); t.eq(t.lstat("p").Mode, unix.S_IFIFO|0o600) }},
	"device": {"z%c1,5", func(t *T) {
		t.ok(unix.Chmod("z", 0o666))
		t.eq(t.lstat("z").Mode, unix.S_IFCHR|0o666)
		t.eq(t.lstat("z").Rdev, unix.Mkdev(1, 5))
	}},
	"through a link": {"f@600 l->f", func(t *T) { t.ok(unix.Chmod("l", 0o644)); t.eq(t.mode("f"), "644"); t.eq(t.mode("l"), "777") }},
	"of a link":      {"f l->f", func(t *T) { t.fails(fchmodat2("l", 0o600), unix.EOPNOTSUPP) }},
	"fchmod":         {"f", func(t *T) { t.ok(unix.Fchmod(t.open("f", rdonly), 0o400)); t.eq(t.mode("f"), "400") }},
	"fchmod sees": {"f", func(t *T) {
		fd := t.open("f", rdonly)
		t.ok(unix.Chmod("f", 0o400))
		t.eq(t.fstat(fd).Mode&0o777, 0o400)
	}},
	"of one of several names":      {"f h==f", func(t *T) { t.ok(unix.Chmod("h", 0o600)); t.eq(t.mode("f"), "600"); t.eq(t.nlink("f"), 2) }},
	"touches":                      {"f", func(t *T) { t.touches("f:c .:", func() { t.ok(unix.Chmod("f", 0o600)) }) }},
	"that changes nothing touches": {"f@600", func(t *T) { t.touches("f:c", func() { t.ok(unix.Chmod("f", 0o600)) }) }},
	"by a stranger": {"f@666 d/@777", func(t *T) {
		t.as(alice, func() { t.fails(unix.Chmod("f", 0o600), unix.EPERM); t.fails(unix.Chmod("d", 0o700), unix.EPERM) })
	}},
	"by the owner":                          {"f@0:1001:1001", func(t *T) { t.as(alice, func() { t.ok(unix.Chmod("f", 0o640)) }); t.eq(t.mode("f"), "640") }},
	"setgid of a strange group":             {"f@755:1001:77", func(t *T) { t.as(alice, func() { t.ok(unix.Chmod("f", 0o2755)) }); t.eq(t.mode("f"), "755") }},
	"setgid of one's group":                 {"f@755:1001:77", func(t *T) { t.as(alice, func() { t.ok(unix.Chmod("f", 0o2755)) }, 77); t.eq(t.mode("f"), "2755") }},
	"setgid by root":                        {"f@755:1001:77", func(t *T) { t.ok(unix.Chmod("f", 0o2755)); t.eq(t.mode("f"), "2755") }},
	"setgid of a folder of a strange group": {"d/@755:1001:77", func(t *T) { t.as(alice, func() { t.ok(unix.Chmod("d", 0o2755)) }); t.eq(t.mode("d"), "755") }},
	"setuid by the owner":                   {"f@755:1001:1001", func(t *T) { t.as(alice, func() { t.ok(unix.Chmod("f", 0o4755)) }); t.eq(t.mode("f"), "4755") }},
	"sticky file by the owner":              {"f@755:1001:1001", func(t *T) { t.as(alice, func() { t.ok(unix.Chmod("f", 0o1755)) }); t.eq(t.mode("f"), "1755") }},
	"of an unlinked file": {"f=x", func(t *T) {
		fd := t.open("f", rdonly)
		t.remove("f")
		t.ok(unix.Fchmod(fd, 0o400))
		t.eq(t.fstat(fd).Mode&0o777, 0o400)
	}},
}

func fchmodat2(name string, mode uint32) error {
	return unix.Fchmodat(unix.AT_FDCWD, name, mode, unix.AT_SYMLINK_NOFOLLOW)
}

// chowning is about chown(2).
var chowning = group{
	"file":           {"f=x", func(t *T) { t.ok(unix.Chown("f", 5, 6)); t.eq(t.owner("f"), "5:6"); t.eq(t.content("f"), "x") }},
	"folder":         {"d/ d/f", func(t *T) { t.ok(unix.Chown("d", 5, 6)); t.eq(t.owner("d"), "5:6"); t.eq(t.owner("d/f"), "0:0") }},
	"group alone":    {"f@644:5:6", func(t *T) { t.ok(unix.Chown("f", -1, 7)); t.eq(t.owner("f"), "5:7") }},
	"user alone":     {"f@644:5:6", func(t *T) { t.ok(unix.Chown("f", 7, -1)); t.eq(t.owner("f"), "7:6") }},
	"neither":        {"f@644:5:6", func(t *T) { t.ok(unix.Chown("f", -1, -1)); t.eq(t.owner("f"), "5:6") }},
	"large numbers":  {"f", func(t *T) { t.ok(unix.Chown("f", 4294967294, 4294967293)); t.eq(t.owner("f"), "4294967294:4294967293") }},
	"through a link": {"f l->f", func(t *T) { t.ok(unix.Chown("l", 5, 6)); t.eq(t.owner("f"), "5:6"); t.eq(t.owner("l"), "0:0") }},
	"of a link": {"f l->f", func(t *T) {
		t.ok(unix.Lchown("l", 5, 6))
		t.eq(t.owner("f"), "0:0")
		t.eq(t.owner("l"), "5:6")
		t.eq(t.target("l"), "f")
	}},
	"of a dangling link": {"l->gone", func(t *T) { t.ok(unix.Lchown("l", 5, 6)); t.fails(unix.Chown("l", 5, 6), unix.ENOENT) }},
	"fchown":             {"f", func(t *T) { t.ok(unix.Fchown(t.open("f", rdonly), 5, 6)); t.eq(t.owner("f"), "5:6") }},
	"by descriptor": {"f", func(t *T) {
		t.ok(unix.Fchownat(t.open("f", opath), "", 5, 6, unix.AT_EMPTY_PATH))
		t.eq(t.owner("f"), "5:6")
	}},
	"fifo, device": {"p| z%c1,5", func(t *T) {
		t.ok(unix.Chown("p", 5, 6))
		t.ok(unix.Chown("z", 5, 6))
		t.eq(t.owner("p")+t.owner("z"), "5:65:6")
		t.eq(t.lstat("z").Rdev, unix.Mkdev(1, 5))
	}},
	"touches":                      {"f", func(t *T) { t.touches("f:c .:", func() { t.ok(unix.Chown("f", 5, 6)) }) }},
	"that changes nothing touches": {"f@644:5:6", func(t *T) { t.touches("f:c", func() { t.ok(unix.Chown("f", 5, 6)) }) }},
	"to another user":              {"f@644:1001:1001", func(t *T) { t.as(alice, func() { t.fails(unix.Chown("f", bob, -1), unix.EPERM) }) }},
	"to a strange group":           {"f@644:1001:1001", func(t *T) { t.as(alice, func() { t.fails(unix.Chown("f", -1, 77), unix.EPERM) }) }},
	"to one's group":               {"f@644:1001:1001", func(t *T) { t.as(alice, func() { t.ok(unix.Chown("f", -1, 77)) }, 77); t.eq(t.owner("f"), "1001:77") }},
	"to oneself": {"f@644:1001:1001", func(t *T) {
		t.as(alice, func() { t.ok(unix.Chown("f", alice, -1)); t.ok(unix.Chown("f", alice, alice)) })
	}},
	"of another's": {"f@666:1002:1001", func(t *T) {
		t.as(alice, func() {
			t.fails(unix.Chown("f", alice, -1), unix.EPERM)
			t.fails(unix.Chown("f", -1, alice), unix.EPERM)
		})
	}},
	"of another's, nothing": {"f@666:1002:1002", func(t *T) { t.as(alice, func() { t.fails(unix.Chown("f", -1, -1), unix.EPERM, nil) }) }},
	"link to a group": {"l->x", func(t *T) {
		t.ok(unix.Lchown("l", alice, alice))
		t.as(alice, func() { t.ok(unix.Lchown("l", -1, 77)) }, 77)
		t.eq(t.owner("l"), "1001:77")
	}},
	"takes setuid and setgid":         {"f@6755:1001:1001", func(t *T) { t.as(alice, func() { t.ok(unix.Chown("f", -1, 77)) }, 77); t.eq(t.mode("f"), "755") }},
	"takes them from root too":        {"f@6755", func(t *T) { t.ok(unix.Chown("f", 5, 6)); t.eq(t.mode("f"), "755") }},
	"to the same takes them":          {"f@6755", func(t *T) { t.ok(unix.Chown("f", 0, 0)); t.eq(t.mode("f"), "755") }},
	"to -1 takes them":                {"f@6755:1001:1001", func(t *T) { t.as(alice, func() { t.ok(unix.Chown("f", -1, -1)) }); t.eq(t.mode("f"), "755") }},
	"keeps setgid without exec":       {"f@6745", func(t *T) { t.ok(unix.Chown("f", 5, 6)); t.eq(t.mode("f"), "2745") }},
	"keeps setgid of one's group":     {"f@6745:1001:1001", func(t *T) { t.as(alice, func() { t.ok(unix.Chown("f", -1, 77)) }, 77); t.eq(t.mode("f"), "2745") }},
	"takes setgid of a strange group": {"f@6745:1001:77", func(t *T) { t.as(alice, func() { t.ok(unix.Chown("f", -1, alice)) }); t.eq(t.mode("f"), "745") }},
	"keeps a folder's bits":           {"d/@6755", func(t *T) { t.ok(unix.Chown("d", 5, 6)); t.eq(t.mode("d"), "6755") }},
	"takes capabilities": {"f@755", func(t *T) {
		t.ok(unix.Setxattr("f", "security.capability", netRaw, 0))
		t.ok(unix.Chown("f", 5, 6))
		_, err := unix.Getxattr("f", "security.capability", nil)
		t.fails(err, unix.ENODATA)
	}},
	"of one of several names": {"f h==f", func(t *T) { t.ok(unix.Chown("h", 5, 6)); t.eq(t.owner("f"), "5:6"); t.eq(t.nlink("f"), 2) }},
}

// netRaw is a file capability: CAP_NET_RAW, permitted and effective (struct
// vfs_cap_data of version 2 in include/uapi/linux/capability.h).
var netRaw = []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")

// privileges is about setuid and setgid bits and capabilities, which go when
// a file's content changes.
var privileges = group{
	"write by a user":                        {"f=x@6777", func(t *T) { t.as(alice, func() { t.append("f", "y") }); t.eq(t.mode("f"), "777") }},
	"write by the owner":                     {"f=x@6777:1001:1001", func(t *T) { t.as(alice, func() { t.append("f", "y") }); t.eq(t.mode("f"), "777") }},
	"write by root":                          {"f=x@6777", func(t *T) { t.append("f", "y"); t.eq(t.mode("f"), "6777") }},
	"write without group exec":               {"f=x@6767:1001:1001", func(t *T) { t.as(alice, func() { t.append("f", "y") }); t.eq(t.mode("f"), "2767") }},
	"write by a stranger without group exec": {"f=x@6767:0:77", func(t *T) { t.as(alice, func() { t.append("f", "y") }); t.eq(t.mode("f"), "767") }},
	"write, seen at once": {"f=x@6777", func(t *T) {
		t.as(alice, func() { fd := t.open("f", rdwr); t.pwrite(fd, "y", 0); t.eq(t.fstat(fd).Mode&0o7777, 0o777) })
	}},
	"second write after chmod": {"f=x@6777:1001:1001", func(t *T) {
		t.as(alice, func() {
			fd := t.open("f", rdwr)
			t.pwrite(fd, "y", 0)
			t.ok(unix.Chmod("f", 0o4755))
			t.pwrite(fd, "z", 0)
		})
		t.eq(t.mode("f"), "755")
	}},
	"write of nothing": {"f=x@6777", func(t *T) {
		t.as(alice, func() { fd := t.open("f", wronly); _, err := unix.Write(fd, nil); t.ok(err) })
		t.eq(t.mode("f"), "6777")
	}},
	"opening for writing":       {"f=x@6777", func(t *T) { t.as(alice, func() { t.open("f", rdwr) }); t.eq(t.mode("f"), "6777") }},
	"truncate by a user":        {"f=hello@6777", func(t *T) { t.as(alice, func() { t.ok(unix.Truncate("f", 2)) }); t.eq(t.mode("f"), "777") }},
	"truncate by root":          {"f=hello@6777", func(t *T) { t.ok(unix.Truncate("f", 2)); t.eq(t.mode("f"), "6777") }},
	"truncate to the same size": {"f=hello@6777", func(t *T) { t.as(alice, func() { t.ok(unix.Truncate("f", 5)) }); t.eq(t.mode("f"), "777") }},
	"ftruncate by a user": {"f=hello@6777", func(t *T) {
		t.as(alice, func() { t.ok(unix.Ftruncate(t.open("f", rdwr), 2)) })
		t.eq(t.mode("f"), "777")
	}},
	"O_TRUNC by a user":        {"f=hello@6777", func(t *T) { t.as(alice, func() { t.open("f", wronly|trunc) }); t.eq(t.mode("f"), "777") }},
	"O_TRUNC by root":          {"f=hello@6777", func(t *T) { t.open("f", wronly|trunc); t.eq(t.mode("f"), "6777") }},
	"O_TRUNC of an empty file": {"f@6777", func(t *T) { t.as(alice, func() { t.open("f", wronly|trunc) }); t.eq(t.mode("f"), "777") }},
	"fallocate by a user": {"f=hello@6777", func(t *T) {
		t.as(alice, func() { t.ok(unix.Fallocate(t.open("f", rdwr), 0, 0, 9000)) })
		t.eq(t.mode("f"), "777")
	}},
	"fallocate by root": {"f=hello@6777", func(t *T) { t.ok(unix.Fallocate(t.open("f", rdwr), 0, 0, 9000)); t.eq(t.mode("f"), "6777") }},
	"punch by a user": {"f#9000@6777", func(t *T) {
		t.as(alice, func() {
			t.ok(unix.Fallocate(t.open("f", rdwr), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096))
		})
		t.eq(t.mode("f"), "777")
	}},
	"copy by a user": {"g#9000 f=x@6777", func(t *T) {
		t.as(alice, func() {
			_, err := unix.CopyFileRange(t.open("g", rdonly), nil, t.open("f", rdwr), nil, 5000, 0)
			t.ok(err)
		})
		t.eq(t.mode("f"), "777")
	}},
	"splice by a user": {"f=x@6777", func(t *T) {
		t.as(alice, func() { t.splice("hello", t.open("f", rdwr)) })
		t.eq(t.mode("f"), "777")
	}},
	"direct write by a user": {"f#8192@6777", func(t *T) {
		t.as(alice, func() { _, err := unix.Pwrite(t.open("f", rdwr|unix.O_DIRECT), aligned(4096), 0); t.ok(err) })
		t.eq(t.mode("f"), "777")
	}},
	"chmod by the owner keeps": {"f@755:1001:1001", func(t *T) { t.as(alice, func() { t.ok(unix.Chmod("f", 0o6755)) }); t.eq(t.mode("f"), "6755") }},
	"rename and link keep": {".@777 f@6755:1001:1001", func(t *T) {
		t.as(alice, func() { t.ok(unix.Rename("f", "g")); t.ok(unix.Link("g", "h")) })
		t.eq(t.mode("h"), "6755")
	}},
	"utimes keep": {"f@6777:1001:1001", func(t *T) {
		t.as(alice, func() { t.ok(unix.UtimesNano("f", make([]unix.Timespec, 2))) })
		t.eq(t.mode("f"), "6777")
	}},
	"capability goes with a write": {"f=x@777", func(t *T) {
		t.ok(unix.Setxattr("f", "security.capability", netRaw, 0))
		t.append("f", "y")
		_, err := unix.Getxattr("f", "security.capability", nil)
		t.fails(err, unix.ENODATA)
	}},
	"capability goes with truncate": {"f=hello@777", func(t *T) {
		t.ok(unix.Setxattr("f", "security.capability", netRaw, 0))
		t.ok(unix.Truncate("f", 1))
		_, err := unix.Getxattr("f", "security.capability", nil)
		t.fails(err, unix.ENODATA)
	}},
	"capability stays with chmod": {"f=hello@777", func(t *T) {
		t.ok(unix.Setxattr("f", "security.capability", netRaw, 0))
		t.ok(unix.Chmod("f", 0o755))
		_, err := unix.Getxattr("f", "security.capability", nil)
		t.ok(err)
	}},
	"folder of setgid keeps it": {"d/@2777:0:77", func(t *T) { t.as(alice, func() { t.put("d/f", "x") }); t.eq(t.mode("d"), "2777") }},
}
