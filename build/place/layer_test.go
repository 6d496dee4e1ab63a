package place_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"unio/build/place"
	"unio/build/source"
	"unio/imagestore/layer"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// folder makes a build context of one folder d with a file.
func folder(t *testing.T) (string, *source.Folder) {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "d"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "d/f"), []byte("one"), 0o644))
	f, err := source.OpenFolder(dir, source.Options{})
	must(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return dir, f
}

// TestChangedMeanwhile changes a file between the digest and the layer: the
// layer must not get into the cache under that digest.
func TestChangedMeanwhile(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(path string) error{
		"content": func(p string) error { return os.WriteFile(p, []byte("two"), 0o644) },
		"longer":  func(p string) error { return os.WriteFile(p, []byte("longer"), 0o644) },
		"shorter": func(p string) error { return os.Truncate(p, 1) },
	} {
		dir, from := folder(t)
		c := place.Copy{From: from, Sources: []string{"d"}, Dest: "/x"}
		_, err := c.Digest(t.Context())
		must(t, err)
		must(t, change(filepath.Join(dir, "d/f")))
		if err := c.WriteTarOver(t.Context(), nil, io.Discard); !errors.Is(err, place.ErrChanged) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// headers lists a layer by name.
func headers(t *testing.T, c *place.Copy) map[string]*tar.Header {
	t.Helper()
	var buf bytes.Buffer
	must(t, c.WriteTarOver(t.Context(), nil, &buf))
	found := map[string]*tar.Header{}
	for r := tar.NewReader(&buf); ; {
		hdr, err := r.Next()
		if err == io.EOF {
			return found
		}
		must(t, err)
		found[hdr.Name] = hdr
	}
}

func TestTimesLinksAndAttributes(t *testing.T) {
	t.Parallel()
	dir, from := folder(t)
	file := filepath.Join(dir, "d/f")
	must(t, os.Link(file, filepath.Join(dir, "d/g")))
	must(t, os.WriteFile(filepath.Join(dir, "d/new\xff"), nil, 0o644))
	must(t, unix.Setxattr(file, "user.key", []byte("v\x00w"), 0))
	must(t, unix.Mkfifo(filepath.Join(dir, "d/pipe"), 0o600))
	old := time.Unix(1e9, 5e8)
	must(t, os.Chtimes(file, old, old))
	latest := time.Unix(1.5e9, 0)
	got := headers(t, &place.Copy{From: from, Sources: []string{"d"}, Dest: "/x/y/", Time: time.Unix(1.2e9, 0), Latest: latest})
	if h := got["x/y/f"]; h.ModTime.Unix() != 1e9 || h.ModTime.Nanosecond() != 0 || h.PAXRecords["SCHILY.xattr.user.key"] != "v\x00w" {
		t.Errorf("file: %+v", h)
	}
	if h := got["x/y/g"]; h.Typeflag != tar.TypeLink || h.Linkname != "x/y/f" {
		t.Errorf("link: %+v", h)
	}
	if h := got["x/y/new\xff"]; h == nil || !h.ModTime.Equal(latest) {
		t.Errorf("new file: %+v", h)
	}
	if h := got["x/"]; h.ModTime.Unix() != 1.2e9 {
		t.Errorf("folder made: %+v", h)
	}
	if h := got["x/y/pipe"]; h.Typeflag != tar.TypeFifo {
		t.Errorf("pipe: %+v", h)
	}
}

// TestReservedName refuses a file that readers of the layer would take for a
// whiteout.
func TestReservedName(t *testing.T) {
	t.Parallel()
	dir, from := folder(t)
	must(t, os.WriteFile(filepath.Join(dir, "d/.wh.f"), nil, 0o644))
	c := place.Copy{From: from, Sources: []string{"d"}, Dest: "/"}
	if err := c.WriteTarOver(t.Context(), nil, io.Discard); !errors.Is(err, layer.ErrReservedName) {
		t.Error(err)
	}
}

// TestCancel gives up while a file is read that has no end in sight.
func TestCancel(t *testing.T) {
	t.Parallel()
	dir, from := folder(t)
	must(t, os.Truncate(filepath.Join(dir, "d/f"), 1<<40))
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	c := place.Copy{From: from, Sources: []string{"d"}, Dest: "/"}
	if _, err := c.Digest(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := c.WriteTarOver(ctx, nil, io.Discard); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestHostileTables looks up users in tables that an image made for harm.
func TestHostileTables(t *testing.T) {
	t.Parallel()
	for name, spec := range map[string]string{
		"a number that means unchanged": "etc/passwd =evil:x:4294967295:0::/:/bin/sh",
		"a negative number":             "etc/passwd =evil:x:-1:0::/:/bin/sh",
		"a link that leads out":         "etc/passwd -> ../../../../../../etc/passwd",
		"a link to itself":              "etc/passwd -> passwd",
		"a folder":                      "etc/passwd/",
	} {
		c := place.Copy{From: tree(t, oneFile), Sources: []string{"a"}, Dest: "/", Chown: "evil"}
		if err := c.WriteTarOver(t.Context(), tree(t, spec), io.Discard); err == nil || !strings.Contains(err.Error(), "can't find uid for user evil") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

const oneFile = "a =A"

// TestModes reads --chmod as chmod(1) does, on a file of mode 0644 and a folder
// of mode 0755.
func TestModes(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string][2]int64{
		"0": {0, 0}, "7777": {0o7777, 0o7777}, "u+x": {0o744, 0o755}, "+x": {0o755, 0o755}, "a=rX": {0o444, 0o555},
		"go=": {0o600, 0o700}, "u=rwx,g=rx,o=": {0o750, 0o750}, "u+s,g+s,+t": {0o7644, 0o7755}, "g=u": {0o664, 0o775}, "o-r+w": {0o642, 0o753},
	} {
		_, from := folder(t)
		got := headers(t, &place.Copy{From: from, Sources: []string{"./"}, Dest: "/x", Chmod: spec})
		if f, d := got["x/d/f"].Mode, got["x/d/"].Mode; f != want[0] || d != want[1] {
			t.Errorf("%s: %o and %o, want %o", spec, f, d, want)
		}
	}
	for _, spec := range []string{"8", "10000", "u", "u+q", "x+u", "+x,", "=,u", "0x7"} {
		_, from := folder(t)
		c := place.Copy{From: from, Sources: []string{"d"}, Dest: "/x", Chmod: spec}
		if err := c.WriteTarOver(t.Context(), nil, io.Discard); !errors.Is(err, place.ErrFailed) {
			t.Errorf("%s: %v", spec, err)
		}
	}
}
