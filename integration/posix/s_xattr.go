package main

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// xattr gives the value of an attribute, or the name of the error.
func (t *T) xattr(name, attr string) string {
	buf := make([]byte, 65536)
	n, err := unix.Lgetxattr(name, attr, buf)
	if err != nil {
		return errName(err)
	}
	return string(buf[:n])
}

// xattrs lists the attributes of the given namespaces, in order.
func (t *T) xattrs(name string) string {
	buf := make([]byte, 65536)
	n, err := unix.Llistxattr(name, buf)
	t.ok(err)
	var list []string
	for attr := range strings.SplitSeq(strings.Trim(string(buf[:n]), "\x00"), "\x00") {
		if strings.HasPrefix(attr, "user.") || strings.HasPrefix(attr, "trusted.") {
			list = append(list, attr)
		}
	}
	return strings.Join(sorted(list), " ")
}

func (t *T) setxattr(name, attr, value string) { t.ok(unix.Lsetxattr(name, attr, []byte(value), 0)) }

// attributing is about extended attributes.
var attributing = group{
	"set and get": {"f d/", func(t *T) {
		for _, n := range []string{"f", "d"} {
			t.setxattr(n, "user.a", "value")
			t.eq(t.xattr(n, "user.a"), "value")
		}
	}},
	"empty value": {"f", func(t *T) {
		t.setxattr("f", "user.a", "")
		t.eq(t.xattr("f", "user.a"), "")
		t.eq(t.xattrs("f"), "user.a")
	}},
	"any bytes": {"f", func(t *T) { v := "\x00\xff\n\x00"; t.setxattr("f", "user.a", v); t.eq(t.xattr("f", "user.a"), v) }},
	"replace": {"f", func(t *T) {
		t.setxattr("f", "user.a", "one")
		t.setxattr("f", "user.a", "two, longer")
		t.setxattr("f", "user.a", "3")
		t.eq(t.xattr("f", "user.a"), "3")
	}},
	"missing": {"f", func(t *T) {
		t.eq(t.xattr("f", "user.a"), "ENODATA")
		t.fails(unix.Removexattr("f", "user.a"), unix.ENODATA)
	}},
	"remove": {"f", func(t *T) {
		t.setxattr("f", "user.a", "1")
		t.setxattr("f", "user.b", "2")
		t.ok(unix.Removexattr("f", "user.a"))
		t.eq(t.xattrs("f"), "user.b")
		t.eq(t.xattr("f", "user.a"), "ENODATA")
	}},
	"create": {"f", func(t *T) {
		t.ok(unix.Setxattr("f", "user.a", nil, unix.XATTR_CREATE))
		t.fails(unix.Setxattr("f", "user.a", nil, unix.XATTR_CREATE), unix.EEXIST)
	}},
	"replace flag": {"f", func(t *T) {
		t.fails(unix.Setxattr("f", "user.a", nil, unix.XATTR_REPLACE), unix.ENODATA)
		t.setxattr("f", "user.a", "1")
		t.ok(unix.Setxattr("f", "user.a", []byte("2"), unix.XATTR_REPLACE))
		t.eq(t.xattr("f", "user.a"), "2")
	}},
	"both flags": {"f", func(t *T) {
		t.fails(unix.Setxattr("f", "user.a", nil, unix.XATTR_CREATE|unix.XATTR_REPLACE), unix.EEXIST, unix.ENODATA)
		t.setxattr("f", "user.a", "1")
		t.fails(unix.Setxattr("f", "user.a", nil, unix.XATTR_CREATE|unix.XATTR_REPLACE), unix.EEXIST)
	}},
	"unknown flag": {"f", func(t *T) { t.fails(unix.Setxattr("f", "user.a", nil, 8), unix.EINVAL) }},
	"buffer too small": {"f", func(t *T) {
		t.setxattr("f", "user.a", "value")
		_, err := unix.Getxattr("f", "user.a", make([]byte, 4))
		t.fails(err, unix.ERANGE)
	}},
	"list too small": {"f", func(t *T) {
		t.setxattr("f", "user.abc", "value")
		_, err := unix.Listxattr("f", make([]byte, 3))
		t.fails(err, unix.ERANGE)
	}},
	"asked for the size": {"f", func(t *T) {
		t.setxattr("f", "user.a", "value")
		n, err := unix.Getxattr("f", "user.a", nil)
		t.ok(err)
		t.eq(n, 5)
		n, err = unix.Listxattr("f", nil)
		t.ok(err)
		t.holds(n >= 7, "size of the list")
	}},
	"buffer that fits": {"f", func(t *T) {
		t.setxattr("f", "user.a", "value")
		n, err := unix.Getxattr("f", "user.a", make([]byte, 5))
		t.ok(err)
		t.eq(n, 5)
	}},
	"name of 255 bytes": {"f", func(t *T) {
		name := "user." + strings.Repeat("n", 250)
		t.setxattr("f", name, "v")
		t.eq(t.xattr("f", name), "v")
		t.eq(t.xattrs("f"), name)
	}},
	"name too long": {"f", func(t *T) {
		t.fails(unix.Setxattr("f", "user."+strings.Repeat("n", 251), nil, 0), unix.ERANGE)
		_, err := unix.Getxattr("f", "user."+strings.Repeat("n", 251), nil)
		t.fails(err, unix.ERANGE)
	}},
	"empty name": {"f", func(t *T) {
		t.fails(unix.Setxattr("f", "", nil, 0), unix.ERANGE)
		t.fails(unix.Setxattr("f", "user.", nil, 0), unix.EINVAL)
	}},
	"no namespace": {"f", func(t *T) {
		t.fails(unix.Setxattr("f", "a", nil, 0), unix.EOPNOTSUPP)
		t.fails(unix.Setxattr("f", "nonsense.a", nil, 0), unix.EOPNOTSUPP)
	}},
	"get of no namespace": {"f", func(t *T) {
		_, err := unix.Getxattr("f", "nonsense.a", nil)
		t.fails(err, unix.EOPNOTSUPP, unix.ENODATA)
	}},
	"value too large": {"f", func(t *T) { t.fails(unix.Setxattr("f", "user.a", make([]byte, 65537), 0), unix.E2BIG) }},
	"value of 64 KiB": {"f=x", func(t *T) {
		v := strings.Repeat("v", 65536)
		t.setxattr("f", "user.a", v)
		t.eq(t.xattr("f", "user.a") == v, true)
		t.eq(t.content("f"), "x")
	}},
	"many": {"f", func(t *T) {
		for i := range 50 {
			t.setxattr("f", fmt.Sprintf("user.n%02d", i), strings.Repeat("v", i))
		}
		t.eq(len(strings.Fields(t.xattrs("f"))), 50)
		t.eq(len(t.xattr("f", "user.n37")), 37)
	}},
	"until there is no room": {"f=x", func(t *T) { // ext4 takes a block of names, xfs 64 KiB and more
		for i := range 300 {
			name := fmt.Sprintf("user.%03d%s", i, strings.Repeat("n", 240))
			if err := unix.Setxattr("f", name, []byte("v"), 0); err != nil {
				t.fails(err, unix.ENOSPC, unix.E2BIG)
				t.eq(len(strings.Fields(t.xattrs("f"))), i)
				break
			}
			t.eq(t.xattr("f", name), "v")
		}
		_, err := unix.Listxattr("f", make([]byte, 65536))
		t.fails(err, nil, unix.E2BIG)
		t.eq(t.content("f"), "x")
	}},
	"by descriptor": {"f d/", func(t *T) {
		for _, n := range []string{"f", "d"} {
			fd, b := t.open(n, rdonly), make([]byte, 9)
			t.ok(unix.Fsetxattr(fd, "user.a", []byte("v"), 0))
			k, err := unix.Fgetxattr(fd, "user.a", b)
			t.ok(err)
			t.eq(string(b[:k]), "v")
			t.ok(unix.Fremovexattr(fd, "user.a"))
			t.eq(t.xattr(n, "user.a"), "ENODATA")
		}
	}},
	"through a link": {"f l->f", func(t *T) { t.ok(unix.Setxattr("l", "user.a", []byte("v"), 0)); t.eq(t.xattr("f", "user.a"), "v") }},
	"user of a symlink": {"l->f", func(t *T) {
		t.fails(unix.Lsetxattr("l", "user.a", []byte("v"), 0), unix.EPERM)
		t.eq(t.xattr("l", "user.a"), "ENODATA")
	}},
	"user of a fifo": {"p|", func(t *T) { t.fails(unix.Setxattr("p", "user.a", []byte("v"), 0), unix.EPERM) }},
	"user of a device": {"z%c1,3", func(t *T) {
		t.fails(unix.Setxattr("z", "user.a", []byte("v"), 0), unix.EPERM)
		t.fails(unix.Removexattr("z", "user.a"), unix.EPERM)
	}},
	"trusted of a symlink": {"l->f", func(t *T) {
		t.setxattr("l", "trusted.a", "v")
		t.eq(t.xattr("l", "trusted.a"), "v")
		t.eq(t.xattrs("l"), "trusted.a")
		t.eq(t.target("l"), "f")
	}},
	"trusted of a device": {"z%c1,3", func(t *T) {
		t.setxattr("z", "trusted.a", "v")
		t.eq(t.xattr("z", "trusted.a"), "v")
		t.eq(t.lstat("z").Rdev, unix.Mkdev(1, 3))
	}},
	"trusted of a fifo": {"p|", func(t *T) { t.setxattr("p", "trusted.a", "v"); t.eq(t.xattr("p", "trusted.a"), "v") }},
	"trusted":           {"f", func(t *T) { t.setxattr("f", "trusted.a", "v"); t.eq(t.xattrs("f"), "trusted.a") }},
	"trusted by a user": {"f@666:1001:1001", func(t *T) {
		t.setxattr("f", "trusted.a", "v")
		t.setxattr("f", "user.a", "v")
		t.as(alice, func() {
			t.fails(unix.Setxattr("f", "trusted.a", nil, 0), unix.EPERM)
			t.eq(t.xattr("f", "trusted.a"), "ENODATA")
			t.fails(unix.Removexattr("f", "trusted.a"), unix.EPERM)
			t.eq(t.xattrs("f"), "user.a")
		})
	}},
	"trusted.overlay is data": {"f d/ d/x", func(t *T) {
		for _, attr := range []string{"trusted.overlay.opaque", "trusted.overlay.metacopy", "trusted.overlay.redirect", "trusted.overlay.origin"} {
			t.setxattr("f", attr, "y")
			t.setxattr("d", attr, "y")
			t.eq(t.xattr("f", attr), "y")
		}
		t.eq(len(strings.Fields(t.xattrs("d"))), 4)
		t.eq(t.list("d"), "[x]")
	}},
	"trusted.unio is data": {"f=hello d/ d/x", func(t *T) {
		for _, attr := range []string{"trusted.unio.origin", "trusted.unio.nlink", "trusted.unio.partial", "user.containers.override_stat"} {
			t.setxattr("f", attr, "1")
			t.eq(t.xattr("f", attr), "1")
			t.setxattr("d", attr, "1")
		}
		t.eq(t.content("f"), "hello")
		t.eq(len(strings.Fields(t.xattrs("d"))), 4)
		t.eq(t.nlink("f"), 1)
	}},
	"security": {"f", func(t *T) {
		t.ok(unix.Setxattr("f", "security.x", []byte("v"), 0))
		t.eq(t.xattr("f", "security.x"), "v")
	}},
	"security by a user": {"f@666:1001:1001", func(t *T) { t.as(alice, func() { t.fails(unix.Setxattr("f", "security.x", nil, 0), unix.EPERM) }) }},
	"capability": {"f@755", func(t *T) {
		t.ok(unix.Setxattr("f", "security.capability", netRaw, 0))
		t.eq(t.xattr("f", "security.capability"), string(netRaw))
	}},
	"capability that is none": {"f@755", func(t *T) { t.fails(unix.Setxattr("f", "security.capability", []byte("x"), 0), unix.EINVAL) }},
	"user needs write":        {"f@644", func(t *T) { t.as(alice, func() { t.fails(unix.Setxattr("f", "user.a", nil, 0), unix.EACCES) }) }},
	"user needs read": {"f@622", func(t *T) {
		t.setxattr("f", "user.a", "v")
		t.as(alice, func() { t.eq(t.xattr("f", "user.a"), "EACCES") })
	}},
	"user by a writer":  {"f@666", func(t *T) { t.as(alice, func() { t.setxattr("f", "user.a", "v") }); t.eq(t.xattr("f", "user.a"), "v") }},
	"sticky folder":     {"d/@1777", func(t *T) { t.as(alice, func() { t.fails(unix.Setxattr("d", "user.a", nil, 0), unix.EPERM) }) }},
	"list without read": {"f@0", func(t *T) { t.setxattr("f", "user.a", "v"); t.as(alice, func() { t.eq(t.xattrs("f"), "user.a") }) }},
	"kept through a write": {"f=x", func(t *T) {
		t.setxattr("f", "user.a", "v")
		t.append("f", "y")
		t.ok(unix.Truncate("f", 0))
		t.eq(t.xattr("f", "user.a"), "v")
	}},
	"kept through a rename": {"f=x d/ d/g", func(t *T) {
		t.setxattr("f", "user.a", "v")
		t.setxattr("d", "user.a", "v")
		t.ok(unix.Rename("f", "d/f"))
		t.ok(unix.Rename("d", "e"))
		t.eq(t.xattr("e/f", "user.a"), "v")
		t.eq(t.xattr("e", "user.a"), "v")
	}},
	"of one of several names": {"f=x h==f", func(t *T) {
		t.setxattr("f", "user.a", "v")
		t.eq(t.xattr("h", "user.a"), "v")
		t.eq(t.xattrs("h"), "user.a")
	}},
	"of a new file are none": {"", func(t *T) { t.put("f", ""); t.ok(unix.Mkdir("d", 0o755)); t.eq(t.xattrs("f")+t.xattrs("d"), "") }},
	"after remove and make":  {"f", func(t *T) { t.setxattr("f", "user.a", "v"); t.remove("f"); t.put("f", ""); t.eq(t.xattrs("f"), "") }},
	"access control list is kept or refused": {"f", func(t *T) {
		err := unix.Setxattr("f", accessACL, packACL(aliceReads), 0)
		t.fails(err, nil, unix.EOPNOTSUPP)
		if err != nil {
			t.eq(t.acl("f", accessACL)+t.listed("f"), "ENOTSUP")
			t.fails(unix.Removexattr("f", accessACL), unix.EOPNOTSUPP)
			t.eq(t.mode("f"), "644")
		}
	}},
	"system of no kind": {"f", func(t *T) { t.fails(unix.Setxattr("f", "system.nonsense", []byte("x"), 0), unix.EOPNOTSUPP) }},
}

