package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// entry is one entry as getdents64(2) gives it.
type entry struct {
	name string
	ino  uint64
	typ  byte
	off  int64
}

// entries reads once, into a buffer of n bytes.
func (t *T) entries(fd, n int) []entry {
	buf := make([]byte, n)
	n, err := unix.Getdents(fd, buf)
	t.ok(err)
	var list []entry
	for b := buf[:n]; len(b) > 0; {
		length := int(b[16]) | int(b[17])<<8
		name, _, _ := strings.Cut(string(b[19:length]), "\x00")
		list = append(list, entry{name, number(b), b[18], int64(number(b[8:]))})
		b = b[length:]
	}
	return list
}

func number(b []byte) (n uint64) {
	for i := range 8 {
		n |= uint64(b[i]) << (8 * i)
	}
	return n
}

// all reads a folder to its end from where it is.
func (t *T) all(fd, buffer int) (list []entry) {
	for {
		some := t.entries(fd, buffer)
		if len(some) == 0 {
			return list
		}
		list = append(list, some...)
	}
}

func namesOf(list []entry) string {
	var names []string
	for _, e := range list {
		if e.name != "." && e.name != ".." {
			names = append(names, e.name)
		}
	}
	return strings.Join(sorted(names), " ")
}

// fill makes n files called prefix and a number in folder dir.
func (t *T) fill(dir, prefix string, n int) {
	for i := range n {
		t.ok(unix.Mknod(fmt.Sprintf("%s/%s%d", dir, prefix, i), unix.S_IFREG|0o644, 0))
	}
}

