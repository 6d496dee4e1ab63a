package integration

import (
	"os"
	"path/filepath"
	"testing"

	"unio/integration/debian"
	"unio/integration/tree"
)

// TestDebianRootIdentical imports a real root filesystem and compares the
// read-only mount with the source entry by entry.
func TestDebianRootIdentical(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	needTool(t, "setfattr")
	source := b.path("source")
	unpack(t, debianTar(t, debian.Tools), source)
	addRareThings(t, source)
	archive := b.path("root.tar")
	pack(t, source, archive)

	b.run("import", "-q", archive, "debian:real")
	mnt := b.mount("--read-only", "-o", "acl", "debian:real")
	want := readTree(t, source, tree.Options{})
	if len(want) < 9000 {
		t.Errorf("the source has only %d entries: not much of a test", len(want))
	}
	got := readTree(t, mnt, tree.Options{})
	for _, line := range tree.Diff(want, got, 20) {
		t.Error(line)
	}
	countKinds(t, want)
	assertReadOnly(t, mnt)
}

// addRareThings gives the tree what a fresh Debian root may lack.
func addRareThings(t *testing.T, root string) {
	t.Helper()
	shell(t, root, `
		mkdir rare && cd rare
		mkfifo fifo; mknod char c 1 3; mknod block b 7 300
		touch -d '1905-02-03 04:05:06.000000007 UTC' old
		touch -d '2150-01-01 00:00:00.999999999 UTC' new
		echo one >a && ln a b && ln a c
		ln -s ../../../etc/passwd escape
		truncate -s 4100M sparse; printf tail | dd of=sparse bs=1 seek=4299161596 conv=notrunc status=none
		setfattr -n user.text -v 'some text' a
		setfattr -n user.empty a
		setfattr -n user.binary -v 0x00ff0a00 a
		setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 new
		setfattr -n trusted.note -v kept old
		setfattr -h -n trusted.note -v onlink escape
		chown 4000000000:4000000001 old; chmod 6755 new; chmod 1777 .
		touch "$(printf 'new\nline')" "$(printf 'not \xff\xfe utf8')" "$(printf 'x%.0s' $(seq 255))"
		mkdir -p deep/$(printf 'long-folder-name/%.0s' $(seq 40))
		setfacl -m u:1234:rw a
		mkdir default-acl && setfacl -d -m u:1234:rwx default-acl
	`)
}

// countKinds makes sure that the comparison saw every kind of entry.
func countKinds(t *testing.T, entries map[string]tree.Entry) {
	t.Helper()
	kinds := map[uint32]int{}
	linked, xattrs := 0, 0
	for _, e := range entries {
		kinds[e.Mode>>12]++
		if e.Nlink > 1 {
			linked++
		}
		if e.Xattrs != "" {
			xattrs++
		}
	}
	for _, kind := range []uint32{1, 2, 4, 6, 8, 10} { // fifo, char, folder, block, regular, link
		if kinds[kind] == 0 {
			t.Errorf("no entry of type %#o in the comparison", kind<<12)
		}
	}
	if linked == 0 || xattrs == 0 {
		t.Errorf("%d linked entries, %d with xattrs: want some of each", linked, xattrs)
	}
	t.Logf("%d entries: %v by type, %d linked, %d with xattrs", len(entries), kinds, linked, xattrs)
}

// assertReadOnly tries to change things.
func assertReadOnly(t *testing.T, mnt string) {
	t.Helper()
	name := filepath.Join(mnt, "etc/passwd")
	for what, err := range map[string]error{
		"create": os.WriteFile(filepath.Join(mnt, "new"), nil, 0o644),
		"write":  os.WriteFile(name, []byte("x"), 0o644),
		"remove": os.Remove(name),
		"chmod":  os.Chmod(name, 0o600),
		"mkdir":  os.Mkdir(filepath.Join(mnt, "folder"), 0o755),
	} {
		if err == nil {
			t.Errorf("%s worked on a read-only mount", what)
		}
	}
}

// TestImportCompressions imports the same tree packed in every way import reads.
func TestImportCompressions(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	archive := busyboxRoot(t, b.dir)
	needTool(t, "gzip", "xz", "zstd", "bzip2")
	first := b.run("inspect", "-f", "{{json .RootFS.Layers}}", b.run("import", "-q", archive))
	for name, command := range map[string]string{"gz": "gzip -9n", "zst": "zstd -q", "xz": "xz -0", "bz2": "bzip2 -1"} {
		packed := b.path("busybox.tar." + name)
		shell(t, b.dir, command+" <"+archive+" >"+packed)
		layers := b.run("inspect", "-f", "{{json .RootFS.Layers}}", b.run("import", "-q", packed))
		if layers != first {
			t.Errorf("%s: layers %s, want %s", name, layers, first)
		}
	}
}
