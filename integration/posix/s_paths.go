package main

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func itoa(n int) string { return strconv.Itoa(n) }

// call is a system call that takes a path.
type call struct {
	name string
	make bool // it makes what the path names
	run  func(path string) error
}

// calls are all of them. Those with two paths appear once for each; "f" is a
// file.
var calls = []call{
	{"access", false, func(p string) error { return unix.Access(p, unix.F_OK) }},
	{"chdir", false, unix.Chdir},
	{"chmod", false, func(p string) error { return unix.Chmod(p, 0o755) }},
	{"chown", false, func(p string) error { return unix.Chown(p, 0, 0) }},
	{"getxattr", false, func(p string) error { _, err := unix.Getxattr(p, "user.x", nil); return err }},
	{"lchown", false, func(p string) error { return unix.Lchown(p, 0, 0) }},
	{"link from", false, func(p string) error { return unix.Link(p, "new") }},
	{"link to", true, func(p string) error { return unix.Link("f", p) }},
	{"listxattr", false, func(p string) error { _, err := unix.Listxattr(p, nil); return err }},
	{"lstat", false, func(p string) error { return unix.Lstat(p, &unix.Stat_t{}) }},
	{"mkdir", true, func(p string) error { return unix.Mkdir(p, 0o755) }},
	{"mkfifo", true, func(p string) error { return unix.Mkfifo(p, 0o644) }},
	{"mknod", true, func(p string) error { return unix.Mknod(p, unix.S_IFREG|0o644, 0) }},
	{"open", false, func(p string) error { return tryOpen(p, rdonly) }},
	{"open creat", true, func(p string) error { return tryOpen(p, wronly|creat|excl) }},
	{"open tmpfile", false, func(p string) error { return tryOpen(p, rdwr|tmpfile) }},
	{"readlink", false, func(p string) error { _, err := unix.Readlink(p, make([]byte, 9)); return err }},
	{"removexattr", false, func(p string) error { return unix.Removexattr(p, "user.x") }},
	{"rename from", false, func(p string) error { return unix.Rename(p, "new") }},
	{"rename to", true, func(p string) error { return unix.Rename("f", p) }},
	{"rmdir", false, unix.Rmdir},
	{"setxattr", false, func(p string) error { return unix.Setxattr(p, "user.x", nil, 0) }},
	{"stat", false, func(p string) error { return unix.Stat(p, &unix.Stat_t{}) }},
	{"statfs", false, func(p string) error { return unix.Statfs(p, &unix.Statfs_t{}) }},
	{"statx", false, func(p string) error { return unix.Statx(unix.AT_FDCWD, p, 0, unix.STATX_ALL, &unix.Statx_t{}) }},
	{"symlink", true, func(p string) error { return unix.Symlink("target", p) }},
	{"truncate", false, func(p string) error { return unix.Truncate(p, 0) }},
	{"unlink", false, unix.Unlink},
	{"utimensat", false, func(p string) error { return unix.UtimesNano(p, make([]unix.Timespec, 2)) }},
}

// paths makes the scenarios that hold for every call with a path.
func paths() group {
	const files = "f d/@700 d/f x/ a->b b->a l->f shut/@700"
	g := group{}
	for _, c := range calls {
		g[c.name+": a path that cannot be walked"] = scenario{files, func(t *T) { t.badWalks(c) }}
		g[c.name+": a path that is too long"] = scenario{files, func(t *T) { t.tooLong(c) }}
		g[c.name+": no permission to search"] = scenario{files, func(t *T) {
			t.as(alice, func() {
				t.fails(c.run("d/f"), unix.EACCES)
				t.fails(c.run("d/missing"), unix.EACCES)
				t.fails(c.run("d/"+strings.Repeat("n", 256)), unix.EACCES)
			})
		}}
		if c.make {
			g[c.name+": what is there"] = scenario{files, func(t *T) { t.makesNothing(c) }}
		}
	}
	for name, s := range longPaths {
		g[name] = s
	}
	return g
}

// badWalks expects the errors of a path whose walk fails.
func (t *T) badWalks(c call) {
	t.fails(c.run(""), unix.ENOENT)
	t.fails(c.run("missing/x"), unix.ENOENT)
	t.fails(c.run("missing/../f"), unix.ENOENT)
	t.fails(c.run("f/x"), unix.ENOTDIR)
	t.fails(c.run("f/../f"), unix.ENOTDIR)
	t.fails(c.run("l/x"), unix.ENOTDIR)
	t.fails(c.run("a/x"), unix.ELOOP)
	t.fails(c.run("f/x/y"), unix.ENOTDIR)
	if !c.make {
		t.fails(c.run("missing"), unix.ENOENT)
	}
	t.eq(t.list("."), "[a b d f l shut x]")
}

// tooLong expects ENAMETOOLONG of a name of 256 bytes and a path of 4,096, and
// not of shorter ones.
func (t *T) tooLong(c call) {
	long := strings.Repeat("n", 255)
	t.fails(c.run(long+"n"), unix.ENAMETOOLONG)
	t.fails(c.run("x/"+long+"n/x"), unix.ENAMETOOLONG)
	t.fails(c.run("missing/"+long+"n"), unix.ENOENT)
	t.fails(c.run("f/"+long+"n"), unix.ENOTDIR)
	path := strings.Repeat("./", 2047)
	t.fails(c.run(path+"ff"), unix.ENAMETOOLONG)
	if c.make {
		t.fails(c.run(long), nil)
		return
	}
	t.fails(c.run(long), unix.ENOENT)
	t.fails(c.run(path+"z"), unix.ENOENT)
}

