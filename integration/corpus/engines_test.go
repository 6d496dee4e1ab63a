package corpus

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"unio/integration/peers"
)

// bench holds the builders, with the base images in each.
type bench struct {
	dir      string
	unio     string
	docker   string // a client with the classic builder
	buildkit string // a client that drives the BuildKit in dockerd; "": none
	bases    []string
	policy   string // of buildah: trust what lies here
	url      string // of a server with files to ADD; $URL in arguments
}

// newBench starts dockerd and fills all stores.
func newBench(t *testing.T) *bench {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, errors.New("not root"))
	}
	dir, err := os.MkdirTemp("", "uc") // short enough for a socket below it
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	b := &bench{dir: dir, unio: buildUnio(t), policy: filepath.Join(dir, "policy.json")}
	must(t, os.WriteFile(b.policy, []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`), 0o644))
	server := httptest.NewServer(http.HandlerFunc(serveFiles))
	t.Cleanup(server.Close)
	b.url = server.URL
	b.docker, err = exec.LookPath("docker")
	missing(t, err)
	_, err = exec.LookPath("buildah")
	missing(t, err)
	b.buildkit = oldClient(b.docker)
	if b.buildkit == "" {
		missing(t, errors.New("no docker client of version 20 for BuildKit"))
	}
	d, err := peers.StartDocker(t.Context(), dir)
	if errors.Is(err, peers.ErrMissing) {
		missing(t, err)
	}
	must(t, err)
	t.Cleanup(func() { must(t, d.Close()) })
	b.bases = writeBases(t, dir)
	for _, path := range b.bases {
		b.mustRun(t, b.docker, "load", "-i", path)
		b.mustRun(t, b.unio, "load", "-i", path)
		b.mustRun(t, "buildah", "pull", "-q", "--signature-policy", b.policy, "docker-archive:"+path)
	}
	t.Cleanup(func() { must(t, peers.UnmountBelow(dir)) })
	return b
}

// serveFiles is what ADD downloads from.
func serveFiles(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Last-Modified", made().Format(http.TimeFormat))
	switch r.URL.Path {
	case "/file.txt":
		fmt.Fprintln(w, "downloaded")
	case "/archive.tar.gz":
		z := gzip.NewWriter(w)
		defer z.Close()
		tw := tar.NewWriter(z)
		defer tw.Close()
		_ = tw.WriteHeader(&tar.Header{Name: "in", Typeflag: tar.TypeReg, ModTime: made()})
	case "/":
		fmt.Fprintln(w, "no name")
	default:
		http.Error(w, "there is no such file", http.StatusNotFound)
	}
}

// oldClient finds a docker client that has BuildKit's own; later ones want a
// plug-in for it.
func oldClient(known string) string {
	for _, path := range []string{known, "/usr/bin/docker"} {
		if out, err := exec.Command(path, "--version").Output(); err == nil && strings.Contains(string(out), " 20.") {
			return path
		}
	}
	return ""
}

// missing skips the test because this machine lacks something; where
// UNIO_TEST_REQUIRE=all, as in CI, that is a failure.
func missing(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if os.Getenv("UNIO_TEST_REQUIRE") == "all" {
		t.Fatalf("required here: %v", err)
	}
	t.Skip(err)
}

// buildUnio makes the binary as `make build` does; $UNIO names one that is
// there already.
func buildUnio(t *testing.T) string {
	t.Helper()
	if given := os.Getenv("UNIO"); given != "" {
		path, err := filepath.Abs(given)
		must(t, err)
		return path
	}
	path := filepath.Join(t.TempDir(), "unio")
	cmd := exec.Command("go", "build", "-tags", "urfave_cli_no_docs", "-trimpath", "-ldflags", "-s -w", "-o", path, "../../cmd/unio")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

// answer is how a command ended.
type answer struct {
	stdout, stderr string
	err            error
}

func (b *bench) run(ctx context.Context, words ...string) answer {
	return b.runIn(ctx, b.dir, nil, words...)
}

// runIn runs a client in a folder with nothing but what the builders need
// around it.
func (b *bench) runIn(ctx context.Context, dir string, env []string, words ...string) answer {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	args := words[1:]
	if words[0] == "buildah" {
		store := []string{"--root", b.dir + "/buildah", "--runroot", b.dir + "/buildah-run", "--storage-driver", "overlay"}
		args = append(store, args...)
	}
	cmd := exec.CommandContext(ctx, words[0], args...)
	cmd.Dir = dir
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + b.dir, "TMPDIR=" + os.TempDir(), "LC_ALL=C",
		"DOCKER_HOST=unix://" + b.dir + "/docker.sock", "UNIO_ROOT=" + b.dir + "/unio", "XDG_RUNTIME_DIR=" + b.dir + "/run",
	}, env...)
	var out, text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &text
	err := cmd.Run()
	return answer{out.String(), text.String(), err}
}

func (b *bench) mustRun(t *testing.T, words ...string) string {
	t.Helper()
	a := b.run(t.Context(), words...)
	if a.err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(words, " "), a.err, a.stdout, a.stderr)
	}
	return a.stdout
}

// build runs a build with one of the builders, unio under the name "unio".
func (b *bench) build(ctx context.Context, e engine, c *dockerfileCase, dir string) answer {
	tag := []string{"-t", c.name + ":" + string(e)}
	var words, env []string
	switch e {
	case classic:
		words, env = []string{b.docker, "build", "--network", "none"}, []string{"DOCKER_BUILDKIT=0"}
	case buildkit:
		words, env = []string{b.buildkit, "build", "--network", "none", "--progress", "plain"}, []string{"DOCKER_BUILDKIT=1"}
	case buildah:
		words = []string{"buildah", "bud", "--signature-policy", b.policy, "--isolation", "chroot", "--pull-never", "--layers", "--format", "docker"}
	default:
		words = []string{b.unio, "build", "--network", "none"}
	}
	words = append(words, tag...)
	for _, arg := range c.args {
		words = append(words, strings.ReplaceAll(arg, "$URL", b.url))
	}
	words = append(words, ".")
	return b.runIn(ctx, dir, env, words...)
}

// image reads what a build made.
func (b *bench) image(ctx context.Context, e engine, c *dockerfileCase) (*built, error) {
	name := c.name + ":" + string(e)
	path := filepath.Join(b.dir, strings.ReplaceAll(name, ":", ".")+".out")
	defer os.Remove(path)
	var a answer
	switch e {
	case classic, buildkit:
		a = b.run(ctx, b.docker, "save", "-o", path, name)
	case buildah:
		a = b.run(ctx, "buildah", "push", "-q", "--signature-policy", b.policy, name, "docker-archive:"+path)
	default:
		a = b.run(ctx, b.unio, "save", "-o", path, name)
	}
	if a.err != nil {
		return nil, fmt.Errorf("save: %w: %s", a.err, a.stderr)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readArchive(io.Reader(f))
}
