package layer_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"unio/imagestore/layer"
	"unio/unionfs/merge"
	"unio/whiteout"
)

// The cases that readers of layers get wrong, each in every order of the
// upper layer's entries. The numbers are those of docs/formats.md.
func TestLayerCases(t *testing.T) {
	type specs = []string
	for _, c := range []struct {
		name  string
		lower specs
		upper specs
		want  string
		err   error
	}{
		{"01 file and its whiteout", specs{"f=old"}, specs{"f=new", ".wh.f"}, "f=new", nil},
		{"02 child and whiteout of its folder", specs{"d/", "d/a=1", "d/b=1"}, specs{"d/b=2", ".wh.d"}, "d/, d/b=2", nil},
		{"03 04 opaque marker and siblings", specs{"d/", "d/a=1", "d/s/x=1"}, specs{"d/b=2", "d/c=2", "d/.wh..wh..opq"}, "d/, d/b=2, d/c=2", nil},
		{"04 opaque root", specs{"d/a=1", "e=1"}, specs{".wh..wh..opq", "f=2"}, "f=2", nil},
		{"05 whiteout without a name", specs{"d/a=1"}, specs{"d/.wh."}, "", layer.ErrBadTar},
		{"05 whiteout of dot", specs{"d/a=1"}, specs{"d/.wh.."}, "", layer.ErrBadTar},
		{"05 whiteout of dot dot", specs{"d/a=1"}, specs{"d/.wh..."}, "", layer.ErrBadTar},
		{"05 entry below a whiteout", specs{"d/a=1"}, specs{".wh.d/x=1"}, "", layer.ErrBadTar},
		{"05 names of aufs", specs{"d/a=1"}, specs{".wh..wh.aufs=x", ".wh..wh.plnk/", ".wh..wh.plnk/1.2=x", ".wh..wh.orph/", "b=2"}, "b=2, d/, d/a=1", nil},
		{"05 hard links into the folder of aufs", nil, specs{"a => .wh..wh.plnk/1.2", "b => /.wh..wh.plnk/1.2", ".wh..wh.plnk/1.2=x", ".wh..wh.plnk/3.4=y"}, "a=x*2, b=x*2", nil},
		{"05 hard link into the folder of aufs to nothing", nil, specs{"a => .wh..wh.plnk/1.2"}, "", merge.ErrLayer},
		{"06 child over a file", specs{"p=1"}, specs{"p/c=2"}, "p/, p/c=2", nil},
		{"06 grandchild over a file", specs{"p=1"}, specs{"p/c/d=2"}, "p/, p/c/, p/c/d=2", nil},
		{"07 link out of the image", specs{"a=1"}, specs{"l -> ../../../etc/x", "m -> /etc/passwd"}, "a=1, l -> ../../../etc/x, m -> /etc/passwd", nil},
		{"08 child below a lower link", specs{"usr/bin/", "bin -> usr/bin"}, specs{"bin/sh=2", "bin/ls=2"}, "bin -> usr/bin, usr/, usr/bin/, usr/bin/ls=2, usr/bin/sh=2", nil},
		{"08 absolute link", specs{"usr/bin/", "bin -> /usr/bin"}, specs{"bin/sh=2"}, "bin -> /usr/bin, usr/, usr/bin/, usr/bin/sh=2", nil},
		{"08 link above the root", specs{"d/e/l -> ../../../../x", "x/"}, specs{"d/e/l/f=2"}, "d/, d/e/, d/e/l -> ../../../../x, x/, x/f=2", nil},
		{"08 link of the same layer", nil, specs{"l -> d", "d/", "l/f=2"}, "d/, d/f=2, l -> d", nil},
		{"08 dangling link", specs{"l -> x/y"}, specs{"l/f=2"}, "l -> x/y, x/, x/y/, x/y/f=2", nil},
		{"08 link to itself", specs{"l -> l"}, specs{"l/f=2"}, "", merge.ErrLoop},
		{"08 folder over a link", specs{"d/a=1", "l -> d"}, specs{"l/", "l/f=2"}, "d/, d/a=1, l/, l/f=2", nil},
		{"08 whiteout through a link", specs{"d/a=1", "d/b=1", "l -> d"}, specs{"l/.wh.a"}, "d/, d/b=1, l -> d", nil},
		{"08 opaque through a link", specs{"d/a=1", "l -> d"}, specs{"l/.wh..wh..opq"}, "d/, l -> d", nil},
		{"09 hard link to a lower file", specs{"f=1"}, specs{"g => f", "h => f"}, "f=1*3, g=1*3, h=1*3", nil},
		{"09 hard link to a lower file that goes", specs{"f=1", "e => f"}, specs{"g => e", ".wh.f"}, "e=1*2, g=1*2", nil},
		{"09 hard link to a lower symbolic link", specs{"l -> x"}, specs{"m => l"}, "l -> x*2, m -> x*2", nil},
		{"09 hard link with odd spelling", specs{"d/f=1"}, specs{"g => ./d//f", "h => /d/../d/f"}, "d/, d/f=1*3, g=1*3, h=1*3", nil},
		{"09 hard link to a folder", specs{"d/"}, specs{"g => d"}, "", merge.ErrLayer},
		{"10 file over a folder", specs{"d/", "d/a=1"}, specs{"d=2"}, "d=2", nil},
		{"10 link over a folder", specs{"d/", "d/a=1"}, specs{"d -> x"}, "d -> x", nil},
		{"11 folder over a file", specs{"d=1"}, specs{"d/"}, "d/", nil},
		{"12 whiteout of nothing", specs{"a=1"}, specs{".wh.b", "x/y/.wh.z", "a/.wh.b", "x/.wh..wh..opq"}, "a=1", nil},
		{"13 whiteout and re-creation", specs{"d/", "d/a=1", "d/s/b=1"}, specs{".wh.d", "d/", "d/c=2"}, "d/, d/c=2", nil},
		{"13 whiteout and re-creation of a parent", specs{"d/e/a=1", "d/b=1"}, specs{".wh.d", "d/e/c=2"}, "d/, d/e/, d/e/c=2", nil},
		{"14 hard link and its target", nil, specs{"a => z", "z=1", "b => a"}, "a=1*3, b=1*3, z=1*3", nil},
		{"14 hard link to a whiteout", specs{"f=1"}, specs{"g => f", ".wh.f"}, "", merge.ErrLayer},
		{"14 hard link to what is whited out and made again", specs{"f=1"}, specs{"g => f", ".wh.f", "f=2"}, "f=2*2, g=2*2", nil},
		{"14 hard link below a whiteout", specs{"d/f=1"}, specs{"g => d/f", ".wh.d"}, "", merge.ErrLayer},
		{"14 hard link to nothing", nil, specs{"g => f"}, "", merge.ErrLayer},
		{"14 hard links in a ring", nil, specs{"a => b", "b => a"}, "", merge.ErrLayer},
		{"16 missing parents", nil, specs{"a/b/c=1"}, "a/, a/b/, a/b/c=1", nil},
		{"17 spellings", nil, specs{"./", "./a=1", "/b=2", "x/../c=3", "d//e/./f=4", "../../g=5"}, "a=1, b=2, c=3, d/, d/e/, d/e/f=4, g=5", nil},
		{"20 empty layer", specs{"f=1"}, nil, "f=1", nil},
		{"20 layer of one whiteout", specs{"f=1", "g=1"}, specs{".wh.f"}, "g=1", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			orders := 0
			for order := range permutations(c.upper) {
				if orders++; orders > 200 {
					break
				}
				v, err := buildView(t, tarOf(t, c.lower...), tarOf(t, order...))
				if !errors.Is(err, c.err) {
					t.Fatalf("order %q: error %v, want %v", order, err, c.err)
				}
				if err != nil {
					continue
				}
				if got := listing(t, v); got != c.want {
					t.Fatalf("order %q:\ngot  %s\nwant %s", order, got, c.want)
				}
			}
		})
	}
}

