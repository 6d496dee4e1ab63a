package layer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The scripts of a container that does all at once what readers of layers get
// wrong: replaced folders and types, links, deletions next to additions.
const readerChanges = `
rm -r etc/conf.d; mkdir etc/conf.d; echo new > etc/conf.d/two; mkdir etc/conf.d/sub; echo s > etc/conf.d/sub/s
rm etc/passwd; mkdir etc/passwd; echo in > etc/passwd/in
rm lib; mkdir lib; echo in > lib/in
rm -r var/log; ln -s ../empty var/log
rm -r usr/lib/deep; mkdir -p usr/lib/deep/er; echo again > usr/lib/deep/er/again
chmod 600 usr/lib/a.so; ln usr/lib/c.so hard; mkdir zz; ln hard zz/hard
rm null; mkfifo null; rm dangling; echo no > dangling; chown 77:88 empty
setfattr -n user.new -v val empty; echo "$(printf %0255d 0)" > "$(printf %0255d 0)"; rm disk
`

// ociLayout writes an OCI image layout of one image of these layers, as
// layout:test.
func ociLayout(t testing.TB, layers ...[]byte) string {
	t.Helper()
	dir := filepath.Join(shortTemp(t), "layout")
	must(t, os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755))
	put := func(b []byte, mediaType string) map[string]any {
		sum := fmt.Sprintf("%x", sha256.Sum256(b))
		must(t, os.WriteFile(filepath.Join(dir, "blobs", "sha256", sum), b, 0o644))
		return map[string]any{"mediaType": "application/vnd.oci.image." + mediaType, "digest": "sha256:" + sum, "size": len(b)}
	}
	encode := func(v any) []byte {
		b, err := json.Marshal(v)
		must(t, err)
		return b
	}
	var descs []any
	var ids []string
	for _, l := range layers {
		d := put(l, "layer.v1.tar")
		descs, ids = append(descs, d), append(ids, d["digest"].(string))
	}
	config := put(encode(map[string]any{
		"architecture": "amd64", "os": "linux", "config": map[string]any{}, "rootfs": map[string]any{"type": "layers", "diff_ids": ids},
	}), "config.v1+json")
	manifest := put(encode(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": descs,
	}), "manifest.v1+json")
	manifest["annotations"] = map[string]string{"org.opencontainers.image.ref.name": "test"}
	index := encode(map[string]any{"schemaVersion": 2, "manifests": []any{manifest}})
	must(t, os.WriteFile(filepath.Join(dir, "index.json"), index, 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644))
	return dir
}

// shortTemp is t.TempDir for programs that mind long paths and capitals.
func shortTemp(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "unio-readers")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return dir
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	var out, msg bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &msg
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, msg.String())
	}
	return strings.TrimSpace(out.String())
}

// TestOtherReaders lets umoci and podman put the lower and a layer together
// and compares with what the mount showed.
func TestOtherReaders(t *testing.T) {
	o := newOverlay(t, baseTree, "metacopy=on,redirect_dir=on")
	shell(t, o.merged, readerChanges+"\nmv usr/lib usr/lib64; mv etc/conf.d c2; echo x > c2/x")
	want := capture(t, o.merged)
	o.check(t)
	lower := newHostLower(t, o.lower)
	var base bytes.Buffer
	must(t, WriteTree(context.Background(), lower, &base))
	_, layerTar := layerOf(t, o.up(), lower)
	layout := ociLayout(t, base.Bytes(), layerTar)

	t.Run("umoci", func(t *testing.T) {
		rootfs := filepath.Join(t.TempDir(), "rootfs")
		run(t, "umoci", "raw", "unpack", "--image", layout+":test", rootfs)
		compare(t, "umoci", capture(t, rootfs), want)
	})
	for _, driver := range []string{"overlay", "vfs"} {
		t.Run("podman "+driver, func(t *testing.T) {
			got := podmanTree(t, driver, layout)
			got["/"] = want["/"] // the storage's own folder
			compare(t, "podman", got, want)
		})
	}
}

func podmanTree(t testing.TB, driver, layout string) model {
	t.Helper()
	root := shortTemp(t)
	podman := func(args ...string) string {
		return run(t, "podman", append([]string{
			"--root", filepath.Join(root, "root"), "--runroot", filepath.Join(root, "run"), "--storage-driver", driver,
		}, args...)...)
	}
	id := podman("pull", "-q", "oci:"+layout+":test")
	dir := podman("image", "mount", id)
	defer podman("image", "umount", id)
	return capture(t, dir)
}
