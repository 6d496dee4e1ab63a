// Package treetar copies trees of files between a root folder and a tar, for
// cp and for the first filling of volumes. Whoever may change the tree
// meanwhile, and whatever links it holds, nothing outside of the root is read
// or written: a path is resolved by the kernel within the root (package
// inroot), and from there on single names are used relative to descriptors.
package treetar

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"unio/container/inroot"
)

// WriteOptions say what is written.
type WriteOptions struct {
	Root   int    // descriptor of the root folder
	Path   string // inside of it
	Name   string // what the tar calls it; what is below gets names below
	Follow bool   // a link at the end of Path is followed
	// Devices, unless nil, are the filesystems (st_dev) that are entered beside
	// that of Path; a folder of another one is written without what is in it.
	Devices []uint64
}

// Write writes a file or folder, with all that is in it, as a tar. Sockets are
// left out.
func Write(ctx context.Context, o WriteOptions, w io.Writer) error {
	flags := uint64(unix.O_PATH)
	if !o.Follow {
		flags |= unix.O_NOFOLLOW
	}
	fd, err := inroot.Open(o.Root, o.Path, flags)
	if err != nil {
		return &os.PathError{Op: "lstat", Path: o.Path, Err: err}
	}
	defer unix.Close(fd)
	t := &writer{ctx: ctx, tar: tar.NewWriter(w), seen: map[inode]string{}, buf: make([]byte, 256<<10)}
	if o.Devices != nil {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return &os.PathError{Op: "stat", Path: o.Path, Err: err}
		}
		t.devices = append(slices.Clone(o.Devices), st.Dev)
	}
	if err := t.entry(fd, o.Name); err != nil {
		return err
	}
	return t.tar.Close()
}

// inode names a file across its names.
type inode struct{ dev, ino uint64 }

type writer struct {
	ctx  context.Context
	tar  *tar.Writer
	seen map[inode]string // first names of files with several
	buf  []byte
	// devices are the filesystems that are entered; nil: all.
	devices []uint64
}

// entry writes what is open, by path only, as fd.
func (t *writer) entry(fd int, name string) error {
	if t.ctx.Err() != nil {
		return context.Cause(t.ctx)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "stat", Path: name, Err: err}
	}
	h := header(&st, name)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if t.devices != nil && !slices.Contains(t.devices, st.Dev) {
			h.Typeflag = tar.TypeDir
			h.Name += "/"
			return t.tar.WriteHeader(h)
		}
		return t.folder(fd, h)
	case unix.S_IFREG:
		return t.file(fd, &st, h)
	case unix.S_IFLNK:
		target, err := readLink(fd)
		if err != nil {
			return &os.PathError{Op: "readlink", Path: name, Err: err}
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, target
	case unix.S_IFSOCK:
		return nil
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	}
	return t.tar.WriteHeader(h)
}

// header has what all kinds of entries have.
func header(st *unix.Stat_t, name string) *tar.Header {
	return &tar.Header{
		Name: name, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
		ModTime: time.Unix(st.Mtim.Unix()), Format: tar.FormatPAX,
	}
}

func readLink(fd int) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	return string(buf[:max(n, 0)]), err
}

// folder writes a folder and what is in it, sorted by name.
func (t *writer) folder(fd int, h *tar.Header) error {
	h.Typeflag = tar.TypeDir
	h.Name = strings.TrimSuffix(h.Name, "/") + "/"
	dir, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: h.Name, Err: err}
	}
	f := os.NewFile(uintptr(dir), h.Name)
	defer f.Close()
	h.PAXRecords = attributes(dir)
	if err := t.tar.WriteHeader(h); err != nil {
		return err
	}
	names, err := f.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		child, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) {
			continue // removed meanwhile
		}
		if err != nil {
			return &os.PathError{Op: "open", Path: h.Name + name, Err: err}
		}
		err = t.entry(child, h.Name+name)
		unix.Close(child)
		if err != nil {
			return err
		}
	}
	return nil
}

// file writes a regular file, or a link to it under the name it had before.
func (t *writer) file(fd int, st *unix.Stat_t, h *tar.Header) error {
	h.Typeflag = tar.TypeReg
	if st.Nlink > 1 {
		id := inode{st.Dev, st.Ino}
		if first, ok := t.seen[id]; ok {
			h.Typeflag, h.Linkname = tar.TypeLink, first
			return t.tar.WriteHeader(h)
		}
		t.seen[id] = h.Name
	}
	// What was opened by path only is opened for reading through /proc: it is
	// this very file, whatever its name means by now.
	f, err := os.OpenFile(inroot.FDPath(fd), os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: h.Name, Err: err}
	}
	defer f.Close()
	h.Size, h.PAXRecords = st.Size, attributes(int(f.Fd()))
	if err := t.tar.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.CopyBuffer(onlyWriter{t.tar}, io.LimitReader(f, st.Size), t.buf)
	if err == nil && n < st.Size {
		err = fmt.Errorf("%s became shorter while it was read", h.Name)
	}
	return err
}

// onlyWriter keeps the tar writer from choosing a buffer of its own.
type onlyWriter struct{ io.Writer }

// xattrPrefix is how PAX records name extended attributes.
const xattrPrefix = "SCHILY.xattr."

// attributes are a file's extended attributes that mean the same elsewhere.
func attributes(fd int) map[string]string {
	buf := make([]byte, 64<<10)
	n, err := unix.Flistxattr(fd, buf)
	if err != nil || n == 0 {
		return nil
	}
	records := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if name != "security.capability" && !strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "user.overlay.") {
			continue
		}
		value := make([]byte, 64<<10)
		if n, err := unix.Fgetxattr(fd, name, value); err == nil {
			records[xattrPrefix+name] = string(value[:n])
		}
	}
	return records
}