func TestLayerCase15LastDuplicateWins(t *testing.T) {
	for _, c := range []struct {
		specs []string
		want  string
	}{
		{[]string{"f=1", "f=22", "f=3"}, "f=3"},
		{[]string{"d/", "d/a=1", "d=2"}, "d/, d/a=1"}, // its child makes it a folder
		{[]string{"d=2", "d/"}, "d/"},
		{[]string{"f=1", "./f -> x"}, "f -> x"},
		{[]string{"f=1", "g => f", "f=2"}, "f=2*2, g=2*2"},
	} {
		if got := listing(t, mustView(t, tarOf(t, c.specs...))); got != c.want {
			t.Errorf("%q: got %s, want %s", c.specs, got, c.want)
		}
	}
}

func TestLayerCase16MissingParents(t *testing.T) {
	lower := &tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o700, Uid: 7, ModTime: time.Unix(99, 0)}
	v := mustView(t, tarOfHeaders(t, lower), tarOf(t, "d/x/f=1"))
	if a := attrOf(t, v, find(t, v, "d/x")); a != (merge.Attr{Mode: unix.S_IFDIR | 0o755, Nlink: 2}) {
		t.Errorf("missing parent: %+v", a)
	}
	if a := attrOf(t, v, find(t, v, "d")); a != (merge.Attr{Mode: unix.S_IFDIR | 0o700, UID: 7, Nlink: 3, Sec: 99}) {
		t.Errorf("lower folder: %+v", a)
	}
}

