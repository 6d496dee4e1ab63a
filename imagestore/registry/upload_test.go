package registry

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"unio/imagestore"
)

// These tests send a layer of some parts, each of this many bytes.
const (
	partSize   = 512 << 10
	layerParts = 5
)

func inChunks(o *Options) { o.Chunk = partSize }

// uploads counts what bodies a registry was sent, by their Content-Range.
type uploads struct {
	mu     sync.Mutex
	ranges []string
	bytes  atomic.Int64
}

// watch counts, and lets trouble answer first.
func (u *uploads) watch(f *fakeRegistry, trouble func(n int, w http.ResponseWriter, r *http.Request) bool) {
	f.on("PATCH", "", func(w http.ResponseWriter, r *http.Request) bool {
		u.mu.Lock()
		u.ranges = append(u.ranges, r.Header.Get("Content-Range"))
		n := len(u.ranges)
		u.mu.Unlock()
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.TeeReader(r.Body, (*counter)(&u.bytes)), r.Body}
		return trouble != nil && trouble(n, w, r)
	})
}

type counter atomic.Int64

func (c *counter) Write(p []byte) (int, error) {
	(*atomic.Int64)(c).Add(int64(len(p)))
	return len(p), nil
}

// pulledImage is a store with an image whose compressed layer is larger than
// some chunks; localImage has it uncompressed.
func pulledStore(t *testing.T, as string) *imagestore.Store {
	t.Helper()
	f, st := newFake(t), newStore(t)
	f.publish(t, "1", imageOf(t, "", map[string]string{"big": noise(layerParts * partSize)}))
	mustPull(t, st, f.host+"/x:1")
	if err := st.Tag(t.Context(), f.host+"/x:1", as); err != nil {
		t.Fatal(err)
	}
	return st
}

func localStore(t *testing.T, as string) *imagestore.Store {
	t.Helper()
	st := newStore(t)
	addLocal(t, st, as, map[string]string{"big": noise(layerParts * partSize)})
	return st
}

// eachSource runs a test with a blob of the store, and with a layer that is
// compressed on the way.
func eachSource(t *testing.T, do func(t *testing.T, f *fakeRegistry, st *imagestore.Store)) {
	for name, store := range map[string]func(*testing.T, string) *imagestore.Store{"blob": pulledStore, "tar": localStore} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			do(t, f, store(t, f.host+"/x:1"))
		})
	}
}

// checkUpload pulls what was pushed, and looks that nothing was left.
func checkUpload(t *testing.T, f *fakeRegistry, st *imagestore.Store) {
	t.Helper()
	mustPull(t, newStore(t), f.host+"/x:1")
	if left := uploadNotes(t, st); len(left) > 0 {
		t.Errorf("notes of uploads left: %q", left)
	}
}

