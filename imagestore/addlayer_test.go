package imagestore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"unio/imagestore/layer"
)

func TestAddLayerOfAnyCompression(t *testing.T) {
	tar := makeTar(t, files{"a": "hello", "big": noise(150_000, 1)})
	for _, c := range []struct {
		name   string
		stream []byte
		media  string
	}{
		{"tar", tar, ocispec.MediaTypeImageLayer},
		{"gzip", gzipped(t, tar), ocispec.MediaTypeImageLayerGzip},
		{"zstd", zstded(t, tar), ocispec.MediaTypeImageLayerZstd},
		{"xz", xzed(t, tar), ocispec.MediaTypeImageLayer},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStore(t)
			l, err := s.AddLayer(bg, bytes.NewReader(c.stream), LayerOptions{
				Digest: digest.FromBytes(c.stream), Size: int64(len(c.stream)),
				DiffID: digest.FromBytes(tar), KeepCompressed: true,
			})
			must(t, err)
			if l.DiffID != digest.FromBytes(tar) || l.Size != int64(len(tar)) || l.Existed || l.Blob.MediaType != c.media {
				t.Errorf("layer %+v", l)
			}
			if !s.HasLayer(l.DiffID) || !s.HasBlob(l.Blob.Digest) {
				t.Error("the layer is not in the store")
			}
			if back, ok := s.LayerByBlob(l.Blob.Digest); !ok || back.DiffID != l.DiffID {
				t.Errorf("by blob: %+v %v", back, ok)
			}
		})
	}
}

func TestAddLayerRefusesWhatWasNotPromised(t *testing.T) {
	tar := makeTar(t, files{"a": "hello"})
	gz := gzipped(t, tar)
	other := digest.FromString("other")
	for name, c := range map[string]struct {
		stream []byte
		o      LayerOptions
	}{
		"digest of a tar":      {tar, LayerOptions{Digest: other}},
		"digest of gzip":       {gz, LayerOptions{Digest: other}},
		"digest of kept gzip":  {gz, LayerOptions{Digest: other, KeepCompressed: true}},
		"sha512 of a tar":      {tar, LayerOptions{Digest: digest.SHA512.FromString("other")}},
		"diffID of a tar":      {tar, LayerOptions{DiffID: other}},
		"diffID of gzip":       {gz, LayerOptions{DiffID: other, Digest: digest.FromBytes(gz)}},
		"longer":               {tar, LayerOptions{Size: 100}},
		"shorter":              {tar, LayerOptions{Size: int64(len(tar)) + 1}},
		"gzip longer":          {gz, LayerOptions{Size: 10}},
		"cut gzip":             {gz[:len(gz)-9], LayerOptions{}},
		"damaged gzip":         {flip(gz, len(gz)-6), LayerOptions{}},
		"cut zstd":             {cut(zstded(t, tar)), LayerOptions{}},
		"cut xz":               {cut(xzed(t, tar)), LayerOptions{}},
		"gzip with bytes more": {append(bytes.Clone(gz), "junk"...), LayerOptions{}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			_, err := s.AddLayer(bg, bytes.NewReader(c.stream), c.o)
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("error %v, want ErrCorrupt", err)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %v", err)
			}
			assertEmpty(t, s)
		})
	}
}

func flip(p []byte, at int) []byte {
	p = bytes.Clone(p)
	p[at] ^= 0x40
	return p
}

func cut(p []byte) []byte { return p[:len(p)/2] }

// assertEmpty expects no blob, index or temporary file.
func assertEmpty(t *testing.T, s *Store) {
	t.Helper()
	u, err := s.Usage()
	must(t, err)
	if u != (Usage{}) {
		t.Errorf("the store is not empty: %+v", u)
	}
}

func TestAddLayerRefusesBadTars(t *testing.T) {
	tar := makeTar(t, files{"a": "hello", "b": strings.Repeat("x", 5000)})
	for name, p := range map[string][]byte{
		"cut short": tar[:2000], "damaged header": flip(tar, 20), "text": []byte(strings.Repeat("no tar ", 200)),
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			_, err := s.AddLayer(bg, bytes.NewReader(p), LayerOptions{})
			if !errors.Is(err, layer.ErrBadTar) {
				t.Fatalf("error %v, want ErrBadTar", err)
			}
			assertEmpty(t, s)
		})
	}
}

func TestAddLayerPassesErrorsOfTheSource(t *testing.T) {
	broken := errors.New("the network is gone")
	for name, p := range map[string][]byte{
		"tar": makeTar(t, files{"a": noise(1<<20, 2)}), "gzip": gzipped(t, makeTar(t, files{"a": noise(1<<20, 2)})),
	} {
		s := newStore(t)
		r := io.MultiReader(bytes.NewReader(p[:len(p)/2]), iotest.ErrReader(broken))
		_, err := s.AddLayer(bg, r, LayerOptions{})
		if !errors.Is(err, broken) || errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		assertEmpty(t, s)
	}
}

