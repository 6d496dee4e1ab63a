package registry

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/distribution/reference"
)

func TestConfigPlaces(t *testing.T) {
	c, err := parseConfigFile(`
[[registry]]
prefix = "docker.io"
[[registry.mirror]]
location = "localhost:5000/hub"
insecure = true
[[registry.mirror]]
location = "mirror.example.com"

[[registry]]
prefix = "docker.io/library"
location = "own.example.com/base"

[[registry]]
prefix = "bad.example.com"
blocked = true
`)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"someone/app": "localhost:5000/hub/someone/app mirror.example.com/someone/app docker.io/someone/app",
		"busybox":     "own.example.com/base/busybox",
		"libraryx/y":  "localhost:5000/hub/libraryx/y mirror.example.com/libraryx/y docker.io/libraryx/y",
		"quay.io/a/b": "quay.io/a/b",
	} {
		ref, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			t.Fatal(err)
		}
		places, err := c.places(ref)
		var got []string
		for _, p := range places {
			got = append(got, p.Name())
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
	ref, _ := reference.ParseNormalizedNamed("bad.example.com/x")
	if _, err := c.places(ref); !errors.Is(err, ErrUnsafe) {
		t.Errorf("blocked: %v", err)
	}
	if got := c.insecureHosts(); len(got) != 1 || got[0] != "localhost:5000" {
		t.Errorf("insecure: %q", got)
	}
}

func TestConfigRefuses(t *testing.T) {
	for _, text := range []string{
		"[[registry]]\nprefix = \"docker.io\"\nblockd = true",
		"[[registry]]\nprefix = \"nohost\"",
		"[[registry]]\nprefix = \"docker.io\"\n[[registry.mirror]]\nlocation = \"UPPER.example.com/X\"",
		"[[registry]]\nprefix = 3",
		"[[registry",
	} {
		if c, err := parseConfigFile(text); err == nil {
			t.Errorf("%q was taken as %+v", text, c)
		}
	}
}

// A pull asks the mirrors first, and goes on to the registry itself when they
// fail, even in the middle.
func TestPullByMirror(t *testing.T) {
	mirror, origin := newFake(t), newFake(t)
	im := imageOf(t, "", map[string]string{"a": "1"}, map[string]string{"b": "2"})
	mirror.publish(t, "1", im)
	origin.publish(t, "1", im)
	origin.addBlob(mustJSON(t, im.config))
	conf := &Config{Registries: []RegistryConfig{{
		Prefix: "example.com", Location: origin.host + "/base",
		Mirrors: []MirrorConfig{{Location: "127.0.0.1:1"}, {Location: mirror.host + "/deep"}},
	}}}
	withMirror := func(o *Options) { o.Config = conf }

	st := newStore(t)
	c, _ := newClient(t, withMirror)
	if _, err := c.Pull(t.Context(), st, "example.com/x:1", PullOptions{}); err != nil {
		t.Fatal(err)
	}
	if mirror.count("GET /v2/deep/x/blobs/") != 3 || origin.count("GET") != 0 {
		t.Errorf("mirror %q, origin %q", mirror.seen, origin.seen)
	}
	if img, err := st.Lookup(t.Context(), "example.com/x:1"); err != nil || len(img.Digests) != 1 {
		t.Errorf("the image is not there under the name that was asked for: %v", err)
	}

	mirror.on("GET", im.manifest.Layers[1].Digest.String(), func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusNotFound)
		return true
	})
	c, _ = newClient(t, withMirror)
	if _, err := c.Pull(t.Context(), newStore(t), "example.com/x:1", PullOptions{}); err != nil {
		t.Fatal(err)
	}
	if origin.count("GET /v2/base/x/blobs/"+im.manifest.Layers[1].Digest.String()) != 1 {
		t.Errorf("origin %q", origin.seen)
	}
	if _, err := c.Pull(t.Context(), newStore(t), "example.com/x:none", PullOptions{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("a tag that nobody has: %v", err)
	}
}

// A push goes to the registry itself.
func TestPushPastMirror(t *testing.T) {
	mirror, origin := newFake(t), newFake(t)
	c, _ := newClient(t, func(o *Options) {
		o.Config = &Config{Registries: []RegistryConfig{{
			Prefix: "example.com", Location: origin.host + "/base", Mirrors: []MirrorConfig{{Location: mirror.host}},
		}}}
	})
	st := newStore(t)
	addLocal(t, st, "example.com/x:1", map[string]string{"a": "1"})
	if _, err := c.Push(t.Context(), st, "example.com/x:1", PushOptions{}); err != nil {
		t.Fatal(err)
	}
	if mirror.count("") != 0 || origin.count("PUT /v2/base/x/manifests/1") != 1 {
		t.Errorf("mirror %q, origin %q", mirror.seen, origin.seen)
	}
}

// A registry's authority may lie in a folder with the registry's name.
func TestCertsDir(t *testing.T) {
	f := newFakeTLS(t)
	f.publish(t, "1", imageOf(t, "", map[string]string{"a": "1"}))
	certs := t.TempDir()
	const host = "example.com:5000" // which httptest's certificate is for, on any port
	pull := func() error {
		c, _ := newClient(t, func(o *Options) { o.CertsDir = certs })
		c.gate.strict.(*certificates).base.DialContext = (&dialTo{f.host}).dial
		_, err := c.Pull(t.Context(), newStore(t), host+"/x:1", PullOptions{})
		return err
	}
	if err := pull(); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without the authority: %v", err)
	}
	dir := filepath.Join(certs, host)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(raw []byte) {
		if err := os.WriteFile(filepath.Join(dir, "ca.crt"), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write([]byte("no certificate"))
	if err := pull(); err == nil || !strings.Contains(err.Error(), "ca.crt: no certificate in PEM form") {
		t.Errorf("with a damaged authority: %v", err)
	}
	write(pemOf(f.Certificate()))
	if err := pull(); err != nil {
		t.Errorf("with the authority: %v", err)
	}
	conf, err := TrustFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	c, _ := newClient(t, func(o *Options) { o.TLS = conf })
	c.gate.strict.(*certificates).base.DialContext = (&dialTo{f.host}).dial
	if _, err := c.Pull(t.Context(), newStore(t), host+"/x:1", PullOptions{}); err != nil {
		t.Errorf("with the authority named: %v", err)
	}
}

func pemOf(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// dialTo connects to one address whatever was asked for.
type dialTo struct{ addr string }

func (d *dialTo) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	var dialer net.Dialer
	return dialer.DialContext(ctx, network, d.addr)
}