func uploadNotes(t *testing.T, st *imagestore.Store) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(st.Root(), "state/uploads/*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// mustPushInChunks pushes with a new client, as another process would.
func mustPushInChunks(t *testing.T, f *fakeRegistry, st *imagestore.Store) {
	t.Helper()
	c, _ := newClient(t, inChunks)
	if _, err := c.Push(t.Context(), st, f.host+"/x:1", PushOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestUploadInChunks(t *testing.T) {
	eachSource(t, func(t *testing.T, f *fakeRegistry, st *imagestore.Store) {
		var u uploads
		u.watch(f, nil)
		mustPushInChunks(t, f, st)
		checkUpload(t, f, st)
		if len(u.ranges) < layerParts {
			t.Errorf("%d requests, want at least %d: %q", len(u.ranges), layerParts, u.ranges)
		}
		if n := f.count("POST"); n != 2 {
			t.Errorf("%d sessions for a layer and a config", n)
		}
	})
}

// Connections that break in the middle of a request cost what was on the way.
func TestUploadGoesOn(t *testing.T) {
	eachSource(t, func(t *testing.T, f *fakeRegistry, st *imagestore.Store) {
		var u uploads
		u.watch(f, func(n int, _ http.ResponseWriter, r *http.Request) bool {
			if n%2 == 0 && n < 10 {
				r.Body = struct {
					io.Reader
					io.Closer
				}{io.LimitReader(r.Body, partSize/3), r.Body}
				f.upload(discard{}, r)
				panic(http.ErrAbortHandler)
			}
			return false
		})
		mustPushInChunks(t, f, st)
		checkUpload(t, f, st)
		if n := f.count("POST"); n != 2 {
			t.Errorf("%d sessions for a layer and a config", n)
		}
		if sent := u.bytes.Load(); sent > (layerParts+1)*partSize {
			t.Errorf("%d bytes arrived for a layer of %d parts of %d", sent, layerParts, partSize)
		}
	})
}

type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}

// The next process goes on where the last one was killed.
func TestUploadGoesOnLater(t *testing.T) {
	eachSource(t, func(t *testing.T, f *fakeRegistry, st *imagestore.Store) {
		var down atomic.Bool
		var u uploads
		u.watch(f, func(n int, _ http.ResponseWriter, _ *http.Request) bool {
			if n == 4 {
				down.Store(true)
			}
			if down.Load() {
				panic(http.ErrAbortHandler)
			}
			return false
		})
		f.on("GET", "/uploads/", func(w http.ResponseWriter, _ *http.Request) bool {
			if down.Load() {
				panic(http.ErrAbortHandler)
			}
			return false
		})
		c, _ := newClient(t, inChunks)
		if _, err := c.Push(t.Context(), st, f.host+"/x:1", PushOptions{}); err == nil {
			t.Fatal("pushed to a registry that is down")
		}
		if n := len(uploadNotes(t, st)); n != 1 {
			t.Fatalf("%d notes of uploads, want 1", n)
		}
		down.Store(false)
		mustPushInChunks(t, f, reopened(t, st))
		checkUpload(t, f, st)
		if n := f.count("POST"); n != 2 {
			t.Errorf("%d sessions for a layer and a config", n)
		}
		if sent := u.bytes.Load(); sent > (layerParts+1)*partSize {
			t.Errorf("%d bytes arrived for a layer of %d parts of %d", sent, layerParts, partSize)
		}
	})
}

// A note is only a hint: whatever it says, the image arrives.
func TestUploadOverBadNote(t *testing.T) {
	th := newThief(t, false)
	for name, text := range map[string]string{
		"no JSON": "nonsense", "empty": "", "another host": `{"location":"` + th.URL + `/upload"}`,
		"unknown session": `{"location":"HOST/v2/x/blobs/uploads/gone"}`,
		"no URL":          `{"location":"%zz"}`,
		"credentials":     `{"location":"http://a:b@HOST/v2/x/blobs/uploads/session0"}`,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			st := pulledStore(t, f.host+"/x:1")
			var mended atomic.Bool
			f.on("PATCH", "", func(http.ResponseWriter, *http.Request) bool {
				if !mended.Load() {
					panic(http.ErrAbortHandler)
				}
				return false
			})
			c, _ := newClient(t, inChunks)
			if _, err := c.Push(t.Context(), st, f.host+"/x:1", PushOptions{}); err == nil {
				t.Fatal("pushed")
			}
			for _, note := range uploadNotes(t, st) {
				if err := os.WriteFile(note, []byte(strings.ReplaceAll(text, "HOST", f.URL)), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			mended.Store(true)
			mustPushInChunks(t, f, st)
			checkUpload(t, f, st)
		})
	}
	if th.calls > 0 {
		t.Errorf("another host was asked:\n%s", th.got.String())
	}
}

// A session that has other bytes than ours, or lost some, is given up.
func TestUploadOverForeignSession(t *testing.T) {
	eachSource(t, func(t *testing.T, f *fakeRegistry, st *imagestore.Store) {
		var u uploads
		u.watch(f, func(n int, _ http.ResponseWriter, _ *http.Request) bool {
			if n == 3 {
				f.mu.Lock()
				for id, b := range f.uploads {
					f.uploads[id] = append(slices.Clone(b[:len(b)-5]), "other"...)
				}
				f.mu.Unlock()
				panic(http.ErrAbortHandler)
			}
			return false
		})
		mustPushInChunks(t, f, st)
		checkUpload(t, f, st)
		if last := u.ranges[len(u.ranges)-1]; last != "" { // the config's is empty, too
			t.Errorf("ranges %q: not sent as a whole in the end", u.ranges)
		}
	})
}

// Registries that cannot take a blob in parts get it in one.
func TestUploadAsAWhole(t *testing.T) {
	for name, code := range map[string]int{"the first": 416, "the second": 405} {
		t.Run(name, func(t *testing.T) {
			eachSource(t, func(t *testing.T, f *fakeRegistry, st *imagestore.Store) {
				parts := map[string]int{}
				f.on("PATCH", "", func(w http.ResponseWriter, r *http.Request) bool {
					parts[r.URL.Path]++
					if code == 416 && r.Header.Get("Content-Range") == "" || code == 405 && parts[r.URL.Path] == 1 {
						return false
					}
					apiError(w, code, "UNSUPPORTED", "not in parts")
					return true
				})
				mustPushInChunks(t, f, st)
				checkUpload(t, f, st)
			})
		})
	}
}

// A proxy before a registry may refuse large requests.
func TestUploadInSmallerChunks(t *testing.T) {
	const most = 600 << 10
	eachSource(t, func(t *testing.T, f *fakeRegistry, st *imagestore.Store) {
		tooLarge := 0
		f.on("PATCH", "", func(w http.ResponseWriter, r *http.Request) bool {
			head, _ := io.ReadAll(io.LimitReader(r.Body, most+1))
			if len(head) > most {
				tooLarge++
				w.WriteHeader(http.StatusRequestEntityTooLarge)
				return true
			}
			r.Body = io.NopCloser(bytes.NewReader(head))
			return false
		})
		c, _ := newClient(t, func(o *Options) { o.Chunk = 2 << 20 })
		if _, err := c.Push(t.Context(), st, f.host+"/x:1", PushOptions{}); err != nil {
			t.Fatal(err)
		}
		checkUpload(t, f, st)
		if tooLarge != 1 {
			t.Errorf("%d requests were too large", tooLarge)
		}
		f.on("PATCH", "", func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return true
		})
		clear(f.blobs)
		c, _ = newClient(t, inChunks)
		if _, err := c.Push(t.Context(), st, f.host+"/x:1", PushOptions{}); err == nil || !strings.Contains(err.Error(), "413") {
			t.Errorf("where nothing is small enough: %v", err)
		}
	})
}

// What a registry says of a session is a hint as well: more than there is, or
// nonsense, only costs a new session.
func TestUploadStatus(t *testing.T) {
	for text, want := range map[string]int64{
		"0-4": 5, "bytes=0-4": 5, "0-0": 0, "": 0, "5-9": 0, "0--1": 0, "0-x": 0, "0-": 0, "-": 0,
		"0-99999999999999999999": 0, "0-1099511627775": 1 << 40,
	} {
		f := newFake(t)
		f.on("GET", "/uploads/", func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Range", text)
			w.WriteHeader(http.StatusNoContent)
			return true
		})
		c, _ := newClient(t)
		name, err := parseReference(f.host+"/x:1", false)
		if err != nil {
			t.Fatal(err)
		}
		repo, ctx := c.repository(t.Context(), name, "push")
		s := &session{repo: repo, location: repo.url("blobs/uploads", "1")}
		if got, err := s.status(ctx); err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", text, got, err, want)
		}
		if want < 1<<40 && text != "0-x" {
			continue
		}
		st := pulledStore(t, f.host+"/x:1")
		var u uploads
		u.watch(f, func(n int, _ http.ResponseWriter, _ *http.Request) bool {
			if n == 2 {
				panic(http.ErrAbortHandler)
			}
			return false
		})
		mustPushInChunks(t, f, st)
		checkUpload(t, f, st)
	}
}

