package registry_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote/auth"

	"unio/imagestore"
	"unio/imagestore/registry"
	"unio/imagestore/registry/registrytest"
)

// These tests put a proxy with faults before Debian's docker-registry.

// published is an image in a registry: a layer of 3 MiB that does not compress,
// and a small one.
type published struct {
	addr   string
	st     *imagestore.Store // where it was pushed from
	pushed registry.Pushed
	big    ocispec.Descriptor
}

const publishedName = "some/app:1"

// publish pushes the image to a new registry.
func publish(t *testing.T) *published {
	t.Helper()
	p := &published{addr: registrytest.Start(t), st: openStore(t)}
	p.pushTo(t, p.addr, registry.Options{})
	return p
}

func (p *published) pushTo(t *testing.T, addr string, o registry.Options) {
	t.Helper()
	ref := addr + "/" + publishedName
	localImage(t, p.st, ref, layerTar(t, map[string][]byte{"big": randomBytes(3<<20, 7)}), layerTar(t, map[string][]byte{"a": []byte("1")}))
	got, err := registry.New(o).Push(t.Context(), p.st, ref, registry.PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p.pushed = got[0]
	other := openStore(t)
	if _, err := registry.New(o).Pull(t.Context(), other, ref, registry.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	img, err := other.Lookup(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	p.big = img.Layers[0].Blob
}

// impatient makes a client that waits for nothing long.
func impatient(change ...func(*registry.Options)) *registry.Client {
	o := registry.Options{RetryWait: time.Millisecond, Stall: 10 * time.Second, Credentials: nobody}
	for _, f := range change {
		f(&o)
	}
	return registry.New(o)
}

func nobody(context.Context, string) (auth.Credential, error) { return auth.EmptyCredential, nil }

func someone(o *registry.Options) {
	o.Credentials = func(context.Context, string) (auth.Credential, error) {
		return auth.Credential{Username: registrytest.User, Password: registrytest.Password}, nil
	}
}

// pullFault is one way in which a pull is disturbed, and what comes of it.
type pullFault struct {
	set  func(x *registrytest.Proxy, big string)
	want error // nil: the pull succeeds
	says string
	// gets is how often the big blob is asked for, 0: any number.
	gets int
	// twice is how much of the blob may come more than once, in bytes.
	twice int64
}

const mib = 1 << 20

func pullFaults() map[string]pullFault {
	lie := func(key, value string) registrytest.Fault {
		return registrytest.Lie(func(h http.Header) { h.Set(key, value) })
	}
	return map[string]pullFault{
		"connections dropped before the answer": {gets: 4, set: func(x *registrytest.Proxy, big string) { x.On("GET", big, 3, registrytest.Refuse()) }},
		"connections broken on the way":         {gets: 6, set: func(x *registrytest.Proxy, big string) { x.On("GET", big, 5, registrytest.Break(500_000)) }},
		"answers that end too early, in good order": {gets: 4, set: func(x *registrytest.Proxy, big string) {
			x.On("GET", big, 3, registrytest.Truncate(700_000))
		}},
		"a slow server": {gets: 1, set: func(x *registrytest.Proxy, _ string) {
			x.On("GET", "", 0, registrytest.Slow(100_000, time.Millisecond))
		}},
		"a server that falls silent": {gets: 3, set: func(x *registrytest.Proxy, big string) { x.On("GET", big, 2, registrytest.Stall(600_000)) }},
		"too many requests": {gets: 3, set: func(x *registrytest.Proxy, big string) {
			x.On("GET", big, 2, registrytest.Status(http.StatusTooManyRequests, "Retry-After", "0"))
		}},
		"a server that restarts": {gets: 5, set: func(x *registrytest.Proxy, big string) {
			for _, code := range []int{500, 502, 503, 504} {
				x.On("GET", big, 1, registrytest.Status(code))
			}
			x.On("GET", "/manifests/", 2, registrytest.Status(503))
		}},
		"no ranges, and a break": {gets: 2, twice: 2 * mib, set: func(x *registrytest.Proxy, big string) {
			x.On("GET", big, 0, registrytest.NoRanges())
			x.On("GET", big, 1, registrytest.Break(2*mib))
		}},
		"ranges that lie, and a break": {gets: 3, twice: 3 * mib, set: func(x *registrytest.Proxy, big string) {
			x.On("GET", big, 1, lie("Content-Range", "bytes 0-99/100"))
			x.On("GET", big, 1, registrytest.Break(1*mib))
		}},
		"a break after each quarter, and errors in between": {set: func(x *registrytest.Proxy, big string) {
			for range 4 {
				x.On("GET", big, 1, registrytest.Break(700_000))
				x.On("GET", big, 1, registrytest.Status(503))
				x.On("GET", big, 1, registrytest.Refuse())
			}
		}},
		"a length that is too small": {want: registry.ErrVerify, says: "registry sends 1000", gets: 1, set: func(x *registrytest.Proxy, big string) {
			x.On("GET", big, 0, lie("Content-Length", "1000"))
		}},
		"a length that is too large": {want: registry.ErrVerify, says: "registry sends 9999999", gets: 1, set: func(x *registrytest.Proxy, big string) {
			x.On("GET", big, 0, lie("Content-Length", "9999999"))
		}},
		"a wrong byte": {want: imagestore.ErrCorrupt, says: "filesystem layer verification failed for digest", gets: 1, set: func(x *registrytest.Proxy, big string) {
			x.On("GET", big, 0, registrytest.Corrupt(1_500_000))
		}},
		"a manifest of 100 MB": {want: registry.ErrTooLarge, set: func(x *registrytest.Proxy, _ string) {
			x.On("GET", "/manifests/", 0, registrytest.Flood(ocispec.MediaTypeImageManifest, 100e6))
		}},
		"an index of 100 MB": {want: registry.ErrTooLarge, set: func(x *registrytest.Proxy, _ string) {
			x.On("GET", "/manifests/", 0, registrytest.Flood(ocispec.MediaTypeImageIndex, 100e6))
		}},
		"a server that stays broken": {says: "500", gets: 5, set: func(x *registrytest.Proxy, big string) { x.On("GET", big, 0, registrytest.Status(500)) }},
		"a server that never gets on": {says: "connection broken", gets: 8, set: func(x *registrytest.Proxy, big string) {
			x.On("GET", big, 0, registrytest.Break(0))
		}},
		"a server that wants to be left alone for an hour": {says: "429", gets: 1, set: func(x *registrytest.Proxy, big string) {
			x.On("GET", big, 0, registrytest.Status(429, "Retry-After", "3600"))
		}},
		"no such blob": {says: "404", gets: 1, set: func(x *registrytest.Proxy, big string) { x.On("GET", big, 0, registrytest.Status(404)) }},
		"no access":    {want: registry.ErrNotFound, says: "pull access denied for ", set: func(x *registrytest.Proxy, _ string) { x.On("GET", "/manifests/", 0, registrytest.Status(403)) }},
		"a proxy's page in place of the manifest": {want: registry.ErrVerify, set: func(x *registrytest.Proxy, _ string) {
			x.On("GET", "/manifests/", 0, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
				w.Header().Set("Content-Type", "text/html")
				fmt.Fprint(w, "<html>please log in</html>")
			})
		}},
	}
}

// TestFaultyPull pulls through each fault: the image is there in the end as the
// registry has it, or nothing is, and one line says why.
func TestFaultyPull(t *testing.T) {
	p := publish(t)
	for name, f := range pullFaults() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x, st := registrytest.NewProxy(t, p.addr), openStore(t)
			f.set(x, p.big.Digest.String())
			ref := x.Addr + "/" + publishedName
			got, err := impatient(func(o *registry.Options) { o.Stall = 400 * time.Millisecond }).Pull(t.Context(), st, ref, registry.PullOptions{})
			clean(t, st)
			if n := len(x.Seen("GET", p.big.Digest.String())); f.gets > 0 && n != f.gets {
				t.Errorf("the blob was asked for %d times, want %d: %+v", n, f.gets, x.Seen("GET", p.big.Digest.String()))
			}
			if f.want != nil || f.says != "" {
				f.refused(t, st, err)
				if n := x.Sent("/manifests/"); n > 16*mib {
					t.Errorf("%d bytes of a manifest were sent", n)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got[0].Digest != p.pushed.Digest {
				t.Errorf("pulled %s, registry has %s", got[0].Digest, p.pushed.Digest)
			}
			if n := x.Sent(p.big.Digest.String()); n > p.big.Size+f.twice+p.big.Size/100 {
				t.Errorf("%d bytes sent for a blob of %d", n, p.big.Size)
			}
		})
	}
}

// refused checks the error of a pull, and that it left no image.
func (f *pullFault) refused(t *testing.T, st *imagestore.Store, err error) {
	t.Helper()
	switch {
	case err == nil:
		t.Error("the pull succeeded")
	case f.want != nil && !errors.Is(err, f.want), !strings.Contains(err.Error(), f.says):
		t.Errorf("got %q, want %v and %q", err, f.want, f.says)
	case strings.Contains(err.Error(), "\n"), len(err.Error()) > 600:
		t.Errorf("not one line: %q", err)
	}
	if list, lerr := st.List(t.Context()); lerr != nil || len(list) > 0 {
		t.Errorf("images after a pull that failed: %v, %v", list, lerr)
	}
}

// TestFaultyPush pushes through faults; what arrives is what was sent.
func TestFaultyPush(t *testing.T) {
	put := func(w http.ResponseWriter, r *http.Request, serve http.Handler) { // done, and the answer lost
		serve.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}
	faults := map[string]struct {
		set      func(x *registrytest.Proxy)
		sessions int // of uploads; 0: any number
	}{
		"none": {func(*registrytest.Proxy) {}, 3},
		"busy": {func(x *registrytest.Proxy) {
			for _, method := range []string{"POST", "PUT", "HEAD"} {
				x.On(method, "", 1, registrytest.Status(429, "Retry-After", "0"))
				x.On(method, "", 1, registrytest.Status(503))
			}
			x.On("PATCH", "", 1, registrytest.Status(503))
		}, 0},
		"connections dropped": {func(x *registrytest.Proxy) {
			for _, method := range []string{"POST", "PATCH", "PUT", "HEAD"} {
				x.On(method, "", 2, registrytest.Refuse())
			}
		}, 0},
		"requests broken before the registry has them": {func(x *registrytest.Proxy) {
			x.On("PATCH", "", 0, registrytest.Whole())
			x.On("PATCH", "", 3, registrytest.BreakRequest(100_000, false))
			x.On("PATCH", "", 2, registrytest.Whole())
		}, 0},
		"requests broken in the middle": {func(x *registrytest.Proxy) {
			x.On("PATCH", "", 2, registrytest.BreakRequest(100_000, true))
		}, 0},
		"the answer to the last request lost": {func(x *registrytest.Proxy) { x.On("PUT", "/blobs/", 3, put) }, 3},
		"the answer to the manifest lost":     {func(x *registrytest.Proxy) { x.On("PUT", "/manifests/", 1, put) }, 3},
	}
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := registrytest.Start(t)
			x, st := registrytest.NewProxy(t, addr), openStore(t)
			ref := x.Addr + "/" + publishedName
			localImage(t, st, ref, layerTar(t, map[string][]byte{"big": randomBytes(3<<20, 7)}), layerTar(t, map[string][]byte{"a": []byte("1")}))
			f.set(x)
			c := impatient(func(o *registry.Options) { o.Chunk, o.Parallel = mib, 1 })
			got, err := c.Push(t.Context(), st, ref, registry.PushOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if n := len(x.Seen("POST", "")); f.sessions > 0 && n != f.sessions {
				t.Errorf("%d upload sessions, want %d", n, f.sessions)
			}
			other := openStore(t)
			if pulled := pull(t, other, addr+"/"+publishedName); pulled.Digest != got[0].Digest {
				t.Errorf("pulled %s, pushed %s", pulled.Digest, got[0].Digest)
			}
			clean(t, other)
		})
	}
}

