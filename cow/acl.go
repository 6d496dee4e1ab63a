package cow

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"unio/cow/fsat"
	"unio/unionfs/merge"
)

// Attributes that hold access control lists (acl(5)). The upper's filesystem
// keeps them in step with the mode of the file by itself; what is inherited is
// worked out here, since most files are built in WORK/tmp.
const (
	AccessACL  = "system.posix_acl_access"
	DefaultACL = "system.posix_acl_default"
)

// IsACL reports whether an attribute holds an access control list.
func IsACL(name string) bool { return name == AccessACL || name == DefaultACL }

// ErrNoACL says that access control lists were asked for where there are none.
var ErrNoACL = errors.New("access control lists cannot be kept here")

// checkACL refuses Options.ACL where it cannot be had.
func (f *FS) checkACL() error {
	if !f.acl {
		return nil
	}
	if !f.root {
		return fmt.Errorf("%w: that needs root", ErrNoACL)
	}
	_, err := fsat.GetXattr(f.top.held.fd, "", DefaultACL, nil)
	if err == nil || err == unix.ENODATA {
		return nil
	}
	return fmt.Errorf("%w: the upper's filesystem: %w", ErrNoACL, err)
}

// The form of the attributes (include/uapi/linux/posix_acl_xattr.h): u32
// version, then entries of u16 tag, u16 permissions, u32 id.
const (
	aclVersion = 2
	aclHeader  = 4
	aclEntry   = 8

	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20
)

// inheritACL applies the default list of a folder, if it has one, or else the
// umask. list reads the folder's attribute.
func (f *FS) inheritACL(what *New, list func() ([]byte, error)) error {
	if !f.acl || what.Mode&unix.S_IFMT == unix.S_IFLNK {
		return nil
	}
	value, err := list()
	if err == unix.ENODATA || err == unix.ENOTSUP || err == merge.ErrNoXattr {
		what.Mode &^= what.Umask & 0o777
		return nil
	}
	if err != nil {
		return err
	}
	if what.Mode&unix.S_IFMT == unix.S_IFDIR {
		what.defaults = value
	}
	mode, access, err := createACL(value, what.Mode)
	what.Mode, what.access = mode, access
	return err
}

// createACL gives the mode and the list of a file that is made with mode in a
// folder with that default list (posix_acl_create_masq in the kernel's
// fs/posix_acl.c): owner, group or mask, and others get no more than the mode
// asks for. The list is nil if the mode says all of it.
func createACL(list []byte, mode uint32) (uint32, []byte, error) {
	if len(list) < aclHeader || (len(list)-aclHeader)%aclEntry != 0 || binary.LittleEndian.Uint32(list) != aclVersion {
		return mode, nil, fmt.Errorf("default list of the folder: %w", unix.EIO)
	}
	list = append([]byte(nil), list...)
	var group []byte // the entry that the mode's group bits stand for
	extended := false
	for e := list[aclHeader:]; len(e) > 0; e = e[aclEntry:] {
		switch binary.LittleEndian.Uint16(e) {
		case aclUserObj:
			mode = limitACL(e, mode, 6)
		case aclOther:
			mode = limitACL(e, mode, 0)
		case aclGroupObj:
			if group == nil {
				group = e
			}
		case aclMask:
			group, extended = e, true
		case aclUser, aclGroup:
			extended = true
		}
	}
	if group != nil {
		mode = limitACL(group, mode, 3)
	}
	if !extended {
		list = nil
	}
	return mode, list, nil
}

// limitACL takes from an entry and from three bits of the mode what the other
// one lacks.
func limitACL(e []byte, mode uint32, shift uint) uint32 {
	perm := binary.LittleEndian.Uint16(e[2:]) & uint16(mode>>shift&7)
	binary.LittleEndian.PutUint16(e[2:], perm)
	return mode&^(7<<shift) | uint32(perm)<<shift
}

// setACL gives a fresh file the lists that it inherits.
func (f *FS) setACL(at spot, what *New) error {
	if what.access != nil {
		if err := fsat.SetXattr(at.fd, at.name, AccessACL, what.access, 0); err != nil {
			return err
		}
	}
	if what.defaults == nil {
		return nil
	}
	return fsat.SetXattr(at.fd, at.name, DefaultACL, what.defaults, 0)
}
