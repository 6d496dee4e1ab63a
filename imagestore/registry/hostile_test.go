package registry

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote/auth"

	"unio/imagestore"
)

// thief is a host that no credential may reach. It keeps everything that it is
// sent and answers with what answer says.
type thief struct {
	*httptest.Server
	mu     sync.Mutex
	got    strings.Builder
	calls  int
	answer func(w http.ResponseWriter, r *http.Request)
}

func newThief(t *testing.T, secure bool) *thief {
	th := &thief{answer: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		u, _ := url.QueryUnescape(r.URL.String())
		th.mu.Lock()
		th.calls++
		th.got.WriteString(r.Method + " " + u + "\n")
		for k, v := range r.Header {
			th.got.WriteString(k + ": " + strings.Join(v, ",") + "\n")
		}
		th.got.Write(body)
		th.mu.Unlock()
		th.answer(w, r)
	})
	if secure {
		th.Server = httptest.NewTLSServer(handler)
	} else {
		th.Server = httptest.NewServer(handler)
	}
	t.Cleanup(th.Close)
	return th
}

// stole reports what of the user's secrets has arrived.
func (th *thief) stole(t *testing.T) {
	t.Helper()
	th.mu.Lock()
	defer th.mu.Unlock()
	got := th.got.String()
	for _, secret := range []string{
		secretWord, goodToken, "Authorization",
		base64.StdEncoding.EncodeToString([]byte(userName + ":" + secretWord)),
	} {
		if strings.Contains(got, secret) {
			t.Errorf("%s arrived at another host:\n%s", secret, got)
		}
	}
}

const goodToken = "token-0123456789"

// guarded makes a registry ask for basic credentials before anything else.
func (f *fakeRegistry) guarded() {
	next := f.hook
	f.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if _, password, _ := r.BasicAuth(); password != secretWord {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		return next != nil && next(w, r)
	}
}