func TestLayerCase17Names(t *testing.T) {
	long := strings.Repeat("n", 255)
	deep := strings.Repeat("d/", 2047) + "f"          // 4,095 bytes
	wide := strings.Repeat(long+"/", 15) + long[:255] // 4,095 bytes
	for _, name := range []string{long, deep, wide, "\xff\xfe", "a\nb", "a\\b", " ", "-", "...", ".wh", "ü", "\x01\x7f"} {
		h := &tar.Header{Name: name, Typeflag: tar.TypeReg, Format: tar.FormatGNU}
		v := mustView(t, tarOfHeaders(t, h))
		if a := attrOf(t, v, find(t, v, name)); !a.IsRegular() {
			t.Errorf("%.20q: %+v", name, a)
		}
	}
	for _, name := range []string{strings.Repeat("n", 256), "d/" + strings.Repeat("n", 300) + "/f"} {
		h := &tar.Header{Name: name, Typeflag: tar.TypeReg, Format: tar.FormatGNU}
		if _, err := scan(tarOfHeaders(t, h)); !errors.Is(err, layer.ErrBadTar) {
			t.Errorf("%.20q: %v", name, err)
		}
	}
}

func TestLayerCase19Attributes(t *testing.T) {
	capV2 := "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	capV3 := "\x01\x00\x00\x03\x00\x20\x00\x00\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xe8\x03\x00\x00"
	large := strings.Repeat("\x00\n=x", 16<<10)
	pax := map[string]string{"SCHILY.xattr.security.capability": capV2}
	h := func(name string, typ byte, mode int64) *tar.Header {
		return &tar.Header{Name: name, Typeflag: typ, Mode: mode, Format: tar.FormatPAX}
	}
	with := func(h *tar.Header, change func(*tar.Header)) *tar.Header { change(h); return h }
	v := mustView(t, tarOfHeaders(t,
		with(h("null", tar.TypeChar, 0o666), func(h *tar.Header) { h.Devmajor, h.Devminor = 1, 3 }),
		with(h("disk", tar.TypeBlock, 0o660), func(h *tar.Header) { h.Devmajor, h.Devminor = 259, 0o70000 }),
		h("pipe", tar.TypeFifo, 0o600),
		h("suid", tar.TypeReg, 0o6755),
		h("sticky", tar.TypeDir, 0o1777),
		with(h("nobody", tar.TypeReg, 0o644), func(h *tar.Header) { h.Uid, h.Gid = math.MaxUint32-1, math.MaxUint32-1 }),
		with(h("old", tar.TypeReg, 0o644), func(h *tar.Header) { h.ModTime = time.Unix(-3, 250) }),
		with(h("cap2", tar.TypeReg, 0o755), func(h *tar.Header) { h.PAXRecords = pax }),
		with(h("cap3", tar.TypeReg, 0o755), func(h *tar.Header) {
			h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": capV3, "SCHILY.xattr.user.a": "1", "SCHILY.xattr.trusted.overlay.opaque": "y"}
		}),
		with(h("large", tar.TypeDir, 0o755), func(h *tar.Header) {
			h.PAXRecords = map[string]string{"SCHILY.xattr.user.large": large, "SCHILY.xattr.user.empty": ""}
		}),
		with(h("link", tar.TypeSymlink, 0o777), func(h *tar.Header) { h.Linkname = "x" }),
	))
	for name, want := range map[string]merge.Attr{
		"null":   {Mode: unix.S_IFCHR | 0o666, Rdev: unix.Mkdev(1, 3)},
		"disk":   {Mode: unix.S_IFBLK | 0o660, Rdev: unix.Mkdev(259, 0o70000)},
		"pipe":   {Mode: unix.S_IFIFO | 0o600},
		"suid":   {Mode: unix.S_IFREG | 0o6755},
		"sticky": {Mode: unix.S_IFDIR | 0o1777, Nlink: 2},
		"nobody": {Mode: unix.S_IFREG | 0o644, UID: math.MaxUint32 - 1, GID: math.MaxUint32 - 1},
		"old":    {Mode: unix.S_IFREG | 0o644, Sec: -3, Nsec: 250},
		"link":   {Mode: unix.S_IFLNK | 0o777, Size: 1},
	} {
		want.Nlink = max(want.Nlink, 1)
		if a := attrOf(t, v, find(t, v, name)); a != want {
			t.Errorf("%s: %+v, want %+v", name, a, want)
		}
	}
	for path, want := range map[string][]string{
		"null":  nil,
		"cap2":  {"security.capability=" + capV2},
		"cap3":  {"security.capability=" + capV3, "trusted.overlay.opaque=y", "user.a=1"},
		"large": {"user.empty=", "user.large=" + large},
	} {
		if got := xattrsOf(t, v, find(t, v, path)); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: attributes %.80q, want %.80q", path, got, want)
		}
	}
}