// folders is about readdir(3) and its kin.
var folders = group{
	"dot and dot dot": {"d/ d/e/", func(t *T) {
		got := map[string]entry{}
		for _, e := range t.all(t.open("d/e", rdonly), 4096) {
			got[e.name] = e
		}
		t.eq(len(got), 2)
		t.eq(got["."].ino, t.lstat("d/e").Ino)
		t.eq(got[".."].ino, t.lstat("d").Ino)
		t.eq([]byte{got["."].typ, got[".."].typ}, []byte{unix.DT_DIR, unix.DT_DIR})
	}},
	"types and numbers": {"d/ d/f d/d/ d/l->x d/p| d/z%c1,3 d/b%b7,99", func(t *T) {
		types := map[string]byte{"f": unix.DT_REG, "d": unix.DT_DIR, "l": unix.DT_LNK, "p": unix.DT_FIFO, "z": unix.DT_CHR, "b": unix.DT_BLK}
		for _, e := range t.all(t.open("d", rdonly), 4096) {
			if e.name == "." || e.name == ".." {
				continue
			}
			t.eq(e.typ, types[e.name])
			t.eq(e.ino, t.lstat("d/"+e.name).Ino)
		}
	}},
	"type of a socket": {"", func(t *T) {
		t.ok(unix.Mknod("s", unix.S_IFSOCK|0o644, 0))
		for _, e := range t.all(t.open(".", rdonly), 4096) {
			t.holds(e.name != "s" || e.typ == unix.DT_SOCK, "type of the socket")
		}
	}},
	"of a file":        {"f", func(t *T) { _, err := unix.Getdents(t.open("f", rdonly), make([]byte, 99)); t.fails(err, unix.ENOTDIR) }},
	"buffer too small": {"d/ d/name", func(t *T) { _, err := unix.Getdents(t.open("d", rdonly), make([]byte, 8)); t.fails(err, unix.EINVAL) }},
	"small buffers":    {"d/", func(t *T) { t.fill("d", "f", 300); t.eq(len(t.all(t.open("d", rdonly), 64)), 302) }},
	"of a path handle": {"d/", func(t *T) { _, err := unix.Getdents(t.open("d", opath), make([]byte, 999)); t.fails(err, unix.EBADF) }},
	"end stays the end": {"d/ d/f", func(t *T) {
		fd := t.open("d", rdonly)
		t.all(fd, 4096)
		t.eq(len(t.entries(fd, 4096)), 0)
		t.eq(len(t.entries(fd, 4096)), 0)
	}},
	"rewind sees new": {"d/ d/f", func(t *T) {
		fd := t.open("d", rdonly)
		t.all(fd, 4096)
		t.put("d/g", "")
		t.rewind(fd)
		t.eq(namesOf(t.all(fd, 4096)), "f g")
	}},
	"rewind sees removed": {"d/ d/f d/g", func(t *T) {
		fd := t.open("d", rdonly)
		t.all(fd, 4096)
		t.remove("d/f")
		t.rewind(fd)
		t.eq(namesOf(t.all(fd, 4096)), "g")
	}},
	"rewind sees renamed": {"d/ d/f d/g", func(t *T) {
		fd := t.open("d", rdonly)
		t.all(fd, 4096)
		t.ok(unix.Rename("d/f", "d/h"))
		t.rewind(fd)
		t.eq(namesOf(t.all(fd, 4096)), "g h")
	}},
	"seek to each cookie": {"d/ d/a d/b d/c d/e d/f", func(t *T) {
		fd := t.open("d", rdonly)
		list := t.all(fd, 4096)
		for i, e := range list {
			_, err := unix.Seek(fd, e.off, unix.SEEK_SET)
			t.ok(err)
			t.eq(namesOf(t.all(fd, 4096)), namesOf(list[i+1:]))
		}
	}},
	"seek while entries go": {"d/ d/a d/b d/c d/e d/f", func(t *T) {
		fd := t.open("d", rdonly)
		list := t.all(fd, 4096)
		cut := len(list) / 2
		for _, e := range list[:cut] {
			if e.name[0] != '.' {
				t.remove("d/" + e.name)
			}
		}
		_, err := unix.Seek(fd, list[cut].off, unix.SEEK_SET)
		t.ok(err)
		t.eq(namesOf(t.all(fd, 4096)), namesOf(list[cut+1:]))
	}},
	"seek while entries come": {"d/ d/a d/b d/c", func(t *T) {
		fd := t.open("d", rdonly)
		list := t.all(fd, 4096)
		t.put("d/new", "")
		_, err := unix.Seek(fd, list[2].off, unix.SEEK_SET)
		t.ok(err)
		got := namesOf(t.all(fd, 4096))
		for _, e := range list[3:] {
			t.holds(e.name[0] == '.' || strings.Contains(got, e.name), "old entries behind the cookie are seen")
		}
	}},
	"position of the start": {"d/ d/a", func(t *T) {
		fd := t.open("d", rdonly)
		off, err := unix.Seek(fd, 0, unix.SEEK_CUR)
		t.ok(err)
		t.eq(off, 0)
		t.all(fd, 4096)
		_, err = unix.Seek(fd, off, unix.SEEK_SET)
		t.ok(err)
		t.eq(namesOf(t.all(fd, 4096)), "a")
	}},
	"removing while reading": {"d/", func(t *T) {
		t.fill("d", "f", 500)
		fd, seen := t.open("d", rdonly), 0
		for {
			some := t.entries(fd, 512)
			if len(some) == 0 {
				break
			}
			for _, e := range some {
				if e.name[0] != '.' {
					t.remove("d/" + e.name)
					seen++
				}
			}
		}
		t.eq(seen, 500)
		t.eq(t.list("d"), "[]")
	}},
	"making while reading": {"d/", func(t *T) {
		t.fill("d", "f", 200)
		fd, seen := t.open("d", rdonly), map[string]int{}
		for i := 0; ; i++ {
			some := t.entries(fd, 512)
			if len(some) == 0 || i > 5000 {
				break
			}
			t.put(fmt.Sprintf("d/g%d", i), "")
			for _, e := range some {
				seen[e.name]++
			}
		}
		for i := range 200 {
			t.eq(seen[fmt.Sprintf("f%d", i)], 1)
		}
		for _, n := range seen {
			t.eq(n, 1)
		}
	}},
	"renaming while reading": {"d/ e/", func(t *T) {
		t.fill("d", "f", 200)
		fd, seen := t.open("d", rdonly), map[string]int{}
		for i := 0; ; i++ {
			some := t.entries(fd, 512)
			if len(some) == 0 {
				break
			}
			for _, e := range some {
				seen[e.name]++
			}
			_ = unix.Rename(fmt.Sprintf("d/f%d", i), fmt.Sprintf("e/f%d", i)) // out of the folder
		}
		for name, n := range seen {
			t.holds(n == 1, name+" was seen once")
		}
	}},
	"what was there and what is new": {"d/ d/a d/b d/c", func(t *T) {
		t.remove("d/b")
		t.put("d/e", "")
		t.ok(unix.Rename("d/c", "d/f"))
		t.put("d/b", "again")
		t.eq(t.list("d"), "[a b e f]")
		t.eq(namesOf(t.all(t.open("d", rdonly), 100)), "a b e f")
	}},
	"two readers": {"d/ d/a d/b", func(t *T) {
		x, y := t.open("d", rdonly), t.open("d", rdonly)
		t.all(x, 4096)
		t.put("d/c", "")
		t.eq(namesOf(t.all(y, 4096)), "a b c")
	}},
	"dup shares the position": {"d/ d/a", func(t *T) {
		fd := t.open("d", rdonly)
		t.all(fd, 4096)
		two, err := unix.Dup(fd)
		t.ok(err)
		t.eq(len(t.entries(two, 4096)), 0)
		t.ok(t.close(two))
	}},
	"without search permission": {"d/@744 d/a", func(t *T) { t.as(alice, func() { t.eq(namesOf(t.all(t.open("d", rdonly), 4096)), "a") }) }},
	"without read permission":   {"d/@711 d/a", func(t *T) { t.as(alice, func() { t.fails(tryOpen("d", rdonly), unix.EACCES) }) }},
	"many entries": {"d/", func(t *T) {
		many := 20000
		if t.variant == meta || t.variant == data {
			return // the same as lower, and it takes long
		}
		if os.Getenv("UNIO_TEST_LONG") != "" {
			many = 100000
		}
		t.fill("d", "entry-number-", many)
		t.eq(len(t.list("d")), many)
		seen := map[string]bool{}
		for _, e := range t.all(t.open("d", rdonly), 32768) {
			seen[e.name] = true
		}
		t.eq(len(seen), many+2)
		for i := 0; i < many; i += 2 {
			t.remove(fmt.Sprintf("d/entry-number-%d", i))
		}
		t.eq(len(t.list("d")), many/2)
		t.ok(os.RemoveAll("d"))
	}},
	"names by length": {"d/", func(t *T) {
		for i := 1; i < 256; i++ {
			t.put("d/"+strings.Repeat("n", i), "")
		}
		got := t.list("d")
		t.eq(len(got), 255)
		slices.SortFunc(got, func(a, b string) int { return len(a) - len(b) })
		t.eq(len(got[254]), 255)
	}},
	"size of a folder": {"d/", func(t *T) {
		t.holds(t.lstat("d").Size > 0, "a folder has a size")
		t.fill("d", "f", 100)
		t.holds(t.lstat("d").Size > 0, "still")
	}},
	"link counts of a tree": {"d/ d/a/ d/b/ d/b/c/", func(t *T) {
		t.eq([]uint64{t.nlink("d"), t.nlink("d/a"), t.nlink("d/b")}, []uint64{4, 2, 3})
		t.ok(unix.Rename("d/b/c", "d/a/c"))
		t.eq([]uint64{t.nlink("d"), t.nlink("d/a"), t.nlink("d/b")}, []uint64{4, 3, 2})
		t.put("d/f", "")
		t.ok(unix.Symlink("a", "d/l"))
		t.eq(t.nlink("d"), 4)
	}},
}

