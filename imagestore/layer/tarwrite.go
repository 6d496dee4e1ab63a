package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"unio/whiteout"
)

// xattrRecord is the PAX keyword prefix under which layers carry extended
// attributes (image-spec, layer.md, "File Attributes").
const xattrRecord = "SCHILY.xattr."

// tarBlock is how much file data is read at once, in bytes.
const tarBlock = 1 << 20

// WriteTar writes the changes as an uncompressed OCI layer. The same upper
// over the same lower gives the same bytes: names are sorted in each folder,
// whiteouts first; a parent stands before what is in it, with its attributes
// even if they did not change; the first name of a file with several carries
// the data, the others are links; PAX records appear only where the ustar
// fields are too small. Sparse files are written out, since not all readers
// know sparse forms. Sockets, which a tar cannot hold, are left out.
//
// Errors: ErrReservedName before anything is written; ErrChanged, naming each
// path, when files changed size meanwhile, after the whole tar was written.
func (c *Changes) WriteTar(ctx context.Context, w io.Writer) error {
	if err := c.root.checkNames(""); err != nil {
		return err
	}
	src, err := openSources(c.up, c.lower)
	if err != nil {
		return err
	}
	defer src.close()
	t := newTarEmitter(w, &src)
	if c.root.kind != 0 {
		if err := t.emit(ctx, place{dir: src.top}, c.root); err != nil {
			return err
		}
	}
	if err := t.emitKids(ctx, place{dir: src.top}, c.root); err != nil {
		return err
	}
	return t.finish()
}

// checkNames refuses names that would be read as whiteouts.
func (n *changeNode) checkNames(path string) error {
	for _, k := range n.kids {
		p := path + "/" + k.name
		if k.kind != Deleted && whiteout.IsReserved(k.name) {
			return fmt.Errorf("%s: %w", p, ErrReservedName)
		}
		if err := k.checkNames(p); err != nil {
			return err
		}
	}
	return nil
}

// place is where a node is written: a folder of the tar, and the upper's.
type place struct {
	dir  *upperDir // nil: not in the upper
	path string    // of the folder in the tar, "" or ending in "/"
}

// tarEmitter writes nodes of a merged tree to a tar.
type tarEmitter struct {
	tw      *tar.Writer
	src     *sources
	first   map[linkID]string // where a file with several names was written
	changed []error           // files that changed size
	buf     []byte
	zero    []byte
}

func newTarEmitter(w io.Writer, src *sources) *tarEmitter {
	return &tarEmitter{tw: tar.NewWriter(w), src: src, first: make(map[linkID]string)}
}

// finish ends the tar and tells what had changed.
func (t *tarEmitter) finish() error {
	if err := t.tw.Close(); err != nil {
		return fmt.Errorf("end tar: %w", err)
	}
	return errors.Join(t.changed...)
}

// emitKids writes what changed in folder n: whiteouts, then the rest.
func (t *tarEmitter) emitKids(ctx context.Context, at place, n *changeNode) error {
	for _, k := range n.kids {
		if k.isWhiteout() {
			if err := t.emitWhiteout(at, k.name); err != nil {
				return err
			}
		}
	}
	for _, k := range n.kids {
		if k.kind == Deleted {
			continue
		}
		if err := t.emit(ctx, at, k); err != nil {
			return err
		}
		if k.isDir() {
			if err := t.emitFolder(ctx, at, k); err != nil {
				return err
			}
		}
	}
	return nil
}

// emitFolder writes what is in folder n, which stands in the tar already.
func (t *tarEmitter) emitFolder(ctx context.Context, at place, n *changeNode) error {
	sub := place{path: at.path + n.name + "/"}
	if n.from == fromUpper {
		sub.dir = at.dir.sub(n.name)
		defer sub.dir.close()
	}
	return t.emitKids(ctx, sub, n)
}

// isWhiteout reports whether the layer must hide what the lower has at n:
// it is gone, or a socket took its place, of which the tar says nothing.
func (n *changeNode) isWhiteout() bool {
	return n.kind == Deleted || n.isSocket() && n.base != 0
}

// isSocket reports whether n is what a tar has no type for.
func (n *changeNode) isSocket() bool {
	return n.kind != Deleted && n.attr.Mode&unix.S_IFMT == unix.S_IFSOCK
}

// emitWhiteout writes an empty file of no time and owner, as docker does.
func (t *tarEmitter) emitWhiteout(at place, name string) error {
	path := at.path + whiteout.Name(name)
	hdr := &tar.Header{Typeflag: tar.TypeReg, Name: path, Format: tar.FormatPAX, PAXRecords: charset(path)}
	if err := t.tw.WriteHeader(hdr); err != nil {
		return fmt.Errorf("write whiteout /%s: %w", path, err)
	}
	return nil
}

