package treetar

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"unio/container/inroot"
)

// ExtractOptions say where a tar goes.
type ExtractOptions struct {
	Root   int    // descriptor of the root folder
	Path   string // the folder inside of it that the names are relative to
	Owners bool   // give files the owners that the tar says; else the caller's
	Uid    int    // otherwise
	Gid    int
}

// Extract unpacks a tar. What is there is replaced, but a folder by something
// else, and something else by a folder, is an error. What the tar says above
// its own top (by "..") is below it.
func Extract(ctx context.Context, o ExtractOptions, r io.Reader) error {
	x := &extractor{o: o, buf: make([]byte, 256<<10)}
	in := tar.NewReader(r)
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return x.finish()
		}
		if err != nil {
			return err
		}
		if err := x.entry(h, in); err != nil {
			return err
		}
	}
}

type extractor struct {
	o       ExtractOptions
	folders []*tar.Header // whose times are set at the end
	buf     []byte
}

// place is the path, inside of the root, of a name in the tar.
func (x *extractor) place(name string) string { return path.Join("/", x.o.Path, path.Join("/", name)) }

// entry makes one file.
func (x *extractor) entry(h *tar.Header, data io.Reader) error {
	at := x.place(h.Name)
	if h.Typeflag == tar.TypeDir && at == path.Join("/", x.o.Path) {
		x.folders = append(x.folders, h)
		return x.attributes(h)
	}
	dir, _, err := inroot.MkdirAll(x.o.Root, path.Dir(at))
	if err != nil {
		return &os.PathError{Op: "mkdir", Path: path.Dir(at), Err: err}
	}
	defer unix.Close(dir)
	if err := x.makeRoom(dir, path.Base(at), h); err != nil {
		return err
	}
	if err := x.create(dir, path.Base(at), h, data); err != nil {
		return &os.PathError{Op: "create", Path: at, Err: err}
	}
	return nil
}

// makeRoom removes what is there, unless both are folders.
func (x *extractor) makeRoom(dir int, base string, h *tar.Header) error {
	var st unix.Stat_t
	err := unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "stat", Path: base, Err: err}
	}
	was, is := st.Mode&unix.S_IFMT == unix.S_IFDIR, h.Typeflag == tar.TypeDir
	switch {
	case was && is:
		return nil
	case was:
		return fmt.Errorf("cannot overwrite directory %q with non-directory %q", x.place(h.Name), path.Dir(x.place(h.Name)))
	case is:
		return fmt.Errorf("cannot overwrite non-directory %q with directory %q", x.place(h.Name), path.Dir(x.place(h.Name)))
	}
	return unix.Unlinkat(dir, base, 0)
}

// create makes the file itself, then its attributes.
func (x *extractor) create(dir int, base string, h *tar.Header, data io.Reader) error {
	mode := uint32(h.Mode & 0o7777)
	switch h.Typeflag {
	case tar.TypeDir:
		if err := unix.Mkdirat(dir, base, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		x.folders = append(x.folders, h)
	case tar.TypeReg, tar.TypeGNUSparse:
		return x.file(dir, base, h, data)
	case tar.TypeSymlink:
		if err := unix.Symlinkat(h.Linkname, dir, base); err != nil {
			return err
		}
	case tar.TypeLink:
		return x.link(dir, base, h)
	case tar.TypeFifo:
		if err := unix.Mknodat(dir, base, unix.S_IFIFO|mode, 0); err != nil {
			return err
		}
	case tar.TypeChar, tar.TypeBlock:
		kind := uint32(unix.S_IFCHR)
		if h.Typeflag == tar.TypeBlock {
			kind = unix.S_IFBLK
		}
		if err := unix.Mknodat(dir, base, kind|mode, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))); err != nil {
			return err
		}
	default:
		return nil // global headers and the like
	}
	fd, err := unix.Openat(dir, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return x.finishFile(fd, h)
}

func (x *extractor) file(dir int, base string, h *tar.Header, data io.Reader) error {
	fd, err := unix.Openat(dir, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	_, err = io.CopyBuffer(struct{ io.Writer }{f}, data, x.buf)
	return errors.Join(err, x.finishFile(fd, h), f.Close())
}

// link makes another name of a file that the tar has named before.
func (x *extractor) link(dir int, base string, h *tar.Header) error {
	from, old, err := inroot.Parent(x.o.Root, x.place(h.Linkname))
	if err != nil {
		return err
	}
	defer unix.Close(from)
	return unix.Linkat(from, old, dir, base, 0)
}

// finishFile sets owner, attributes, mode and time, in the order in which the
// one does not undo the other.
func (x *extractor) finishFile(fd int, h *tar.Header) error {
	uid, gid := x.o.Uid, x.o.Gid
	if x.o.Owners {
		uid, gid = h.Uid, h.Gid
	}
	if err := unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH); err != nil && (os.Geteuid() == 0 || !errors.Is(err, unix.EPERM)) {
		return fmt.Errorf("chown: %w", err)
	}
	if h.Typeflag == tar.TypeSymlink {
		return setTime(fd, h.ModTime)
	}
	path := inroot.FDPath(fd)
	if err := unix.Fchmodat(unix.AT_FDCWD, path, uint32(h.Mode&0o7777), 0); err != nil {
		return fmt.Errorf("chmod: %w", err)
	}
	for name, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(name, xattrPrefix); ok {
			if err := unix.Setxattr(path, name, []byte(value), 0); err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.EPERM) {
				return fmt.Errorf("setxattr %s: %w", name, err)
			}
		}
	}
	return setTime(fd, h.ModTime)
}

func setTime(fd int, at time.Time) error {
	t := unix.NsecToTimespec(at.UnixNano())
	err := unix.UtimesNanoAt(fd, "", []unix.Timespec{t, t}, unix.AT_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("utimes: %w", err)
	}
	return nil
}

// attributes sets those of the folder that is extracted into.
func (x *extractor) attributes(h *tar.Header) error {
	fd, err := inroot.Open(x.o.Root, x.place(h.Name), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return &os.PathError{Op: "open", Path: x.place(h.Name), Err: err}
	}
	defer unix.Close(fd)
	return x.finishFile(fd, h)
}

// finish sets the times of folders, which the files in them have changed.
func (x *extractor) finish() error {
	for _, h := range slices.Backward(x.folders) {
		fd, err := inroot.Open(x.o.Root, x.place(h.Name), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW)
		if err != nil {
			continue // somebody else's by now
		}
		err = setTime(fd, h.ModTime)
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}