func xattrsOf(t testing.TB, v merge.Lower, ino merge.Ino) (list []string) {
	t.Helper()
	check(t, v.Xattrs(ino, func(name string, value []byte) bool {
		list = append(list, name+"="+string(value))
		one, err := v.Xattr(ino, name)
		if err != nil || !bytes.Equal(one, value) {
			t.Errorf("Xattr(%q) = %q, %v", name, one, err)
		}
		return true
	}))
	if _, err := v.Xattr(ino, "user.none"); !errors.Is(err, merge.ErrNoXattr) {
		t.Errorf("missing attribute: %v", err)
	}
	return list
}

// An overlay attribute in a layer is data: it hides nothing.
func TestLayerCase19OverlayAttributesAreNotObeyed(t *testing.T) {
	opaque := &tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755, PAXRecords: map[string]string{"SCHILY.xattr.trusted.overlay.opaque": "y"}}
	v := mustView(t, tarOf(t, "d/a=1"), tarOfHeaders(t, opaque))
	if got := listing(t, v); got != "d/, d/a=1" {
		t.Errorf("got %s", got)
	}
}

func TestLayerCase20ManyInOneFolder(t *testing.T) {
	const n = 100_000
	headers := make([]*tar.Header, n)
	for i := range headers {
		headers[i] = &tar.Header{Name: fmt.Sprintf("d/f%06d", (i*7919)%n), Typeflag: tar.TypeReg, Uid: i % 1000}
	}
	v := mustView(t, tarOfHeaders(t, headers...))
	if v.Nodes() != n+2 {
		t.Fatalf("%d nodes", v.Nodes())
	}
	dir := find(t, v, "d")
	list := entriesOf(t, v, dir)
	if len(list) != n {
		t.Fatalf("%d entries", len(list))
	}
	for i, e := range list {
		if want := fmt.Sprintf("f%06d", i); e.Name != want || e.Cookie != uint64(i+1) {
			t.Fatalf("entry %d: %+v", i, e)
		}
		if ino, err := v.Lookup(dir, e.Name); ino != e.Ino || err != nil {
			t.Fatalf("look up %s: %d, %v", e.Name, ino, err)
		}
	}
	if _, err := v.Lookup(dir, "f"); !errors.Is(err, merge.ErrNotExist) {
		t.Errorf("look up what is not there: %v", err)
	}
	check(t, v.ReadDir(dir, n-1, func(e merge.Entry) bool {
		if e.Name != "f099999" {
			t.Errorf("last entry %+v", e)
		}
		return true
	}))
}

func TestLayerCase20EmptyChain(t *testing.T) {
	for name, v := range map[string]*layer.View{"no layers": mustView(t), "empty tar": mustView(t, tarOf(t)), "no bytes": mustView(t, nil)} {
		if a := attrOf(t, v, merge.RootIno); a != (merge.Attr{Mode: unix.S_IFDIR | 0o755, Nlink: 2}) || v.Nodes() != 1 || v.DataSize() != 0 {
			t.Errorf("%s: %+v, %d nodes", name, a, v.Nodes())
		}
		if got := listing(t, v); got != "" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// The index shows the layer itself, whiteouts and all.
func TestEntriesShowWhiteouts(t *testing.T) {
	x := mustScan(t, tarOf(t, "d/.wh.gone", "e/.wh..wh..opq", "e/x/f=1", ".wh.e"))
	var got []string
	for e := range x.Entries() {
		got = append(got, fmt.Sprintf("%s %v%v%v", e.Path, e.Whiteout == whiteout.File, e.Opaque, e.Implicit))
	}
	want := []string{"d falsefalsetrue", "d/gone truefalsefalse", "e truefalsefalse", "e falsetruetrue", "e/x falsefalsetrue", "e/x/f falsefalsefalse"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("entries %q, want %q", got, want)
	}
	x2 := mustScan(t, tarOf(t, ".wh.e", "e/f=1", "g/.wh.h", "g/i/j"))
	if e, ok := x2.Find("e"); !ok || !e.Implicit {
		t.Errorf("Find of a parent that is only a whiteout: %+v, %v", e, ok)
	}
	if x2.Len() != 7 {
		t.Errorf("%d entries", x2.Len())
	}
	if e, ok := x.Find("e"); !ok || !e.Opaque {
		t.Errorf("Find(e) = %+v, %v", e, ok)
	}
	if e, ok := x.Find("d/gone"); !ok || e.Whiteout != whiteout.File {
		t.Errorf("Find(d/gone) = %+v, %v", e, ok)
	}
	if _, ok := x.Find("e/y"); ok {
		t.Error("Find(e/y) found something")
	}
	if _, ok := x.Find(""); ok {
		t.Error("the root is found, but the tar has none")
	}
}

var _ io.WriterTo = (*layer.ViewData)(nil)