// guardedByToken makes a registry ask for a token, which its own /token gives
// to who knows the password.
func (f *fakeRegistry) guardedByToken(realm string) {
	next := f.hook
	f.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/token" {
			if _, password, _ := r.BasicAuth(); password == secretWord {
				w.Write([]byte(`{"token":"` + goodToken + `"}`))
			} else {
				w.WriteHeader(http.StatusUnauthorized)
			}
			return true
		}
		if r.Header.Get("Authorization") != "Bearer "+goodToken {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+realm+`",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		return next != nil && next(w, r)
	}
}

func redirectTo(base string, code int) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, base+r.URL.Path+"?sig=storage-secret", code)
		return true
	}
}

// Registries redirect to the storage behind them. It gives out the blob, and
// sees no credentials.
func TestRedirectedBlobWithoutCredentials(t *testing.T) {
	for name, guard := range map[string]func(*fakeRegistry){
		"basic":  func(f *fakeRegistry) { f.guarded() },
		"bearer": func(f *fakeRegistry) { f.guardedByToken(f.URL + "/token") },
	} {
		t.Run(name, func(t *testing.T) {
			f, th, st := newFake(t), newThief(t, false), newStore(t)
			im := imageOf(t, "", map[string]string{"a": "1"})
			f.publish(t, "1", im)
			f.on("GET", "/blobs/", redirectTo(th.URL, http.StatusTemporaryRedirect))
			guard(f)
			th.answer = func(w http.ResponseWriter, r *http.Request) {
				f.getBlob(w, r, digest.Digest(r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]))
			}
			c, _ := newClient(t, withPassword)
			if _, err := c.Pull(t.Context(), st, f.host+"/x:1", PullOptions{}); err != nil {
				t.Fatal(err)
			}
			if th.calls != 2 {
				t.Errorf("%d requests at the storage, want 2", th.calls)
			}
			th.stole(t)
		})
	}
}

// What a redirect leads to must not be able to ask for credentials.
func TestRedirectedChallengeIsIgnored(t *testing.T) {
	for _, challenge := range []string{`Basic realm="x"`, `Bearer realm="THIEF/token",service="x"`} {
		f, th := newFake(t), newThief(t, false)
		f.publish(t, "1", imageOf(t, "", map[string]string{"a": "1"}))
		f.on("GET", "/blobs/", redirectTo(th.URL, http.StatusFound))
		f.guarded()
		th.answer = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", strings.ReplaceAll(challenge, "THIEF", th.URL))
			w.WriteHeader(http.StatusUnauthorized)
		}
		_, err := pullError1(t, f.host+"/x:1", PullOptions{}, withPassword)
		if strings.Contains(err.Error(), "storage-secret") {
			t.Errorf("error tells the secret in the URL: %v", err)
		}
		th.stole(t)
	}
}

// trusting makes a client that checks certificates against those of the test
// servers and takes no loopback address for safe.
func trusting(t *testing.T, servers ...*httptest.Server) *Client {
	t.Helper()
	c, _ := newClient(t, withPassword)
	conf := &tls.Config{RootCAs: servers[0].Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	c.gate.strict, c.gate.lax = newTransport(conf, false), newTransport(conf, false)
	return c
}

func TestBearerRealmOfAnotherScheme(t *testing.T) {
	f, th := newFakeTLS(t), newThief(t, false)
	f.publish(t, "1", imageOf(t, "", map[string]string{"a": "1"}))
	for _, realm := range []string{th.URL + "/token", "ftp://example.com/", "file:///etc/passwd", "//" + th.Listener.Addr().String()} {
		f.hook = nil
		f.guardedByToken(realm)
		c := trusting(t, f.Server)
		c.schemes[f.host] = "https"
		if _, err := c.Pull(t.Context(), newStore(t), f.host+"/x:1", PullOptions{}); err == nil {
			t.Errorf("realm %s: no error", realm)
		}
	}
	th.stole(t)
	if th.calls > 0 {
		t.Errorf("the realm was asked")
	}
}

func TestRedirectToPlainHTTP(t *testing.T) {
	f, th := newFakeTLS(t), newThief(t, false)
	f.publish(t, "1", imageOf(t, "", map[string]string{"a": "1"}))
	f.on("GET", "/blobs/", redirectTo(th.URL, http.StatusFound))
	f.guarded()
	c := trusting(t, f.Server)
	c.schemes[f.host] = "https"
	if _, err := c.Pull(t.Context(), newStore(t), f.host+"/x:1", PullOptions{}); !errors.Is(err, ErrUnsafe) {
		t.Errorf("got %v", err)
	}
	if th.calls > 0 {
		t.Error("the redirect was followed")
	}
}

func TestForeignLayerWithoutCredentials(t *testing.T) {
	f, th, st := newFake(t), newThief(t, false), newStore(t)
	im := imageOf(t, "", map[string]string{"a": "1"})
	blob := im.blobs[0]
	im.blobs = nil
	im.manifest.Layers[0].MediaType = imagestore.MediaTypeDockerForeignLayer
	im.manifest.Layers[0].URLs = []string{"ftp://example.com/x", "no url", th.URL + "/foreign"}
	f.publish(t, "1", im)
	f.guarded()
	th.answer = func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/foreign" {
			w.Write(blob)
		}
	}
	c, _ := newClient(t, withPassword)
	if _, err := c.Pull(t.Context(), st, f.host+"/x:1", PullOptions{}); err != nil {
		t.Fatal(err)
	}
	if th.calls != 1 {
		t.Errorf("%d requests at the foreign host", th.calls)
	}
	th.stole(t)
}

// Only the layer types that are made for it may name other hosts.
func TestURLsOfOrdinaryLayerAreIgnored(t *testing.T) {
	f, th := newFake(t), newThief(t, false)
	im := imageOf(t, "", map[string]string{"a": "1"})
	im.blobs = nil
	im.manifest.Layers[0].URLs = []string{th.URL}
	f.publish(t, "1", im)
	if _, err := pullError1(t, f.host+"/x:1", PullOptions{}); err == nil || th.calls > 0 {
		t.Errorf("%v, %d requests", err, th.calls)
	}
}

func TestTagListLeadsElsewhere(t *testing.T) {
	f, th := newFake(t), newThief(t, false)
	f.on("GET", "/tags/list", func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Link", "<"+th.URL+"/v2/x/tags/list>; rel=next")
		w.Write([]byte(`{"tags":["1"]}`))
		return true
	})
	f.guarded()
	_, err := pullError1(t, f.host+"/x", PullOptions{AllTags: true}, withPassword)
	if !errors.Is(err, ErrUnsafe) || th.calls > 0 {
		t.Errorf("%v, %d requests", err, th.calls)
	}
}

// Uploads stay where they began, whatever Location and redirects say.
func TestUploadLeadsElsewhere(t *testing.T) {
	cases := map[string]func(f *fakeRegistry, th *thief){
		"location": func(f *fakeRegistry, th *thief) {
			f.on("POST", "", func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Location", th.URL+"/upload")
				w.WriteHeader(http.StatusAccepted)
				return true
			})
		},
		"second location": func(f *fakeRegistry, th *thief) {
			f.on("PATCH", "", func(w http.ResponseWriter, r *http.Request) bool {
				io.Copy(io.Discard, r.Body)
				w.Header().Set("Location", th.URL+"/upload")
				w.WriteHeader(http.StatusAccepted)
				return true
			})
		},
		"location with a user": func(f *fakeRegistry, _ *thief) {
			f.on("POST", "", func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Location", "http://a:b@"+f.host+"/upload")
				w.WriteHeader(http.StatusAccepted)
				return true
			})
		},
		"redirected POST":  func(f *fakeRegistry, th *thief) { f.on("POST", "", redirectTo(th.URL, http.StatusTemporaryRedirect)) },
		"redirected PATCH": func(f *fakeRegistry, th *thief) { f.on("PATCH", "", redirectTo(th.URL, http.StatusTemporaryRedirect)) },
		"redirected PUT":   func(f *fakeRegistry, th *thief) { f.on("PUT", "/blobs/", redirectTo(th.URL, http.StatusFound)) },
		"redirected manifest": func(f *fakeRegistry, th *thief) {
			f.on("PUT", "/manifests/", redirectTo(th.URL, http.StatusPermanentRedirect))
		},
	}
	for name, set := range cases {
		t.Run(name, func(t *testing.T) {
			f, th, st := newFake(t), newThief(t, false), newStore(t)
			th.answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) }
			addLocal(t, st, f.host+"/x:1", map[string]string{"a": "1"})
			set(f, th)
			f.guarded()
			c, _ := newClient(t, withPassword)
			if _, err := c.Push(t.Context(), st, f.host+"/x:1", PushOptions{}); err == nil {
				t.Error("push succeeded")
			}
			if th.calls > 0 {
				t.Errorf("something was sent elsewhere:\n%s", th.got.String())
			}
			th.stole(t)
		})
	}
}

func TestPlainHTTPOnlyWhereAllowed(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "127.0.0.1:5000": true, "127.9.9.9": true, "[::1]:5000": true,
		"example.com": false, "example.com:5000": true, "other.example:5000": true, "other.example": true,
		"localhost.example.com": false, "10.0.0.1:5000": false, "10.9.0.1:5000": true, "10.9.255.255": true, "10.10.0.1": false,
		"[fd00::7]:5000": true, "[fd01::7]:5000": false, "ten-nine.example": false, "127.0.0.1.example.com": false,
	} {
		if got := (hostRules{"example.com:5000", "other.example", "10.9.0.0/16", "fd00::/16"}).insecure(host); got != want {
			t.Errorf("%s: %v", host, got)
		}
	}
	c, _ := newClient(t)
	for _, u := range []string{"http://example.com/", "ftp://example.com/", "http://10.1.2.3/"} {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, u, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.plain.Do(req); !errors.Is(err, ErrUnsafe) {
			t.Errorf("%s: %v", u, err)
		}
	}
	if s := c.scheme(t.Context(), "example.com"); s != "https" {
		t.Errorf("scheme is %s", s)
	}
}

// A manifest from elsewhere must not make us ask services of this machine.
func TestForeignLayerAtThisMachine(t *testing.T) {
	th := newThief(t, false)
	c, _ := newClient(t)
	r := &repository{c: c, host: "registry.example:443", scheme: "https"}
	b := r.openBlob(t.Context(), ocispec.Descriptor{
		MediaType: imagestore.MediaTypeDockerForeignLayer, URLs: []string{th.URL, "http://localhost:1/", "https://[::1]/"}, Size: 1,
	})
	if err := b.fetchForeign(t.Context(), nil); !errors.Is(err, ErrUnsafe) || th.calls > 0 {
		t.Errorf("%v, %d requests", err, th.calls)
	}
	redirect := &http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "http", Host: "localhost:1"}}
	from := &http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "https", Host: "registry.example"}}
	if err := c.checkRedirect(redirect, []*http.Request{from}); !errors.Is(err, ErrUnsafe) {
		t.Errorf("redirect: %v", err)
	}
}

// Images without a registry in their name live at docker's own.
func TestDockerHub(t *testing.T) {
	c, _ := newClient(t)
	name, err := parseReference("busybox", false)
	if err != nil {
		t.Fatal(err)
	}
	r, ctx := c.repository(t.Context(), name, "pull")
	if u := r.url("manifests", "latest").String(); u != "https://registry-1.docker.io/v2/library/busybox/manifests/latest" {
		t.Errorf("url is %s", u)
	}
	if s := auth.GetScopesForHost(ctx, "registry-1.docker.io"); len(s) != 1 || s[0] != "repository:library/busybox:pull" {
		t.Errorf("scopes are %q", s)
	}
}

// The next address of an upload stays at the registry; one that only forgot
// how it was asked is put right.
func TestUploadLocation(t *testing.T) {
	base := &url.URL{Scheme: "https", Host: "registry.example:5000", Path: "/v2/x/blobs/uploads/"}
	plain := &url.URL{Scheme: "http", Host: "localhost:5000", Path: "/v2/x/blobs/uploads/"}
	for _, c := range []struct {
		base       *url.URL
		says, goes string
	}{
		{base, "/up?a=b", "https://registry.example:5000/up?a=b"},
		{base, "up", "https://registry.example:5000/v2/x/blobs/uploads/up"},
		{base, "http://registry.example/up", "https://registry.example:5000/up"},
		{base, "https://registry.example/up", "https://registry.example:5000/up"},
		{base, "http://registry.example:80/up", "https://registry.example:5000/up"},
		{base, "http://registry.example:5000/up", "https://registry.example:5000/up"},
		{base, "ftp://registry.example:21/up", ""},
		{base, "https://other.example:5000/up", ""},
		{base, "https://registry.example:5001/up", ""},
		{base, "//other.example/up", ""},
		{base, "https://me@registry.example:5000/up", ""},
		{base, "", ""},
		{plain, "http://localhost:5000/up", "http://localhost:5000/up"},
		{plain, "http://localhost/up", ""},
		{plain, "https://localhost:5000/up", ""},
	} {
		s := &session{}
		err := s.moveTo(&http.Response{Header: http.Header{"Location": {c.says}}}, c.base)
		if err != nil && c.goes == "" {
			continue
		}
		if err != nil || s.location.String() != c.goes {
			t.Errorf("%s from %s: %v, %v; want %q", c.says, c.base, s.location, err, c.goes)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": -1, "7": 7 * time.Second, "0": 0, "-1": -1, "x": -1, "99999999999999": -1,
		"Wed, 01 May 2024 12:00:30 GMT": 30 * time.Second, "Wed, 01 May 2024 11:00:00 GMT": 0,
	} {
		got, ok := retryAfter(http.Header{"Retry-After": {text}}, now)
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
	p := &policy{first: time.Millisecond}
	for seconds, again := range map[string]bool{"1": true, "120": true, "121": false} {
		for _, code := range []int{429, 503} {
			resp := &http.Response{StatusCode: code, Header: http.Header{"Retry-After": {seconds}}}
			if d, err := p.Retry(0, resp, nil); err != nil || (d > 0) != again || again && d < time.Second {
				t.Errorf("%d, %s s: %v, %v", code, seconds, d, err)
			}
		}
	}
}