func (t *T) rewind(fd int) {
	_, err := unix.Seek(fd, 0, unix.SEEK_SET)
	t.ok(err)
}

// nameless is about O_TMPFILE.
var nameless = group{
	"write and read": {"", func(t *T) {
		fd := t.nameless(".", rdwr)
		t.pwrite(fd, "hello", 0)
		t.eq(t.pread(fd, 9, 0), "hello")
		st := t.fstat(fd)
		t.eq([]uint64{uint64(st.Nlink), uint64(st.Size), uint64(st.Mode)}, []uint64{0, 5, unix.S_IFREG | 0o644})
		t.eq(t.list("."), "[]")
	}},
	"linked": {"d/", func(t *T) {
		fd := t.nameless("d", rdwr)
		t.pwrite(fd, "hello", 0)
		t.ok(unix.Linkat(unix.AT_FDCWD, self(fd), unix.AT_FDCWD, "f", unix.AT_SYMLINK_FOLLOW))
		t.eq(t.content("f"), "hello")
		t.eq(t.fstat(fd).Nlink, 1)
		t.eq(t.fstat(fd).Ino, t.lstat("f").Ino)
		t.pwrite(fd, "J", 0)
		t.eq(t.content("f"), "Jello")
	}},
	"linked by descriptor": {"", func(t *T) {
		fd := t.nameless(".", wronly)
		t.ok(unix.Linkat(fd, "", unix.AT_FDCWD, "f", unix.AT_EMPTY_PATH))
		t.eq(t.list("."), "[f]")
	}},
	"linked twice": {"", func(t *T) {
		fd := t.nameless(".", rdwr)
		t.ok(unix.Linkat(fd, "", unix.AT_FDCWD, "f", unix.AT_EMPTY_PATH))
		t.ok(unix.Link("f", "g"))
		t.eq(t.fstat(fd).Nlink, 2)
	}},
	"linked over a name": {"f=x", func(t *T) {
		fd := t.nameless(".", rdwr)
		t.fails(unix.Linkat(fd, "", unix.AT_FDCWD, "f", unix.AT_EMPTY_PATH), unix.EEXIST)
		t.eq(t.content("f"), "x")
	}},
	"linked over a removed name": {"f=x", func(t *T) {
		t.remove("f")
		fd := t.nameless(".", rdwr)
		t.pwrite(fd, "new", 0)
		t.ok(unix.Linkat(fd, "", unix.AT_FDCWD, "f", unix.AT_EMPTY_PATH))
		t.eq(t.content("f"), "new")
	}},
	"excl is never linked": {"", func(t *T) {
		fd := t.nameless(".", rdwr|excl)
		t.fails(unix.Linkat(fd, "", unix.AT_FDCWD, "f", unix.AT_EMPTY_PATH), unix.ENOENT)
	}},
	"for reading":        {"", func(t *T) { t.fails(tryOpen(".", rdonly|tmpfile), unix.EINVAL) }},
	"in a file":          {"f", func(t *T) { t.fails(tryOpen("f", rdwr|tmpfile), unix.ENOTDIR) }},
	"without permission": {"d/@755", func(t *T) { t.as(alice, func() { t.fails(tryOpen("d", rdwr|tmpfile), unix.EACCES) }) }},
	"owner and umask": {".@777", func(t *T) {
		t.as(alice, func() {
			t.umask(0o077, func() {
				st := t.fstat(t.nameless(".", rdwr))
				t.eq([]uint32{st.Uid, st.Gid, st.Mode & 0o777}, []uint32{alice, alice, 0o600})
			})
		})
	}},
	"setgid folder":     {".@2777:0:77", func(t *T) { t.eq(t.fstat(t.nameless(".", rdwr)).Gid, 77) }},
	"touches no folder": {"", func(t *T) { t.touches(".:", func() { t.nameless(".", rdwr) }) }},
	"attributes": {"", func(t *T) {
		fd := t.nameless(".", rdwr)
		t.ok(unix.Fchmod(fd, 0o4711))
		t.ok(unix.Fchown(fd, 5, 6))
		t.ok(unix.Fchmod(fd, 0o640))
		t.ok(unix.Fsetxattr(fd, "user.x", []byte("v"), 0))
		t.ok(unix.Ftruncate(fd, 77))
		t.ok(unix.Linkat(fd, "", unix.AT_FDCWD, "f", unix.AT_EMPTY_PATH))
		t.eq(t.mode("f")+" "+t.owner("f")+" "+t.xattr("f", "user.x"), "640 5:6 v")
		t.eq(t.lstat("f").Size, 77)
	}},
	"locked, mapped, synced": {"", func(t *T) {
		fd := t.nameless(".", rdwr)
		t.ok(unix.Ftruncate(fd, 8192))
		m := t.mmapFd(fd, 8192, both, unix.MAP_SHARED)
		copy(m[5000:], "mapped")
		t.ok(unix.Fsync(fd))
		t.eq(t.pread(fd, 6, 5000), "mapped")
		t.ok(unix.Flock(fd, unix.LOCK_EX))
	}},
}

// nameless opens a file without a name in folder dir.
func (t *T) nameless(dir string, flags int) int { return t.open(dir, flags|tmpfile) }
