package layer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/sys/unix"

	"unio/imagestore/layer"
)

// rawHeader builds a header block field by field.
type rawHeader struct {
	name, link, magic, prefix string
	mode, uid, gid            string
	size, mtime               string
	major, minor              string
	typ                       byte
	tail                      string // from byte 345 on, for other formats
}

func octal(n int64) string { return fmt.Sprintf("%o", n) }

func (h rawHeader) block() []byte {
	b := make([]byte, 512)
	for _, f := range []struct {
		off  int
		text string
	}{
		{0, h.name},
		{100, h.mode},
		{108, h.uid},
		{116, h.gid},
		{124, h.size},
		{136, h.mtime},
		{157, h.link},
		{257, h.magic},
		{329, h.major},
		{337, h.minor},
		{345, h.prefix},
		{345, h.tail},
	} {
		copy(b[f.off:], f.text)
	}
	b[156] = h.typ
	copy(b[148:], "        ")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// with appends content in whole blocks.
func (h rawHeader) with(content string) []byte {
	if h.size == "" {
		h.size = octal(int64(len(content)))
	}
	return append(h.block(), padded(content)...)
}

func padded(s string) []byte {
	return append([]byte(s), make([]byte, (512-len(s)%512)%512)...)
}

func archive(parts ...[]byte) []byte { return append(bytes.Join(parts, nil), make([]byte, 1024)...) }

// paxOf makes an extended header of records.
func paxOf(typ byte, records ...string) []byte {
	var b strings.Builder
	for _, r := range records {
		n := len(r) + 3
		for len(fmt.Sprint(n))+len(r)+2 != n {
			n++
		}
		fmt.Fprintf(&b, "%d %s\n", n, r)
	}
	return rawHeader{name: "PaxHeaders", typ: typ, magic: "ustar\x0000"}.with(b.String())
}

const ustar, gnu = "ustar\x0000", "ustar  \x00"

func TestScanFormats(t *testing.T) {
	file := rawHeader{name: "f", typ: '0', magic: ustar, mode: "644"}
	long := strings.Repeat("x/", 120) + "f"
	for _, c := range []struct {
		name string
		tar  []byte
		want layer.Entry // only what is set here is compared
	}{
		{"v7 file", archive(rawHeader{name: "f", mode: "100644 ", uid: " 1750 ", mtime: "17"}.with("abc")), layer.Entry{Path: "f", Attr: attr(unix.S_IFREG|0o644, 1000, 3, 15)}},
		{"v7 folder", archive(rawHeader{name: "d/", mode: "755"}.block()), layer.Entry{Path: "d", Attr: attr(unix.S_IFDIR|0o755, 0, 0, 0)}},
		{"v7 hard link", archive(rawHeader{name: "f"}.block(), rawHeader{name: "g", link: "./f", typ: '1'}.block()), layer.Entry{Path: "g", Link: "f", Hardlink: true}},
		{"ustar prefix", archive(rawHeader{name: "f", prefix: "a/b", magic: ustar, typ: '0'}.block()), layer.Entry{Path: "a/b/f", Attr: attr(unix.S_IFREG, 0, 0, 0)}},
		{"star prefix ends earlier", archive(rawHeader{name: "f", magic: ustar, typ: '0', tail: "a/b" + strings.Repeat("\x00", 160) + "tar\x00"}.block()), layer.Entry{Path: "a/b/f", Attr: attr(unix.S_IFREG, 0, 0, 0)}},
		{"GNU times are no prefix", archive(rawHeader{name: "f", magic: gnu, typ: '0', tail: "00000000017\x0000000000017\x00"}.block()), layer.Entry{Path: "f", Attr: attr(unix.S_IFREG, 0, 0, 0)}},
		{"GNU with the prefix of an old Go", archive(rawHeader{name: "f", magic: gnu, typ: '0', tail: "a/b"}.block()), layer.Entry{Path: "a/b/f", Attr: attr(unix.S_IFREG, 0, 0, 0)}},
		{"contiguous file", archive(rawHeader{name: "f", typ: '7', magic: ustar}.with("abc")), layer.Entry{Path: "f", Attr: attr(unix.S_IFREG, 0, 3, 0)}},
		{"GNU long name", archive(rawHeader{typ: 'L', magic: gnu}.with(long+"\x00"), file.block()), layer.Entry{Path: long, Attr: attr(unix.S_IFREG|0o644, 0, 0, 0)}},
		{"GNU long link", archive(rawHeader{typ: 'K', magic: gnu}.with("/"+long+"\x00"), rawHeader{name: "f", typ: '2', magic: gnu}.block()), layer.Entry{Path: "f", Link: "/" + long, Attr: attr(unix.S_IFLNK|0o777, 0, 242, 0)}},
		{"GNU long name over PAX", archive(rawHeader{typ: 'L', magic: gnu}.with("gnu"), paxOf('x', "path=pax"), file.block()), layer.Entry{Path: "gnu", Attr: attr(unix.S_IFREG|0o644, 0, 0, 0)}},
		{"GNU base-256", archive(rawHeader{name: "f", typ: '0', magic: gnu, size: "\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03", uid: "\x80\x00\x00\x00\xff\xff\xff\xfe", mtime: "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfd"}.with("abc")), layer.Entry{Path: "f", Attr: attr(unix.S_IFREG, 1<<32-2, 3, -3)}},
		{"GNU volume label", archive(rawHeader{name: "label", typ: 'V', magic: gnu}.block(), file.block()), layer.Entry{Path: "f", Attr: attr(unix.S_IFREG|0o644, 0, 0, 0)}},
		{"GNU folder with list", archive(rawHeader{name: "d/", typ: 'D', magic: gnu}.with("Yf\x00\x00")), layer.Entry{Path: "d", Attr: attr(unix.S_IFDIR, 0, 0, 0)}},
		{"PAX path over ustar", archive(paxOf('x', "path="+long, "uid=4294967294", "size=3", "mtime=-1.5"), file.block(), padded("abc")), layer.Entry{Path: long, Attr: attr(unix.S_IFREG|0o644, 1<<32-2, 3, -2)}},
		{"PAX of Solaris", archive(paxOf('X', "path=sun"), file.block()), layer.Entry{Path: "sun", Attr: attr(unix.S_IFREG|0o644, 0, 0, 0)}},
		{"PAX global", archive(paxOf('g', "uid=7", "comment=x"), file.block()), layer.Entry{Path: "f", Attr: attr(unix.S_IFREG|0o644, 7, 0, 0)}},
		{"PAX local over global", archive(paxOf('g', "uid=7"), paxOf('x', "uid=8"), file.block()), layer.Entry{Path: "f", Attr: attr(unix.S_IFREG|0o644, 8, 0, 0)}},
		{"PAX empty value takes global back", archive(paxOf('g', "uid=7"), paxOf('x', "uid="), file.block()), layer.Entry{Path: "f", Attr: attr(unix.S_IFREG|0o644, 0, 0, 0)}},
		{"PAX local ends with its entry", archive(paxOf('x', "uid=8"), rawHeader{name: "e", typ: '0'}.block(), file.block()), layer.Entry{Path: "f", Attr: attr(unix.S_IFREG|0o644, 0, 0, 0)}},
		{"PAX symlink target", archive(paxOf('x', "linkpath=a\nb"), rawHeader{name: "f", typ: '2', magic: ustar, link: "z"}.block()), layer.Entry{Path: "f", Link: "a\nb", Attr: attr(unix.S_IFLNK|0o777, 0, 3, 0)}},
		{"size of a folder is ignored", archive(rawHeader{name: "d", typ: '5', size: "1000"}.block()), layer.Entry{Path: "d", Attr: attr(unix.S_IFDIR, 0, 0, 0)}},
		{"no end of archive", file.with("abc"), layer.Entry{Path: "f", Attr: attr(unix.S_IFREG|0o644, 0, 3, 0)}},
		{"no padding at the end", file.with("abc")[:515], layer.Entry{Path: "f", Attr: attr(unix.S_IFREG|0o644, 0, 3, 0)}},
		{"one block of zeros at the end", append(file.with("abc"), make([]byte, 512)...), layer.Entry{Path: "f", Attr: attr(unix.S_IFREG|0o644, 0, 3, 0)}},
		{"anything after the end", append(archive(file.with("abc")), "garbage"...), layer.Entry{Path: "f", Attr: attr(unix.S_IFREG|0o644, 0, 3, 0)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			x, err := scan(c.tar)
			check(t, err)
			got, ok := x.Find(c.want.Path)
			if !ok || got.Attr.Sec != c.want.Attr.Sec || got.Link != c.want.Link || got.Hardlink != c.want.Hardlink {
				t.Fatalf("%+v, want %+v", got, c.want)
			}
			got.Attr.Nsec = 0
			if got.Attr != c.want.Attr {
				t.Errorf("attributes %+v, want %+v", got.Attr, c.want.Attr)
			}
			if x.TarSize() != int64(len(c.tar)) {
				t.Errorf("tar of %d bytes, want %d", x.TarSize(), len(c.tar))
			}
		})
	}
}

func TestScanXattrs(t *testing.T) {
	file := rawHeader{name: "f", typ: '0', magic: ustar}
	tarBytes := archive(paxOf('x', "SCHILY.xattr.user.b=\x00\n", "LIBARCHIVE.xattr.user.b=eHg=", "LIBARCHIVE.xattr.user.a%3db=eHg", "SCHILY.acl.access=user::rw-", "SCHILY.xattr.user.empty="), file.block())
	e, _ := mustScan(t, tarBytes).Find("f")
	want := "[{user.a=b [120 120]} {user.b [0 10]} {user.empty []}]"
	if got := fmt.Sprint(e.Xattrs); got != want {
		t.Errorf("attributes %s, want %s", got, want)
	}
}

func TestScanBadTars(t *testing.T) {
	file := rawHeader{name: "f", typ: '0', magic: ustar}
	whole := tarOf(t, "a=12345", "dir/file=content")
	bad := file.block()
	bad[0] ^= 1
	for _, c := range []struct {
		name string
		tar  []byte
		text string // in the error
	}{
		{"half a header", whole[:100], "truncated"},
		{"half the data", whole[:512+1], `"a" at byte 0: truncated`},
		{"half a later header", whole[:1500], "at byte 1024"},
		{"bad checksum", archive(bad), "checksum"},
		{"text", []byte(strings.Repeat("no tar ", 200)), "checksum"},
		{"lone block of zeros", append(make([]byte, 512), whole...), "lone"},
		{"bad number", archive(rawHeader{name: "f", typ: '0', size: "9"}.block()), "number"},
		{"number too large", archive(rawHeader{name: "f", typ: '0', size: "\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"}.block()), "number"},
		{"negative size", archive(rawHeader{name: "f", typ: '0', size: "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"}.block()), "size -1"},
		{"size beyond the end", archive(rawHeader{name: "f", typ: '0', size: "7777777"}.block()), "truncated"},
		{"size near the largest", archive(paxOf('x', "size=9223372036854775807"), file.block()), "size"},
		{"owner too large", archive(paxOf('x', "uid=4294967295"), file.block()), "owner"},
		{"owner negative", archive(paxOf('x', "gid=-1"), file.block()), "owner"},
		{"owner of 2^32", archive(paxOf('x', "uid=4294967296"), file.block()), "owner"},
		{"device too large", archive(rawHeader{name: "c", typ: '3', magic: gnu, major: "\x80\x00\x01\x00\x00\x00\x00\x00"}.block()), "device"},
		{"unknown type", archive(rawHeader{name: "f", typ: '~', magic: ustar}.block()), "unknown type"},
		{"multi-volume", archive(rawHeader{name: "f", typ: 'M', magic: gnu}.block()), "unknown type"},
		{"empty symbolic link", archive(rawHeader{name: "l", typ: '2', magic: ustar}.block()), "symbolic link"},
		{"endless symbolic link", archive(paxOf('x', "linkpath="+strings.Repeat("x", 4096)), rawHeader{name: "l", typ: '2'}.block()), "symbolic link"},
		{"root as a file", archive(rawHeader{name: ".", typ: '0'}.block()), "root"},
		{"no name", archive(rawHeader{typ: '0'}.block()), "root"},
		{"NUL in a PAX path", archive(paxOf('x', "path=a\x00b"), file.block()), "NUL"},
		{"PAX without length", archive(rawHeader{typ: 'x'}.with("path=x\n"), file.block()), "length"},
		{"PAX with a length too large", archive(rawHeader{typ: 'x'}.with("99 path=x\n"), file.block()), "length"},
		{"PAX with a length too small", archive(rawHeader{typ: 'x'}.with("2 path=x\n"), file.block()), "length"},
		{"PAX without keyword", archive(rawHeader{typ: 'x'}.with("6 =xx\n"), file.block()), "keyword"},
		{"PAX with a bad time", archive(paxOf('x', "mtime=1.2.3"), file.block()), "mtime"},
		{"PAX with a bad number", archive(paxOf('x', "uid=x"), file.block()), "uid"},
		{"PAX truncated", paxOf('x', "uid=1")[:514], "truncated"},
		{"bad attribute name", archive(paxOf('x', "SCHILY.xattr."+strings.Repeat("n", 256)+"=1"), file.block()), "attribute"},
		{"bad base64", archive(paxOf('x', "LIBARCHIVE.xattr.user.a=*"), file.block()), "LIBARCHIVE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := scan(c.tar)
			if !errors.Is(err, layer.ErrBadTar) || !strings.Contains(fmt.Sprint(err), c.text) {
				t.Errorf("error %v, want %q", err, c.text)
			}
		})
	}
}

