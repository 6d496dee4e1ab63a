package main

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	accessACL  = "system.posix_acl_access"
	defaultACL = "system.posix_acl_default"
)

// aclTags are the tags of entries (include/uapi/linux/posix_acl.h).
var aclTags = []struct {
	name  string // before the id
	tag   uint16
	named bool
}{{"u::", 1, false}, {"u:", 2, true}, {"g::", 4, false}, {"g:", 8, true}, {"m::", 16, false}, {"o::", 32, false}}

// packACL gives the attribute's form (include/uapi/linux/posix_acl_xattr.h) of
// entries like "u::rw- u:1001:r-- g::r-- m::rw- o::---".
func packACL(text string) []byte {
	b := []byte{2, 0, 0, 0}
	for word := range strings.FieldsSeq(text) {
		for _, tag := range aclTags {
			rest, ok := strings.CutPrefix(word, tag.name)
			if !ok {
				continue
			}
			id := uint64(1<<32 - 1)
			if tag.named {
				number, perms, _ := strings.Cut(rest, ":")
				id, _ = strconv.ParseUint(number, 10, 32)
				rest = perms
			}
			b = binary.LittleEndian.AppendUint16(b, tag.tag)
			b = binary.LittleEndian.AppendUint16(b, permBits(rest))
			b = binary.LittleEndian.AppendUint32(b, uint32(id))
			break
		}
	}
	return b
}

func permBits(text string) (bits uint16) {
	for i, c := range "rwx" {
		if i < len(text) && rune(text[i]) == c {
			bits |= 4 >> i
		}
	}
	return bits
}

