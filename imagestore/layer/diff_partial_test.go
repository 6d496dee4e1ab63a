package layer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"unio/cow"
	"unio/unionfs/merge"
)

// partials is a union over a layer of large files, without a mount.
type partials struct {
	*testing.T
	dir  string
	base []byte // the layer
	view *View
	fs   *cow.FS
}

const partialSize = 600_123

// newPartials makes a layer of large files: f1 to f9 of random bytes, holes,
// and link, another name of f9. Its tar is a file on disk.
func newPartials(t *testing.T) *partials {
	t.Helper()
	p := &partials{T: t, dir: t.TempDir()}
	lower := filepath.Join(p.dir, "lower")
	for _, name := range []string{"lower", "upper", "work"} {
		must(t, os.Mkdir(filepath.Join(p.dir, name), 0o755))
	}
	r := rand.New(rand.NewPCG(5, 5))
	data := make([]byte, partialSize)
	for i := range 9 {
		for j := range data {
			data[j] = byte(r.Uint32())
		}
		must(t, os.WriteFile(filepath.Join(lower, fmt.Sprint("f", i+1)), data, 0o644))
	}
	must(t, os.Link(filepath.Join(lower, "f9"), filepath.Join(lower, "link")))
	holes, err := os.Create(filepath.Join(lower, "holes"))
	must(t, err)
	for _, off := range []int64{0, 300_000, 2_000_000} {
		_, err := holes.WriteAt(data[:50_000], off)
		must(t, err)
	}
	must(t, holes.Close())
	var base bytes.Buffer
	must(t, WriteTree(context.Background(), newHostLower(t, lower), &base))
	p.base = base.Bytes()
	p.view = p.viewOfFile()
	p.mount()
	return p
}

// viewOfFile opens the layer with its tar in a file, as the store does.
func (p *partials) viewOfFile() *View {
	p.Helper()
	path := filepath.Join(p.dir, "base.tar")
	must(p, os.WriteFile(path, p.base, 0o600))
	f, err := os.Open(path)
	must(p, err)
	p.Cleanup(func() { f.Close() })
	x, err := Scan(context.Background(), bytes.NewReader(p.base), Limits{})
	must(p, err)
	d, err := BuildView([]*Index{x})
	must(p, err)
	v, err := d.Open([]io.ReaderAt{f})
	must(p, err)
	p.Cleanup(func() { must(p, v.Close()) })
	return v
}

func (p *partials) mount() {
	p.Helper()
	var err error
	p.fs, err = cow.Open(cow.Options{
		Upper: filepath.Join(p.dir, "upper"), Work: filepath.Join(p.dir, "work"), Lower: p.view, Root: os.Geteuid() == 0,
	})
	must(p, err)
	p.Cleanup(func() { p.fs.Close() })
}

func (p *partials) upper() Upper {
	return Upper{Dir: filepath.Join(p.dir, "upper"), Work: filepath.Join(p.dir, "work"), Root: os.Geteuid() == 0}
}

func (p *partials) stat(name string) cow.Stat {
	p.Helper()
	var st cow.Stat
	must(p, p.fs.Lookup(merge.RootIno, name, &st))
	return st
}

func (p *partials) write(name string, off int64, data []byte) {
	p.Helper()
	_, err := p.fs.Write(p.stat(name).Ino, data, off, cow.How{KeepMtime: true})
	must(p, err)
}

func (p *partials) truncate(name string, size uint64) {
	p.Helper()
	var st cow.Stat
	must(p, p.fs.Setattr(p.stat(name).Ino, cow.Change{Size: &size}, &st))
}

func (p *partials) read(name string) []byte {
	p.Helper()
	st := p.stat(name)
	b := make([]byte, st.Size)
	n, err := p.fs.Read(st.Ino, b, 0)
	must(p, err)
	return b[:n]
}

// change makes partial files of every kind, and returns what is in each.
func (p *partials) change() map[string][]byte {
	p.Helper()
	x := []byte("changed")
	p.write("f1", 70_000, x)
	p.write("f2", 0, x)
	p.truncate("f2", 300_001)
	p.write("f3", partialSize-2, x)
	p.write("f4", 5, x)
	p.truncate("f4", 290_000)
	p.truncate("f4", 700_000)
	p.write("f5", 10, x)
	must(p, p.fs.Fallocate(p.stat("f5").Ino, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 100_000, 1<<30))
	p.write("f6", 20_000, x)
	must(p, p.fs.Rename(merge.RootIno, "f6", merge.RootIno, "moved", 0))
	p.write("f7", 20_000, p.read("f7")[20_000:20_001]) // as it was
	var st cow.Stat
	must(p, p.fs.Setattr(p.stat("f8").Ino, cow.Change{Mode: new(uint32)}, &st))
	p.write("f8", 1<<18, x)
	p.write("link", 4096, bytes.Repeat(x, 1000))
	p.write("holes", 100_000, x)
	p.write("holes", 3_000_000, x)
	want := make(map[string][]byte)
	for _, name := range []string{"f1", "f2", "f3", "f4", "f5", "f7", "f8", "f9", "link", "moved", "holes"} {
		want[name] = p.read(name)
	}
	return want
}

