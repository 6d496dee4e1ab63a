package fsat

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Dirent is one entry as getdents64(2) gives it.
type Dirent struct {
	Name string
	Ino  uint64
	Type uint32 // the type bits of the mode, 0 where the filesystem does not say
}

// Layout of struct linux_dirent64: u64 ino, s64 off, u16 reclen, u8 type, name.
const (
	direntReclen = 16
	direntType   = 18
	direntName   = 19
	direntBuffer = 32 << 10
)

// ReadDir calls yield for each entry of the folder open at fd but "." and
// "..", until yield returns false. fd must be open for reading; its position
// is set to the start first.
func ReadDir(fd int, yield func(Dirent) bool) error {
	if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
		return err
	}
	buf := make([]byte, direntBuffer)
	for {
		n, err := unix.Getdents(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return err
		}
		if !eachDirent(buf[:n], yield) {
			return nil
		}
	}
}

func eachDirent(buf []byte, yield func(Dirent) bool) bool {
	for len(buf) >= direntName {
		reclen := int(binary.NativeEndian.Uint16(buf[direntReclen:]))
		if reclen < direntName || reclen > len(buf) {
			return true
		}
		name := cString(buf[direntName:reclen])
		d := Dirent{Name: name, Ino: binary.NativeEndian.Uint64(buf), Type: uint32(buf[direntType]) << 12}
		if name != "." && name != ".." && !yield(d) {
			return false
		}
		buf = buf[reclen:]
	}
	return true
}

func cString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// Names returns the names in the folder called name below dirfd ("." for
// dirfd itself), in the order of the filesystem.
func Names(dirfd int, name string) ([]string, error) {
	fd, err := OpenDir(dirfd, name)
	if err != nil {
		return nil, err
	}
	defer Close(fd)
	var names []string
	err = ReadDir(fd, func(d Dirent) bool { names = append(names, d.Name); return true })
	return names, err
}

// RemoveAll removes name and, if it is a folder, everything below it, without
// following a link. That it is not there is no error.
func RemoveAll(dirfd int, name string) error {
	err := Unlink(dirfd, name)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	if err != unix.EISDIR && err != unix.EPERM {
		return err
	}
	// An empty folder is not looked into: reading it would change the access
	// time that who has it open sees.
	if err := Rmdir(dirfd, name); err != unix.ENOTEMPTY {
		return err
	}
	fd, err := OpenDir(dirfd, name)
	if err != nil {
		return err
	}
	names, err := Names(fd, ".")
	for _, n := range names {
		if err == nil {
			err = RemoveAll(fd, n)
		}
	}
	Close(fd)
	if err != nil {
		return err
	}
	return Rmdir(dirfd, name)
}