// unpackACL is the reverse.
func unpackACL(b []byte) string {
	var words []string
	for b = b[min(4, len(b)):]; len(b) >= 8; b = b[8:] {
		tag, perm, id := binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint32(b[4:])
		word := ""
		for _, known := range aclTags {
			if known.tag == tag {
				word = known.name
			}
			if known.tag == tag && known.named {
				word += fmt.Sprint(id) + ":"
			}
		}
		for i, c := range "rwx" {
			if perm&(4>>i) == 0 {
				c = '-'
			}
			word += string(c)
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func (t *T) setACL(name, attr, text string) { t.ok(unix.Setxattr(name, attr, packACL(text), 0)) }

// acl gives a name's ACL as text, or the name of the error.
func (t *T) acl(name, attr string) string {
	buf := make([]byte, 4096)
	n, err := unix.Getxattr(name, attr, buf)
	if err != nil {
		return errName(err)
	}
	return unpackACL(buf[:n])
}

const (
	aliceReads = "u::rw- u:1001:r-- g::--- m::r-- o::---"
	inherited  = "u::rwx u:1001:rwx g::r-x m::rwx o::---"
)

// controlling is about access control lists (acl(5)).
var controlling = group{
	"set and get": {"f d/", func(t *T) {
		for _, n := range []string{"f", "d"} {
			t.setACL(n, accessACL, aliceReads)
			t.eq(t.acl(n, accessACL), aliceReads)
		}
	}},
	"none": {"f d/", func(t *T) { t.eq(t.acl("f", accessACL), "ENODATA"); t.eq(t.acl("d", defaultACL), "ENODATA") }},
	"gives access": {"f=x@600", func(t *T) {
		t.as(alice, func() { t.fails(tryOpen("f", rdonly), unix.EACCES) })
		t.setACL("f", accessACL, aliceReads)
		t.as(alice, func() { t.ok(tryOpen("f", rdonly)); t.fails(tryOpen("f", wronly), unix.EACCES) })
		t.as(bob, func() { t.fails(tryOpen("f", rdonly), unix.EACCES) })
	}},
	"takes access": {"f=x@644", func(t *T) {
		t.setACL("f", accessACL, "u::rw- u:1001:--- g::r-- m::r-- o::r--")
		t.as(alice, func() { t.fails(tryOpen("f", rdonly), unix.EACCES) })
		t.as(bob, func() { t.ok(tryOpen("f", rdonly)) })
	}},
	"gives search": {"d/@700 d/f=x", func(t *T) {
		t.setACL("d", accessACL, "u::rwx u:1001:--x g::--- m::--x o::---")
		t.as(alice, func() { t.ok(tryOpen("d/f", rdonly)); t.fails(tryOpen("d", rdonly), unix.EACCES) })
	}},
	"gives making": {"d/@700", func(t *T) {
		t.setACL("d", accessACL, "u::rwx u:1001:rwx g::--- m::rwx o::---")
		t.as(alice, func() { t.put("d/f", "x"); t.ok(unix.Mkdir("d/e", 0o755)); t.remove("d/f", "d/e") })
	}},
	"of a group": {"f=x@600", func(t *T) {
		t.setACL("f", accessACL, "u::rw- g::--- g:77:r-- m::r-- o::---")
		t.as(alice, func() { t.ok(tryOpen("f", rdonly)) }, 77)
		t.as(alice, func() { t.fails(tryOpen("f", rdonly), unix.EACCES) })
	}},
	"mask limits": {"f=x@600", func(t *T) {
		t.setACL("f", accessACL, "u::rw- u:1001:rw- g::--- m::r-- o::---")
		t.as(alice, func() { t.ok(tryOpen("f", rdonly)); t.fails(tryOpen("f", rdwr), unix.EACCES) })
	}},
	"access(2) knows": {"f@600", func(t *T) {
		t.setACL("f", accessACL, aliceReads)
		t.as(alice, func() { t.ok(unix.Access("f", unix.R_OK)); t.fails(unix.Access("f", unix.W_OK), unix.EACCES) })
	}},
	"mode shows the mask": {"f@600", func(t *T) {
		t.setACL("f", accessACL, "u::rw- u:1001:r-- g::--- m::rw- o::r--")
		t.eq(t.mode("f"), "664")
	}},
	"chmod changes the mask": {"f@600", func(t *T) {
		t.setACL("f", accessACL, "u::rw- u:1001:rw- g::r-- m::rw- o::---")
		t.ok(unix.Chmod("f", 0o640))
		t.eq(t.acl("f", accessACL), "u::rw- u:1001:rw- g::r-- m::r-- o::---")
		t.as(alice, func() { t.fails(tryOpen("f", rdwr), unix.EACCES) })
	}},
	"chmod without a list": {"f@600", func(t *T) { t.ok(unix.Chmod("f", 0o640)); t.eq(t.acl("f", accessACL), "ENODATA") }},
	"that is a mode": {"f@600", func(t *T) {
		t.setACL("f", accessACL, "u::rw- g::r-x o::--x")
		t.eq(t.mode("f"), "651")
		t.eq(t.acl("f", accessACL), "ENODATA")
	}},
	"removed": {"f@600", func(t *T) {
		t.setACL("f", accessACL, aliceReads)
		t.ok(unix.Removexattr("f", accessACL))
		t.eq(t.acl("f", accessACL), "ENODATA")
		t.as(alice, func() { t.fails(tryOpen("f", rdonly), unix.EACCES) })
	}},
	"removed again": {"f", func(t *T) { t.ok(unix.Removexattr("f", accessACL)) }},
	"listed": {"f d/", func(t *T) {
		t.setACL("f", accessACL, aliceReads)
		t.setACL("d", defaultACL, inherited)
		t.eq(t.listed("f")+" "+t.listed("d"), accessACL+" "+defaultACL)
	}},
	"default of a file": {"f", func(t *T) { t.fails(unix.Setxattr("f", defaultACL, packACL(inherited), 0), unix.EACCES) }},
	"of a symlink":      {"l->f", func(t *T) { t.fails(unix.Lsetxattr("l", accessACL, packACL(aliceReads), 0), unix.EOPNOTSUPP) }},
	"nonsense": {"f", func(t *T) {
		t.fails(unix.Setxattr("f", accessACL, []byte("nonsense"), 0), unix.EINVAL, unix.EOPNOTSUPP)
		t.fails(unix.Setxattr("f", accessACL, packACL("u::rw-"), 0), unix.EINVAL)
		t.fails(unix.Setxattr("f", accessACL, packACL("u::rw- u:1001:r-- g::r-- o::r--"), 0), unix.EINVAL)
	}},
	"by a stranger": {"f@666", func(t *T) {
		t.as(alice, func() {
			t.fails(unix.Setxattr("f", accessACL, packACL(aliceReads), 0), unix.EPERM)
			t.fails(unix.Removexattr("f", accessACL), unix.EPERM)
		})
	}},
	"by the owner": {"f@600:1001:1001", func(t *T) {
		t.as(alice, func() { t.setACL("f", accessACL, "u::rw- u:1002:r-- g::--- m::r-- o::---") })
		t.as(bob, func() { t.ok(tryOpen("f", rdonly)) })
	}},
	"takes setgid of a strange group": {"f@2755:1001:77", func(t *T) {
		t.as(alice, func() { t.setACL("f", accessACL, "u::rwx u:1002:r-x g::r-x m::r-x o::r-x") })
		t.eq(t.mode("f"), "755")
	}},
	"keeps setgid of one's group": {"f@2755:1001:77", func(t *T) {
		t.as(alice, func() { t.setACL("f", accessACL, "u::rwx u:1002:r-x g::r-x m::r-x o::r-x") }, 77)
		t.eq(t.mode("f"), "2755")
	}},
	"touches": {"f", func(t *T) { t.touches("f:c .:", func() { t.setACL("f", accessACL, aliceReads) }) }},
	"default: file": {"d/", func(t *T) {
		t.setACL("d", defaultACL, inherited)
		t.put("d/f", "")
		t.eq(t.acl("d/f", accessACL), "u::rw- u:1001:rwx g::r-x m::r-- o::---")
		t.eq(t.mode("d/f"), "640")
		t.eq(t.acl("d/f", defaultACL), "ENODATA")
	}},
	"default: folder": {"d/", func(t *T) {
		t.setACL("d", defaultACL, inherited)
		t.ok(unix.Mkdir("d/e", 0o777))
		t.eq(t.acl("d/e", accessACL), inherited)
		t.eq(t.acl("d/e", defaultACL), inherited)
		t.eq(t.mode("d/e"), "770")
		t.put("d/e/f", "")
		t.eq(t.mode("d/e/f"), "640")
	}},
	"default: fifo, device, socket": {"d/", func(t *T) {
		t.setACL("d", defaultACL, inherited)
		t.ok(unix.Mkfifo("d/p", 0o666))
		t.ok(unix.Mknod("d/z", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		t.ok(unix.Mknod("d/s", unix.S_IFSOCK|0o777, 0))
		t.eq(t.mode("d/p")+" "+t.mode("d/z")+" "+t.mode("d/s"), "660 660 770")
		t.eq(t.acl("d/p", accessACL), "u::rw- u:1001:rwx g::r-x m::rw- o::---")
	}},
	"default: symlink": {"d/", func(t *T) {
		t.setACL("d", defaultACL, inherited)
		t.ok(unix.Symlink("x", "d/l"))
		t.eq(t.mode("d/l"), "777")
	}},
	"default: no umask": {"d/", func(t *T) {
		t.setACL("d", defaultACL, inherited)
		t.umask(0o077, func() { t.put("d/f", ""); t.ok(unix.Mkdir("d/e", 0o777)) })
		t.eq(t.mode("d/f")+" "+t.mode("d/e"), "640 770")
	}},
	"no default: umask": {"d/", func(t *T) {
		t.setACL("d", accessACL, inherited)
		t.umask(0o077, func() { t.put("d/f", ""); t.ok(unix.Mkdir("d/e", 0o777)) })
		t.eq(t.mode("d/f")+" "+t.mode("d/e"), "600 700")
		t.eq(t.acl("d/f", accessACL), "ENODATA")
	}},
	"default: over a removed name": {"d/ d/f d/e/ d/p|", func(t *T) {
		t.setACL("d", defaultACL, inherited)
		t.remove("d/f", "d/e", "d/p")
		t.put("d/f", "x")
		t.ok(unix.Mkdir("d/e", 0o777))
		t.ok(unix.Mkfifo("d/p", 0o666))
		t.eq(t.mode("d/f")+" "+t.mode("d/e")+" "+t.mode("d/p"), "640 770 660")
		t.eq(t.acl("d/f", accessACL), "u::rw- u:1001:rwx g::r-x m::r-- o::---")
		t.eq(t.acl("d/e", defaultACL), inherited)
	}},
	"default: that is a mode": {"d/", func(t *T) {
		t.setACL("d", defaultACL, "u::rwx g::r-x o::---")
		t.umask(0o022, func() { t.put("d/f", ""); t.ok(unix.Mkdir("d/e", 0o777)) })
		t.eq(t.mode("d/f")+" "+t.mode("d/e"), "640 750")
		t.eq(t.acl("d/f", accessACL), "ENODATA")
		t.eq(t.acl("d/e", defaultACL), "u::rwx g::r-x o::---")
	}},
	"default: that is a mode, removed name": {"d/ d/f", func(t *T) {
		t.setACL("d", defaultACL, "u::rwx g::r-x o::---")
		t.remove("d/f")
		t.umask(0o022, func() { t.put("d/f", "") })
		t.eq(t.mode("d/f"), "640")
		t.eq(t.acl("d/f", accessACL), "ENODATA")
	}},
	"default: setgid folder": {"d/@2777:0:77", func(t *T) {
		t.setACL("d", defaultACL, inherited)
		t.as(alice, func() { t.put("d/f", ""); t.ok(unix.Mkdir("d/e", 0o777)) })
		t.eq(t.owner("d/f")+" "+t.mode("d/e"), "1001:77 2770")
	}},
	"default: nameless": {"d/", func(t *T) {
		t.setACL("d", defaultACL, inherited)
		fd := t.nameless("d", rdwr)
		t.eq(t.fstat(fd).Mode&0o777, 0o640)
		t.ok(unix.Linkat(fd, "", unix.AT_FDCWD, "d/f", unix.AT_EMPTY_PATH))
		t.eq(t.acl("d/f", accessACL), "u::rw- u:1001:rwx g::r-x m::r-- o::---")
	}},
	"default: by a user": {"d/@777", func(t *T) {
		t.setACL("d", defaultACL, "u::rwx u:1002:r-x g::--- m::r-x o::---")
		t.as(alice, func() { t.put("d/f", "secret") })
		t.eq(t.owner("d/f"), "1001:1001")
		t.as(bob, func() { t.ok(tryOpen("d/f", rdonly)) })
	}},
	"default: removed": {"d/", func(t *T) {
		t.setACL("d", defaultACL, inherited)
		t.ok(unix.Removexattr("d", defaultACL))
		t.put("d/f", "")
		t.eq(t.mode("d/f"), "644")
		t.eq(t.acl("d/f", accessACL), "ENODATA")
	}},
	"default: open with mode 0": {"d/", func(t *T) {
		t.setACL("d", defaultACL, inherited)
		fd, err := unix.Open("d/f", rdwr|creat, 0)
		t.ok(err)
		t.ok(t.close(fd))
		t.eq(t.mode("d/f"), "0")
	}},
	"default: changes not the folder": {"d/@755", func(t *T) {
		t.setACL("d", defaultACL, inherited)
		t.eq(t.mode("d"), "755")
		t.eq(t.acl("d", accessACL), "ENODATA")
	}},
	"kept through a write": {"f=x@600", func(t *T) {
		t.setACL("f", accessACL, aliceReads)
		t.append("f", "y")
		t.eq(t.acl("f", accessACL), aliceReads)
		t.as(alice, func() { t.eq(t.content("f"), "xy") })
	}},
	"kept through a rename": {"f=x d/ d/f", func(t *T) {
		t.setACL("f", accessACL, aliceReads)
		t.setACL("d", defaultACL, inherited)
		t.ok(unix.Rename("f", "g"))
		t.ok(unix.Rename("d", "e"))
		t.eq(t.acl("g", accessACL), aliceReads)
		t.eq(t.acl("e", defaultACL), inherited)
		t.eq(t.mode("e/f"), "644")
	}},
	"kept through a chown": {"f=x@600", func(t *T) {
		t.setACL("f", accessACL, aliceReads)
		t.ok(unix.Chown("f", 5, 6))
		t.eq(t.acl("f", accessACL), aliceReads)
	}},
	"of a hard link": {"f=x@600 h==f", func(t *T) {
		t.setACL("f", accessACL, aliceReads)
		t.eq(t.acl("h", accessACL), aliceReads)
		t.as(alice, func() { t.ok(tryOpen("h", rdonly)) })
	}},
	"moved in inherits nothing": {"d/ f@644", func(t *T) {
		t.setACL("d", defaultACL, inherited)
		t.ok(unix.Rename("f", "d/f"))
		t.eq(t.acl("d/f", accessACL), "ENODATA")
	}},
	"many entries": {"f", func(t *T) {
		text := "u::rw-"
		for i := range 100 {
			text += fmt.Sprintf(" u:%d:r--", 2000+i)
		}
		text += " g::r-- m::r-- o::---"
		t.setACL("f", accessACL, text)
		t.eq(t.acl("f", accessACL) == text, true)
	}},
	"owner is not in the list": {"f=x@400:1001:1001", func(t *T) {
		t.setACL("f", accessACL, "u::r-- u:1002:rw- g::--- m::rw- o::---")
		t.as(alice, func() { t.fails(tryOpen("f", rdwr), unix.EACCES) })
		t.as(bob, func() { t.ok(tryOpen("f", rdwr)) })
	}},
	"seen after chmod by another": {"f=x@600", func(t *T) {
		t.setACL("f", accessACL, aliceReads)
		t.as(alice, func() { t.ok(tryOpen("f", rdonly)) })
		t.ok(unix.Chmod("f", 0o600))
		t.as(alice, func() { t.fails(tryOpen("f", rdonly), unix.EACCES) })
		t.ok(unix.Chmod("f", 0o640))
		t.as(alice, func() { t.ok(tryOpen("f", rdonly)) })
	}},
}

// listed gives the names of all attributes but those of the security modules.
func (t *T) listed(name string) string {
	buf := make([]byte, 4096)
	n, err := unix.Listxattr(name, buf)
	t.ok(err)
	var list []string
	for attr := range strings.SplitSeq(strings.Trim(string(buf[:n]), "\x00"), "\x00") {
		if !strings.HasPrefix(attr, "security.") {
			list = append(list, attr)
		}
	}
	return strings.Join(sorted(list), " ")
}
