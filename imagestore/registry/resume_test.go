package registry

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"unio/imagestore"
)

// sentMeter counts the bytes of a blob that a registry has sent.
type sentMeter struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (m sentMeter) Write(p []byte) (int, error) {
	n, err := m.ResponseWriter.Write(p)
	m.n.Add(int64(n))
	return n, err
}

// A pull that was broken off goes on where it stood, in another process, and
// what a registry without ranges sends again is read over.
func TestPullGoesOnLater(t *testing.T) {
	for name, ranges := range map[string]bool{"with ranges": true, "without ranges": false} {
		t.Run(name, func(t *testing.T) {
			f, st := newFake(t), newStore(t)
			im := bigImage(t)
			f.publish(t, "1", im)
			blob := im.manifest.Layers[0].Digest
			half := len(im.blobs[0]) / 2
			var down atomic.Bool
			var asked []string
			down.Store(true)
			f.on("GET", blob.String(), func(w http.ResponseWriter, r *http.Request) bool {
				asked = append(asked, r.Header.Get("Range"))
				switch {
				case len(asked) == 1:
					w.Header().Set("Content-Length", strconv.Itoa(len(im.blobs[0])))
					w.Write(im.blobs[0][:half])
					w.(http.Flusher).Flush()
					panic(http.ErrAbortHandler)
				case down.Load():
					http.Error(w, "gone", http.StatusNotFound)
					return true
				case !ranges:
					r.Header.Del("Range")
				}
				return false
			})
			c, _ := newClient(t)
			if _, err := c.Pull(t.Context(), st, f.host+"/x:1", PullOptions{}); err == nil {
				t.Fatal("pulled from a registry that has gone")
			}
			if list, _ := st.List(t.Context()); len(list) > 0 {
				t.Errorf("half an image is there: %v", list[0].ID)
			}
			down.Store(false)
			asked = asked[:0]
			mustPull(t, reopened(t, st), f.host+"/x:1")
			if want := "bytes=" + strconv.Itoa(half) + "-"; len(asked) == 0 || asked[len(asked)-1] != want {
				t.Errorf("asked for %q, want %q", asked, want)
			}
			if left := partials(t, st); len(left) > 0 {
				t.Errorf("left in the store: %q", left)
			}
		})
	}
}

func reopened(t *testing.T, st *imagestore.Store) *imagestore.Store {
	t.Helper()
	again, err := imagestore.Open(st.Root(), imagestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return again
}

func partials(t *testing.T, st *imagestore.Store) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(st.Root(), "state/tmp/partial-*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// What an earlier attempt left may be damaged, by a power cut for one.
func TestPullOverDamagedPartial(t *testing.T) {
	for name, have := range map[string]func(blob []byte) []byte{
		"zeros":    func(b []byte) []byte { return append(b[:1000:1000], make([]byte, 5000)...) },
		"too long": func(b []byte) []byte { return append(bytes.Clone(b), 'x') },
		"complete": bytes.Clone,
		"garbage":  func(b []byte) []byte { return bytes.Repeat([]byte("no"), len(b)/4) },
	} {
		t.Run(name, func(t *testing.T) {
			f, st := newFake(t), newStore(t)
			im := bigImage(t)
			f.publish(t, "1", im)
			path := filepath.Join(st.Root(), "state/tmp/partial-sha256-"+im.manifest.Layers[0].Digest.Encoded())
			if err := os.WriteFile(path, have(im.blobs[0]), 0o600); err != nil {
				t.Fatal(err)
			}
			mustPull(t, st, f.host+"/x:1")
			if left := partials(t, st); len(left) > 0 {
				t.Errorf("left in the store: %q", left)
			}
		})
	}
}

// A layer that two pulls want at once is fetched once.
func TestPullTwiceAtOnce(t *testing.T) {
	f, st := newFake(t), newStore(t)
	im := bigImage(t)
	f.publish(t, "1", im)
	f.publish(t, "2", im)
	var sent atomic.Int64
	f.on("GET", im.manifest.Layers[0].Digest.String(), func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Length", strconv.Itoa(len(im.blobs[0])))
		_, _ = io.Copy(sentMeter{w, &sent}, bytes.NewReader(im.blobs[0]))
		return true
	})
	var g errgroup.Group
	for _, tag := range []string{"1", "2"} {
		g.Go(func() error {
			c, _ := newClient(t)
			_, err := c.Pull(t.Context(), reopened(t, st), f.host+"/x:"+tag, PullOptions{})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := sent.Load(); n != int64(len(im.blobs[0])) {
		t.Errorf("sent %d bytes of a layer of %d", n, len(im.blobs[0]))
	}
}

// A layer that is not what its digest says leaves nothing behind.
func TestPullWrongContentLeavesNothing(t *testing.T) {
	f, st := newFake(t), newStore(t)
	im := bigImage(t)
	f.publish(t, "1", im)
	bad := bytes.Clone(im.blobs[0])
	bad[len(bad)-20] ^= 1
	f.on("GET", im.manifest.Layers[0].Digest.String(), func(w http.ResponseWriter, _ *http.Request) bool {
		w.Write(bad)
		return true
	})
	c, _ := newClient(t)
	_, err := c.Pull(t.Context(), st, f.host+"/x:1", PullOptions{})
	if err == nil || !strings.Contains(err.Error(), "verification failed") {
		t.Errorf("got %v", err)
	}
	if left := partials(t, st); len(left) > 0 {
		t.Errorf("left in the store: %q", left)
	}
}