// emit writes one node that is no whiteout; the root folder is called "./".
func (t *tarEmitter) emit(ctx context.Context, at place, n *changeNode) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	path := at.path + n.name
	switch {
	case n.isSocket():
		return nil
	case n.name == "":
		path = "./"
	case n.isDir():
		path += "/"
	}
	if err := t.emitEntry(ctx, at.dir, path, n); err != nil {
		return fmt.Errorf("write /%s: %w", strings.TrimPrefix(path, "./"), err)
	}
	return nil
}

// emitEntry writes header and data. A link repeats all attributes of the file
// it is a name of: readers that set them again set the same.
func (t *tarEmitter) emitEntry(ctx context.Context, dir *upperDir, path string, n *changeNode) error {
	hdr := tarHeader(path, n)
	if first, ok := t.first[n.id]; ok {
		hdr.Typeflag, hdr.Linkname, hdr.Size = tar.TypeLink, first, 0
		hdr.Devmajor, hdr.Devminor = 0, 0
		return t.tw.WriteHeader(hdr)
	}
	if n.id != (linkID{}) {
		t.first[n.id] = path
	}
	if hdr.Typeflag != tar.TypeReg || hdr.Size == 0 {
		return t.tw.WriteHeader(hdr)
	}
	data, err := t.src.open(dir, n)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer data.close()
	if err := t.tw.WriteHeader(hdr); err != nil {
		return err
	}
	changed, err := t.copyData(ctx, data, hdr.Size)
	if changed {
		t.changed = append(t.changed, fmt.Errorf("/%s: %w", path, ErrChanged))
	}
	return err
}

// tarHeader describes a node as the first of its names.
func tarHeader(path string, n *changeNode) *tar.Header {
	a := &n.attr
	hdr := &tar.Header{
		Name: path, Linkname: n.target, Mode: int64(a.Mode & 0o7777), Uid: int(a.UID), Gid: int(a.GID),
		ModTime: time.Unix(a.Sec, int64(a.Nsec)), Typeflag: TarType(a.Mode), Format: tar.FormatPAX,
		PAXRecords: charset(path, n.target),
	}
	if a.IsRegular() {
		hdr.Size = int64(a.Size)
	}
	if isDevice(a.Mode) {
		hdr.Devmajor, hdr.Devminor = int64(unix.Major(a.Rdev)), int64(unix.Minor(a.Rdev))
	}
	for _, x := range n.xattrs {
		if hdr.PAXRecords == nil {
			hdr.PAXRecords = make(map[string]string)
		}
		hdr.PAXRecords[xattrRecord+x.name] = x.value
	}
	return hdr
}

// TarType is the type of an entry in a tar for a file's mode. Sockets, which a
// tar cannot hold, never get here.
func TarType(mode uint32) byte {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return tar.TypeDir
	case unix.S_IFLNK:
		return tar.TypeSymlink
	case unix.S_IFCHR:
		return tar.TypeChar
	case unix.S_IFBLK:
		return tar.TypeBlock
	case unix.S_IFIFO:
		return tar.TypeFifo
	}
	return tar.TypeReg
}

// charset returns the PAX record that says that names are bytes, when one of
// them is no UTF-8 (POSIX pax, "hdrcharset").
func charset(names ...string) map[string]string {
	for _, s := range names {
		if !utf8.ValidString(s) {
			return map[string]string{"hdrcharset": "BINARY"}
		}
	}
	return nil
}

// copyData writes size bytes of a file. A file that is shorter is filled up
// with zeros, a longer one cut, and changed reports either.
func (t *tarEmitter) copyData(ctx context.Context, data *sparseData, size int64) (changed bool, err error) {
	if t.buf == nil {
		t.buf, t.zero = make([]byte, tarBlock), make([]byte, tarBlock)
	}
	for off := int64(0); off < size; off += tarBlock {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		s := span{off, min(tarBlock, size-off)}
		short, err := t.copyBlock(data, s)
		if err != nil {
			return false, err
		}
		changed = changed || short
	}
	if !changed {
		return data.file.grown(size)
	}
	return changed, nil
}

// copyBlock writes one stretch, of at most tarBlock bytes; a hole is not read.
func (t *tarEmitter) copyBlock(data *sparseData, s span) (short bool, err error) {
	hole, err := data.isHole(s)
	if err != nil {
		return false, err
	}
	if hole {
		_, err := t.tw.Write(t.zero[:s.n])
		return false, err
	}
	n, err := data.readFull(t.buf[:s.n], s.off)
	if err != nil {
		return false, fmt.Errorf("read: %w", err)
	}
	_, err = t.tw.Write(t.buf[:s.n])
	return int64(n) < s.n, err
}