// accessing is about access(2), faccessat2(2) and statfs(2).
var accessing = group{
	"as root": {"f@0 d/@0", func(t *T) {
		t.ok(unix.Access("f", unix.R_OK|unix.W_OK))
		t.fails(unix.Access("f", unix.X_OK), unix.EACCES)
		t.ok(unix.Access("d", unix.X_OK))
	}},
	"exec as root": {"f@1", func(t *T) { t.ok(unix.Access("f", unix.X_OK)) }},
	"bits": {"f@754:1001:77", func(t *T) {
		allowed := func() (got string) {
			for _, m := range []struct {
				bit  uint32
				name string
			}{{unix.R_OK, "r"}, {unix.W_OK, "w"}, {unix.X_OK, "x"}} {
				if unix.Faccessat2(unix.AT_FDCWD, "f", m.bit, unix.AT_EACCESS) == nil {
					got += m.name
				}
			}
			return got
		}
		t.as(alice, func() { t.eq(allowed(), "rwx") })
		t.as(bob, func() { t.eq(allowed(), "rx") }, 77)
		t.as(bob, func() { t.eq(allowed(), "r") })
	}},
	"real or effective": {"f@700", func(t *T) {
		// the real user is root's, the effective one is not
		_, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 0, alice, 0)
		t.fails(errnoOf(errno), nil)
		defer t.become(0, nil)
		t.fails(unix.Faccessat2(unix.AT_FDCWD, "f", unix.R_OK, unix.AT_EACCESS), unix.EACCES)
		t.ok(unix.Access("f", unix.R_OK))
	}},
	"bad mode": {"f", func(t *T) { t.fails(unix.Faccessat2(unix.AT_FDCWD, "f", 8, 0), unix.EINVAL) }},
	"bad flag": {"f", func(t *T) { t.fails(unix.Faccessat2(unix.AT_FDCWD, "f", 0, 1), unix.EINVAL) }},
	"of a link itself": {"l->gone", func(t *T) {
		t.ok(unix.Faccessat2(unix.AT_FDCWD, "l", 0, unix.AT_SYMLINK_NOFOLLOW))
		t.fails(unix.Access("l", 0), unix.ENOENT)
	}},
	"after chmod": {"f@600", func(t *T) {
		t.as(alice, func() { t.fails(unix.Access("f", unix.R_OK), unix.EACCES) })
		t.ok(unix.Chmod("f", 0o604))
		t.as(alice, func() { t.ok(unix.Access("f", unix.R_OK)) })
	}},
	"after chown": {"f@600", func(t *T) {
		t.ok(unix.Chown("f", alice, alice))
		t.as(alice, func() { t.ok(unix.Access("f", unix.W_OK)) })
	}},
	"statfs": {"f d/", func(t *T) {
		var st unix.Statfs_t
		for _, name := range []string{"f", "d", "."} {
			t.ok(unix.Statfs(name, &st))
			t.eq(st.Namelen, 255)
			t.holds(st.Bsize >= 512 && st.Blocks > 1000 && st.Bfree <= st.Blocks && st.Bavail <= st.Bfree, "sizes are likely")
			t.holds(st.Files > 0 && st.Ffree <= st.Files, "numbers of files are likely")
		}
	}},
	"statfs counts": {"", func(t *T) {
		var before, after unix.Statfs_t
		t.ok(unix.Statfs(".", &before))
		fd := t.open("f", rdwr|creat)
		t.ok(unix.Fallocate(fd, 0, 0, 200<<20))
		t.ok(unix.Fstatfs(fd, &after))
		t.holds(int64(before.Bfree-after.Bfree)*before.Bsize > 100<<20, "less is free")
		t.ok(unix.Ftruncate(fd, 0))
	}},
	"statfs of a descriptor": {"f", func(t *T) { var st unix.Statfs_t; t.ok(unix.Fstatfs(t.open("f", opath), &st)); t.eq(st.Namelen, 255) }},
}

func errnoOf(errno unix.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}