// makesNothing expects that a call does not take a name that is taken, also by
// a link that leads nowhere, nor one that is no name.
func (t *T) makesNothing(c call) {
	if c.name != "rename to" {
		for _, name := range []string{"f", "x", "a", "l", ".", "..", "x/."} {
			t.fails(c.run(name), unix.EEXIST, unix.EISDIR)
		}
		t.as(alice, func() { t.fails(c.run("x"), unix.EEXIST) })
	}
	t.as(alice, func() { t.fails(c.run("new"), unix.EACCES, unix.EPERM) })
	t.fails(c.run("shut/gone/new"), unix.ENOENT)
	t.eq(t.list("shut"), "[]")
	t.holds(!exists("new"), "nothing was made")
}

// longPaths are about names and paths at the limits.
var longPaths = group{
	"name of 255 bytes": {"", func(t *T) {
		for _, name := range []string{strings.Repeat("n", 255), strings.Repeat("ü", 127) + "x", strings.Repeat("\xff", 255)} {
			t.put(name, "x")
			t.eq(t.content(name), "x")
			t.eq(t.list(".")[0], name)
			t.ok(unix.Rename(name, strings.Repeat("m", 255)))
			t.remove(strings.Repeat("m", 255))
		}
	}},
	"any byte in a name": {"", func(t *T) {
		for b := 1; b < 256; b++ {
			if b == '/' {
				continue
			}
			name := "n" + string([]byte{byte(b)})
			t.put(name, name)
			t.eq(t.content(name), name)
		}
		t.eq(len(t.list(".")), 254)
	}},
	"names that look special": {"", func(t *T) {
		for _, name := range []string{"...", " ", "-", "\n", ".wh.x", ".wh..wh..opq", ".fuse_hidden0001", "~", "C:\\x"} {
			t.put(name, name)
			t.eq(t.content(name), name)
		}
		t.eq(len(t.list(".")), 9)
	}},
	"path of 4,095 bytes": {"f=hello", func(t *T) {
		path := strings.Repeat("./", 2047) + "f"
		t.eq(len(path), 4095)
		t.eq(t.content(path), "hello")
		t.fails(tryOpen("/"+path, rdonly), unix.ENAMETOOLONG)
	}},
	"folders deeper than a path": {"", func(t *T) {
		name := strings.Repeat("d", 250)
		for range 40 { // 10,000 bytes
			t.ok(unix.Mkdir(name, 0o755))
			t.ok(unix.Chdir(name))
		}
		t.put("f", "deep")
		t.eq(t.content("f"), "deep")
		t.ok(unix.Rename("f", "g"))
		t.ok(unix.Link("g", "h"))
		t.eq(t.nlink("h"), 2)
		t.remove("g", "h")
		for range 40 {
			t.ok(unix.Chdir(".."))
			t.ok(unix.Rmdir(name))
		}
	}},
	"folder moved below another, deep": {"", func(t *T) {
		for i := range 100 {
			t.ok(unix.Mkdir("d", 0o755))
			t.ok(unix.Mkdir(fmt.Sprint("e", i), 0o755))
			t.ok(unix.Rename("d", fmt.Sprint("e", i, "/d")))
			t.ok(unix.Rename(fmt.Sprint("e", i), "d"))
			t.ok(unix.Chdir("d/d"))
		}
		t.put("f", "x")
		t.eq(t.content("f"), "x")
	}},
	"40 links on the way": {"d/ d/f=x", func(t *T) { t.linkChain(40, nil) }},
	"41 links on the way": {"d/ d/f=x", func(t *T) { t.linkChain(41, unix.ELOOP) }},
	"dot and dot dot":     {"d/ d/e/ f=x", func(t *T) { t.eq(t.content("d/./e/../../d/.././f"), "x") }},
	"dot dot of a moved place": {"d/ d/e/ g/ g/here", func(t *T) {
		t.ok(unix.Chdir("d/e"))
		t.ok(unix.Rename("../../d/e", "../../g/e"))
		t.holds(exists("../here"), "the new parent is seen")
	}},
	"removed working folder": {"d/", func(t *T) {
		t.ok(unix.Chdir("d"))
		t.ok(unix.Rmdir("../d"))
		t.fails(tryOpen("x", wronly|creat), unix.ENOENT)
		t.fails(unix.Mkdir("x", 0o755), unix.ENOENT)
		t.fails(unix.Symlink("x", "x"), unix.ENOENT)
		t.fails(unix.Lstat("x", &unix.Stat_t{}), unix.ENOENT)
		_, err := unix.Getwd()
		t.fails(err, unix.ENOENT)
	}},
}

// linkChain follows n symbolic links in a row.
func (t *T) linkChain(n int, want error) {
	last := "d"
	for i := range n {
		name := "l" + itoa(i)
		t.ok(unix.Symlink(last, name))
		last = name
	}
	t.fails(tryOpen(last+"/f", rdonly), want)
}