func TestScanLimits(t *testing.T) {
	file := rawHeader{name: "f", typ: '0', magic: ustar}
	for _, c := range []struct {
		name string
		tar  []byte
		lim  layer.Limits
	}{
		{"entries", tarOf(t, "a", "b", "c"), layer.Limits{Entries: 2}},
		{"entries by missing parents", tarOf(t, "a/b/c/d/e"), layer.Limits{Entries: 4}},
		{"depth", tarOf(t, "a/b/c/d"), layer.Limits{Depth: 3}},
		{"path", tarOf(t, "a/"+strings.Repeat("n", 100)), layer.Limits{Path: 50}},
		{"PAX header", archive(paxOf('x', "comment="+strings.Repeat("x", 1000)), file.block()), layer.Limits{HeaderSize: 500}},
		{"PAX header that only claims", archive(rawHeader{typ: 'x', size: "77777777777"}.block()), layer.Limits{}},
		{"many GNU headers", archive(bytes.Repeat(rawHeader{typ: 'L', magic: gnu}.with("name"), 100), file.block()), layer.Limits{HeaderSize: 300}},
		{"attribute", archive(paxOf('x', "SCHILY.xattr.user.a="+strings.Repeat("x", 100)), file.block()), layer.Limits{XattrValue: 99}},
		{"attribute over 64 KiB", archive(paxOf('x', "SCHILY.xattr.user.a="+strings.Repeat("x", 1<<16+1)), file.block()), layer.Limits{}},
		{"tables", tarOf(t, "a", "b", "c"), layer.Limits{Tables: 200}},
		{"total", tarOf(t, "a="+strings.Repeat("x", 10000)), layer.Limits{Total: 8000}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := layer.Scan(context.Background(), bytes.NewReader(c.tar), c.lim)
			if !errors.Is(err, layer.ErrLimit) || errors.Is(err, layer.ErrBadTar) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// Whatever pieces the reader gives, the index is the same, and its errors are
// passed on as they are.
func TestScanReaders(t *testing.T) {
	b := tarOf(t, "a=1", "d/", "d/f="+strings.Repeat("content ", 1000), "l -> a")
	var want bytes.Buffer
	_, err := mustScan(t, b).WriteTo(&want)
	check(t, err)
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"one byte": iotest.OneByteReader, "half": iotest.HalfReader, "data with EOF": iotest.DataErrReader,
	} {
		x, err := layer.Scan(context.Background(), wrap(bytes.NewReader(b)), layer.Limits{})
		check(t, err)
		var got bytes.Buffer
		_, err = x.WriteTo(&got)
		check(t, err)
		if !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Errorf("%s: another index", name)
		}
	}
	for _, n := range []int{0, 100, 512, 600, 3000, len(b) - 100} {
		broken := io.MultiReader(bytes.NewReader(b[:n]), iotest.ErrReader(unix.EIO))
		_, err := layer.Scan(context.Background(), broken, layer.Limits{})
		if !errors.Is(err, unix.EIO) || errors.Is(err, layer.ErrBadTar) {
			t.Errorf("read error after %d bytes: %v", n, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := layer.Scan(ctx, bytes.NewReader(b), layer.Limits{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// sameAsArchiveTar compares an index with what Go's own reader makes of the
// tar, in all that the two must agree in.
func sameAsArchiveTar(t *testing.T, b []byte, x *layer.Index) {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(b))
	last := map[string]*tar.Header{}
	contents := map[string][]byte{}
	for {
		h, err := r.Next()
		if err != nil {
			break
		}
		if h.Typeflag == tar.TypeXGlobalHeader || strings.Contains(h.Name, ".wh.") {
			return // we apply them
		}
		p := cleaned(h.Name)
		last[p] = h
		if h.Size < 1<<20 {
			contents[p], err = io.ReadAll(r)
			check(t, err)
		}
	}
	for p, h := range last {
		e, ok := x.Find(p)
		if !ok || h.Typeflag == tar.TypeLink || h.Typeflag == 'V' {
			continue
		}
		compareHeader(t, p, h, e)
		if data, ok := contents[p]; ok && e.Attr.IsRegular() && !bytes.Equal(data, extract(b, e)) {
			t.Errorf("%q: other content", p)
		}
	}
}

func cleaned(name string) string {
	return strings.TrimPrefix(pathClean("/"+name), "/")
}

func compareHeader(t *testing.T, p string, h *tar.Header, e layer.Entry) {
	t.Helper()
	if int64(e.Attr.UID) != int64(h.Uid) || int64(e.Attr.GID) != int64(h.Gid) || e.Attr.Mode&unix.S_IFMT != unix.S_IFLNK && e.Attr.Mode&0o7777 != uint32(h.Mode)&0o7777 {
		t.Errorf("%q: %+v, archive/tar has %+v", p, e.Attr, h)
	}
	if got := time.Unix(e.Attr.Sec, int64(e.Attr.Nsec)); !got.Equal(h.ModTime) {
		t.Errorf("%q: time %v, archive/tar has %v", p, got, h.ModTime)
	}
	if e.Attr.IsRegular() && e.Attr.Size != uint64(h.Size) {
		t.Errorf("%q: size %d, archive/tar has %d", p, e.Attr.Size, h.Size)
	}
	if e.Attr.IsSymlink() && e.Link != h.Linkname {
		t.Errorf("%q: target %q, archive/tar has %q", p, e.Link, h.Linkname)
	}
	for _, a := range e.Xattrs {
		if v, ok := h.PAXRecords["SCHILY.xattr."+a.Name]; ok && v != string(a.Value) {
			t.Errorf("%q: %s = %q, archive/tar has %q", p, a.Name, a.Value, v)
		}
	}
}

// extract puts a file together from its extents.
func extract(b []byte, e layer.Entry) []byte {
	data := make([]byte, e.Attr.Size)
	for _, x := range e.Extents {
		copy(data[x.Off:x.Off+x.Len], b[x.At:x.At+x.Len])
	}
	return data
}

// Random tars by Go's writer, in all formats it writes.
func TestScanEqualsArchiveTar(t *testing.T) {
	for seed := range 300 {
		r := rand.New(rand.NewPCG(uint64(seed), 1))
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		for range r.IntN(20) {
			h := randomHeader(r)
			if w.WriteHeader(h) != nil {
				continue // this format cannot hold it
			}
			_, err := w.Write(make([]byte, h.Size))
			check(t, err)
		}
		check(t, w.Close())
		sameAsArchiveTar(t, buf.Bytes(), mustScan(t, buf.Bytes()))
	}
}

func randomHeader(r *rand.Rand) *tar.Header {
	formats := []tar.Format{tar.FormatUSTAR, tar.FormatPAX, tar.FormatGNU}
	types := []byte{tar.TypeReg, tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeChar, tar.TypeFifo}
	h := &tar.Header{
		Format: formats[r.IntN(3)], Typeflag: types[r.IntN(len(types))],
		Name: strings.Repeat("ab/", r.IntN(90)) + fmt.Sprint("n", r.IntN(1000)),
		Mode: int64(r.IntN(0o10000)), Uid: r.IntN(1 << (1 + r.IntN(31))), Gid: r.IntN(1 << (1 + r.IntN(31))),
		ModTime: time.Unix(r.Int64N(1<<34)-1<<33, 0),
	}
	if h.Format == tar.FormatPAX {
		h.ModTime = h.ModTime.Add(time.Duration(r.IntN(1e9)))
		h.PAXRecords = map[string]string{"SCHILY.xattr.user.r": fmt.Sprint(r.IntN(100), "\x00")}
	}
	switch h.Typeflag {
	case tar.TypeReg:
		h.Size = int64(r.IntN(2000))
	case tar.TypeSymlink:
		h.Linkname = strings.Repeat("../", r.IntN(90)) + "x"
	case tar.TypeChar:
		h.Devmajor, h.Devminor = int64(r.IntN(512)), int64(r.IntN(1<<20))
	}
	return h
}

// repaired gives headers their right checksum, which a fuzzer would hardly
// ever hit.
func repaired(b []byte) []byte {
	b = bytes.Clone(b)
	for off := 0; off+512 <= len(b); {
		block := b[off : off+512]
		off += 512
		if bytes.Equal(block, make([]byte, 512)) {
			continue
		}
		copy(block[148:], "        ")
		sum := 0
		for _, c := range block {
			sum += int(c)
		}
		copy(block[148:], fmt.Sprintf("%06o\x00 ", sum))
		size, err := strconv.ParseUint(strings.Trim(string(block[124:136]), "\x00 "), 8, 20)
		if strings.IndexByte("12345S", block[156]) < 0 && err == nil {
			off += (int(size) + 511) &^ 511
		}
	}
	return b
}

// FuzzScan: whatever the bytes, Scan gives an error or an index that holds
// together and agrees with archive/tar.
func FuzzScan(f *testing.F) {
	f.Add(tarOf(f, "a=1", "d/", "l -> a", "h => a", ".wh.x", "d/.wh..wh..opq"))
	f.Add(archive(paxOf('x', "path=p", "size=3", "mtime=-1.5", "SCHILY.xattr.user.a=1"), rawHeader{name: "f", typ: '0', magic: ustar}.with("abc")))
	f.Add(archive(rawHeader{typ: 'L', magic: gnu}.with("long"), rawHeader{name: "f", typ: '0', magic: gnu, uid: "\x80\x00\x00\x00\x00\x00\x00\x01"}.with("abc")))
	for _, s := range sparseTars() {
		f.Add(s.tar)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = repaired(b)
		lim := layer.Limits{Entries: 10_000, HeaderSize: 1 << 20}
		x, err := layer.Scan(context.Background(), bytes.NewReader(b), lim)
		if err != nil {
			if !errors.Is(err, layer.ErrBadTar) && !errors.Is(err, layer.ErrLimit) {
				t.Fatalf("unknown error %v", err)
			}
			return
		}
		for e := range x.Entries() {
			for _, s := range e.Extents {
				if s.At+s.Len > int64(len(b)) {
					t.Fatalf("%q: extent %+v beyond the tar", e.Path, s)
				}
			}
			if e.Attr.Size > 1<<24 {
				return // too large to compare the content
			}
		}
		sameAsArchiveTar(t, b, x)
		d, err := layer.BuildView([]*layer.Index{x})
		if err != nil {
			return
		}
		v, err := d.Open([]io.ReaderAt{bytes.NewReader(b)})
		check(t, err)
		check(t, v.Verify())
		for _, ino := range walkView(t, v) {
			if a := attrOf(t, v, ino); a.IsRegular() {
				readAll(t, v, ino)
			}
		}
	})
}