// A push to docker-registry behind a proxy that passes whole requests on, as
// nginx does, goes on after the process has gone, in the same session.
func TestRealUploadGoesOnLater(t *testing.T) {
	t.Parallel()
	x := registrytest.NewProxy(t, registrytest.Start(t))
	st, ref := openStore(t), x.Addr+"/"+publishedName
	localImage(t, st, ref, layerTar(t, map[string][]byte{"big": randomBytes(5<<20, 9)}))
	chunks := func(o *registry.Options) { o.Chunk = mib }
	x.On("PATCH", "", 0, registrytest.Whole())
	x.On("PATCH", "", 0, registrytest.BreakRequest(300_000, false))
	x.On("PATCH", "", 3, registrytest.Whole())
	if _, err := impatient(chunks).Push(t.Context(), st, ref, registry.PushOptions{}); err == nil {
		t.Fatal("pushed over a connection that breaks")
	}
	x.Calm()
	x.On("PATCH", "", 0, registrytest.Whole())
	again, err := imagestore.Open(st.Root(), imagestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := impatient(chunks).Push(t.Context(), again, ref, registry.PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if posts, patches := len(x.Seen("POST", "")), len(x.Seen("PATCH", "")); posts != 1 || patches != 4 {
		t.Errorf("%d new sessions and %d requests, want one for the config, and 3 of 6 parts and the config", posts, patches)
	}
	if pulled := pull(t, openStore(t), ref); pulled.Digest != got[0].Digest {
		t.Errorf("pulled %s, pushed %s", pulled.Digest, got[0].Digest)
	}
}

// The storage that a registry redirects to serves blobs and sees no secret.
func TestRealRedirect(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	open := registrytest.StartIn(t, folder, "")
	p := &published{st: openStore(t)}
	p.pushTo(t, open, registry.Options{})
	users := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(users, []byte(registrytest.UserLine), 0o600); err != nil {
		t.Fatal(err)
	}
	private := registrytest.StartIn(t, folder, fmt.Sprintf("auth:\n  htpasswd: {realm: x, path: %q}\n", users))
	front, storage := registrytest.NewProxy(t, private), registrytest.NewProxy(t, open)
	front.On("GET", "/blobs/", 0, registrytest.Redirect(storage.Server.URL))
	storage.On("GET", "/blobs/", 3, registrytest.Break(400_000))
	ref := front.Addr + "/" + publishedName
	got, err := impatient(someone).Pull(t.Context(), openStore(t), ref, registry.PullOptions{})
	if err != nil || got[0].Digest != p.pushed.Digest {
		t.Fatalf("%+v, %v", got, err)
	}
	seen := storage.Seen("GET", "/blobs/")
	if len(seen) < 4 {
		t.Errorf("the storage was asked %d times", len(seen))
	}
	for _, r := range seen {
		if r.Authorization != "" {
			t.Errorf("the storage got credentials: %+v", r)
		}
	}
	storage.On("GET", "/blobs/", 0, registrytest.Status(http.StatusForbidden))
	_, err = impatient(someone).Pull(t.Context(), openStore(t), ref, registry.PullOptions{})
	if err == nil || strings.Contains(err.Error(), "storage-secret") || strings.Contains(err.Error(), registrytest.Password) {
		t.Errorf("got %v", err)
	}
}

// Tokens expire while a long transfer runs, in both directions.
func TestRealTokenExpires(t *testing.T) {
	t.Parallel()
	addr, tokens := registrytest.StartWithTokens(t)
	tokens.Life = 3 * time.Second // time enough for the first use on a busy machine
	x, st := registrytest.NewProxy(t, addr), openStore(t)
	ref := x.Addr + "/" + publishedName
	img := localImage(t, st, ref, layerTar(t, map[string][]byte{"big": randomBytes(3<<20, 7)}))
	expire := func() { time.Sleep(tokens.Life + 1100*time.Millisecond) } // its clock has seconds
	x.On("PATCH", "", 1, func(w http.ResponseWriter, r *http.Request, serve http.Handler) {
		expire() // on the way
		registrytest.Whole()(w, r, serve)
	})
	chunks := func(o *registry.Options) { o.Chunk = mib }
	pushed, err := impatient(someone, chunks).Push(t.Context(), st, ref, registry.PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(tokens.Issued()); n < 2 {
		t.Errorf("%d tokens were asked for", n)
	}
	before := len(tokens.Issued())
	big := st.CompressedForms(img.DiffIDs()[0])[0].Digest
	x.On("GET", big.String(), 1, func(w http.ResponseWriter, r *http.Request, serve http.Handler) {
		defer expire() // before the connection breaks
		registrytest.Break(mib)(w, r, serve)
	})
	got, err := impatient(someone).Pull(t.Context(), openStore(t), ref, registry.PullOptions{})
	if err != nil || got[0].Digest != pushed[0].Digest {
		t.Errorf("%+v, %v", got, err)
	}
	if n := len(tokens.Issued()) - before; n < 2 {
		t.Errorf("%d tokens were asked for", n)
	}
}

// Anonymous users get a token to read, and none to write.
func TestRealAnonymousToken(t *testing.T) {
	t.Parallel()
	addr, tokens := registrytest.StartWithTokens(t)
	st, ref := openStore(t), addr+"/"+publishedName
	localImage(t, st, ref, layerTar(t, map[string][]byte{"a": []byte("1")}))
	if _, err := impatient(someone).Push(t.Context(), st, ref, registry.PushOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err := impatient().Pull(t.Context(), openStore(t), ref, registry.PullOptions{})
	if !errors.Is(err, registry.ErrNotFound) || err.Error() != "unauthorized: authentication required" {
		t.Errorf("without any token: %v", err)
	}
	tokens.Anyone = true
	if _, err := impatient().Pull(t.Context(), openStore(t), ref, registry.PullOptions{}); err != nil {
		t.Error(err)
	}
	if err := st.Tag(t.Context(), ref, addr+"/other:1"); err != nil {
		t.Fatal(err)
	}
	_, err = impatient().Push(t.Context(), st, addr+"/other:1", registry.PushOptions{})
	if !errors.Is(err, registry.ErrNotFound) || err.Error() != "denied: requested access to the resource is denied" {
		t.Errorf("push without an account: %v", err)
	}
	wrong := func(o *registry.Options) {
		o.Credentials = func(context.Context, string) (auth.Credential, error) {
			return auth.Credential{Username: registrytest.User, Password: "battery-staple"}, nil
		}
	}
	if err := impatient().Verify(t.Context(), addr, registry.Credential{Username: registrytest.User, Password: registrytest.Password}); err != nil {
		t.Errorf("login: %v", err)
	}
	err = impatient().Verify(t.Context(), addr, registry.Credential{Username: registrytest.User, Password: "battery-staple"})
	if !errors.Is(err, registry.ErrLogin) || strings.Contains(err.Error(), "battery-staple") {
		t.Errorf("login with a wrong password: %v", err)
	}
	_, err = impatient(wrong).Pull(t.Context(), openStore(t), ref, registry.PullOptions{})
	if err == nil || strings.Contains(err.Error(), "battery-staple") || strings.Contains(err.Error(), "\n") {
		t.Errorf("with a wrong password: %v", err)
	}
}

// A mount from a repository of the same registry needs the right to read there.
func TestRealMountWithToken(t *testing.T) {
	t.Parallel()
	addr, _ := registrytest.StartWithTokens(t)
	st, ref := openStore(t), addr+"/"+publishedName
	localImage(t, st, ref, layerTar(t, map[string][]byte{"big": randomBytes(2<<20, 7)}))
	c := impatient(someone)
	if _, err := c.Push(t.Context(), st, ref, registry.PushOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := st.Tag(t.Context(), ref, addr+"/second/place:1"); err != nil {
		t.Fatal(err)
	}
	var s steps
	c = impatient(someone, func(o *registry.Options) { o.Progress = &s })
	if _, err := c.Push(t.Context(), st, addr+"/second/place:1", registry.PushOptions{}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(s.String(), "Mounted from some/app") {
		t.Errorf("says\n%s", s.String())
	}
}

// What was deleted at the registry is missing, and goes there again.
func TestRealDelete(t *testing.T) {
	t.Parallel()
	p := publish(t)
	ref := p.addr + "/" + publishedName
	for _, path := range []string{"manifests/" + p.pushed.Digest.String(), "blobs/" + p.big.Digest.String()} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, "http://"+p.addr+"/v2/some/app/"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil || resp.Body.Close() != nil || resp.StatusCode != http.StatusAccepted {
			t.Fatalf("delete %s: %v, %v", path, resp.Status, err)
		}
	}
	for _, ref := range []string{ref, p.addr + "/some/app@" + p.pushed.Digest.String()} {
		_, err := impatient().Pull(t.Context(), openStore(t), ref, registry.PullOptions{})
		if !errors.Is(err, registry.ErrNotFound) || !strings.HasPrefix(err.Error(), "manifest for "+ref+" not found") {
			t.Errorf("got %v", err)
		}
	}
	if _, said := push(t, p.st, ref); strings.Count(said, ": Pushed\n") != 1 || strings.Count(said, "Layer already exists") != 1 {
		t.Errorf("says\n%s", said)
	}
	if got := pull(t, openStore(t), ref); got.Digest != p.pushed.Digest {
		t.Errorf("pulled %s, pushed %s", got.Digest, p.pushed.Digest)
	}
}

// A registry in proxy mode is a mirror; without it the registry itself serves,
// and without the registry what the mirror has.
func TestRealMirror(t *testing.T) {
	t.Parallel()
	p := publish(t)
	origin := registrytest.NewProxy(t, p.addr)
	cache := registrytest.StartIn(t, t.TempDir(), fmt.Sprintf("proxy: {remoteurl: %q}\n", origin.Server.URL))
	mirror := registrytest.NewProxy(t, cache)
	conf := filepath.Join(t.TempDir(), "registries.toml")
	text := fmt.Sprintf("[[registry]]\nprefix = \"hub.example/team\"\nlocation = %q\n[[registry.mirror]]\nlocation = %q\n", origin.Addr+"/some", mirror.Addr+"/some")
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := registry.ReadConfig(conf)
	if err != nil {
		t.Fatal(err)
	}
	big := p.big.Digest.String()
	steps := []struct {
		name              string
		set               func()
		atMirror, atOther bool // the blob is asked for there
	}{
		{"first", func() {}, true, true}, // the mirror fetches it
		{"from the mirror", func() {}, true, false},
		{"mirror down", func() { mirror.On("GET", "", 0, registrytest.Refuse()) }, false, true},
		{"mirror without it", func() { mirror.On("GET", "", 0, registrytest.Status(404)) }, false, true},
		{"mirror that breaks", func() { mirror.On("GET", big, 0, registrytest.Break(100)) }, true, true},
		{"mirror that sends rubbish", func() { mirror.On("GET", big, 0, registrytest.Corrupt(99_999)) }, true, true},
		{"busy mirror", func() { mirror.On("GET", "", 0, registrytest.Status(503)) }, false, true},
	}
	for _, s := range steps {
		mirror.Calm()
		origin.Calm()
		s.set()
		st := openStore(t)
		got, err := impatient(func(o *registry.Options) { o.Config = c }).Pull(t.Context(), st, "hub.example/team/app:1", registry.PullOptions{})
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
			continue
		}
		if got[0].Digest != p.pushed.Digest || got[0].Name != "hub.example/team/app:1" {
			t.Errorf("%s: pulled %+v", s.name, got[0])
		}
		if a, b := len(mirror.Seen("GET", big)) > 0, len(origin.Seen("GET", big)) > 0; a != s.atMirror || b != s.atOther {
			t.Errorf("%s: layer asked for at the mirror %v, elsewhere %v", s.name, a, b)
		}
		clean(t, st)
	}
}

// A pull by digest is right whatever a registry says its tags are.
func TestRealWrongManifest(t *testing.T) {
	t.Parallel()
	p := publish(t)
	x := registrytest.NewProxy(t, p.addr)
	x.On("GET", "/manifests/", 0, registrytest.Corrupt(20))
	for _, ref := range []string{x.Addr + "/" + publishedName, x.Addr + "/some/app@" + p.pushed.Digest.String()} {
		st := openStore(t)
		if _, err := impatient().Pull(t.Context(), st, ref, registry.PullOptions{}); !errors.Is(err, registry.ErrVerify) {
			t.Errorf("%s: %v", ref, err)
		}
		if entries, err := os.ReadDir(filepath.Join(st.Root(), "blobs", string(digest.SHA256))); err == nil && len(entries) > 0 {
			t.Errorf("%s: %d blobs left", ref, len(entries))
		}
	}
}
