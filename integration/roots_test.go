package integration

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"unio/integration/debian"
	"unio/integration/tree"
)

// debianTar returns the tar of a real root filesystem.
func debianTar(t *testing.T, v debian.Variant) string {
	t.Helper()
	needRoot(t)
	needTool(t, "debootstrap")
	path, err := debian.Root(t.Context(), v)
	if err != nil && !errors.Is(err, debian.ErrNoMirror) {
		t.Fatal(err)
	}
	need(t, "a Debian mirror", err)
	return path
}

// unpack extracts a tar with everything it holds.
func unpack(t *testing.T, archive, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	tool(t, "tar", "--extract", "--file", archive, "--directory", dir, "--numeric-owner",
		"--same-permissions", "--xattrs", "--xattrs-include=*")
}

// pack makes a tar of a folder, names sorted, with everything tar can hold.
func pack(t *testing.T, dir, archive string) {
	t.Helper()
	tool(t, "tar", "--create", "--file", archive, "--directory", dir, "--numeric-owner", "--sort=name",
		"--sparse", "--xattrs", "--xattrs-include=*", "--format=posix", ".")
}

// busyboxRoot makes a small root filesystem that can run a shell, with files
// of every kind, and returns the path of its tar.
func busyboxRoot(t *testing.T, dir string) string {
	t.Helper()
	needTool(t, "busybox")
	root := filepath.Join(dir, "busybox-root")
	shell(t, dir, `
		mkdir -p busybox-root/bin busybox-root/etc busybox-root/tmp busybox-root/dev busybox-root/proc busybox-root/sys busybox-root/usr/share/doc/a
		cp "$(command -v busybox)" busybox-root/bin/busybox
		for name in $(busybox-root/bin/busybox --list); do
			[ "$name" = busybox ] || ln -s busybox "busybox-root/bin/$name"
		done
		cd busybox-root
		chmod 1777 tmp
		printf 'root:x:0:0:root:/:/bin/sh\n' >etc/passwd
		printf 'root:x:0:\n' >etc/group
		for i in $(seq 200); do echo "text $i" >usr/share/doc/a/$i; done
		ln usr/share/doc/a/1 usr/share/doc/a/one-more-name
		ln -s ../../../etc/passwd usr/share/doc/a/link
		mkfifo tmp/fifo
		mknod dev/null c 1 3
		head -c 300000 /dev/urandom >usr/share/data
		truncate -s 4M usr/share/sparse
		chown 1000:2000 usr/share/data
		setfattr -n user.colour -v blue usr/share/data
		touch -d '1969-07-20 20:17:40.123456789 UTC' etc/group
	`)
	archive := filepath.Join(dir, "busybox.tar")
	pack(t, root, archive)
	return archive
}

// readTree reads a folder tree for comparison.
func readTree(t *testing.T, dir string, o tree.Options) map[string]tree.Entry {
	t.Helper()
	entries, err := tree.Read(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// assertSameTree compares two folders entry by entry.
func assertSameTree(t *testing.T, want, got string, o tree.Options) {
	t.Helper()
	w, g := readTree(t, want, o), readTree(t, got, o)
	for _, line := range tree.Diff(w, g, 20) {
		t.Error(line)
	}
	t.Logf("compared %d entries", len(w))
}
