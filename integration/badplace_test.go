package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Stores and images that something is wrong with: each time one line that says
// what, and nothing lost.

// placeBox is a box with a small image of one busy folder.
func placeBox(t *testing.T, prepare func(b *box)) *box {
	t.Helper()
	b := newBox(t)
	needTool(t, "setfattr")
	if prepare != nil {
		prepare(b)
	}
	must(t, os.Mkdir(b.path("lower"), 0o755))
	shell(t, b.path("lower"), badLower)
	pack(t, b.path("lower"), b.path("lower.tar"))
	b.run("import", "-q", b.path("lower.tar"), "place:1")
	return b
}

// refuses runs unio, which must say one line that holds the words, and end
// with an error.
func (b *box) refuses(words string, args ...string) {
	b.t.Helper()
	r := b.try(args...)
	text := strings.TrimSpace(r.stderr)
	if r.code == 0 || strings.Contains(text, "\n") || !strings.Contains(text, words) {
		b.t.Errorf("unio %s: exit code %d, %q; want one line with %q", strings.Join(args, " "), r.code, text, words)
	}
}

// layerBlob finds the tar of the image's only layer.
func (b *box) layerBlob() string {
	b.t.Helper()
	digest := b.run("inspect", "-f", "{{index .RootFS.Layers 0}}", "place:1")
	return filepath.Join(b.store(), "blobs/sha256", strings.TrimPrefix(digest, "sha256:"))
}

// TestLayerGone takes a layer's tar away: the mount is refused. With it cut
// short under a live mount, what is missing is EIO, everything else works, and
// a copy-up that fails leaves nothing.
func TestLayerGone(t *testing.T) {
	b := placeBox(t, nil)
	blob := b.layerBlob()
	must(t, os.Rename(blob, blob+".away"))
	b.refuses(filepath.Base(blob)[:12], "mount", "--name", "gone", "place:1", b.path("mnt"))
	must(t, os.Rename(blob+".away", blob))

	mnt := b.mount("--name", "cut", "place:1")
	must(t, os.Truncate(blob, 4096))
	if _, err := os.ReadFile(filepath.Join(mnt, "large")); err == nil {
		t.Error("reading what is cut off succeeds")
	}
	if err := os.WriteFile(filepath.Join(mnt, "a/1"), []byte("anew"), 0o644); err != nil {
		t.Errorf("O_TRUNC needs no lower data: %v", err)
	}
	for _, name := range []string{"d/2", "large"} {
		if err := writeFile(filepath.Join(mnt, name), unix.O_APPEND, []byte("x"), -1); err == nil && name != "large" {
			t.Errorf("appending to %s, whose data is gone, succeeds", name)
		}
	}
	shell(t, mnt, "chmod 600 d/1; mv d moved; rm a/2; echo new >new; ls -R . >/dev/null; test ! -s new || cat new a/1 >/dev/null")
	if left := b.upper("cut") + "/../work/tmp"; len(readNames(t, left)) > 1 {
		t.Errorf("left in the work folder: %v", readNames(t, left))
	}
	b.run("umount", mnt)
}

func readNames(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestReadOnlyDisk mounts a container whose disk has become read-only: it is
// refused in a line, with --read-only it works.
func TestReadOnlyDisk(t *testing.T) {
	b := placeBox(t, func(b *box) { b.onDisk("64M", "none") })
	mnt := b.mount("--name", "ro", "place:1")
	shell(t, mnt, badChanges)
	want := shell(t, mnt, "find . -type f -exec md5sum {} + | sort")
	b.run("umount", mnt)
	must(t, unix.Mount("", b.store(), "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	b.refuses("read-only", "mount", "ro", b.path("point"))
	must(t, unix.Mount("", b.store(), "", unix.MS_REMOUNT, ""))
	mnt = b.mount("ro")
	if got := shell(t, mnt, "find . -type f -exec md5sum {} + | sort"); got != want {
		t.Errorf("after the disk was writable again:\n%s\nwant\n%s", got, want)
	}
}

// TestPoorDisk puts the store on filesystems that cannot hold an upper, or not
// all of one.
func TestPoorDisk(t *testing.T) {
	t.Run("ramfs", func(t *testing.T) { // which has no extended attributes
		b := placeBox(t, func(b *box) {
			must(t, os.Mkdir(b.store(), 0o700))
			must(t, unix.Mount("ramfs", b.store(), "ramfs", 0, ""))
			t.Cleanup(func() { b.unmountAll(); must(t, unmount(b.store())) })
		})
		must(t, os.Mkdir(b.path("point"), 0o755))
		b.refuses("cannot hold", "mount", "--name", "poor", "place:1", b.path("point"))
		shell(t, b.mount("--read-only", "place:1"), "cat a/1 large >/dev/null")
	})
	t.Run("tmpfs", func(t *testing.T) {
		b := placeBox(t, func(b *box) {
			must(t, os.Mkdir(b.store(), 0o700))
			must(t, unix.Mount("tmpfs", b.store(), "tmpfs", 0, "size=64m"))
			t.Cleanup(func() { b.unmountAll(); must(t, unmount(b.store())) })
		})
		mnt := b.mount("--name", "poor", "place:1")
		shell(t, mnt, badChanges+"setfattr -n user.k -v v d/1; mv d d2; test $(stat -c %h d2/twin) = 2")
		assertRemountSame(t, b, "poor", mnt)
	})
}

// TestBadWork has a work folder in the way of a mount.
func TestBadWork(t *testing.T) {
	b := placeBox(t, nil)
	mnt := b.mount("--name", "work", "place:1")
	shell(t, mnt, badChanges)
	b.run("umount", mnt)
	work := filepath.Join(filepath.Dir(b.upper("work")), "work")
	must(t, os.Mkdir(b.path("point"), 0o755))

	must(t, unix.Mount("tmpfs", work, "tmpfs", 0, ""))
	b.refuses("filesystem of the upper", "mount", "work", b.path("point"))
	must(t, unmount(work))

	must(t, os.Rename(work, work+".away"))
	must(t, os.WriteFile(work, nil, 0o600))
	b.refuses("work", "mount", "work", b.path("point"))
	must(t, os.Remove(work))
	must(t, os.Rename(work+".away", work))

	shell(t, work, "rm -r tmp; echo file >tmp")
	shell(t, b.mount("work"), "cat moved/1; test $(cat d/twin | wc -l) = 2")
}
