package integration

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"unio/integration/debian"
	"unio/integration/peers"
	"unio/integration/tree"
)

// steps are the Dockerfile of the image other tools make for us: whiteouts,
// opaque folders, replaced types, links, owners, over a real root.
const steps = `
RUN rm -rf /usr/share/doc && mkdir /usr/share/doc && echo new > /usr/share/doc/only
RUN rm /etc/issue && mkdir /etc/issue && echo x > /etc/issue/file && rm -rf /media && echo file > /media
RUN ln /etc/passwd /etc/passwd.link && ln -s ../../../etc/shadow /etc/out && chown 1000:2000 /srv && chmod 1700 /opt
RUN mkdir -p /a/b/c && echo 1 > /a/b/c/f && rm -rf /usr/share/man
RUN rm -rf /a/b && mkdir -p /a/b && echo 2 > /a/b/g && mkfifo /a/fifo && head -c 3000000 /dev/urandom > /a/random
ENV GREETING=hello
CMD ["/bin/sh", "-c", "echo $GREETING"]
`

// docker starts a docker daemon for the test.
func docker(t *testing.T) *peers.Docker {
	t.Helper()
	needRoot(t)
	d, err := peers.StartDocker(t.Context(), t.TempDir())
	if err != nil && !errors.Is(err, peers.ErrMissing) {
		t.Fatal(err)
	}
	need(t, "docker", err)
	t.Cleanup(func() { must(t, d.Close()) })
	return d
}

// podman prepares a podman store for the test.
func podman(t *testing.T) *peers.Podman {
	t.Helper()
	needRoot(t)
	needTool(t, "podman", "buildah")
	p, err := peers.NewPodman(t.TempDir())
	must(t, err)
	t.Cleanup(func() { must(t, p.Close()) })
	return p
}

// runner is a peer's command line.
type runner interface {
	Run(ctx context.Context, args ...string) (string, error)
}

