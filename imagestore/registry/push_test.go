package registry

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"unio/imagestore"
)

// addLocal makes an image of uncompressed layers, as commit and import do.
func addLocal(t testing.TB, st *imagestore.Store, name string, layers ...map[string]string) *imagestore.Image {
	t.Helper()
	im := imageOf(t, "", layers...)
	var added []imagestore.Layer
	for _, raw := range im.tars {
		l, err := st.AddLayer(context.Background(), bytes.NewReader(raw), imagestore.LayerOptions{})
		if err != nil {
			t.Fatal(err)
		}
		added = append(added, l)
	}
	img, err := st.AddImage(context.Background(), imagestore.NewImage{Config: mustJSON(t, im.config), Layers: added, Names: []string{name}})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// mustPush pushes with a fresh client.
func mustPush(t *testing.T, st *imagestore.Store, ref string) (Pushed, *recorder) {
	t.Helper()
	c, rec := newClient(t)
	got, err := c.Push(t.Context(), st, ref, PushOptions{})
	if err != nil {
		t.Fatalf("push %s: %v", ref, err)
	}
	return got[0], rec
}

func TestPushLocalImage(t *testing.T) {
	f, st := newFake(t), newStore(t)
	name := f.host + "/lib/x:1"
	img := addLocal(t, st, name, map[string]string{"a": noise(3 << 20)}, map[string]string{"b": "2"})
	c, rec := newClient(t, func(o *Options) { o.Parallel = 1 })
	got, err := c.Push(t.Context(), st, name, PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	one, two := short(img.Layers[0].DiffID), short(img.Layers[1].DiffID)
	m := f.manifests["1"]
	want := "The push refers to repository [" + f.host + "/lib/x]\n" +
		two + ": Preparing\n" + one + ": Preparing\n" + one + ": Waiting\n" + two + ": Pushed\n" + one + ": Pushed\n" +
		"1: digest: " + digest.FromBytes(m.raw).String() + " size: " + itoa(len(m.raw)) + "\n"
	if rec.text() != want {
		t.Errorf("got\n%s\nwant\n%s", rec.text(), want)
	}
	if got[0].Digest != digest.FromBytes(m.raw) || m.mediaType != imagestore.MediaTypeDockerManifest {
		t.Errorf("pushed %+v, registry has %s", got, m.mediaType)
	}
	after, err := st.Lookup(t.Context(), name)
	if err != nil || len(after.Digests) != 1 || after.Digests[0] != f.host+"/lib/x@"+got[0].Digest.String() {
		t.Errorf("digests of the image are %q, %v", after.Digests, err)
	}

	t.Run("again", func(t *testing.T) {
		patches := f.count("PATCH")
		again, rec := mustPush(t, st, name)
		if again != got[0] || f.count("PATCH") != patches {
			t.Errorf("second push is %+v and sent %d blobs", again, f.count("PATCH")-patches)
		}
		if n := strings.Count(rec.text(), "Layer already exists"); n != 2 {
			t.Errorf("says\n%s", rec.text())
		}
	})
	t.Run("pull here", func(t *testing.T) {
		rec := mustPull(t, st, name)
		if !strings.Contains(rec.text(), "Image is up to date") || f.count("GET /v2/lib/x/blobs") > 0 {
			t.Errorf("says\n%s", rec.text())
		}
	})
	t.Run("pull elsewhere", func(t *testing.T) {
		other := newStore(t)
		mustPull(t, other, name)
		pulled, err := other.Lookup(t.Context(), name)
		if err != nil || pulled.ID != img.ID {
			t.Fatalf("got %v, %v", pulled, err)
		}
		if again, _ := mustPush(t, other, name); again != got[0] {
			t.Errorf("push of what was pulled is %+v, want %+v", again, got[0])
		}
	})
	t.Run("another registry, the same digest", func(t *testing.T) {
		g := newFake(t)
		if err := st.Tag(t.Context(), name, g.host+"/y:2"); err != nil {
			t.Fatal(err)
		}
		if other, _ := mustPush(t, st, g.host+"/y:2"); other.Digest != got[0].Digest {
			t.Errorf("digest there is %s, here %s", other.Digest, got[0].Digest)
		}
	})
}

func itoa(n int) string {
	var b []byte
	for ; n > 0; n /= 10 {
		b = append([]byte{byte('0' + n%10)}, b...)
	}
	return string(b)
}

// A pulled image goes to another registry bit by bit, whatever its format.
func TestPushKeepsPulledImage(t *testing.T) {
	f, g, st := newFake(t), newFake(t), newStore(t)
	im := imageOf(t, "", map[string]string{"a": "1"}, map[string]string{"b": "2"})
	im.blobs[1] = im.tars[1]
	im.manifest.Layers[1].MediaType = "application/vnd.oci.image.layer.v1.tar"
	im.manifest.Layers[1].Digest = digest.FromBytes(im.tars[1])
	im.manifest.Layers[1].Size = int64(len(im.tars[1]))
	im.manifest.Annotations = map[string]string{"org.example": "kept"}
	desc := f.publish(t, "1", im)
	mustPull(t, st, f.host+"/x:1")
	if err := st.Tag(t.Context(), f.host+"/x:1", g.host+"/y:2"); err != nil {
		t.Fatal(err)
	}
	got, _ := mustPush(t, st, g.host+"/y:2")
	if got.Digest != desc.Digest || !bytes.Equal(g.manifests["2"].raw, f.manifests["1"].raw) {
		t.Errorf("manifest is %s, want %s", got.Digest, desc.Digest)
	}
	for _, l := range im.manifest.Layers {
		if _, ok := g.blobs[l.Digest]; !ok {
			t.Errorf("layer %s is not there", l.Digest)
		}
	}
}

// An image committed on a pulled one sends the pulled layers as they came.
func TestPushDerivedImage(t *testing.T) {
	f, g, st := newFake(t), newFake(t), newStore(t)
	base := map[string]string{"base": noise(100_000)}
	im := imageOf(t, "", base)
	f.publish(t, "1", im)
	mustPull(t, st, f.host+"/x:1")
	addLocal(t, st, g.host+"/y:2", base, map[string]string{"new": "1"})
	mustPush(t, st, g.host+"/y:2")
	if _, ok := g.blobs[im.manifest.Layers[0].Digest]; !ok {
		t.Error("the base layer was compressed again")
	}
}

func TestPushMountsFromNeighbour(t *testing.T) {
	f, st := newFake(t), newStore(t)
	f.publish(t, "1", imageOf(t, "", map[string]string{"a": "1"}))
	mustPull(t, st, f.host+"/team/base:1")
	if err := st.Tag(t.Context(), f.host+"/team/base:1", f.host+"/app:2"); err != nil {
		t.Fatal(err)
	}
	missing := func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(http.StatusNotFound); return true }
	f.on("HEAD", "/v2/app/blobs/", missing)
	f.on("POST", "/v2/app/", func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("from") != "team/base" {
			return false
		}
		w.WriteHeader(http.StatusCreated)
		return true
	})
	_, rec := mustPush(t, st, f.host+"/app:2")
	if !strings.Contains(rec.text(), ": Mounted from team/base\n") {
		t.Errorf("says\n%s", rec.text())
	}

	// A registry that does not mount gets the bytes.
	f.on("POST", "/v2/app/", func(http.ResponseWriter, *http.Request) bool { return false })
	f.hook = nil
	f.on("HEAD", "/v2/app/blobs/", missing)
	_, rec = mustPush(t, st, f.host+"/app:2")
	if !strings.Contains(rec.text(), ": Pushed\n") {
		t.Errorf("says\n%s", rec.text())
	}
}

