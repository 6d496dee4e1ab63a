package registry

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"unio/imagestore"
)

// fakeRegistry is a small registry in this process, for what a real one does
// not do: hook sees each request first and may answer it.
type fakeRegistry struct {
	*httptest.Server
	host string

	mu        sync.Mutex
	blobs     map[digest.Digest][]byte
	manifests map[string]fakeManifest // by tag and by digest
	uploads   map[string][]byte
	seen      []string // "METHOD path"
	hook      func(w http.ResponseWriter, r *http.Request) bool
}

type fakeManifest struct {
	mediaType string
	raw       []byte
}

func newFake(t *testing.T) *fakeRegistry {
	return startFake(t, httptest.NewUnstartedServer(nil), false)
}

func newFakeTLS(t *testing.T) *fakeRegistry {
	return startFake(t, httptest.NewUnstartedServer(nil), true)
}

// newFakeHTTP2 speaks what most registries on the internet speak.
func newFakeHTTP2(t *testing.T) *fakeRegistry {
	s := httptest.NewUnstartedServer(nil)
	s.EnableHTTP2 = true
	return startFake(t, s, true)
}

func startFake(t *testing.T, s *httptest.Server, secure bool) *fakeRegistry {
	f := &fakeRegistry{
		Server: s, blobs: map[digest.Digest][]byte{}, manifests: map[string]fakeManifest{}, uploads: map[string][]byte{},
	}
	s.Config.Handler = f
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	f.host = s.Listener.Addr().String()
	return f
}

// on answers requests of one method whose path contains part with do, until do
// returns false.
func (f *fakeRegistry) on(method, part string, do func(w http.ResponseWriter, r *http.Request) bool) {
	next := f.hook
	f.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == method && strings.Contains(r.URL.Path, part) && do(w, r) {
			return true
		}
		return next != nil && next(w, r)
	}
}

func (f *fakeRegistry) count(prefix string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, s := range f.seen {
		if strings.HasPrefix(s, prefix) {
			n++
		}
	}
	return n
}

func (f *fakeRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.seen = append(f.seen, r.Method+" "+r.URL.Path)
	hook := f.hook
	f.mu.Unlock()
	if hook != nil && hook(w, r) {
		return
	}
	f.serve(w, r)
}

func (f *fakeRegistry) serve(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/v2/")
	_, last, _ := strings.Cut(path, "/manifests/")
	switch {
	case path == "":
	case last != "" && r.Method == http.MethodPut:
		f.putManifest(w, r, last)
	case last != "":
		f.getManifest(w, last)
	case strings.Contains(path, "/blobs/uploads/"):
		f.upload(w, r)
	case strings.Contains(path, "/blobs/"):
		f.getBlob(w, r, digest.Digest(path[strings.LastIndex(path, "/")+1:]))
	case strings.HasSuffix(path, "/tags/list"):
		f.listTags(w)
	default:
		http.NotFound(w, r)
	}
}

func apiError(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"errors": []any{
		map[string]any{"code": code, "message": message, "detail": map[string]string{"a": "b"}},
	}})
}

func (f *fakeRegistry) getManifest(w http.ResponseWriter, name string) {
	f.mu.Lock()
	m, ok := f.manifests[name]
	f.mu.Unlock()
	if !ok {
		apiError(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown")
		return
	}
	w.Header().Set("Content-Type", m.mediaType)
	w.Header().Set("Docker-Content-Digest", digest.FromBytes(m.raw).String())
	w.Write(m.raw)
}

func (f *fakeRegistry) putManifest(w http.ResponseWriter, r *http.Request, name string) {
	raw, _ := io.ReadAll(r.Body)
	f.addManifest(name, r.Header.Get("Content-Type"), raw)
	w.Header().Set("Docker-Content-Digest", digest.FromBytes(raw).String())
	w.WriteHeader(http.StatusCreated)
}

func (f *fakeRegistry) getBlob(w http.ResponseWriter, r *http.Request, d digest.Digest) {
	f.mu.Lock()
	b, ok := f.blobs[d]
	f.mu.Unlock()
	if !ok {
		apiError(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}

func (f *fakeRegistry) upload(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := r.URL.Path
	switch r.Method {
	case http.MethodPost:
		id = fmt.Sprint(r.URL.Path, "session", len(f.uploads))
		f.uploads[id] = nil
	case http.MethodGet:
		have, ok := f.uploads[id]
		if !ok {
			apiError(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
			return
		}
		w.Header().Set("Range", fmt.Sprintf("0-%d", max(0, len(have)-1)))
		w.Header().Set("Location", id+"?state=y")
		w.WriteHeader(http.StatusNoContent)
		return
	case http.MethodPatch:
		if from, _, ok := strings.Cut(r.Header.Get("Content-Range"), "-"); ok && from != fmt.Sprint(len(f.uploads[id])) {
			apiError(w, http.StatusRequestedRangeNotSatisfiable, "RANGE_INVALID", "invalid content range")
			return
		}
		f.mu.Unlock()
		b, _ := io.ReadAll(r.Body) // of a request that breaks, what came
		f.mu.Lock()
		f.uploads[id] = append(f.uploads[id], b...)
	case http.MethodPut:
		d := digest.Digest(r.URL.Query().Get("digest"))
		if digest.FromBytes(f.uploads[id]) != d {
			apiError(w, http.StatusBadRequest, "DIGEST_INVALID", "provided digest did not match uploaded content")
			return
		}
		f.blobs[d] = f.uploads[id]
		w.WriteHeader(http.StatusCreated)
		return
	case http.MethodDelete:
		delete(f.uploads, id)
	}
	w.Header().Set("Location", id+"?state=x")
	w.WriteHeader(http.StatusAccepted)
}

func (f *fakeRegistry) listTags(w http.ResponseWriter) {
	f.mu.Lock()
	defer f.mu.Unlock()
	tags := slices.DeleteFunc(slices.Sorted(maps.Keys(f.manifests)), func(s string) bool { return strings.Contains(s, ":") })
	json.NewEncoder(w).Encode(map[string]any{"name": "x", "tags": tags})
}

func (f *fakeRegistry) addBlob(b []byte) digest.Digest {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := digest.FromBytes(b)
	f.blobs[d] = b
	return d
}

func (f *fakeRegistry) addManifest(tag, mediaType string, raw []byte) ocispec.Descriptor {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := digest.FromBytes(raw)
	f.manifests[d.String()] = fakeManifest{mediaType, raw}
	if tag != "" {
		f.manifests[tag] = fakeManifest{mediaType, raw}
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(raw))}
}

// tarOf is a layer with one file for each name.
func tarOf(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		h := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name])), ModTime: time.Unix(1e9, 0), Format: tar.FormatPAX}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(tw, files[name])
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	zw, err := gzip.NewWriterLevel(&out, gzip.HuffmanOnly) // fast, under the race detector, too
	if err != nil {
		t.Fatal(err)
	}
	zw.Write(b)
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// testImage is an image in parts, to be damaged before it is published.
type testImage struct {
	tars, blobs [][]byte
	config      map[string]any
	manifest    ocispec.Manifest
}

