package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"unio/integration/peers"
)

// toolbox is a small image in the stores of other tools.
type toolbox struct {
	*box
	docker *peers.Docker
	podman *peers.Podman
	id     string // of the image, for all
}

const toolImage = "quay.io/x/app:1"

func newToolbox(t *testing.T) *toolbox {
	b := &toolbox{box: newBox(t)}
	needTool(t, "podman", "buildah", "skopeo", "umoci")
	shell(t, b.dir, "mkdir -p root/bin; cp /bin/busybox root/bin/; echo one >root/one; mkdir docker podman")
	pack(t, b.path("root"), b.path("root.tar"))
	b.id = b.run("import", "-q", b.path("root.tar"), toolImage)
	b.run("save", "-q", "-o", b.path("image.tar"), toolImage)
	var err error
	b.docker, err = peers.StartDocker(t.Context(), b.path("docker"))
	need(t, "dockerd", err)
	t.Cleanup(func() { must(t, b.docker.Close()) })
	b.podman, err = peers.NewPodman(b.path("podman"))
	need(t, "podman", err)
	t.Cleanup(func() { must(t, b.podman.Close()) })
	for _, run := range []func(args ...string) string{b.inDocker, b.inPodman} {
		run("load", "-q", "-i", b.path("image.tar"))
	}
	return b
}

func (b *toolbox) inDocker(args ...string) string {
	b.t.Helper()
	out, err := b.docker.Run(b.t.Context(), args...)
	must(b.t, err)
	return out
}

func (b *toolbox) inPodman(args ...string) string {
	b.t.Helper()
	out, err := b.podman.Run(b.t.Context(), args...)
	must(b.t, err)
	return out
}

func (b *toolbox) inBuildah(args ...string) string {
	b.t.Helper()
	store := []string{"--root", b.path("podman/root"), "--runroot", b.path("podman/run"), "--storage-driver", "overlay"}
	return tool(b.t, "buildah", append(store, args...)...)
}

// loads loads an archive, from its path and, if it is a file, from a pipe. The
// image is there under the name given, or without one, and mounts.
func (b *toolbox) loads(archive, name string) {
	b.t.Helper()
	want := "Loaded image: " + name
	if name == "" {
		want = "Loaded image ID: " + b.id
	}
	from := []string{"-i " + archive}
	if fi, err := os.Stat(archive); err == nil && fi.Mode().IsRegular() {
		from = append(from, "< <(cat "+archive+")")
	}
	for _, how := range from {
		fresh := &box{t: b.t, dir: filepath.Join(b.t.TempDir())}
		out := shell(b.t, b.dir, binary+" --root "+fresh.store()+" --runroot "+fresh.path("run")+" load -q "+how)
		if out != want {
			b.t.Errorf("%s: %q, want %q", how, out, want)
		}
		if ids := fresh.run("images", "-q", "--no-trunc"); ids != b.id {
			b.t.Errorf("%s: images %q, want %s", how, ids, b.id)
		}
		mnt := fresh.mount("--read-only", b.id)
		if text, err := os.ReadFile(mnt + "/one"); err != nil || string(text) != "one\n" {
			b.t.Errorf("%s: file one is %q, %v", how, text, err)
		}
		fresh.run("umount", mnt)
		fresh.assertSound()
	}
}

// TestArchivesOfTools loads what the tools that run here write of an image
// which they loaded from ours; it has the same ID all the way. The layouts of
// tools that do not run here are in TestWriters of imagestore/archive.
func TestArchivesOfTools(t *testing.T) {
	b := newToolbox(t)
	at := b.path
	b.inDocker("save", "-o", at("docker.tar"), toolImage)
	b.loads(at("docker.tar"), toolImage)
	for format, name := range map[string]string{"docker-archive": toolImage, "oci-archive": toolImage, "oci-dir": toolImage, "docker-dir": ""} {
		b.inPodman("save", "-q", "--format", format, "-o", at("podman-"+format), toolImage)
		b.loads(at("podman-"+format), name)
	}
	for kind, name := range map[string]string{"docker-archive": toolImage, "oci-archive": toolImage, "oci": "app:1", "dir": ""} {
		dst := kind + ":" + at("buildah-"+kind)
		if kind != "dir" {
			dst += ":" + name
		}
		b.inBuildah("push", "-q", toolImage, dst)
		b.loads(at("buildah-"+kind), name)
	}
	for _, dst := range []string{"docker-archive:" + at("skopeo.tar") + ":" + toolImage, "oci-archive:" + at("skopeo-oci.tar") + ":" + toolImage} {
		tool(t, "skopeo", "copy", "-q", "docker-archive:"+at("docker.tar"), dst)
		b.loads(strings.Split(dst, ":")[1], toolImage)
	}
}

// TestArchiveOfUmoci loads a layout that umoci made from nothing, a layer of it
// without history.
func TestArchiveOfUmoci(t *testing.T) {
	b := newBox(t)
	needTool(t, "umoci")
	shell(t, b.dir, `echo one >one; umoci init --layout um; umoci new --image um:latest
		umoci insert --image um:latest one /one; umoci insert --image um:latest --no-history one /two; tar cf um.tar -C um .`)
	for _, from := range []string{"um", "um.tar"} {
		if out := b.run("load", "-q", "-i", b.path(from)); out != "Loaded image: latest:latest" {
			t.Errorf("%s: %q", from, out)
		}
	}
	mnt := b.mount("--read-only", "latest")
	if out := shell(t, mnt, "cat one two"); out != "one\none" {
		t.Errorf("files: %q", out)
	}
	if rows := strings.Split(b.run("history", "-q", "latest"), "\n"); len(rows) != 1 {
		t.Errorf("history %q", rows)
	}
	b.assertSound()
}
