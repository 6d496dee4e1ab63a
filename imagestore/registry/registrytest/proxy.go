package registrytest

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// Proxy stands between a client and a registry. It passes everything on as it
// is, keeps account of it, and misbehaves by the rules that it is given, as
// networks, caches and bad registries do.
type Proxy struct {
	// Addr is what a client calls the registry by, "127.0.0.1:port".
	Addr string
	// Server is the proxy itself.
	Server *httptest.Server

	pass http.Handler

	mu    sync.Mutex
	rules []*rule
	seen  []Request
	sent  map[string]int64 // bytes of bodies by path
}

// Request is one that a client has made.
type Request struct {
	Method, Path, Range, Authorization string
}

// Fault is a way to misbehave: it answers a request, with the help of serve,
// which answers as the registry does.
type Fault func(w http.ResponseWriter, r *http.Request, serve http.Handler)

type rule struct {
	method, path string
	times        int
	do           Fault
}

// NewProxy starts a proxy before the registry at addr until the test ends.
func NewProxy(t testing.TB, addr string) *Proxy {
	t.Helper()
	backend := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr})
	backend.ErrorLog = log.New(io.Discard, "", 0)
	backend.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	backend.FlushInterval = -1
	p := &Proxy{pass: backend, sent: map[string]int64{}}
	p.Server = httptest.NewUnstartedServer(p)
	p.Server.Config.ErrorLog = backend.ErrorLog
	p.Server.Start()
	t.Cleanup(func() { p.Server.CloseClientConnections(); p.Server.Close() })
	p.Addr = p.Server.Listener.Addr().String()
	return p
}

// On answers the next requests of a method ("" for any) whose path contains part by a
// fault; times 0 means all of them. A later rule goes before an earlier one.
func (p *Proxy) On(method, part string, times int, do Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if times == 0 {
		times = 1 << 30
	}
	p.rules = append([]*rule{{method, part, times, do}}, p.rules...)
}

// Calm drops all rules, and forgets what went before.
func (p *Proxy) Calm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules, p.seen, p.sent = nil, nil, map[string]int64{}
}

// Seen lists the requests of a method whose path contains part.
func (p *Proxy) Seen(method, part string) []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []Request
	for _, r := range p.seen {
		if r.Method == method && strings.Contains(r.Path, part) {
			list = append(list, r)
		}
	}
	return list
}

// Sent adds up the bytes of the answers to requests whose path contains part.
func (p *Proxy) Sent(part string) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	var n int64
	for path, bytes := range p.sent {
		if strings.Contains(path, part) {
			n += bytes
		}
	}
	return n
}

// ServeHTTP answers one request.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.seen = append(p.seen, Request{r.Method, r.URL.Path, r.Header.Get("Range"), r.Header.Get("Authorization")})
	var do Fault
	for _, rule := range p.rules {
		if rule.times > 0 && (rule.method == "" || rule.method == r.Method) && strings.Contains(r.URL.Path, rule.path) {
			rule.times--
			do = rule.do
			break
		}
	}
	p.mu.Unlock()
	w = &account{ResponseWriter: w, p: p, path: r.URL.Path}
	if do == nil {
		p.pass.ServeHTTP(w, r)
		return
	}
	do(w, r, p.pass)
}

// account counts what is sent.
type account struct {
	http.ResponseWriter
	p    *Proxy
	path string
}

func (a *account) Write(b []byte) (int, error) {
	n, err := a.ResponseWriter.Write(b)
	a.p.mu.Lock()
	a.p.sent[a.path] += int64(n)
	a.p.mu.Unlock()
	return n, err
}

func (a *account) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// flush sends what was written, through all writers that lie around the one
// that can.
func flush(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }

// writer passes an answer on and lets a fault change it.
type writer struct {
	http.ResponseWriter
	head func(code int, h http.Header) // before the header goes out; may be nil
	body func(p []byte) (int, error)   // in place of Write; may be nil
}

