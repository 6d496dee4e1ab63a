package integration

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"unio/imagestore/registry/registrytest"
)

// gateSecret is what the proxy of these tests wants.
const gateSecret = "open-sesame"

// listener is a box that keeps all that unio says, with the log of --debug, to
// look for secrets in it.
type listener struct {
	*box
	said strings.Builder
}

func newListener(t *testing.T) *listener {
	l := &listener{box: newBox(t)}
	l.env = []string{"DOCKER_CONFIG=" + l.path("docker"), "NO_PROXY=", "no_proxy="}
	t.Cleanup(func() { assertNoSecret(t, l.said.String()) })
	return l
}

// assertNoSecret looks for what these tests know of secrets, in plain and as
// they travel.
func assertNoSecret(t *testing.T, text string) {
	t.Helper()
	encoded := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for _, secret := range []string{
		registrytest.Password, encoded(registrytest.User + ":" + registrytest.Password), "battery-staple",
		encoded(registrytest.User + ":battery-staple"), gateSecret, encoded("gate:" + gateSecret),
		"storage-secret", "_state=", "Bearer ey", "Authorization",
	} {
		if i := strings.Index(text, secret); i >= 0 {
			t.Errorf("output tells %q: …%s…", secret, text[max(0, i-200):min(len(text), i+100)])
		}
	}
}

