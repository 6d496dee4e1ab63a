package main

import (
	"golang.org/x/sys/unix"
)

func rename2(old, now string, flags uint) error {
	return unix.Renameat2(unix.AT_FDCWD, old, unix.AT_FDCWD, now, flags)
}

// renaming is about rename(2) and renameat2(2).
var renaming = group{
	"file": {"f=hello", func(t *T) {
		ino := t.lstat("f").Ino
		t.ok(unix.Rename("f", "g"))
		t.eq(t.lstat("g").Ino, ino)
		t.eq(t.content("g"), "hello")
		t.eq(t.list("."), "[g]")
	}},
	"there and back": {"f=hello", func(t *T) {
		for range 3 {
			t.ok(unix.Rename("f", "g"))
			t.ok(unix.Rename("g", "f"))
		}
		t.eq(t.content("f"), "hello")
		t.eq(t.list("."), "[f]")
	}},
	"over a file": {"f=one g=two", func(t *T) {
		ino := t.lstat("f").Ino
		fd := t.open("g", rdonly)
		t.ok(unix.Rename("f", "g"))
		t.eq(t.content("g"), "one")
		t.eq(t.lstat("g").Ino, ino)
		t.eq(t.pread(fd, 3, 0), "two")
		t.eq(t.fstat(fd).Nlink, 0)
		t.eq(t.list("."), "[g]")
	}},
	"over a hard link of another": {"f=one g=two h==g", func(t *T) { t.ok(unix.Rename("f", "g")); t.eq(t.nlink("h"), 1); t.eq(t.content("h"), "two") }},
	"over a hard link of itself":  {"f=one h==f", func(t *T) { t.ok(unix.Rename("f", "h")); t.eq(t.list("."), "[f h]"); t.eq(t.nlink("f"), 2) }},
	"to itself":                   {"f=one d/", func(t *T) { t.ok(unix.Rename("f", "f")); t.ok(unix.Rename("d", "d")); t.eq(t.content("f"), "one") }},
	"of one of several names": {"f=one h==f d/", func(t *T) {
		t.ok(unix.Rename("f", "d/f"))
		t.eq(t.nlink("h"), 2)
		t.eq(t.lstat("h").Ino, t.lstat("d/f").Ino)
		t.append("h", "!")
		t.eq(t.content("d/f"), "one!")
	}},
	"open file follows": {"f=hello d/", func(t *T) {
		fd := t.open("f", rdwr)
		t.ok(unix.Rename("f", "d/g"))
		t.pwrite(fd, "J", 0)
		t.eq(t.content("d/g"), "Jello")
	}},
	"folder": {"d/ d/f=hello d/e/ d/e/g=deep", func(t *T) {
		ino := t.lstat("d").Ino
		t.ok(unix.Rename("d", "n"))
		t.eq(t.lstat("n").Ino, ino)
		t.eq(t.content("n/f"), "hello")
		t.eq(t.content("n/e/g"), "deep")
		t.eq(t.list("."), "[n]")
		t.fails(tryOpen("d/f", rdonly), unix.ENOENT)
	}},
	"folder, then change what is in it": {"d/ d/f=hello d/e/ d/e/g=deep", func(t *T) {
		t.ok(unix.Rename("d", "n"))
		t.append("n/f", "!")
		t.remove("n/e/g")
		t.put("n/e/new", "x")
		t.eq(t.content("n/f"), "hello!")
		t.eq(t.list("n/e"), "[new]")
		t.ok(unix.Rename("n/e", "e"))
		t.eq(t.list("e"), "[new]")
		t.eq(t.list("n"), "[f]")
	}},
	"folder, and make it again": {"d/ d/f=hello", func(t *T) {
		t.ok(unix.Rename("d", "n"))
		t.ok(unix.Mkdir("d", 0o755))
		t.eq(t.list("d"), "[]")
		t.eq(t.list("n"), "[f]")
		t.ok(unix.Rename("n", "d"))
		t.eq(t.list("d"), "[f]")
	}},
	"folder over an empty folder":   {"d/ d/f=x e/", func(t *T) { t.ok(unix.Rename("d", "e")); t.eq(t.list("e"), "[f]"); t.eq(t.list("."), "[e]") }},
	"folder over an emptied folder": {"d/ d/f=x e/ e/g e/h", func(t *T) { t.remove("e/g", "e/h"); t.ok(unix.Rename("d", "e")); t.eq(t.list("e"), "[f]") }},
	"folder over a full folder":     {"d/ d/f e/ e/g", func(t *T) { t.fails(unix.Rename("d", "e"), unix.ENOTEMPTY, unix.EEXIST) }},
	"folder over a file":            {"d/ f", func(t *T) { t.fails(unix.Rename("d", "f"), unix.ENOTDIR) }},
	"file over a folder":            {"d/ f", func(t *T) { t.fails(unix.Rename("f", "d"), unix.EISDIR) }},
	"file over a full folder":       {"d/ d/g f", func(t *T) { t.fails(unix.Rename("f", "d"), unix.EISDIR) }},
	"folder below itself": {"d/ d/e/", func(t *T) {
		t.fails(unix.Rename("d", "d/e/f"), unix.EINVAL)
		t.fails(unix.Rename("d", "d/x"), unix.EINVAL)
	}},
	"folder over its parent": {"d/ d/e/", func(t *T) { t.fails(unix.Rename("d/e", "d"), unix.ENOTEMPTY) }},
	"of dot": {"d/", func(t *T) {
		t.fails(unix.Rename("d/.", "e"), unix.EBUSY, unix.EINVAL)
		t.fails(unix.Rename("d/..", "e"), unix.EBUSY, unix.EINVAL)
	}},
	"to dot": {"d/ e/", func(t *T) {
		t.fails(unix.Rename("d", "e/."), unix.EBUSY, unix.EINVAL)
		t.fails(unix.Rename("d", "e/.."), unix.EBUSY, unix.EINVAL)
	}},
	"missing":               {"", func(t *T) { t.fails(unix.Rename("f", "g"), unix.ENOENT) }},
	"missing over a file":   {"g=x", func(t *T) { t.fails(unix.Rename("f", "g"), unix.ENOENT); t.eq(t.content("g"), "x") }},
	"into a missing folder": {"f", func(t *T) { t.fails(unix.Rename("f", "d/f"), unix.ENOENT) }},
	"file with slash": {"f g", func(t *T) {
		t.fails(unix.Rename("f/", "h"), unix.ENOTDIR)
		t.fails(unix.Rename("f", "h/"), unix.ENOTDIR)
	}},
	"folder with slash":     {"d/ e/", func(t *T) { t.ok(unix.Rename("d/", "e/")); t.eq(t.list("."), "[e]") }},
	"to another filesystem": {"f", func(t *T) { t.fails(unix.Rename("f", "/proc/f"), unix.EXDEV) }},
	"symlink over a file":   {"l->x f=y", func(t *T) { t.ok(unix.Rename("l", "f")); t.eq(t.target("f"), "x") }},
	"fifo over a symlink":   {"p| l->x", func(t *T) { t.ok(unix.Rename("p", "l")); t.eq(t.lstat("l").Mode&unix.S_IFMT, unix.S_IFIFO) }},
	"over an unlinked name": {"f=one g=two", func(t *T) {
		t.remove("g")
		t.ok(unix.Rename("f", "g"))
		t.eq(t.content("g"), "one")
		t.eq(t.list("."), "[g]")
	}},
	"folder over an unlinked name": {"d/ d/f g=two", func(t *T) {
		t.remove("g")
		t.ok(unix.Rename("d", "g"))
		t.eq(t.list("g"), "[f]")
		t.eq(t.list("."), "[g]")
	}},
	"file over a removed folder": {"f=one d/ d/x", func(t *T) {
		t.remove("d/x", "d")
		t.ok(unix.Rename("f", "d"))
		t.eq(t.content("d"), "one")
		t.eq(t.list("."), "[d]")
	}},
	"chain of folders": {"a/ a/b/ a/b/c/ a/b/c/f=x", func(t *T) {
		t.ok(unix.Rename("a/b/c", "c"))
		t.ok(unix.Rename("a/b", "c/b"))
		t.ok(unix.Rename("a", "c/b/a"))
		t.eq(t.content("c/f"), "x")
		t.eq(t.list("c/b"), "[a]")
	}},
	"turned inside out": {"a/ a/b/ a/b/f=x", func(t *T) {
		t.ok(unix.Rename("a/b", "b"))
		t.ok(unix.Rename("a", "b/a"))
		t.eq(t.list("b"), "[a f]")
		t.eq(t.list("b/a"), "[]")
	}},
	"swapped by hand": {"a/ a/f=1 b/ b/g=2", func(t *T) {
		t.ok(unix.Rename("a", "t"))
		t.ok(unix.Rename("b", "a"))
		t.ok(unix.Rename("t", "b"))
		t.eq(t.list("a"), "[g]")
		t.eq(t.list("b"), "[f]")
	}},
	"dot dot follows": {"d/ d/e/ g/", func(t *T) { t.ok(unix.Rename("d/e", "g/e")); t.eq(t.lstat("g/e/..").Ino, t.lstat("g").Ino) }},
	"working folder follows": {"d/ d/f=x", func(t *T) {
		t.ok(unix.Chdir("d"))
		t.ok(unix.Rename("../d", "../e"))
		t.eq(t.content("f"), "x")
		t.eq(t.content("../e/f"), "x")
	}},
	"folder counts":               {"a/ a/d/ b/", func(t *T) { t.ok(unix.Rename("a/d", "b/d")); t.eq(t.nlink("a"), 2); t.eq(t.nlink("b"), 3) }},
	"folder counts over a folder": {"a/ a/d/ b/ b/d/", func(t *T) { t.ok(unix.Rename("a/d", "b/d")); t.eq(t.nlink("a"), 2); t.eq(t.nlink("b"), 3) }},
	"file touches":                {"a/ a/f=x b/", func(t *T) { t.touches("a:mc b:mc .:", func() { t.ok(unix.Rename("a/f", "b/f")) }) }},
	"file's ctime": {"f=x", func(t *T) {
		fd := t.open("f", rdonly)
		t.touches("fd:"+itoa(fd)+":c", func() { t.ok(unix.Rename("f", "g")) })
	}},
	"file within a folder touches": {"a/ a/f=x", func(t *T) { t.touches("a:mc .:", func() { t.ok(unix.Rename("a/f", "a/g")) }) }},
	"folder touches": {"a/ a/d/ b/", func(t *T) {
		fd := t.open("a/d", rdonly)
		t.touches("a:mc b:mc fd:"+itoa(fd)+":c", func() { t.ok(unix.Rename("a/d", "b/d")) })
	}},
	"over a file touches it":          {"f=x g=y h==g", func(t *T) { t.touches("h:c .:mc", func() { t.ok(unix.Rename("f", "g")) }) }},
	"to itself touches nothing":       {"f=x h==f", func(t *T) { t.touches("f: .:", func() { t.ok(unix.Rename("f", "h")) }) }},
	"noreplace":                       {"f=x", func(t *T) { t.ok(rename2("f", "g", unix.RENAME_NOREPLACE)); t.eq(t.list("."), "[g]") }},
	"noreplace over a file":           {"f=x g=y", func(t *T) { t.fails(rename2("f", "g", unix.RENAME_NOREPLACE), unix.EEXIST); t.eq(t.content("g"), "y") }},
	"noreplace over an empty folder":  {"d/ e/", func(t *T) { t.fails(rename2("d", "e", unix.RENAME_NOREPLACE), unix.EEXIST) }},
	"noreplace over a dangling link":  {"f l->x", func(t *T) { t.fails(rename2("f", "l", unix.RENAME_NOREPLACE), unix.EEXIST) }},
	"noreplace to itself":             {"f", func(t *T) { t.fails(rename2("f", "f", unix.RENAME_NOREPLACE), unix.EEXIST) }},
	"noreplace over an unlinked name": {"f=x g=y", func(t *T) { t.remove("g"); t.ok(rename2("f", "g", unix.RENAME_NOREPLACE)); t.eq(t.content("g"), "x") }},
	"exchange": {"f=one g=two", func(t *T) {
		f, g := t.lstat("f").Ino, t.lstat("g").Ino
		t.ok(rename2("f", "g", unix.RENAME_EXCHANGE))
		t.eq(t.content("f"), "two")
		t.eq(t.content("g"), "one")
		t.eq([]uint64{t.lstat("f").Ino, t.lstat("g").Ino}, []uint64{g, f})
	}},
	"exchange of a file and a folder": {"f=one d/ d/g=two a/ a/x", func(t *T) {
		t.ok(rename2("f", "a/x", unix.RENAME_EXCHANGE))
		t.ok(rename2("a/x", "d", unix.RENAME_EXCHANGE))
		t.eq(t.content("a/x/g"), "two")
		t.eq(t.content("d"), "one")
		t.eq([]uint64{t.nlink("a"), t.nlink(".")}, []uint64{3, 3})
	}},
	"exchange of full folders": {"a/ a/f=1 b/ b/g=2", func(t *T) {
		t.ok(rename2("a", "b", unix.RENAME_EXCHANGE))
		t.eq(t.list("a"), "[g]")
		t.eq(t.content("b/f"), "1")
	}},
	"exchange with nothing": {"f", func(t *T) {
		t.fails(rename2("f", "g", unix.RENAME_EXCHANGE), unix.ENOENT)
		t.fails(rename2("g", "f", unix.RENAME_EXCHANGE), unix.ENOENT)
	}},
	"exchange with its parent": {"d/ d/e/", func(t *T) {
		t.fails(rename2("d/e", "d", unix.RENAME_EXCHANGE), unix.EINVAL)
		t.fails(rename2("d", "d/e", unix.RENAME_EXCHANGE), unix.EINVAL)
	}},
	"exchange of hard links":   {"f=x h==f", func(t *T) { t.ok(rename2("f", "h", unix.RENAME_EXCHANGE)); t.eq(t.list("."), "[f h]") }},
	"exchange touches":         {"a/ a/f=x b/ b/g=y", func(t *T) { t.touches("a:mc b:mc", func() { t.ok(rename2("a/f", "b/g", unix.RENAME_EXCHANGE)) }) }},
	"exchange and noreplace":   {"f g", func(t *T) { t.fails(rename2("f", "g", unix.RENAME_EXCHANGE|unix.RENAME_NOREPLACE), unix.EINVAL) }},
	"unknown flag":             {"f g", func(t *T) { t.fails(rename2("f", "g", 1<<10), unix.EINVAL) }},
	"needs the folders' write": {"a/ a/f b/@777", func(t *T) { t.as(alice, func() { t.fails(unix.Rename("a/f", "b/f"), unix.EACCES) }) }},
	"needs the target's write": {"a/@777 a/f b/", func(t *T) { t.as(alice, func() { t.fails(unix.Rename("a/f", "b/f"), unix.EACCES) }) }},
	"needs not the file's":     {".@777 f=x@0", func(t *T) { t.as(alice, func() { t.ok(unix.Rename("f", "g")) }) }},
	"moved folder needs write": {"a/@777 b/@777 a/d/@755", func(t *T) {
		t.as(alice, func() { t.fails(unix.Rename("a/d", "b/d"), unix.EACCES); t.ok(unix.Rename("a/d", "a/e")) })
	}},
	"sticky: another's file":             {".@1777 f", func(t *T) { t.as(alice, func() { t.fails(unix.Rename("f", "g"), unix.EPERM) }) }},
	"sticky: over another's file":        {".@1777 f@644:1001:1001 g", func(t *T) { t.as(alice, func() { t.fails(unix.Rename("f", "g"), unix.EPERM) }) }},
	"sticky: one's own":                  {".@1777 f@644:1001:1001 g@644:1001:1001", func(t *T) { t.as(alice, func() { t.ok(unix.Rename("f", "g")) }) }},
	"precedence: ENOTDIR over ENOTEMPTY": {"d/ d/x f", func(t *T) { t.fails(unix.Rename("d", "f"), unix.ENOTDIR) }},
	"precedence: EACCES over EISDIR":     {"d/ f", func(t *T) { t.as(alice, func() { t.fails(unix.Rename("f", "d"), unix.EACCES) }) }},
	"precedence: EEXIST over EACCES":     {"d/ f", func(t *T) { t.as(alice, func() { t.fails(rename2("f", "d", unix.RENAME_NOREPLACE), unix.EEXIST) }) }},
	"precedence: ENOENT over EACCES":     {"d/", func(t *T) { t.as(alice, func() { t.fails(unix.Rename("f", "d"), unix.ENOENT) }) }},
	"many times over one name": {"f=0", func(t *T) {
		for i := range 100 {
			t.put("new", itoa(i))
			t.ok(unix.Rename("new", "f"))
		}
		t.eq(t.content("f"), "99")
		t.eq(t.list("."), "[f]")
	}},
}