// A registry may want larger parts than ours.
func TestUploadInItsChunks(t *testing.T) {
	eachSource(t, func(t *testing.T, f *fakeRegistry, st *imagestore.Store) {
		f.on("POST", "", func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("OCI-Chunk-Min-Length", fmt.Sprint(3*partSize))
			return false
		})
		var u uploads
		u.watch(f, nil)
		mustPushInChunks(t, f, st)
		checkUpload(t, f, st)
		if len(u.ranges) != 3 { // two for the layer, one for the config
			t.Errorf("parts %q", u.ranges)
		}
	})
}

// A token that expires between two parts is replaced, and nothing is lost.
func TestUploadTokenExpires(t *testing.T) {
	eachSource(t, func(t *testing.T, f *fakeRegistry, st *imagestore.Store) {
		var issued, patches atomic.Int32
		f.hook = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/token" {
				fmt.Fprintf(w, `{"token":"t%d"}`, issued.Add(1))
				return true
			}
			if r.Method == http.MethodPatch && patches.Add(1)%2 == 0 {
				issued.Add(1) // what was issued before is no good any more
			}
			if r.Header.Get("Authorization") == fmt.Sprint("Bearer t", issued.Load()) {
				return false
			}
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+f.URL+`/token",service="s"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		mustPushInChunks(t, f, st)
		if n := f.count("POST"); n > 4 { // each session is asked for twice, once without a token
			t.Errorf("%d sessions", n)
		}
		f.hook = nil
		checkUpload(t, f, st)
	})
}

// Two pushes of one layer to one repository do not disturb each other.
func TestUploadTwiceAtOnce(t *testing.T) {
	f := newFake(t)
	st := pulledStore(t, f.host+"/x:1")
	f.on("PATCH", "", func(http.ResponseWriter, *http.Request) bool {
		time.Sleep(5 * time.Millisecond)
		return false
	})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			c, _ := newClient(t, inChunks)
			if _, err := c.Push(t.Context(), reopened(t, st), f.host+"/x:1", PushOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	checkUpload(t, f, st)
}

// Notes of uploads that nobody went on with go with the garbage.
func TestUploadNotesAreCollected(t *testing.T) {
	st := newStore(t)
	note, err := st.UploadNote("x")
	if err != nil || note.Write(noted{Location: digest.FromString("x").String()}) != nil || note.Close() != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ age, left int }{{0, 1}, {25, 0}} {
		at := time.Now().Add(-time.Duration(c.age) * time.Hour)
		for _, path := range uploadNotes(t, st) {
			if err := os.Chtimes(path, at, at); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := st.Collect(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := len(uploadNotes(t, st)); n != c.left {
			t.Errorf("%d notes after %d hours, want %d", n, c.age, c.left)
		}
	}
}
