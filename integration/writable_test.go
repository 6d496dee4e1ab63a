package integration

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"unio/integration/peers"
	"unio/integration/tree"
)

// TestBigSparseFile changes a lower file of more than 4 GiB that is mostly
// hole: the copy is sparse too.
func TestBigSparseFile(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	const size = 4<<30 + 1<<20
	shell(t, b.dir, fmt.Sprintf(`mkdir src && truncate -s %d src/sparse
		printf begin | dd of=src/sparse conv=notrunc status=none
		printf end | dd of=src/sparse bs=1 seek=%d conv=notrunc status=none`, size, size-3))
	pack(t, b.path("src"), b.path("src.tar"))
	b.run("import", "-q", b.path("src.tar"), "sparse:1")
	mnt := b.mount("--name", "sparse", "sparse:1")
	f, err := os.OpenFile(filepath.Join(mnt, "sparse"), os.O_RDWR, 0)
	must(t, err)
	defer func() { must(t, f.Close()) }()
	for off, text := range map[int64]string{size - 3: "END!", 3 << 30: "middle"} {
		_, err := f.WriteAt([]byte(text), off)
		must(t, err)
	}
	for off, want := range map[int64]string{0: "begin\x00", 3 << 30: "middle\x00", size - 3: "END!", size / 2: "\x00\x00"} {
		got := make([]byte, len(want))
		if _, err := f.ReadAt(got, off); err != nil || string(got) != want {
			t.Errorf("at %d: %q, %v; want %q", off, got, err, want)
		}
	}
	var st syscall.Stat_t
	must(t, syscall.Stat(f.Name(), &st))
	if st.Size != size+1 {
		t.Errorf("size %d, want %d", st.Size, int64(size+1))
	}
	if used := b.diskUsage("sparse"); used > 10<<20 {
		t.Errorf("the upper takes %d bytes for a few bytes written", used)
	}
	b.run("commit", "-q", "sparse", "sparse:2")
	again, err := os.Open(filepath.Join(b.mount("--read-only", "sparse:2"), "sparse"))
	must(t, err)
	defer func() { must(t, again.Close()) }()
	got := make([]byte, 6)
	if _, err := again.ReadAt(got, 3<<30); err != nil || string(got) != "middle" {
		t.Errorf("after commit: %q, %v", got, err)
	}
}

// upper returns the folder that takes the changes of a container.
func (b *box) upper(container string) string {
	b.t.Helper()
	found, err := filepath.Glob(filepath.Join(b.store(), "containers", "*", "config.json"))
	must(b.t, err)
	for _, path := range found {
		text, err := os.ReadFile(path)
		must(b.t, err)
		if strings.Contains(string(text), `"`+container+`"`) {
			return filepath.Join(filepath.Dir(path), "upper")
		}
	}
	b.t.Fatalf("no container %s in %v", container, found)
	return ""
}

// diskUsage is what du says of the files of a container, in bytes.
func (b *box) diskUsage(container string) (used int64) {
	b.t.Helper()
	_, err := fmt.Sscanf(tool(b.t, "du", "-s", "--block-size=1", filepath.Dir(b.upper(container))), "%d", &used)
	must(b.t, err)
	return used
}

// TestUpperFitsOverlayfs hands the upper of a container to the kernel's
// overlayfs, over the same image unpacked by umoci: both show the same. A large
// file is written anew, since overlayfs knows no partial ones.
func TestUpperFitsOverlayfs(t *testing.T) {
	b := newBox(t)
	needTool(t, "umoci")
	b.run("import", "-q", busyboxRoot(t, b.dir), "fits:1")
	b.run("save", "-o", b.path("fits.tar"), "fits:1")
	shell(t, b.dir, "mkdir layout && tar xf fits.tar -C layout")
	tool(t, "umoci", "unpack", "--image", b.path("layout")+":1", b.path("bundle"))

	mnt := b.mount("--name", "fits", "fits:1")
	shell(t, mnt, `
		rm -r usr/share/doc/a/2 usr/share/doc/a/3; echo changed >usr/share/doc/a/4; echo more >>etc/passwd
		rm -r etc && mkdir etc && echo fresh >etc/fresh; mkdir -p new/deep; echo x >new/deep/x; ln new/deep/x new/y
		rm bin/vi && mkdir bin/vi; rm -r tmp && echo file >tmp; mknod new/null c 1 3; mkfifo new/fifo
		cp usr/share/data copy; cat copy >usr/share/data; rm copy; printf tail >>usr/share/data; ln -s anywhere new/link; setfattr -n user.x -v y new`)
	want := readTree(t, mnt, tree.Options{})
	b.run("umount", mnt)

	upper := b.upper("fits")
	must(t, os.Rename(upper, b.path("upper")))
	must(t, os.MkdirAll(b.path("merged"), 0o755))
	must(t, os.MkdirAll(b.path("work"), 0o755))
	options := "lowerdir=" + b.path("bundle/rootfs") + ",upperdir=" + b.path("upper") + ",workdir=" + b.path("work")
	must(t, unix.Mount("overlay", b.path("merged"), "overlay", 0, options))
	ours := func(name string) bool { return strings.HasPrefix(name, "trusted.unio.") }
	got := readTree(t, b.path("merged"), tree.Options{IgnoreXattr: ours})
	must(t, unmount(b.path("merged")))
	for _, line := range tree.Diff(want, got, 20) {
		t.Error(line)
	}
	t.Logf("compared %d entries", len(want))
}

