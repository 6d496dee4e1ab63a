package integration

import (
	"fmt"
	"io"
	"log"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"unio/imagestore/registry/registrytest"
)

// slowRegistry stands before a registry and sends large blobs slowly. It knows
// how much of each was asked for twice.
type slowRegistry struct {
	proxy *httputil.ReverseProxy
	chunk int          // bytes
	pause atomic.Int64 // nanoseconds after each chunk
	still sync.RWMutex // held by who wants nothing sent
	kills int          // guarded by still

	mu    sync.Mutex
	until map[string]int64 // by path: where the last answer ended
	twice int64
	sent  int64
}

func (s *slowRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
		s.proxy.ServeHTTP(w, r)
		return
	}
	from, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(r.Header.Get("Range"), "bytes="), "-"), 10, 64)
	s.mu.Lock()
	s.twice += max(0, s.until[r.URL.Path]-from)
	s.mu.Unlock()
	s.still.RLock()
	kills := s.kills
	s.still.RUnlock()
	s.proxy.ServeHTTP(&slowWriter{ResponseWriter: w, s: s, path: r.URL.Path, at: from, kills: kills}, r)
}

// slowWriter sends a blob from a position on.
type slowWriter struct {
	http.ResponseWriter
	s     *slowRegistry
	path  string
	at    int64
	kills int // before the answer began
}

func (w *slowWriter) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		w.s.still.RLock()
		n, err := w.write(p[done:min(len(p), done+w.s.chunk)])
		done += n
		w.at += int64(n)
		w.s.mu.Lock()
		w.s.sent += int64(n)
		w.s.until[w.path] = w.at
		w.s.mu.Unlock()
		w.s.still.RUnlock()
		if err != nil {
			return done, err
		}
		time.Sleep(time.Duration(w.s.pause.Load()))
	}
	return done, nil
}

// write sends to a client that lives: one that was killed takes nothing, though
// its kernel does, for a moment.
func (w *slowWriter) write(p []byte) (int, error) {
	if w.kills != w.s.kills {
		return 0, http.ErrAbortHandler
	}
	n, err := w.ResponseWriter.Write(p)
	w.ResponseWriter.(http.Flusher).Flush()
	return n, err
}

// kill ends a pull, at any moment of its work, when all that was sent has
// arrived: what lies in the buffers of a connection, for want of a processor,
// says nothing about the program.
func (s *slowRegistry) kill(t *testing.T, b *box, p *os.Process) {
	t.Helper()
	s.still.Lock()
	defer s.still.Unlock()
	for range 5000 {
		if s.arrived(b) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	s.kills++
	must(t, p.Kill())
}

// arrived reports whether the store has all that was sent of each layer.
func (s *slowRegistry) arrived(b *box) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for path, until := range s.until {
		fi, err := os.Stat(b.path("store/state/tmp/partial-sha256-" + path[len(path)-64:]))
		if err == nil && fi.Size() < until {
			return false
		}
	}
	return true
}

// killedPull is how much a pull that is killed brings, and when it is killed.
type killedPull struct {
	layers, mib int           // of random content, each
	chunk       int           // bytes that the registry sends every 4 ms
	least, most time.Duration // a pull lives
}

// size returns a small one, or with UNIO_TEST_LONG twelve layers of 800 MiB.
func (killedPull) size() killedPull {
	if os.Getenv("UNIO_TEST_LONG") != "" {
		return killedPull{layers: 12, mib: 67, chunk: 64 << 10, least: 200 * time.Millisecond, most: 450 * time.Millisecond}
	}
	return killedPull{layers: 1, mib: 48, chunk: 16 << 10, least: 40 * time.Millisecond, most: 120 * time.Millisecond}
}

// push makes the image, a file in each layer, and pushes it.
func (k killedPull) push(t *testing.T, b *box, ref string) {
	t.Helper()
	shell(t, b.dir, fmt.Sprintf("mkdir -p big/first; for n in $(seq %d); do head -c %dM /dev/urandom >big/$n; done; tar -cf first.tar -C big/first .", k.layers, k.mib))
	b.run("import", "-q", b.path("first.tar"), ref)
	for n := range k.layers {
		mnt := b.mount("--name", "maker", ref)
		shell(t, b.dir, fmt.Sprintf("cp big/%d %s/", n+1, mnt))
		b.run("commit", "maker", ref)
		b.run("umount", mnt)
		b.run("rm", "maker")
	}
	shell(t, b.dir, "rmdir big/first")
	b.run("push", "-q", ref)
}

// TestPullSurvivesKills kills a pull twenty times; what was there is not
// fetched again, and the image is right in the end.
func TestPullSurvivesKills(t *testing.T) {
	const kills = 20
	k := killedPull{}.size()
	addr := registrytest.Start(t)
	maker := newBox(t)
	k.push(t, maker, addr+"/big:1")

	target, err := url.Parse("http://" + addr)
	must(t, err)
	slow := &slowRegistry{proxy: httputil.NewSingleHostReverseProxy(target), chunk: k.chunk, until: map[string]int64{}}
	slow.proxy.ErrorLog = log.New(io.Discard, "", 0)
	slow.pause.Store(int64(4 * time.Millisecond))
	server := httptest.NewServer(slow)
	defer server.Close()
	name := strings.TrimPrefix(server.URL, "http://") + "/big:1"

	b := newBox(t)
	for n := range kills {
		cmd := b.command("pull", "-q", name)
		must(t, cmd.Start())
		time.Sleep(k.least + mathrand.N(k.most-k.least))
		slow.kill(t, b, cmd.Process)
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
	slow.pause.Store(0)
	b.run("pull", "-q", name)
	if out := shell(t, maker.dir, "diff -r big "+b.mount("--read-only", name)); out != "" {
		t.Errorf("what was pulled differs: %s", out)
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