func TestPushErrors(t *testing.T) {
	f, st := newFake(t), newStore(t)
	name := f.host + "/x"
	addLocal(t, st, name+":1", map[string]string{"a": "1"})
	c, _ := newClient(t)
	for ref, want := range map[string]string{
		name + ":2":   "tag does not exist: " + name + ":2",
		f.host + "/y": "An image does not exist locally with the tag: " + f.host + "/y",
		name + "@" + digest.FromString("x").String(): "cannot push a digest reference",
		"UPPER": "invalid reference format: repository name (library/UPPER) must be lowercase",
	} {
		if _, err := c.Push(t.Context(), st, ref, PushOptions{}); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", ref, err, want)
		}
	}
	f.on("POST", "", func(w http.ResponseWriter, _ *http.Request) bool {
		apiError(w, http.StatusForbidden, "DENIED", "requested access to the resource is denied")
		return true
	})
	_, err := c.Push(t.Context(), st, name+":1", PushOptions{})
	if err == nil || err.Error() != "denied: requested access to the resource is denied" {
		t.Errorf("got %v", err)
	}
}

func TestPushAllTags(t *testing.T) {
	f, st := newFake(t), newStore(t)
	addLocal(t, st, f.host+"/x:1", map[string]string{"a": "1"})
	addLocal(t, st, f.host+"/x:2", map[string]string{"a": "1"}, map[string]string{"b": "1"})
	addLocal(t, st, f.host+"/other:3", map[string]string{"c": "1"})
	c, rec := newClient(t)
	got, err := c.Push(t.Context(), st, f.host+"/x", PushOptions{AllTags: true})
	if err != nil || len(got) != 2 || f.manifests["1"].raw == nil || f.manifests["2"].raw == nil || f.manifests["3"].raw != nil {
		t.Errorf("pushed %+v, %v\n%s", got, err, rec.text())
	}
}