// TestWritesUntilFull fills the filesystem below a mount: the writer gets
// ENOSPC, nothing else suffers, and after a removal there is room again.
func TestWritesUntilFull(t *testing.T) {
	b := newBox(t)
	b.onDisk("32M", "none")
	b.run("import", "-q", busyboxRoot(t, b.dir), "full:1")
	mnt := b.mount("--name", "full", "full:1")
	name := filepath.Join(mnt, "filler")
	f, err := os.Create(name)
	must(t, err)
	_, err = io.CopyN(f, noise{}, 100<<20)
	err = errors.Join(err, f.Sync(), f.Close())
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("writing 100 MiB to 32 MiB: %v, want ENOSPC", err)
	}
	if _, err := os.ReadFile(filepath.Join(mnt, "etc/passwd")); err != nil {
		t.Errorf("reading on a full disk: %v", err)
	}
	must(t, os.Remove(name))
	must(t, os.WriteFile(filepath.Join(mnt, "after"), []byte("room"), 0o644))
	b.run("commit", "-q", "full", "full:2")
	if diff := b.run("diff", "full"); diff != "A /after" {
		t.Errorf("diff says %q", diff)
	}
	b.assertSound()
}

// noise gives blocks that are not zero, so that nothing makes holes of them.
type noise struct{}

func (noise) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(i) | 1
	}
	return len(p), nil
}

// TestCommitWhileWriting commits with a file open and unsynced writes pending:
// they are in the image. The same content gives the same layer.
func TestCommitWhileWriting(t *testing.T) {
	b := newBox(t)
	b.run("import", "-q", busyboxRoot(t, b.dir), "cw:1")
	mnt := b.mount("--name", "writing", "cw:1")
	f, err := os.Create(filepath.Join(mnt, "open"))
	must(t, err)
	defer func() { must(t, f.Close()) }()
	_, err = f.WriteString(strings.Repeat("pending ", 100_000))
	must(t, err)
	layers := map[string]bool{}
	for i := range 3 {
		image := fmt.Sprintf("cw:again%d", i)
		b.run("commit", "-q", "writing", image)
		layers[b.run("inspect", "-f", "{{json .RootFS.Layers}}", image)] = true
	}
	if len(layers) != 1 {
		t.Errorf("three commits of the same content gave %d different layers", len(layers))
	}
	data, err := os.ReadFile(filepath.Join(b.mount("--read-only", "cw:again0"), "open"))
	if err != nil || len(data) != 800_000 {
		t.Errorf("the open file has %d bytes in the image, %v; want 800000", len(data), err)
	}
}

// TestManyLayers mounts an image of 127 layers.
func TestManyLayers(t *testing.T) {
	b := newBox(t)
	var layers [][]byte
	want := map[string]string{"d": "dir"}
	for i := range 127 {
		items := layerOf(file(fmt.Sprintf("d/%03d", i), fmt.Sprint(i)), file("same", fmt.Sprint(i)))
		if i > 0 {
			items = append(items, gone(fmt.Sprintf("d/.wh.%03d", i-1)))
		}
		layers = append(layers, tarOf(t, items))
	}
	want["d/126"], want["same"] = "file 126", "file 126"
	layout(t, b.path("layout"), "many", layers...)
	b.run("load", "-q", "-i", b.path("layout"))
	mnt := b.mount("--read-only", b.run("images", "-q"))
	assertShows(t, mnt, want)
}

// TestRenamedFolder renames a folder of the lower layer, which overlayfs
// refuses; the commit shows it moved, and others read it so.
func TestRenamedFolder(t *testing.T) {
	b := newBox(t)
	needTool(t, "umoci")
	b.run("import", "-q", busyboxRoot(t, b.dir), "moved:1")
	mnt := b.mount("--name", "moved", "moved:1")
	must(t, os.Rename(filepath.Join(mnt, "usr/share/doc"), filepath.Join(mnt, "usr/documents")))
	shell(t, mnt, "echo new >usr/documents/a/new; rm usr/documents/a/5; mkdir usr/share/doc; echo other >usr/share/doc/other")
	b.run("commit", "-q", "moved", "moved:2")
	assertSameTree(t, mnt, b.mount("--read-only", "moved:2"), tree.Options{})
	b.run("save", "-o", b.path("moved.tar"), "moved:2")
	shell(t, b.dir, "mkdir layout && tar xf moved.tar -C layout")
	tool(t, "umoci", "unpack", "--image", b.path("layout")+":2", b.path("bundle"))
	assertSameTree(t, b.path("bundle/rootfs"), mnt, tree.Options{NoRoot: true})
	assertRemountSame(t, b, "moved", mnt)
}

// TestTreeCopies runs cp, tar and rm over the mount beside the kernel's
// overlayfs, and compares what comes of it.
func TestTreeCopies(t *testing.T) {
	b := newBox(t)
	archive := busyboxRoot(t, b.dir)
	b.run("import", "-q", archive, "copies:1")
	mnt := b.mount("--name", "copies", "copies:1")
	u, err := peers.MountOverlay(b.path("overlay"), []string{b.path("busybox-root")}, true)
	must(t, err)
	defer func() { must(t, u.Close()) }()
	script := `
		cp -a usr usr2; cp -a --sparse=always usr/share/sparse sparse2; mv usr2/share/doc/a moved
		find . -name '1*' -type f -delete; tar cf - moved | tar xf - -C etc; chmod -R g+w etc; touch -d @1 moved
		ln moved/20 hard; mv moved/20 soft; ln -sf soft moved/20; rm -rf usr2; find . -exec touch -h -d @1700000000 {} +`
	shell(t, mnt, script)
	shell(t, u.Dir, script)
	assertSameTree(t, u.Dir, mnt, tree.Options{NoRoot: true})
}