// imageOf makes an OCI image with a gzip layer for each map of files.
func imageOf(t testing.TB, platform string, layers ...map[string]string) *testImage {
	t.Helper()
	p, err := ParsePlatform(platform)
	if err != nil {
		t.Fatal(err)
	}
	im := &testImage{manifest: ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
	}}
	diffIDs := []digest.Digest{}
	for _, files := range layers {
		raw := tarOf(t, files)
		z := gzipped(t, raw)
		im.tars, im.blobs = append(im.tars, raw), append(im.blobs, z)
		diffIDs = append(diffIDs, digest.FromBytes(raw))
		im.manifest.Layers = append(im.manifest.Layers, ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(z), Size: int64(len(z)),
		})
	}
	im.config = map[string]any{
		"architecture": p.Architecture, "os": p.OS, "config": map[string]any{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
	}
	if p.Variant != "" {
		im.config["variant"] = p.Variant
	}
	return im
}

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// publish puts all parts of the image into the registry, under a tag if there
// is one.
func (f *fakeRegistry) publish(t testing.TB, tag string, im *testImage) ocispec.Descriptor {
	t.Helper()
	for _, b := range im.blobs {
		f.addBlob(b)
	}
	config := mustJSON(t, im.config)
	if im.manifest.Config.Digest == "" {
		im.manifest.Config = ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageConfig, Digest: f.addBlob(config), Size: int64(len(config)),
		}
	}
	return f.addManifest(tag, im.manifest.MediaType, mustJSON(t, im.manifest))
}

// publishIndex puts an index of manifests into the registry.
func (f *fakeRegistry) publishIndex(t testing.TB, tag string, entries ...ocispec.Descriptor) ocispec.Descriptor {
	t.Helper()
	return f.addManifest(tag, ocispec.MediaTypeImageIndex, mustJSON(t, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: entries,
	}))
}

func forPlatform(t testing.TB, d ocispec.Descriptor, platform string) ocispec.Descriptor {
	t.Helper()
	p, err := ParsePlatform(platform)
	if err != nil {
		t.Fatal(err)
	}
	d.Platform = &p
	return d
}

// recorder is a Progress that keeps the steps as docker's lines.
type recorder struct {
	mu    sync.Mutex
	lines []string
}

func (r *recorder) Update(e imagestore.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	line := e.Action
	if e.ID != "" {
		line = e.ID + ": " + line
	}
	if e.Current == 0 {
		r.lines = append(r.lines, line)
	}
}

func (r *recorder) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.lines, "\n") + "\n"
}

// newClient makes a client with short pauses and without the user's own
// credentials.
func newClient(t testing.TB, change ...func(*Options)) (*Client, *recorder) {
	t.Helper()
	rec := &recorder{}
	o := Options{Progress: rec, RetryWait: time.Millisecond, Stall: 10 * time.Second, Credentials: noCredentials}
	for _, f := range change {
		f(&o)
	}
	return New(o), rec
}

func newStore(t testing.TB) *imagestore.Store {
	t.Helper()
	st, err := imagestore.Open(t.TempDir(), imagestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// noise is content that hardly compresses, always the same.
func noise(n int) string {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return string(b)
}