// An upload that breaks is begun anew.
func TestPushRetries(t *testing.T) {
	f, st := newFake(t), newStore(t)
	name := f.host + "/x:1"
	addLocal(t, st, name, map[string]string{"a": noise(5 << 20)})
	var n atomic.Int32
	f.on("PATCH", "", func(_ http.ResponseWriter, r *http.Request) bool {
		if n.Add(1) > 2 {
			return false
		}
		io.CopyN(io.Discard, r.Body, 100_000)
		panic(http.ErrAbortHandler)
	})
	f.on("PUT", "/manifests/", func(w http.ResponseWriter, _ *http.Request) bool {
		if n.Add(100) > 200 {
			return false
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	mustPush(t, st, name)
	mustPull(t, newStore(t), name)
}

func TestPushGivesUp(t *testing.T) {
	f, st := newFake(t), newStore(t)
	name := f.host + "/x:1"
	addLocal(t, st, name, map[string]string{"a": noise(1 << 20)})
	f.on("PATCH", "", func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) })
	c, _ := newClient(t)
	if _, err := c.Push(t.Context(), st, name, PushOptions{}); err == nil {
		t.Error("no error")
	}
	if n := f.count("PATCH"); n > maxTries {
		t.Errorf("%d tries", n)
	}
	if f.manifests["1"].raw != nil {
		t.Error("the manifest was pushed without its layer")
	}
}

func TestPushCanceled(t *testing.T) {
	f, st := newFake(t), newStore(t)
	name := f.host + "/x:1"
	addLocal(t, st, name, map[string]string{"a": noise(4 << 20)})
	ctx, cancel := context.WithCancel(t.Context())
	f.on("PATCH", "", func(_ http.ResponseWriter, r *http.Request) bool {
		io.CopyN(io.Discard, r.Body, 1000)
		cancel()
		io.Copy(io.Discard, r.Body)
		return true
	})
	c, _ := newClient(t)
	if _, err := c.Push(ctx, st, name, PushOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// With a token, and a check that it is asked for once and not for each blob.
func TestPushAndPullWithToken(t *testing.T) {
	f, st := newFake(t), newStore(t)
	name := f.host + "/x:1"
	addLocal(t, st, name, map[string]string{"a": noise(2 << 20)}, map[string]string{"b": "1"}, map[string]string{"c": "1"})
	f.guardedByToken(f.URL + "/token")
	c, _ := newClient(t, withPassword)
	if _, err := c.Push(t.Context(), st, name, PushOptions{}); err != nil {
		t.Fatal(err)
	}
	if n := f.count("GET /token"); n > 2 {
		t.Errorf("token asked for %d times", n)
	}
	c, _ = newClient(t, withPassword)
	if _, err := c.Pull(t.Context(), newStore(t), name, PullOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestCompressIsDeterministic(t *testing.T) {
	content := noise(5<<20 + 12345)
	for name, pack := range map[string]func(io.Writer, io.Reader) error{"gzip": packGzip, "zstd": packZstd} {
		var first, second bytes.Buffer
		if err := pack(&first, strings.NewReader(content)); err != nil {
			t.Fatal(err)
		}
		// Neither other sizes of reads nor another machine may matter.
		old := runtime.GOMAXPROCS(1)
		err := pack(&second, &dribble{strings.NewReader(content)})
		runtime.GOMAXPROCS(old)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Errorf("%s: two compressions of the same layer differ", name)
		}
	}
}

// A layer that went out as gzip goes out as zstd when that is asked for, and
// comes back the same.
func TestPushZstd(t *testing.T) {
	f, st := newFake(t), newStore(t)
	name := f.host + "/z:1"
	img := addLocal(t, st, name, map[string]string{"a": noise(3000)})
	c, _ := newClient(t)
	for _, compression := range []string{"", "zstd", "gzip"} {
		if _, err := c.Push(t.Context(), st, name, PushOptions{Compression: compression}); err != nil {
			t.Fatal(err)
		}
		other := newStore(t)
		mustPull(t, other, name)
		got, err := other.Lookup(t.Context(), name)
		if err != nil || got.ID != img.ID {
			t.Errorf("%q: pulled %v, %v", compression, got, err)
			continue
		}
		want := cmp.Or(compression, "gzip")
		if have := compressionOf(got.Layers[0].Blob.MediaType); have != want {
			t.Errorf("%q: pulled a layer with %q", compression, have)
		}
	}
	if _, err := c.Push(t.Context(), st, name, PushOptions{Compression: "lzma"}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("lzma: %v", err)
	}
}

type dribble struct{ r io.Reader }

func (d *dribble) Read(p []byte) (int, error) { return d.r.Read(p[:min(len(p), 777)]) }

// The source of an upload that breaks must not leave its goroutine behind.
func TestPackedSourceEnds(t *testing.T) {
	closed := make(chan struct{})
	s := &packedSource{pack: packGzip, tar: func() (io.ReadCloser, error) {
		return &closing{strings.NewReader(noise(8 << 20)), closed}, nil
	}}
	r, err := s.open()
	if err != nil {
		t.Fatal(err)
	}
	io.CopyN(io.Discard, r, 10)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	<-closed
	fail := errors.New("disk error")
	s.tar = func() (io.ReadCloser, error) { return io.NopCloser(&failing{fail}), nil }
	if r, err = s.open(); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); !errors.Is(err, fail) {
		t.Errorf("got %v", err)
	}
}

type closing struct {
	io.Reader
	closed chan struct{}
}

func (c *closing) Close() error { close(c.closed); return nil }

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

// A store that dropped its compressed blobs still pushes: what the registry
// has stays as it is, elsewhere the layers are compressed anew.
func TestPushWithoutCompressedBlobs(t *testing.T) {
	f, g, st := newFake(t), newFake(t), newStore(t)
	im := imageOf(t, "", map[string]string{"a": noise(100_000)}, map[string]string{"b": "2"})
	desc := f.publish(t, "1", im)
	mustPull(t, st, f.host+"/x:1")
	if err := st.Blobs().Remove(im.manifest.Layers[0].Digest); err != nil {
		t.Fatal(err)
	}
	if err := st.Tag(t.Context(), f.host+"/x:1", f.host+"/x:2"); err != nil {
		t.Fatal(err)
	}
	if got, _ := mustPush(t, st, f.host+"/x:2"); got.Digest != desc.Digest {
		t.Errorf("pushed back as %s, want %s", got.Digest, desc.Digest)
	}
	if err := st.Tag(t.Context(), f.host+"/x:1", g.host+"/y:1"); err != nil {
		t.Fatal(err)
	}
	got, _ := mustPush(t, st, g.host+"/y:1")
	other := newStore(t)
	mustPull(t, other, g.host+"/y:1")
	img, err := other.Lookup(t.Context(), g.host+"/y:1")
	if err != nil || img.ID != im.manifest.Config.Digest || img.Manifest.Digest != got.Digest {
		t.Errorf("got %+v, %v", img, err)
	}
	// A pull brings the blob back.
	mustPull(t, st, f.host+"/x:1")
	if !st.HasBlob(im.manifest.Layers[0].Digest) {
		t.Error("the blob is still missing after a pull")
	}
}

// A layer that may live elsewhere only is not sent.
func TestPushSkipsForeignLayer(t *testing.T) {
	f, to, th, st := newFake(t), newFake(t), newThief(t, false), newStore(t)
	im := imageOf(t, "", map[string]string{"a": "1"}, map[string]string{"b": "2"})
	foreign := im.blobs[0]
	im.blobs = im.blobs[1:]
	im.manifest.Layers[0].MediaType = imagestore.MediaTypeDockerForeignLayer
	im.manifest.Layers[0].URLs = []string{th.URL + "/foreign"}
	th.answer = func(w http.ResponseWriter, _ *http.Request) { w.Write(foreign) }
	want := f.publish(t, "1", im)
	mustPull(t, st, f.host+"/x:1")
	if err := st.Tag(t.Context(), f.host+"/x:1", to.host+"/y:1"); err != nil {
		t.Fatal(err)
	}
	got, rec := mustPush(t, st, to.host+"/y:1")
	if got.Digest != want.Digest || !strings.Contains(rec.text(), ": Skipped foreign layer\n") {
		t.Errorf("pushed %s, want %s; said\n%s", got.Digest, want.Digest, rec.text())
	}
	if _, sent := to.blobs[im.manifest.Layers[0].Digest]; sent || len(to.blobs) != 2 {
		t.Errorf("%d blobs were sent, the foreign one: %v", len(to.blobs), sent)
	}
	mustPull(t, newStore(t), to.host+"/y:1")
}