// TestPartialFilesInLayer commits files of which the upper has some blocks.
func TestPartialFilesInLayer(t *testing.T) {
	p := newPartials(t)
	want := p.change()
	must(t, p.fs.Close())
	c, tar := layerOf(t, p.upper(), p.view)
	for _, ch := range c.List() {
		if ch.Path == "/f7" {
			t.Errorf("%s, but it is as it was", ch)
		}
		if data, ok := want[ch.Path[1:]]; ok && ch.Size != int64(len(data)) {
			t.Errorf("%s: size %d, want %d", ch, ch.Size, len(data))
		}
	}
	p.checkLayer(viewOf(t, p.base, tar), want)
	var merged bytes.Buffer
	must(t, WriteMerged(context.Background(), p.upper(), p.view, &merged))
	p.checkLayer(viewOf(t, merged.Bytes()), want)
}

func (p *partials) checkLayer(v *View, want map[string][]byte) {
	p.Helper()
	for name, data := range want {
		ino, err := v.Lookup(merge.RootIno, name)
		must(p, err)
		var a merge.Attr
		must(p, v.Attr(ino, &a))
		got := make([]byte, a.Size)
		_, err = v.ReadAt(ino, got, 0)
		must(p, err)
		if !bytes.Equal(got, data) {
			p.Errorf("%s: %d bytes that are not the %d of the mount", name, len(got), len(data))
		}
	}
}

// TestPartialAfterCrash cuts a file as a crash between the change of its size
// and of its attribute leaves it.
func TestPartialAfterCrash(t *testing.T) {
	p := newPartials(t)
	p.write("f1", 70_000, []byte("changed"))
	want := p.read("f1")
	must(t, p.fs.Close())
	must(t, os.Truncate(filepath.Join(p.dir, "upper", "f1"), 409_600))
	_, tar := layerOf(t, p.upper(), p.view)
	p.checkLayer(viewOf(t, p.base, tar), map[string][]byte{"f1": want[:409_600]})
}

// TestPartialWithoutLower must not make a layer of zeros.
func TestPartialWithoutLower(t *testing.T) {
	p := newPartials(t)
	p.write("f1", 70_000, []byte("changed"))
	p.write("f2", 70_000, []byte("changed"))
	must(t, p.fs.Close())
	names := newUpperReader(p.upper().Root).names
	for name, bad := range map[string]map[string]string{"f1": {names.Partial: "many"}, "f2": {names.Origin: "99999"}} {
		path := filepath.Join(p.dir, "upper", name)
		for attr, value := range bad {
			must(t, unix.Setxattr(path, attr, []byte(value), 0))
		}
		must(t, os.Rename(path, filepath.Join(p.dir, "upper", name+"x"))) // by name nothing is found
		if c, err := Diff(context.Background(), p.upper(), p.view); err == nil {
			t.Errorf("%s: %v", name, c.List())
		}
		must(t, os.Remove(filepath.Join(p.dir, "upper", name+"x")))
	}
}

// TestWholeCopyInKernel copies files up whole, from a tar in a file.
func TestWholeCopyInKernel(t *testing.T) {
	p := newPartials(t)
	must(t, p.fs.Close())
	var err error
	up := p.upper()
	p.fs, err = cow.Open(cow.Options{Upper: up.Dir, Work: up.Work, Lower: p.view, Root: up.Root, NoPartial: true})
	must(t, err)
	for _, name := range []string{"f1", "holes"} {
		want := p.read(name)
		p.write(name, 0, want[:1])
		if !bytes.Equal(p.read(name), want) {
			t.Errorf("%s: not as it was", name)
		}
	}
	f, err := os.Create(filepath.Join(p.dir, "copy"))
	must(t, err)
	defer f.Close()
	ino := p.stat("f3").Ino
	n, err := p.view.CopyTo(ino, int(f.Fd()), merge.Segment{Off: 1000, Len: 500_000})
	if n != 500_000 || err != nil {
		t.Fatalf("copied %d, %v", n, err)
	}
	got := make([]byte, 500_000)
	_, err = f.ReadAt(got, 1000)
	must(t, err)
	if !bytes.Equal(got, p.read("f3")[1000:501_000]) {
		t.Error("CopyTo copied something else")
	}
	if _, err := viewOf(t, p.base).CopyTo(ino, int(f.Fd()), merge.Segment{Len: 10}); err != unix.ENOTSUP {
		t.Errorf("a layer in memory: %v", err)
	}
}