// hear runs unio with --debug. The first line on stderr that is no log, of
// which there is one at most, is the error.
func (l *listener) hear(stdin string, args ...string) (code int, message string) {
	l.t.Helper()
	r := l.tryWith(stdin, append([]string{"--debug"}, args...)...)
	l.said.WriteString(r.stdout + r.stderr)
	var lines []string
	for line := range strings.Lines(r.stderr) {
		if !strings.HasPrefix(line, "time=") && !strings.HasPrefix(line, "WARNING") && strings.TrimSpace(line) != "" {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	if len(lines) > 1 && r.code != 0 {
		l.t.Errorf("unio %s said more than one line:\n%s", strings.Join(args, " "), strings.Join(lines, "\n"))
	}
	return r.code, strings.Join(lines, "\n")
}

// must is hear of what has to succeed.
func (l *listener) must(stdin string, args ...string) {
	l.t.Helper()
	if code, message := l.hear(stdin, args...); code != 0 {
		l.t.Fatalf("unio %s: exit code %d, %s", strings.Join(args, " "), code, message)
	}
}

// fails is hear of what has to fail and say so.
func (l *listener) fails(says, stdin string, args ...string) {
	l.t.Helper()
	code, message := l.hear(stdin, args...)
	if code != 1 || !strings.Contains(message, says) {
		l.t.Errorf("unio %s: exit code %d, %q; want 1 and %q", strings.Join(args, " "), code, message, says)
	}
}

// htpasswd is the config of a registry for one user.
func htpasswd(t *testing.T) string {
	file := filepath.Join(t.TempDir(), "htpasswd")
	must(t, os.WriteFile(file, []byte(registrytest.UserLine), 0o600))
	return fmt.Sprintf("auth:\n  htpasswd: {realm: x, path: %q}\n", file)
}

// TestRegistryByProxy reaches registries with names, TLS and passwords through
// an HTTP proxy that wants a password itself.
func TestRegistryByProxy(t *testing.T) {
	t.Parallel()
	secure, ca := registrytest.StartTLS(t, htpasswd(t), "registry.test")
	plain := registrytest.Start(t)
	gate := registrytest.NewGateway(t, map[string]string{
		"registry.test:443": secure, "other.test:443": secure, "plain.test:5000": plain,
	})
	gate.Want = "gate:" + gateSecret
	l := newListener(t)
	own := l.env
	by := func(user string) []string {
		u := strings.Replace(gate.URL, "://", "://"+user+"@", 1)
		return append([]string{"HTTP_PROXY=" + u, "HTTPS_PROXY=" + u, "http_proxy=" + u, "https_proxy=" + u}, own...)
	}
	l.env = by(gate.Want)
	archive := smallTar(t, l.box)
	for _, name := range []string{"registry.test/team/app:1", "plain.test:5000/app:1"} {
		l.run("import", "-q", archive, name)
	}
	login := []string{"login", "-u", registrytest.User, "--password-stdin"}
	with := func(args []string, more ...string) []string { return append(append([]string(nil), args...), more...) }
	l.fails("certificate signed by unknown authority", registrytest.Password, with(login, "registry.test")...)
	l.fails("401 Unauthorized", "battery-staple", with(login, "--tls-ca", ca, "registry.test")...)
	l.fails("no basic auth credentials", "", "push", "--tls-ca", ca, "registry.test/team/app:1")
	l.must(registrytest.Password, with(login, "--tls-ca", ca, "registry.test")...)
	l.must("", "push", "--tls-ca", ca, "registry.test/team/app:1")
	l.must("", "pull", "--tls-ca", ca, "registry.test/team/app:1")
	l.fails("manifest unknown", "", "pull", "--tls-ca", ca, "registry.test/team/app:2")
	l.fails("certificate is valid for registry.test, not other.test", "", "pull", "--tls-ca", ca, "other.test/team/app:1")
	l.fails("Bad Gateway", "", "pull", "--tls-ca", ca, "unknown.test/team/app:1")

	l.fails("http: server gave HTTP response to HTTPS client", "", "push", "plain.test:5000/app:1")
	l.must("", "push", "--insecure-registry", "plain.test:5000", "plain.test:5000/app:1")
	l.must("", "rmi", "plain.test:5000/app:1")
	l.must("", "pull", "--insecure-registry", "plain.test:5000", "plain.test:5000/app:1")

	asked := strings.Join(gate.Asked(), "\n")
	for _, want := range []string{"CONNECT registry.test:443", "GET plain.test:5000", "PATCH plain.test:5000"} {
		if !strings.Contains(asked, want) {
			t.Errorf("the proxy was not asked to %s", want)
		}
	}
	before := len(gate.Asked())
	l.env = append(by(gate.Want), "NO_PROXY=.test", "no_proxy=.test")
	l.fails("lookup registry.test", "", "pull", "--tls-ca", ca, "registry.test/team/app:1")
	if n := len(gate.Asked()); n != before {
		t.Error("the proxy was asked in spite of NO_PROXY")
	}
	l.env = by("gate:battery-staple")
	l.fails("Proxy Authentication Required", "", "pull", "--tls-ca", ca, "registry.test/team/app:1")
	l.env = append(own, "HTTPS_PROXY=http://"+gate.Want+"@127.0.0.1:1")
	l.fails("connection refused", "", "pull", "--tls-ca", ca, "registry.test/team/app:1")
}

// TestRegistryAway asks for what cannot be reached: one line, and no secret.
func TestRegistryAway(t *testing.T) {
	t.Parallel()
	l := newListener(t)
	l.env = append(l.env, "HTTPS_PROXY=", "HTTP_PROXY=", "https_proxy=", "http_proxy=")
	addr := registrytest.Start(t)
	x := registrytest.NewProxy(t, addr)
	archive := smallTar(t, l.box)
	l.run("import", "-q", archive, x.Addr+"/app:1")
	l.run("tag", x.Addr+"/app:1", "nosuch.invalid/app:1")
	l.fails("lookup nosuch.invalid", "", "pull", "nosuch.invalid/app:1")
	l.fails("lookup nosuch.invalid", "", "push", "nosuch.invalid/app:1")
	l.fails("lookup nosuch.invalid", "x", "login", "-u", "x", "--password-stdin", "nosuch.invalid")
	l.fails("lookup nosuch.invalid", "", "search", "nosuch.invalid/x")
	l.fails("connection refused", "", "pull", "127.0.0.1:1/app:1")
	l.fails("connection refused", "", "search", "127.0.0.1:1/app")

	l.must("", "push", x.Addr+"/app:1")
	l.must("", "rmi", x.Addr+"/app:1", "nosuch.invalid/app:1")
	for says, f := range map[string]registrytest.Fault{
		"more than 4194304 bytes":     registrytest.Flood("application/vnd.oci.image.manifest.v1+json", 100e6),
		"unexpected HTTP status: 429": registrytest.Status(http.StatusTooManyRequests, "Retry-After", "3600"),
		"pull access denied":          registrytest.Status(http.StatusForbidden),
		"verification failed":         registrytest.Corrupt(20),
	} {
		x.Calm()
		x.On("GET", "/manifests/", 0, f)
		l.fails(says, "", "pull", x.Addr+"/app:1")
	}
	x.Calm()
	other := registrytest.NewProxy(t, addr)
	other.On("GET", "/blobs/", 0, registrytest.Status(http.StatusForbidden))
	x.On("GET", "/blobs/", 0, registrytest.Redirect(other.Server.URL))
	l.fails("redirects to "+other.Addr+", which answers 403 Forbidden", "", "pull", x.Addr+"/app:1")
	if out := l.run("images", "-aq"); out != "" {
		t.Errorf("images of pulls that failed: %s", out)
	}
}

// helperScript is a credential helper that keeps one secret in a file beside
// it, and notes what it was asked.
const helperScript = `#!/bin/sh
read -r line || true
echo "$(basename $0) $1 $line" | sed 's/"Secret":"[^"]*"/.../' >>%[1]s/asked
case $1 in
store) echo "$line" >$0.kept; cat >>$0.kept ;;
get) [ -e $0.kept ] || { echo "credentials not found in native keychain"; exit 1; }; cat $0.kept ;;
erase) rm -f $0.kept ;;
esac
`

// TestCredentialHelpers logs in with helpers: only the one of the registry is
// ever asked.
func TestCredentialHelpers(t *testing.T) {
	t.Parallel()
	addr := registrytest.StartPrivate(t)
	l := newListener(t)
	bin := l.path("bin")
	must(t, os.Mkdir(bin, 0o755))
	for _, name := range []string{"one", "two", "three"} {
		must(t, os.WriteFile(filepath.Join(bin, "docker-credential-"+name), fmt.Appendf(nil, helperScript, bin), 0o755))
	}
	must(t, os.Mkdir(l.path("docker"), 0o700))
	config := `{"credsStore":"three","credHelpers":{"` + addr + `":"one","elsewhere.example":"two"},"detachKeys":"ctrl-q"}`
	must(t, os.WriteFile(l.path("docker/config.json"), []byte(config), 0o600))
	l.env = append(l.env, "PATH="+bin+":"+os.Getenv("PATH"))
	l.run("import", "-q", smallTar(t, l.box), addr+"/app:1")

	l.fails("no basic auth credentials", "", "push", addr+"/app:1")
	l.fails("401 Unauthorized", "battery-staple", "login", "-u", registrytest.User, "--password-stdin", addr)
	l.must(registrytest.Password, "login", "-u", registrytest.User, "--password-stdin", addr)
	l.must("", "push", addr+"/app:1")
	l.must("", "pull", addr+"/app:1")
	l.must("", "login", addr)
	l.must("", "logout", addr)
	l.fails("no basic auth credentials", "", "push", addr+"/app:1")

	asked, err := os.ReadFile(filepath.Join(bin, "asked"))
	must(t, err)
	for line := range strings.Lines(string(asked)) {
		if !strings.HasPrefix(line, "docker-credential-one ") || !strings.Contains(line, addr) {
			t.Errorf("asked: %s", line)
		}
	}
	after, err := os.ReadFile(l.path("docker/config.json"))
	must(t, err)
	for _, want := range []string{`"ctrl-q"`, `"two"`, `"three"`, `"one"`} {
		if !strings.Contains(string(after), want) {
			t.Errorf("config.json has lost %s:\n%s", want, after)
		}
	}
	assertNoSecret(t, string(after))

	broken := "#!/bin/sh\necho 'the keychain is locked'; exit 3\n"
	must(t, os.WriteFile(filepath.Join(bin, "docker-credential-one"), []byte(broken), 0o755))
	l.fails("credentials for "+addr+": the keychain is locked", "", "pull", addr+"/app:1")
}

// TestPullDiskFull pulls more than the disk holds: one line, no image, the
// space is free again, and what fits is pulled.
func TestPullDiskFull(t *testing.T) {
	t.Parallel()
	addr := registrytest.Start(t)
	maker := newBox(t)
	shell(t, maker.dir, "mkdir big small; head -c 12M /dev/urandom >big/random; echo hello >small/hello")
	for _, name := range []string{"big", "small"} {
		pack(t, maker.path(name), maker.path(name+".tar"))
		maker.run("import", "-q", maker.path(name+".tar"), addr+"/"+name+":1")
		maker.run("push", "-q", addr+"/"+name+":1")
	}
	l := newListener(t)
	l.onDisk("20M", "^has_journal,^resize_inode -b 4096")
	l.fails("no space left on device", "", "pull", addr+"/big:1")
	if out := l.run("images", "-aq"); out != "" {
		t.Errorf("half an image: %s", out)
	}
	l.must("", "pull", addr+"/small:1")
	if free := shell(t, l.store(), "df --output=avail -BM . | tail -n 1 | tr -d ' M'"); len(free) < 2 {
		t.Errorf("%s MB free after a pull that failed", free)
	}
	l.assertSound()
	l.fails("no space left on device", "", "pull", addr+"/big:1")
	if out := l.run("images", "--format", "{{.Repository}}"); out != addr+"/small" {
		t.Errorf("images are %q", out)
	}
}

// TestInterruptedPull ends pulls with Ctrl-C: the exit code says so, and the
// next one goes on where the last one stood.
func TestInterruptedPull(t *testing.T) {
	t.Parallel()
	const interrupts, size = 5, 12 << 20
	x := registrytest.NewProxy(t, registrytest.Start(t))
	maker := newBox(t)
	shell(t, maker.dir, fmt.Sprintf("mkdir big; head -c %d /dev/urandom >big/random", size))
	pack(t, maker.path("big"), maker.path("big.tar"))
	ref := x.Addr + "/big:1"
	maker.run("import", "-q", maker.path("big.tar"), ref)
	maker.run("push", "-q", ref)
	x.Calm()
	l := newListener(t)
	x.On("GET", "/blobs/", 0, registrytest.Slow(32<<10, 3*time.Millisecond))
	for n := range interrupts {
		cmd := l.command("pull", ref)
		var said strings.Builder
		cmd.Stdout, cmd.Stderr = &said, &said
		must(t, cmd.Start())
		before := x.Sent("/blobs/")
		for x.Sent("/blobs/") < before+size/8 { // a part of it each time
			time.Sleep(time.Millisecond)
		}
		must(t, cmd.Process.Signal(syscall.SIGINT))
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 130 {
			t.Errorf("interrupt %d: exit code %d\n%s", n, code, said.String())
		}
	}
	if out := l.run("images", "-aq"); out != "" {
		t.Errorf("half an image: %s", out)
	}
	l.must("", "pull", ref)
	if out, err := exec.Command("cmp", maker.path("big/random"), l.mount("--read-only", ref)+"/random").CombinedOutput(); err != nil {
		t.Errorf("the pulled file differs: %s", out)
	}
	// What was on the way when the process ended is lost: the buffers of the
	// connection (4 MiB at most by default, tcp_rmem and tcp_wmem), far less
	// where the client reads faster than the server sends, as here.
	if sent := x.Sent("/blobs/"); sent > size+size/100+interrupts*(256<<10) {
		t.Errorf("%d bytes were sent of %d", sent, size)
	}
	l.assertSound()
}
