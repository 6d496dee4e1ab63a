package integration

import (
	"bytes"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"unio/imagestore/registry/registrytest"
)

// slowRegistry stands before a registry and sends large blobs slowly. It knows
// how much of each was asked for twice.
type slowRegistry struct {
	proxy *httputil.ReverseProxy
	pause time.Duration // for each chunk

	mu    sync.Mutex
	until map[string]int64 // by path: where the last answer ended
	twice int64
	sent  int64
}

const slowChunk = 64 << 10

func (s *slowRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
		s.proxy.ServeHTTP(w, r)
		return
	}
	from, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(r.Header.Get("Range"), "bytes="), "-"), 10, 64)
	s.mu.Lock()
	s.twice += max(0, s.until[r.URL.Path]-from)
	s.mu.Unlock()
	s.proxy.ServeHTTP(&slowWriter{ResponseWriter: w, s: s, path: r.URL.Path, at: from}, r)
}

// slowWriter sends a blob from a position on.
type slowWriter struct {
	http.ResponseWriter
	s    *slowRegistry
	path string
	at   int64
}

func (w *slowWriter) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, err := w.ResponseWriter.Write(p[done:min(len(p), done+slowChunk)])
		if err != nil {
			return done, err
		}
		w.ResponseWriter.(http.Flusher).Flush()
		done += n
		w.at += int64(n)
		w.s.mu.Lock()
		w.s.sent += int64(n)
		w.s.until[w.path] = w.at
		w.s.mu.Unlock()
		time.Sleep(w.s.pause)
	}
	return done, nil
}

// TestPullSurvivesKills kills a pull twenty times; what was there is not
// fetched again, and the image is right in the end.
func TestPullSurvivesKills(t *testing.T) {
	const kills = 20
	addr := registrytest.Start(t)
	maker := newBox(t)
	shell(t, maker.dir, "mkdir -p big")
	random := make([]byte, 48<<20)
	_, _ = rand.Read(random)
	must(t, os.WriteFile(maker.path("big/random"), random, 0o644))
	pack(t, maker.path("big"), maker.path("big.tar"))
	maker.run("import", "-q", maker.path("big.tar"), addr+"/big:1")
	maker.run("push", "-q", addr+"/big:1")

	target, err := url.Parse("http://" + addr)
	must(t, err)
	slow := &slowRegistry{proxy: httputil.NewSingleHostReverseProxy(target), pause: 4 * time.Millisecond, until: map[string]int64{}}
	server := httptest.NewServer(slow)
	defer server.Close()
	name := strings.TrimPrefix(server.URL, "http://") + "/big:1"

	b := newBox(t)
	for n := range kills {
		cmd := b.command("pull", "-q", name)
		must(t, cmd.Start())
		time.Sleep(time.Duration(40+mathrand.IntN(80)) * time.Millisecond)
		must(t, cmd.Process.Kill())
		if err := cmd.Wait(); err == nil {
			t.Fatalf("pull %d came to its end before it was killed", n)
		}
		if n%7 == 0 {
			b.assertSound()
			if out := b.run("images", "-q"); out != "" {
				t.Fatalf("half an image after kill %d: %s", n, out)
			}
		}
	}
	b.run("pull", "-q", name)
	got, err := os.ReadFile(b.mount("--read-only", name) + "/random")
	must(t, err)
	if !bytes.Equal(got, random) {
		t.Error("the pulled file differs")
	}
	b.assertSound()
	slow.mu.Lock()
	defer slow.mu.Unlock()
	text := fmt.Sprintf("%d bytes sent, %d of them twice, over %d kills", slow.sent, slow.twice, kills)
	t.Log(text)
	if slow.twice*100 > slow.sent {
		t.Error("more than one per cent: " + text)
	}
}
