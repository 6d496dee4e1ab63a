package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"unio/integration/tree"
)

// registry starts Debian's docker-registry on a free loopback port and
// returns its address.
func registry(t *testing.T) string {
	t.Helper()
	needTool(t, "docker-registry")
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yml")
	must(t, os.WriteFile(config, []byte("version: 0.1\nlog: {level: info}\n"+
		"storage: {filesystem: {rootdirectory: "+dir+"/data}, delete: {enabled: true}}\n"+
		"http: {addr: '127.0.0.1:0'}\n"), 0o644))
	log, err := os.Create(filepath.Join(dir, "log"))
	must(t, err)
	cmd := exec.Command("docker-registry", "serve", config)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	cmd.Stdout, cmd.Stderr = log, log
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = log.Close()
	})
	listening := regexp.MustCompile(`listening on (127\.0\.0\.1:\d+)`)
	for range 200 {
		text, err := os.ReadFile(log.Name())
		must(t, err)
		if m := listening.FindSubmatch(text); m != nil {
			return string(m[1])
		}
		time.Sleep(50 * time.Millisecond)
	}
	text, _ := os.ReadFile(log.Name())
	t.Fatalf("docker-registry does not listen:\n%s", text)
	return ""
}

// manifestDigest asks the registry, through skopeo, for a manifest's digest.
func manifestDigest(t *testing.T, ref string) string {
	t.Helper()
	return tool(t, "skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}", "docker://"+ref)
}

// TestRegistryKeepsDigests pulls what others pushed, pushes it elsewhere and
// pulls it again: every digest stays. Manifests of docker's and of OCI's kind.
func TestRegistryKeepsDigests(t *testing.T) {
	address := registry(t)
	needTool(t, "skopeo")
	maker := newBox(t)
	ownImage(t, maker)
	maker.run("save", "-o", maker.path("own.tar"), "example/own:1.0")
	for _, format := range []string{"v2s2", "oci"} {
		t.Run(format, func(t *testing.T) {
			b, other := newBox(t), newBox(t)
			theirs := address + "/theirs/" + format + ":1"
			tool(t, "skopeo", "copy", "-q", "--format", format, "--dest-tls-verify=false", "docker-archive:"+maker.path("own.tar"), "docker://"+theirs)
			want := manifestDigest(t, theirs)
			out := b.run("pull", theirs)
			for _, line := range []string{"Digest: " + want, "Status: Downloaded newer image for " + theirs} {
				if !strings.Contains(out, line) {
					t.Errorf("pull said\n%s\nwant the line %q", out, line)
				}
			}
			if out := b.run("pull", theirs); !strings.Contains(out, "Status: Image is up to date for "+theirs) {
				t.Errorf("second pull said\n%s", out)
			}
			ours := address + "/ours/" + format + ":1"
			b.run("tag", theirs, ours)
			if out := b.run("push", ours); !strings.Contains(out, "1: digest: "+want) {
				t.Errorf("push said\n%s\nwant digest %s", out, want)
			}
			if got := manifestDigest(t, ours); got != want {
				t.Errorf("pushed manifest %s, want %s", got, want)
			}
			other.run("pull", "-q", ours)
			id := maker.run("inspect", "-f", "{{.Id}}", "example/own:1.0")
			if got := other.run("inspect", "-f", "{{.Id}}", ours); got != id {
				t.Errorf("ID after pull, push, pull: %s, want %s", got, id)
			}
			digests := other.run("inspect", "-f", "{{json .RepoDigests}}", ours)
			if !strings.Contains(digests, "@"+want) {
				t.Errorf("RepoDigests %s, want one with %s", digests, want)
			}
			assertSameTree(t, maker.mount("--read-only", "example/own:1.0"), other.mount("--read-only", ours), tree.Options{})
			other.run("fsck")
		})
	}
}

// TestPushOwnImage pushes an image that was made here; skopeo and podman, and
// another unio, get the same thing.
func TestPushOwnImage(t *testing.T) {
	address := registry(t)
	b, other, p := newBox(t), newBox(t), podman(t)
	ownImage(t, b)
	ref := address + "/made/here:1.0"
	b.run("tag", "example/own:1.0", ref)
	out := b.run("push", ref)
	if !strings.Contains(out, "The push refers to repository ["+address+"/made/here]") || !strings.Contains(out, "1.0: digest: sha256:") {
		t.Errorf("push said\n%s", out)
	}
	if out := b.run("push", ref); !strings.Contains(out, "Layer already exists") {
		t.Errorf("second push said\n%s", out)
	}
	mnt := b.mount("--read-only", ref)
	other.run("pull", ref)
	assertSameTree(t, mnt, other.mount("--read-only", ref), tree.Options{})
	id := b.run("inspect", "-f", "{{.Id}}", ref)
	if got := other.run("inspect", "-f", "{{.Id}}", ref); got != id {
		t.Errorf("ID %s, want %s", got, id)
	}
	peer(t, p, "pull", "-q", "--tls-verify=false", ref)
	assertSameTree(t, peer(t, p, "image", "mount", ref), mnt, tree.Options{NoRoot: true})
	byDigest := address + "/made/here@" + manifestDigest(t, ref)
	third := newBox(t)
	third.run("pull", byDigest)
	if got := third.run("inspect", "-f", "{{.Id}}", byDigest); got != id {
		t.Errorf("pulled by digest: ID %s, want %s", got, id)
	}
}

// TestKillPull kills pull at random moments.
func TestKillPull(t *testing.T) {
	address := registry(t)
	b, maker := newBox(t), newBox(t)
	archive := bigArchive(t, maker)
	ref := address + "/example/big:1"
	maker.run("load", "-q", "-i", archive)
	maker.run("tag", "example/big:1", ref)
	maker.run("push", "-q", ref)
	b.killRepeatedly(func(_ int, finished bool) {
		if finished {
			b.try("rmi", "-f", ref)
		}
	}, "pull", "-q", ref)
	b.run("pull", "-q", ref)
	assertSameTree(t, maker.path("big"), b.mount("--read-only", ref), tree.Options{})
}

// TestRegistryErrors asks for what a registry does not have.
func TestRegistryErrors(t *testing.T) {
	address := registry(t)
	b := newBox(t)
	b.run("import", "-q", smallTar(t, b), address+"/there:1")
	b.run("push", "-q", address+"/there:1")
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"pull", address + "/there:2"}, "manifest for " + address + "/there:2 not found: manifest unknown"},
		{[]string{"pull", "-a", address + "/there:1"}, "tag can't be used with --all-tags/-a"},
		{[]string{"pull", "127.0.0.1:1/none:1"}, "connection refused"},
		{[]string{"push", address + "/absent:1"}, "does not exist locally with the tag"},
		{[]string{"pull", address + "/Upper"}, "invalid reference format: repository name (Upper) must be lowercase"},
	} {
		r := b.try(c.args...)
		if r.code != 1 || !strings.Contains(r.stderr, c.says) {
			t.Errorf("unio %s: exit code %d, stderr %q; want 1 and %q", strings.Join(c.args, " "), r.code, r.stderr, c.says)
		}
	}
}