func (w *writer) WriteHeader(code int) {
	if w.head != nil {
		w.head(code, w.Header())
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *writer) Write(p []byte) (int, error) {
	if w.body != nil {
		return w.body(p)
	}
	return w.ResponseWriter.Write(p)
}

func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Refuse closes the connection without an answer.
func Refuse() Fault {
	return func(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }
}

// Break cuts the connection after n bytes of the answer.
func Break(n int64) Fault {
	return func(w http.ResponseWriter, r *http.Request, serve http.Handler) {
		left := n
		serve.ServeHTTP(&writer{ResponseWriter: w, body: func(p []byte) (int, error) {
			part := p[:min(left, int64(len(p)))]
			_, _ = w.Write(part)
			flush(w)
			if left -= int64(len(part)); left == 0 {
				panic(http.ErrAbortHandler)
			}
			return len(p), nil
		}}, r)
	}
}

// Truncate ends the answer in good order after n bytes, in chunked encoding, so
// that nothing but the manifest tells that it is too short.
func Truncate(n int64) Fault {
	return func(w http.ResponseWriter, r *http.Request, serve http.Handler) {
		left := n
		serve.ServeHTTP(&writer{
			ResponseWriter: w,
			head:           func(_ int, h http.Header) { h.Del("Content-Length") },
			body: func(p []byte) (int, error) {
				part := p[:min(left, int64(len(p)))]
				left -= int64(len(part))
				_, err := w.Write(part)
				return len(p), err
			},
		}, r)
	}
}

// Slow sends the answer in pieces with a pause after each.
func Slow(piece int, pause time.Duration) Fault {
	return func(w http.ResponseWriter, r *http.Request, serve http.Handler) {
		serve.ServeHTTP(&writer{ResponseWriter: w, body: func(p []byte) (int, error) {
			for done := 0; done < len(p); done += piece {
				if _, err := w.Write(p[done:min(done+piece, len(p))]); err != nil {
					return done, err
				}
				flush(w)
				time.Sleep(pause)
			}
			return len(p), nil
		}}, r)
	}
}

// Stall sends n bytes and then nothing, until the client has enough of it.
func Stall(n int64) Fault {
	return func(w http.ResponseWriter, r *http.Request, serve http.Handler) {
		left := n
		serve.ServeHTTP(&writer{ResponseWriter: w, body: func(p []byte) (int, error) {
			part := p[:min(left, int64(len(p)))]
			_, _ = w.Write(part)
			flush(w)
			if left -= int64(len(part)); left == 0 {
				<-r.Context().Done()
				panic(http.ErrAbortHandler)
			}
			return len(p), nil
		}}, r)
	}
}

// Status answers with a code and, as pairs, headers.
func Status(code int, headers ...string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(code)
	}
}

// Redirect sends the client to the same path at another base URL, with a
// query that is a secret of the storage there.
func Redirect(base string) Fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		http.Redirect(w, r, base+r.URL.Path+"?signature=storage-secret", http.StatusTemporaryRedirect)
	}
}

// NoRanges sends everything from its start, whatever was asked for.
func NoRanges() Fault {
	return func(w http.ResponseWriter, r *http.Request, serve http.Handler) {
		r.Header.Del("Range")
		serve.ServeHTTP(w, r)
	}
}

// Lie changes the header of an answer.
func Lie(change func(h http.Header)) Fault {
	return func(w http.ResponseWriter, r *http.Request, serve http.Handler) {
		serve.ServeHTTP(&writer{
			ResponseWriter: w,
			head:           func(_ int, h http.Header) { change(h) },
			// A longer body than was promised is an error here, not there.
			body: func(p []byte) (int, error) { _, _ = w.Write(p); return len(p), nil },
		}, r)
	}
}

// Corrupt inverts the byte at an offset of the answer.
func Corrupt(offset int64) Fault {
	return func(w http.ResponseWriter, r *http.Request, serve http.Handler) {
		at := int64(0)
		serve.ServeHTTP(&writer{ResponseWriter: w, body: func(p []byte) (int, error) {
			if i := offset - at; i >= 0 && i < int64(len(p)) {
				p = bytes.Clone(p)
				p[i] = ^p[i]
			}
			at += int64(len(p))
			return w.Write(p)
		}}, r)
	}
}

// Flood answers with n bytes of JSON that means nothing.
func Flood(mediaType string, n int64) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", mediaType)
		block := bytes.Repeat([]byte(" "), 64<<10)
		fmt.Fprint(w, "{")
		for ; n > 0; n -= int64(len(block)) {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}
}

// Whole passes a request on when all of its body is there, as nginx does; one
// that breaks on the way never reaches the registry.
func Whole() Fault {
	return func(w http.ResponseWriter, r *http.Request, serve http.Handler) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
		serve.ServeHTTP(w, r)
	}
}

// BreakRequest takes n bytes of the body of a request, passes them on if pass
// is true, and cuts the connection.
func BreakRequest(n int64, pass bool) Fault {
	return func(_ http.ResponseWriter, r *http.Request, serve http.Handler) {
		part, _ := io.ReadAll(io.LimitReader(r.Body, n))
		if pass {
			r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(part), broken{}))
			func() {
				defer func() { _ = recover() }() // the backend's own word for it
				serve.ServeHTTP(httptest.NewRecorder(), r)
			}()
		}
		panic(http.ErrAbortHandler)
	}
}

// broken is the end of a connection.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, net.ErrClosed }
