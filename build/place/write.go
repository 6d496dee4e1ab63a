package place

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"unio/build/source"
	"unio/imagestore/layer"
	"unio/whiteout"
)

// ErrChanged says that a file was not the same when it was written as when its
// digest was taken, or had another length.
var ErrChanged = errors.New("file changed while it was read")

// xattrRecord is what PAX keywords of extended attributes begin with
// (image-spec, layer.md, "File Attributes").
const xattrRecord = "SCHILY.xattr."

// linkKey names a file that has several names: those of one source are links
// of each other, those of two are not.
type linkKey struct {
	match int
	id    source.FileID
}

// writer writes nodes as a tar.
type writer struct {
	p     *plan
	tw    *tar.Writer
	first map[linkKey]string
	buf   []byte
}

// write writes the layer. Names are written in order of their bytes, so that
// equal copies are equal layers.
func (p *plan) write(w io.Writer) error {
	t := &writer{p: p, tw: tar.NewWriter(w), first: map[linkKey]string{}, buf: make([]byte, 256<<10)}
	if err := t.kids("", p.root); err != nil {
		return err
	}
	if err := t.tw.Close(); err != nil {
		return fmt.Errorf("end layer: %w", err)
	}
	return nil
}

// kids writes what is in a folder, sorted; dir is "" or ends in "/".
func (t *writer) kids(dir string, n *node) error {
	for _, name := range slices.Sorted(maps.Keys(n.kids)) {
		if err := t.p.ctx.Err(); err != nil {
			return err
		}
		kid, at := n.kids[name], dir+name
		if whiteout.IsReserved(name) {
			return fmt.Errorf("/%s: %w", at, layer.ErrReservedName)
		}
		if kid.entry.IsDir() {
			at += "/"
		}
		if err := t.node(at, kid); err != nil {
			return fmt.Errorf("copy /%s: %w", at, err)
		}
		if err := t.kids(at, kid); err != nil {
			return err
		}
	}
	return nil
}

// node writes one entry. The first name of a file carries its data, further
// ones of the same source are links to it.
func (t *writer) node(at string, n *node) error {
	hdr := t.p.c.header(at, &n.entry)
	if n.entry.ID != (source.FileID{}) {
		key := linkKey{n.key.match, n.entry.ID}
		if first, ok := t.first[key]; ok {
			hdr.Typeflag, hdr.Linkname, hdr.Size = tar.TypeLink, first, 0
			hdr.Devmajor, hdr.Devminor = 0, 0
			return t.tw.WriteHeader(hdr)
		}
		t.first[key] = at
	}
	if err := t.tw.WriteHeader(hdr); err != nil || !n.entry.IsRegular() {
		return err
	}
	return t.data(n)
}

// data writes the content of a file, and makes sure that it is what the cache
// will believe it to be.
func (t *writer) data(n *node) error {
	f, err := n.tree.Open(n.key.name)
	if err != nil {
		return err
	}
	defer f.Close()
	var w io.Writer = t.tw
	want, known := t.p.c.sums[n.key]
	sum := digest.SHA256.Digester()
	if known {
		w = io.MultiWriter(t.tw, sum.Hash())
	}
	r := io.LimitReader(contextReader{t.p.ctx, f}, n.entry.Size)
	size, err := io.CopyBuffer(w, r, t.buf)
	if err != nil {
		return err
	}
	if more, _ := io.ReadFull(f, t.buf[:1]); size != n.entry.Size || more > 0 || known && sum.Digest() != want {
		return ErrChanged
	}
	return nil
}

// header describes an entry.
func (c *Copy) header(at string, e *source.Entry) *tar.Header {
	hdr := &tar.Header{
		Name: at, Linkname: e.Target, Mode: int64(e.Mode & 0o7777), Uid: int(e.UID), Gid: int(e.GID),
		ModTime: c.time(e.ModTime), Typeflag: layer.TarType(e.Mode), Format: tar.FormatPAX,
	}
	switch hdr.Typeflag {
	case tar.TypeReg:
		hdr.Size = e.Size
	case tar.TypeChar, tar.TypeBlock:
		hdr.Devmajor, hdr.Devminor = int64(unix.Major(e.Rdev)), int64(unix.Minor(e.Rdev))
	}
	records := map[string]string{}
	for key, value := range e.Xattrs {
		records[xattrRecord+key] = value
	}
	// Names that are no UTF-8 are bytes (POSIX pax, "hdrcharset").
	if !utf8.ValidString(at) || !utf8.ValidString(e.Target) {
		records["hdrcharset"] = "BINARY"
	}
	if len(records) > 0 {
		hdr.PAXRecords = records
	}
	return hdr
}