func peer(t *testing.T, r runner, args ...string) string {
	t.Helper()
	out, err := r.Run(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// dockerfileIn writes a build context.
func dockerfileIn(t *testing.T, from string) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM "+from+steps), 0o644))
	return dir
}

// TestDockerImages takes an image docker built, by docker save, and shows what
// the kernel's overlayfs shows of docker's own layers; docker then takes back
// what we save.
func TestDockerImages(t *testing.T) {
	b, d := newBox(t), docker(t)
	peer(t, d, "import", debianTar(t, debian.Base), "example/base:1")
	t.Setenv("DOCKER_BUILDKIT", "0")
	peer(t, d, "build", "--network", "none", "-q", "-t", "example/multi:1", dockerfileIn(t, "example/base:1"))
	archive := b.path("docker.tar")
	peer(t, d, "save", "-o", archive, "example/multi:1", "example/base:1")
	out := b.run("load", "-i", archive)
	for _, line := range []string{"Loaded image: example/multi:1", "Loaded image: example/base:1"} {
		if !strings.Contains(out, line) {
			t.Errorf("load said %q, want the line %q", out, line)
		}
	}
	id := peer(t, d, "image", "inspect", "-f", "{{.Id}}", "example/multi:1")
	if got := b.run("inspect", "-f", "{{.Id}}", "example/multi:1"); got != id {
		t.Errorf("ID %s, docker has %s", got, id)
	}
	lowers := peer(t, d, "image", "inspect", "-f", "{{.GraphDriver.Data.UpperDir}}:{{.GraphDriver.Data.LowerDir}}", "example/multi:1")
	assertLikeOverlay(t, b, "example/multi:1", lowers)
	assertSameInspect(t, d, b, "example/multi:1")

	saved := b.path("ours.tar")
	b.run("save", "-o", saved, "example/multi:1", "example/base:1")
	peer(t, d, "rmi", "-f", "example/multi:1", "example/base:1")
	if out := peer(t, d, "load", "-i", saved); !strings.Contains(out, "Loaded image: example/multi:1") {
		t.Errorf("docker load of our archive said %q", out)
	}
	if got := peer(t, d, "image", "inspect", "-f", "{{.Id}}", "example/multi:1"); got != id {
		t.Errorf("docker load of our archive gave ID %s, want %s", got, id)
	}
	if got := peer(t, d, "run", "--rm", "--network", "none", "example/multi:1"); got != "hello" {
		t.Errorf("docker run printed %q", got)
	}
}

// assertLikeOverlay compares our mount of an image with the kernel's overlayfs
// over the folders of another tool.
func assertLikeOverlay(t *testing.T, b *box, image, lowers string) {
	t.Helper()
	u, err := peers.MountOverlay(t.TempDir(), strings.Split(strings.TrimSuffix(lowers, ":"), ":"), false)
	must(t, err)
	defer func() { must(t, u.Close()) }()
	mnt := b.mount("--read-only", image)
	assertSameTree(t, u.Dir, mnt, tree.Options{NoRoot: true})
	b.run("umount", mnt)
}

// assertSameInspect compares the fields of inspect that do not depend on who
// keeps the image.
func assertSameInspect(t *testing.T, d *peers.Docker, b *box, image string) {
	t.Helper()
	for _, field := range []string{
		".Id", ".RepoTags", ".Created", ".Architecture", ".Os", ".Comment", ".Author",
		".RootFS.Layers", ".RootFS.Type", ".Config.Env", ".Config.Cmd", ".Config.Entrypoint", ".Config.Labels",
	} {
		format := "{{json " + field + "}}"
		want, got := peer(t, d, "image", "inspect", "-f", format, image), b.run("inspect", "-f", format, image)
		if want != got {
			t.Errorf("inspect %s: %s, docker says %s", field, got, want)
		}
	}
	ids := b.run("history", "--no-trunc", "--format", "{{.CreatedBy}}\t{{.Comment}}", image)
	if want := peer(t, d, "history", "--no-trunc", "--format", "{{.CreatedBy}}\t{{.Comment}}", image); strings.TrimSpace(want) != ids {
		t.Errorf("history:\n%s\ndocker says\n%s", ids, want)
	}
}

// TestPodmanImages takes an image buildah built, by podman save in both
// formats, and by skopeo.
func TestPodmanImages(t *testing.T) {
	t.Parallel()
	b, p := newBox(t), podman(t)
	needTool(t, "skopeo", "umoci")
	peer(t, p, "import", debianTar(t, debian.Base), "localhost/base:1")
	must(t, p.Build(t.Context(), "localhost/multi:1", dockerfileIn(t, "localhost/base:1")))
	merged := peer(t, p, "image", "mount", "localhost/multi:1")
	want := readTree(t, merged, tree.Options{NoRoot: true})
	for _, format := range []string{"docker-archive", "oci-archive", "oci-dir"} {
		archive := b.path("podman-" + format)
		peer(t, p, "save", "--format", format, "-o", archive, "localhost/multi:1")
		t.Run(format, func(t *testing.T) { assertLoadsAs(t, newBox(t), archive, want) })
	}
	archive := b.path("podman-docker-archive")
	t.Run("skopeo to a layout", func(t *testing.T) {
		b := newBox(t)
		tool(t, "skopeo", "copy", "-q", "docker-archive:"+archive, "oci:"+b.path("layout")+":multi")
		assertLoadsAs(t, b, b.path("layout"), want)
		tool(t, "umoci", "unpack", "--image", b.path("layout")+":multi", b.path("bundle"))
		mnt := b.mount("--read-only", b.run("images", "-q"))
		assertSameTree(t, b.path("bundle/rootfs"), mnt, tree.Options{NoRoot: true})
	})
	t.Run("skopeo with zstd", func(t *testing.T) {
		b := newBox(t)
		tool(t, "skopeo", "copy", "-q", "--dest-compress-format", "zstd", "docker-archive:"+archive, "oci-archive:"+b.path("zstd.tar"))
		assertLoadsAs(t, b, b.path("zstd.tar"), want)
	})
}

// assertLoadsAs loads an archive and compares the mount with a tree.
func assertLoadsAs(t *testing.T, b *box, archive string, want map[string]tree.Entry) {
	t.Helper()
	b.run("load", "-i", archive)
	mnt := b.mount("--read-only", strings.Fields(b.run("images", "-q"))[0])
	for _, line := range tree.Diff(want, readTree(t, mnt, tree.Options{NoRoot: true}), 20) {
		t.Error(line)
	}
	b.run("umount", mnt)
}

// ownImage makes an image of two layers of our own: an import, and a commit
// with every kind of change.
func ownImage(t *testing.T, b *box) {
	t.Helper()
	b.run("import", "-q", busyboxRoot(t, b.dir), "example/own:base")
	mnt := b.mount("--name", "own", "example/own:base")
	shell(t, mnt, `
		rm -rf usr/share/doc/a && mkdir usr/share/doc/a && echo new >usr/share/doc/a/new
		rm usr/share/data && mkdir usr/share/data && echo in >usr/share/data/in
		ln etc/passwd etc/passwd.link; ln -s /nowhere dangling; mkfifo fifo; mknod dev/zero c 1 5
		rm -r tmp; echo file >tmp; chown 3:4 etc; chmod 0711 etc
		setfattr -n user.note -v hi etc/group
		touch -d '2001-02-03 04:05:06.7 UTC' etc/group # docker and podman know no time before 1970
		rm bin/vi; mkdir -p x/y/z; echo deep >x/y/z/deep`)
	b.run("commit", "-q", "-m", "second layer", "-c", "CMD [\"/bin/sh\"]", "-c", "ENV A=b", "own", "example/own:1.0")
	b.run("umount", mnt)
}

// TestOursReadByOthers gives what we save and store to everybody else.
func TestOursReadByOthers(t *testing.T) {
	b, d, p := newBox(t), docker(t), podman(t)
	needTool(t, "skopeo", "umoci")
	ownImage(t, b)
	id := b.run("inspect", "-f", "{{.Id}}", "example/own:1.0")
	mnt := b.mount("--read-only", "example/own:1.0")
	archive := b.path("own.tar")
	b.run("save", "-o", archive, "example/own:1.0")

	t.Run("save is reproducible", func(t *testing.T) {
		b.run("save", "-o", b.path("again.tar"), "example/own:1.0")
		tool(t, "cmp", archive, b.path("again.tar"))
	})
	t.Run("docker load", func(t *testing.T) {
		if out := peer(t, d, "load", "-i", archive); out != "Loaded image: example/own:1.0" {
			t.Errorf("docker load said %q", out)
		}
		if got := peer(t, d, "image", "inspect", "-f", "{{.Id}}", "example/own:1.0"); got != id {
			t.Errorf("ID %s, want %s", got, id)
		}
		lowers := peer(t, d, "image", "inspect", "-f", "{{.GraphDriver.Data.UpperDir}}:{{.GraphDriver.Data.LowerDir}}", "example/own:1.0")
		assertLikeOverlay(t, b, "example/own:1.0", lowers)
		if got := peer(t, d, "run", "--rm", "--network", "none", "example/own:1.0", "cat", "/x/y/z/deep"); got != "deep" {
			t.Errorf("docker run printed %q", got)
		}
	})
	t.Run("podman load", func(t *testing.T) {
		peer(t, p, "load", "-i", archive)
		got := peer(t, p, "images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}")
		if !strings.Contains(got, "example/own:1.0 "+id) {
			t.Errorf("podman images says %q, want example/own:1.0 with ID %s", got, id)
		}
		assertSameTree(t, peer(t, p, "image", "mount", id), mnt, tree.Options{NoRoot: true})
	})
	t.Run("umoci unpack", func(t *testing.T) {
		shell(t, b.dir, "mkdir layout && tar xf own.tar -C layout")
		ref := layoutRefs(t, b.path("layout"))
		tool(t, "umoci", "unpack", "--image", b.path("layout")+":"+ref[0], b.path("bundle"))
		assertSameTree(t, b.path("bundle/rootfs"), mnt, tree.Options{NoRoot: true})
	})
	t.Run("skopeo reads the store", func(t *testing.T) {
		for _, ref := range layoutRefs(t, b.store()) {
			dir := b.path("skopeo-" + strings.NewReplacer("/", "-", ":", "-").Replace(ref))
			tool(t, "skopeo", "copy", "-q", "oci:"+b.store()+":"+ref, "dir:"+dir)
			tool(t, "skopeo", "inspect", "oci:"+b.store()+":"+ref)
		}
	})
	t.Run("a second store", func(t *testing.T) {
		other := newBox(t)
		if out := other.run("load", "-i", archive); !strings.HasSuffix(out, "Loaded image: example/own:1.0") {
			t.Errorf("load said %q", out)
		}
		if got := other.run("inspect", "-f", "{{.Id}}", "example/own:1.0"); got != id {
			t.Errorf("ID %s, want %s", got, id)
		}
		assertSameTree(t, mnt, other.mount("--read-only", "example/own:1.0"), tree.Options{})
	})
}

// layoutRefs lists the reference names in the index of an OCI layout.
func layoutRefs(t *testing.T, dir string) []string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "index.json"))
	must(t, err)
	var index struct {
		Manifests []struct {
			Annotations map[string]string
		}
	}
	must(t, json.Unmarshal(data, &index))
	var refs []string
	for _, m := range index.Manifests {
		if ref := m.Annotations["org.opencontainers.image.ref.name"]; ref != "" {
			refs = append(refs, ref)
		}
	}
	if len(refs) == 0 {
		t.Fatalf("%s/index.json names no reference: %s", dir, data)
	}
	return refs
}

// TestPlainTagUnpack saves an image under a plain tag, which is what umoci
// takes as the name of an image in a layout.
func TestPlainTagUnpack(t *testing.T) {
	b := newBox(t)
	needTool(t, "umoci")
	b.run("import", "-q", busyboxRoot(t, b.dir), "plain:tagged")
	b.run("save", "-o", b.path("plain.tar"), "plain:tagged")
	shell(t, b.dir, "mkdir layout && tar xf plain.tar -C layout")
	tool(t, "umoci", "unpack", "--image", b.path("layout")+":tagged", b.path("bundle"))
	assertSameTree(t, b.path("bundle/rootfs"), b.mount("--read-only", "plain:tagged"), tree.Options{NoRoot: true})
}