func TestAddLayerCanceled(t *testing.T) {
	s := newStore(t)
	ctx, cancel := context.WithCancel(bg)
	r, w := io.Pipe()
	go func() {
		w.Write(makeTar(t, files{"a": noise(1<<20, 2)})[:700_000])
		cancel() // and never another byte, as from a dead network
		time.Sleep(50 * time.Millisecond)
		w.CloseWithError(ctx.Err())
	}()
	if _, err := s.AddLayer(ctx, r, LayerOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	assertEmpty(t, s)
}

func TestAddLayerThatIsThere(t *testing.T) {
	s := newStore(t)
	tar := makeTar(t, files{"a": "hello"})
	gz := gzipped(t, tar)
	first := addLayer(t, s, tar)
	path, err := s.Blobs().Path(first.DiffID)
	must(t, err)
	before, err := os.Stat(path)
	must(t, err)
	for name, c := range map[string]struct {
		stream []byte
		o      LayerOptions
	}{
		"tar, diffID known":  {tar, LayerOptions{DiffID: first.DiffID}},
		"tar, digest known":  {tar, LayerOptions{Digest: first.DiffID}},
		"gzip, diffID known": {gz, LayerOptions{DiffID: first.DiffID, Digest: digest.FromBytes(gz), KeepCompressed: true}},
		"gzip, pair known":   {gz, LayerOptions{Digest: digest.FromBytes(gz), KeepCompressed: true}},
	} {
		l, err := s.AddLayer(bg, bytes.NewReader(c.stream), c.o)
		must(t, err)
		if l.DiffID != first.DiffID || l.Size != first.Size {
			t.Errorf("%s: %+v", name, l)
		}
		if strings.Contains(name, "diffID") && !l.Existed {
			t.Errorf("%s: not seen as there", name)
		}
	}
	after, err := os.Stat(path)
	must(t, err)
	if !os.SameFile(before, after) {
		t.Error("the tar was written again")
	}
	// What is there does not excuse what comes.
	_, err = s.AddLayer(bg, bytes.NewReader(flip(tar, 600)), LayerOptions{DiffID: first.DiffID})
	if !errors.Is(err, ErrCorrupt) {
		t.Errorf("other content under a known diffID: %v", err)
	}
	_, err = s.AddLayer(bg, bytes.NewReader(flip(gz, 4)), LayerOptions{DiffID: first.DiffID, Digest: digest.FromBytes(gz)})
	if !errors.Is(err, ErrCorrupt) {
		t.Errorf("other content under a known digest: %v", err)
	}
}

func TestSHA512Layer(t *testing.T) {
	s := newStore(t)
	for _, p := range [][]byte{makeTar(t, files{"a": "x"}), gzipped(t, makeTar(t, files{"b": "y"}))} {
		d := digest.SHA512.FromBytes(p)
		l, err := s.AddLayer(bg, bytes.NewReader(p), LayerOptions{Digest: d, KeepCompressed: true})
		must(t, err)
		if l.Blob.Digest != d || !s.HasBlob(d) || !s.HasLayer(l.DiffID) {
			t.Errorf("layer %+v", l)
		}
		must(t, s.Blobs().Verify(d))
	}
}

// TestBomb feeds a stream that expands beyond all measure.
func TestBomb(t *testing.T) {
	s := newStore(t)
	s.ratioFree = 8 << 20
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.CloseWithError(writeBomb(w, 512<<20))
	}()
	_, err := s.AddLayer(bg, r, LayerOptions{KeepCompressed: true})
	r.Close()
	<-done
	if !errors.Is(err, ErrLimit) {
		t.Errorf("error %v, want ErrLimit", err)
	}
	assertEmpty(t, s)
}

func TestCompressedForms(t *testing.T) {
	s := newStore(t)
	tar := makeTar(t, files{"a": "hello"})
	l := addLayer(t, s, tar)
	if f := s.CompressedForms(l.DiffID); len(f) != 0 {
		t.Errorf("forms of a plain layer: %v", f)
	}
	old := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromString("1"), Size: 10}
	newer := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerZstd, Digest: digest.FromString("2"), Size: 20}
	must(t, s.RememberCompressed(l.DiffID, old))
	time.Sleep(20 * time.Millisecond)
	must(t, s.RememberCompressed(l.DiffID, newer))
	f := s.CompressedForms(l.DiffID)
	if len(f) != 2 || f[0].Digest != newer.Digest || f[1].Size != old.Size || f[1].MediaType != old.MediaType {
		t.Errorf("forms %v", f)
	}
	if _, ok := s.LayerByBlob(old.Digest); ok {
		t.Error("a blob that is not in the store was found")
	}
	if _, err := s.Blob(old.Digest); !errors.Is(err, ErrNotFound) {
		t.Errorf("blob that is only remembered: %v", err)
	}
	if err := s.RememberCompressed("sha256:../..", old); err == nil {
		t.Error("a bad digest was accepted")
	}
}

func TestProgressOfALayer(t *testing.T) {
	s := newStore(t)
	tar := makeTar(t, files{"a": noise(2<<20, 3)})
	var last Event
	_, err := s.AddLayer(bg, bytes.NewReader(tar), LayerOptions{
		Size: int64(len(tar)), ID: "x", Action: "Loading layer", Progress: progressFunc(func(e Event) { last = e }),
	})
	must(t, err)
	if want := (Event{ID: "x", Action: "Loading layer", Current: int64(len(tar)), Total: int64(len(tar))}); last != want {
		t.Errorf("last event %+v, want %+v", last, want)
	}
}

type progressFunc func(Event)

func (f progressFunc) Update(e Event) { f(e) }
