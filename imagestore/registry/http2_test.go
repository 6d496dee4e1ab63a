package registry

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// Over HTTP/2 connections break in other ways: a stream is reset, or the
// server says goodbye, and errors have other types.
func TestHTTP2(t *testing.T) {
	f, st := newFakeHTTP2(t), newStore(t)
	im := bigImage(t)
	f.publish(t, "1", im)
	var n atomic.Int32
	f.on("GET", "", func(w http.ResponseWriter, r *http.Request) bool {
		if r.ProtoMajor != 2 {
			t.Errorf("%s %s by %s", r.Method, r.URL, r.Proto)
		}
		switch n.Add(1) {
		case 2, 4: // the probe and manifests come first
			panic(http.ErrAbortHandler)
		case 6:
			w.Header().Set("Connection", "close") // as GOAWAY
		}
		return false
	})
	f.on("GET", im.manifest.Layers[0].Digest.String(), func(w http.ResponseWriter, r *http.Request) bool {
		if n.Add(1)%2 == 0 {
			breakOff(w, r, im.blobs[0], 500_000, true)
		}
		return false
	})
	mustPull(t, st, f.host+"/x:1")
	if err := st.Tag(t.Context(), f.host+"/x:1", f.host+"/y:1"); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	clear(f.blobs)
	f.mu.Unlock()
	for _, method := range []string{"POST", "PATCH", "PUT"} {
		var n atomic.Int32
		f.on(method, "", func(_ http.ResponseWriter, r *http.Request) bool {
			switch n.Add(1) {
			case 2:
				io.CopyN(io.Discard, r.Body, 1000)
				panic(http.ErrAbortHandler)
			case 3:
				panic(http.ErrAbortHandler)
			}
			return false
		})
	}
	c, _ := newClient(t, inChunks)
	if _, err := c.Push(t.Context(), st, f.host+"/y:1", PushOptions{}); err != nil {
		t.Fatal(err)
	}
	f.hook = nil
	mustPull(t, newStore(t), f.host+"/y:1")
}

// A registry that is away for a moment in the middle of a pull, so that nobody
// even listens, ends nothing; one that was never there does at once.
func TestPullSurvivesRestart(t *testing.T) {
	f := newFake(t)
	im := bigImage(t)
	f.publish(t, "1", im)
	var gone atomic.Bool
	back := make(chan struct{})
	f.on("GET", im.manifest.Layers[0].Digest.String(), func(w http.ResponseWriter, r *http.Request) bool {
		if gone.Swap(true) {
			return false
		}
		f.Listener.Close()
		go func() {
			defer close(back)
			time.Sleep(50 * time.Millisecond)
			l, err := net.Listen("tcp", f.host)
			if err != nil {
				t.Error(err)
				return
			}
			again := httptest.NewUnstartedServer(f)
			again.Listener.Close()
			again.Listener = l
			again.Start()
			t.Cleanup(again.Close)
		}()
		breakOff(w, r, im.blobs[0], 300_000, true)
		return true
	})
	c, _ := newClient(t, func(o *Options) { o.RetryWait = 10 * time.Millisecond })
	_, err := c.Pull(t.Context(), newStore(t), f.host+"/x:1", PullOptions{})
	<-back
	if err != nil {
		t.Fatal(err)
	}
}
