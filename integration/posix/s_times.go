package main

import (
	"golang.org/x/sys/unix"
)

// utimes is utimensat(2) on the name itself.
func utimes(name string, a, m unix.Timespec) error {
	return unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{a, m}, unix.AT_SYMLINK_NOFOLLOW)
}

func at(sec, nsec int64) unix.Timespec { return unix.Timespec{Sec: sec, Nsec: nsec} }

// setTo sets both times of a file and expects them back.
func (t *T) setTo(name string, a, m unix.Timespec) {
	t.ok(utimes(name, a, m))
	got := t.times(name)
	t.eq(got.a, a)
	t.eq(got.m, m)
}

var (
	now  = unix.Timespec{Nsec: unix.UTIME_NOW}
	omit = unix.Timespec{Nsec: unix.UTIME_OMIT}
)

// timing is about utimensat(2), and about which call touches which time.
var timing = group{
	"to the nanosecond": {"f=x d/ p| l->f", func(t *T) {
		for _, n := range []string{"f", "d", "p", "l"} {
			t.setTo(n, at(1000000000, 1), at(1234567890, 123456789))
		}
	}},
	"before 1970": {"f", func(t *T) { t.setTo("f", at(-1, 999999999), at(-1000000000, 5)) }},
	"epoch":       {"f", func(t *T) { t.setTo("f", at(0, 0), at(0, 0)) }},
	"after 2038":  {"f d/", func(t *T) { t.setTo("f", at(1<<31, 1), at(1<<32, 2)); t.setTo("d", at(1<<33, 7), at(1<<33+5, 8)) }},
	"far future":  {"f", func(t *T) { t.setTo("f", at(15032385534, 999999999), at(15032385534, 0)) }},
	"1901":        {"f", func(t *T) { t.setTo("f", at(-1<<31+1, 0), at(-1<<31+1, 5)) }},
	"now":         {"f", func(t *T) { t.age("f"); t.touches("f:amc", func() { t.ok(utimes("f", now, now)) }) }},
	"null is now": {"f", func(t *T) { t.age("f"); t.touches("f:amc", func() { t.ok(unix.Utimes("f", nil)) }) }},
	"omit atime":  {"f", func(t *T) { t.age("f"); t.touches("f:mc", func() { t.ok(utimes("f", omit, now)) }) }},
	"omit mtime":  {"f", func(t *T) { t.age("f"); t.touches("f:ac .:", func() { t.ok(utimes("f", now, omit)) }) }},
	"omit both":   {"f", func(t *T) { t.touches("f:", func() { t.ok(utimes("f", omit, omit)) }) }},
	"one now, one given": {"f", func(t *T) {
		t.ok(utimes("f", at(5, 6), now))
		t.eq(t.times("f").a, at(5, 6))
		t.holds(t.times("f").m.Sec > 1e9, "mtime is now")
	}},
	"nanoseconds too many": {"f", func(t *T) {
		t.fails(utimes("f", at(0, 1e9), at(0, 0)), unix.EINVAL)
		t.fails(utimes("f", at(0, -1), at(0, 0)), unix.EINVAL)
	}},
	"of a link": {"f l->f", func(t *T) {
		before := t.times("f")
		t.setTo("l", at(7, 8), at(9, 10))
		t.eq(t.times("f").since(before), "")
	}},
	"through a link": {"f l->f", func(t *T) {
		t.ok(unix.UtimesNanoAt(unix.AT_FDCWD, "l", []unix.Timespec{at(5, 6), at(7, 8)}, 0))
		t.eq(t.times("f").m, at(7, 8))
	}},
	"futimens": {"f", func(t *T) {
		t.ok(unix.UtimesNanoAt(unix.AT_FDCWD, self(t.open("f", rdonly)), []unix.Timespec{at(5, 6), at(7, 8)}, 0))
		t.eq(t.times("f").m, at(7, 8))
	}},
	"of an unlinked file": {"f=x", func(t *T) {
		fd := t.open("f", rdonly)
		t.remove("f")
		t.ok(unix.UtimesNanoAt(unix.AT_FDCWD, self(fd), []unix.Timespec{at(5, 6), at(7, 8)}, 0))
		t.eq(t.fstat(fd).Mtim, at(7, 8))
	}},
	"kept through a rename": {"f=x d/ d/g", func(t *T) {
		t.setTo("f", at(5, 6), at(7, 8))
		t.setTo("d", at(9, 1), at(2, 3))
		t.ok(unix.Rename("f", "h"))
		t.ok(unix.Rename("d", "e"))
		t.eq(t.times("h").m, at(7, 8))
		t.eq(t.times("e").m, at(2, 3))
	}},
	"kept through chmod": {"f=x", func(t *T) {
		t.setTo("f", at(5, 6), at(7, 8))
		t.ok(unix.Chmod("f", 0o600))
		t.eq(t.times("f").m, at(7, 8))
		t.eq(t.times("f").a, at(5, 6))
	}},
	"set after a write": {"f=x", func(t *T) {
		fd := t.open("f", wronly)
		t.pwrite(fd, "yy", 0)
		t.ok(utimes("f", at(5, 6), at(7, 8)))
		t.ok(t.close(fd))
		t.ok(t.close(t.open("f", rdonly)))
		t.eq(t.times("f").m, at(7, 8))
	}},
	"now by a writer": {"f@666", func(t *T) { t.as(alice, func() { t.ok(utimes("f", now, now)); t.ok(unix.Utimes("f", nil)) }) }},
	"now by a stranger": {"f@644", func(t *T) {
		t.as(alice, func() { t.fails(utimes("f", now, now), unix.EACCES); t.fails(unix.Utimes("f", nil), unix.EACCES) })
	}},
	"given by a writer": {"f@666", func(t *T) { t.as(alice, func() { t.fails(utimes("f", at(1, 1), at(1, 1)), unix.EPERM) }) }},
	"half by a writer": {"f@666", func(t *T) {
		t.as(alice, func() { t.fails(utimes("f", now, omit), unix.EPERM); t.fails(utimes("f", omit, now), unix.EPERM) })
	}},
	"nothing by a stranger":              {"f@600", func(t *T) { t.as(alice, func() { t.ok(utimes("f", omit, omit)) }) }},
	"given by the owner":                 {"f@0:1001:1001", func(t *T) { t.as(alice, func() { t.ok(utimes("f", at(1, 2), at(3, 4))); t.ok(utimes("f", now, now)) }) }},
	"write touches":                      {"f=x", func(t *T) { t.touches("f:mc .:", func() { t.append("f", "y") }) }},
	"write through a descriptor touches": {"f=x", func(t *T) { fd := t.open("f", rdwr); t.touches("fd:"+itoa(fd)+":mc", func() { t.pwrite(fd, "y", 0) }) }},
	"second write touches again": {"f=x", func(t *T) {
		fd := t.open("f", rdwr)
		t.pwrite(fd, "y", 0)
		t.touches("f:mc", func() { t.pwrite(fd, "z", 0) })
	}},
	"write of nothing touches not": {"f=x", func(t *T) {
		fd := t.open("f", rdwr)
		t.touches("f:", func() { _, err := unix.Write(fd, nil); t.ok(err) })
	}},
	"failing write touches not": {"f=x", func(t *T) {
		fd := t.open("f", rdonly)
		t.touches("f:", func() { _, err := unix.Write(fd, []byte("x")); t.fails(err, unix.EBADF) })
	}},
	"write below a folder touches it not": {"d/ d/f=x", func(t *T) { t.touches("d: .:", func() { t.append("d/f", "y") }) }},
	"truncate touches":                    {"f=hello", func(t *T) { t.touches("f:mc .:", func() { t.ok(unix.Truncate("f", 2)) }) }},
	"truncate to the same touches":        {"f=hello", func(t *T) { t.touches("f:mc|", func() { t.ok(unix.Truncate("f", 5)) }) }},
	"ftruncate touches":                   {"f=hello", func(t *T) { fd := t.open("f", rdwr); t.touches("f:mc", func() { t.ok(unix.Ftruncate(fd, 20)) }) }},
	"fallocate touches": {"f=hello", func(t *T) {
		fd := t.open("f", rdwr)
		t.touches("f:mc", func() { t.ok(unix.Fallocate(fd, 0, 0, 20000)) })
	}},
	"punch touches": {"f#20000", func(t *T) {
		fd := t.open("f", rdwr)
		t.touches("f:mc", func() { t.ok(unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 4096, 4096)) })
	}},
	"setxattr touches": {"f=x", func(t *T) { t.touches("f:c .:", func() { t.ok(unix.Setxattr("f", "user.x", []byte("y"), 0)) }) }},
	"removexattr touches": {"f=x", func(t *T) {
		t.ok(unix.Setxattr("f", "user.x", []byte("y"), 0))
		t.touches("f:c", func() { t.ok(unix.Removexattr("f", "user.x")) })
	}},
	"failing removexattr touches not": {"f=x", func(t *T) { t.touches("f:", func() { t.fails(unix.Removexattr("f", "user.x"), unix.ENODATA) }) }},
	"fsync touches not": {"f=x d/", func(t *T) {
		t.touches("f: d:", func() { t.ok(unix.Fsync(t.open("f", rdwr))); t.ok(unix.Fsync(t.open("d", rdonly))) })
	}},
	"stat touches not":          {"f=x d/ l->f", func(t *T) { t.touches("f: d: l:", func() { t.lstat("f"); t.lstat("d"); t.lstat("l") }) }},
	"failing creat touches not": {"f=x", func(t *T) { t.touches("f: .:", func() { t.fails(tryOpen("f", wronly|creat|excl), unix.EEXIST) }) }},
	"mmap write touches": {"f#8192", func(t *T) {
		m := t.mmap("f", 8192, both, unix.MAP_SHARED)
		t.touches("f:mc", func() { m[0] = 'X'; t.ok(unix.Msync(m, unix.MS_SYNC)) })
	}},
	"second mmap write touches again": {"f#8192", func(t *T) {
		m := t.mmap("f", 8192, both, unix.MAP_SHARED)
		m[0] = 'X'
		t.ok(unix.Msync(m, unix.MS_SYNC))
		t.touches("f:mc", func() { m[0] = 'Y'; t.ok(unix.Msync(m, unix.MS_SYNC)) })
	}},
	"read touches at most atime": {"f#8192 d/ l->f", func(t *T) {
		t.age("f", "d", "l")
		before := map[string]times{"f": t.times("f"), "d": t.times("d"), "l": t.times("l")}
		t.content("f")
		t.list("d")
		t.target("l")
		for name, old := range before { // a mount with noatime leaves that one, too
			got := t.times(name).since(old)
			t.holds(got == "" || got == "a", name+" changed "+got)
		}
	}},
	"copy touches": {"f#5000 g=x", func(t *T) {
		t.touches("g:mc", func() {
			_, err := unix.CopyFileRange(t.open("f", rdonly), nil, t.open("g", rdwr), nil, 5000, 0)
			t.ok(err)
		})
	}},
	"exchange touches both": {"f=x g=y", func(t *T) {
		a, b := itoa(t.open("f", rdonly)), itoa(t.open("g", rdonly))
		t.touches("fd:"+a+":c fd:"+b+":c .:mc", func() { t.ok(rename2("f", "g", unix.RENAME_EXCHANGE)) })
	}},
	"rmdir touches an open folder": {"d/", func(t *T) { fd := t.open("d", rdonly); t.touches("fd:"+itoa(fd)+":c", func() { t.remove("d") }) }},
	"folder replaced touches it": {"d/ e/", func(t *T) {
		fd := t.open("e", rdonly)
		t.touches("fd:"+itoa(fd)+":c", func() { t.ok(unix.Rename("d", "e")) })
	}},
	"mkfifo, symlink, mknod touch": {"d/", func(t *T) {
		t.touches("d:mc", func() { t.ok(unix.Mkfifo("d/p", 0o644)) })
		t.touches("d:mc", func() { t.ok(unix.Symlink("x", "d/l")) })
		t.touches("d:mc", func() { t.ok(unix.Mknod("d/s", unix.S_IFSOCK|0o644, 0)) })
	}},
	"times of statx": {"f=x", func(t *T) {
		var x unix.Statx_t
		t.ok(utimes("f", at(5, 6), at(7, 8)))
		t.ok(unix.Statx(unix.AT_FDCWD, "f", unix.AT_STATX_FORCE_SYNC, unix.STATX_BASIC_STATS, &x))
		t.eq([]int64{x.Atime.Sec, int64(x.Atime.Nsec), x.Mtime.Sec, int64(x.Mtime.Nsec)}, []int64{5, 6, 7, 8})
		st := t.lstat("f")
		t.eq([]int64{x.Ctime.Sec, int64(x.Ctime.Nsec)}, []int64{st.Ctim.Sec, st.Ctim.Nsec})
	}},
	"attributes of statx": {"f=hello@640:5:6", func(t *T) {
		var x unix.Statx_t
		t.ok(unix.Statx(unix.AT_FDCWD, "f", 0, unix.STATX_BASIC_STATS, &x))
		st := t.lstat("f")
		t.eq([]uint64{uint64(x.Mode), uint64(x.Uid), uint64(x.Gid), x.Size, x.Ino, uint64(x.Nlink), x.Blocks, uint64(x.Blksize)},
			[]uint64{uint64(st.Mode), uint64(st.Uid), uint64(st.Gid), uint64(st.Size), st.Ino, uint64(st.Nlink), uint64(st.Blocks), uint64(st.Blksize)})
		t.eq(x.Mask&unix.STATX_BASIC_STATS == unix.STATX_BASIC_STATS, true)
	}},
	"ctime goes forward": {"f=x", func(t *T) {
		before := t.times("f").c
		for i := range 20 {
			t.ok(unix.Chmod("f", uint32(0o600+i%2)))
			after := t.times("f").c
			t.holds(after.Nano() >= before.Nano(), "time goes on")
			before = after
		}
	}},
}
