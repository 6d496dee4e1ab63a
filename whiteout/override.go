package whiteout

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Owner is what [OverrideStat] says of a file.
type Owner struct {
	UID, GID uint32
	Mode     uint32 // permission bits, and type bits only of a type that the inode cannot have itself
	Rdev     uint64 // of a device
}

// ParseOverride reads the value of [OverrideStat], "uid:gid:mode[:type]".
// False: it is not of that form.
func ParseOverride(text string) (Owner, bool) {
	parts := strings.SplitN(text, ":", 4)
	if len(parts) < 3 {
		return Owner{}, false
	}
	uid, err1 := strconv.ParseUint(parts[0], 10, 32)
	gid, err2 := strconv.ParseUint(parts[1], 10, 32)
	mode, err3 := strconv.ParseUint(parts[2], 8, 32)
	if err1 != nil || err2 != nil || err3 != nil {
		return Owner{}, false
	}
	o := Owner{UID: uint32(uid), GID: uint32(gid), Mode: uint32(mode) & 0o7777}
	if len(parts) == 4 {
		return o, o.parseType(parts[3])
	}
	return o, true
}

func (o *Owner) parseType(text string) bool {
	kind, numbers, _ := strings.Cut(text, "-")
	switch kind {
	case "dir", "file", "symlink":
		return true // the inode says so itself
	case "pipe":
		o.Mode |= unix.S_IFIFO
		return true
	case "socket":
		o.Mode |= unix.S_IFSOCK
		return true
	case "char":
		o.Mode |= unix.S_IFCHR
	case "block":
		o.Mode |= unix.S_IFBLK
	default:
		return false
	}
	major, minor, ok := strings.Cut(numbers, "-")
	ma, err1 := strconv.ParseUint(major, 10, 32)
	mi, err2 := strconv.ParseUint(minor, 10, 32)
	if !ok || err1 != nil || err2 != nil {
		return false
	}
	o.Rdev = unix.Mkdev(uint32(ma), uint32(mi))
	return true
}
