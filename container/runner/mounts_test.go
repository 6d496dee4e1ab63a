package runner

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"unio/container/runspec"
)

// TestMounts mounts files and folders of the host, and tmpfs, into a container.
func TestMounts(t *testing.T) {
	t.Parallel()
	root, host := busyboxRoot(t), t.TempDir()
	write(t, host, "file", "text")
	must(t, os.MkdirAll(filepath.Join(host, "dir/below"), 0o755))
	must(t, unix.Mount("tmpfs", filepath.Join(host, "dir/below"), "tmpfs", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(filepath.Join(host, "dir/below"), 0)) })
	write(t, host, "dir/below/deep", "deep")
	must(t, os.Symlink("../../../../../../../../../etc", filepath.Join(root, "up")))
	mounts := []runspec.Mount{
		{Type: "bind", Source: filepath.Join(host, "dir"), Target: "/ro", ReadOnly: true},
		{Type: "bind", Source: filepath.Join(host, "dir"), Target: "/rw/in"},
		{Type: "bind", Source: filepath.Join(host, "file"), Target: "/a/b/file"},
		{Type: "bind", Source: filepath.Join(host, "file"), Target: "/up/file"},
		{Type: "bind", Source: filepath.Join(host, "dir"), Target: "/flat", NoRecursive: true},
		{Type: "tmpfs", Target: "/t", Options: []string{"size=64k", "mode=1777", "exec"}},
		{Type: "tmpfs", Target: "/t/within"},
	}
	for script, want := range map[string]string{
		"cat /ro/below/deep; echo x 2>/dev/null >/ro/x || echo no": "deepno",
		"echo x 2>/dev/null >/ro/below/x || echo no":               "no",
		"echo x >/rw/in/x; cat /rw/in/x; rm /rw/in/x":              "x",
		"cat /a/b/file":            "text",
		"cat /etc/file":            "text",
		"ls /flat/below | wc -l":   "0",
		"grep ' /t ' /proc/mounts": "tmpfs /t tmpfs rw,nosuid,nodev,relatime,size=64k 0 0",
		"grep -c ' /t/within tmpfs rw,nosuid,nodev,noexec' /proc/mounts": "1",
	} {
		got := sh(t, runspec.Options{Root: root, Mounts: mounts}, script)
		if !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", script, got, want)
		}
	}
	if exists("/etc/file") {
		t.Error("/etc/file was made on the host")
	}
	for _, name := range []string{"ro", "rw/in", "a/b/file", "t"} {
		if !exists(filepath.Join(root, name)) {
			t.Errorf("/%s does not stay, as docker's do", name)
		}
	}
}

// TestClearAll checks that of what is made to mount on nothing is left where
// that is asked for, but a working folder is.
func TestClearAll(t *testing.T) {
	t.Parallel()
	root, host := busyboxRoot(t), t.TempDir()
	for _, dir := range []string{"proc", "sys", "dev"} {
		must(t, os.Remove(filepath.Join(root, dir)))
	}
	before := list(t, root)
	spec := describe(t, runspec.Options{Root: root, Workdir: "/w/x", Mounts: []runspec.Mount{
		{Type: "bind", Source: host, Target: "/deep/er/mount"},
		{Type: "tmpfs", Target: "/run/tmp"},
		{Type: "bind", Source: host, Target: "/dev/put"},
	}}, "pwd; test -s /etc/hosts && ls /dev/put")
	files, err := runspec.NetFiles(spec, runspec.NetOptions{})
	must(t, err)
	r := run(t, Options{Spec: spec, Files: files, ClearAll: true})
	if r.code != 0 || r.out != "/w/x\n" {
		t.Errorf("%+v", r)
	}
	if got, want := list(t, root), before+"/w\n/w/x\n"; got != want {
		t.Errorf("left:\n%s\nwant:\n%s", got, want)
	}
}

// TestClearKeepsTheRootsOwn checks that empty folders of the root stay, which
// have the names of what is made on the mounts over them.
func TestClearKeepsTheRootsOwn(t *testing.T) {
	t.Parallel()
	root := busyboxRoot(t)
	for _, dir := range []string{"dev/pts", "dev/shm", "dev/mqueue", "dev/net", "proc/x", "sys/y"} {
		must(t, os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	before := list(t, root)
	spec := describe(t, runspec.Options{Root: root}, "test -c /dev/null")
	if r := run(t, Options{Spec: spec, ClearAll: true}); r.code != 0 {
		t.Errorf("%+v", r)
	}
	if got := list(t, root); got != before {
		t.Errorf("left:\n%s\nwant:\n%s", got, before)
	}
}

// list lists the paths below a folder.
func list(t *testing.T, root string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(root, func(name string, _ os.DirEntry, err error) error {
		b.WriteString(strings.TrimPrefix(name, root) + "\n")
		return err
	}))
	return b.String()
}

// TestReadOnlyRoot runs with a root that cannot be changed; mounts in it are made
// nevertheless.
func TestReadOnlyRoot(t *testing.T) {
	t.Parallel()
	root := busyboxRoot(t)
	o := runspec.Options{Root: root, ReadOnly: true, Mounts: []runspec.Mount{{Type: "tmpfs", Target: "/new"}}}
	got := sh(t, o, "echo x 2>/dev/null >/tmp/x || echo no; echo y >/new/y; cat /new/y; echo z >/dev/shm/z && cat /dev/shm/z")
	if got != "no\ny\nz" {
		t.Errorf("got %q", got)
	}
}

// TestNetworkNone looks at a container without a network: its files, its only
// interface, its name.
func TestNetworkNone(t *testing.T) {
	t.Parallel()
	root := busyboxRoot(t)
	o := runspec.Options{Root: root, ID: testID + "0005", Namespaces: runspec.Namespaces{Network: "none"}}
	spec := describe(t, o, "ip -o link | cut -d: -f2; ping -c1 127.0.0.1 >/dev/null && echo up; hostname; head -n1 /etc/hosts; tail -n1 /etc/hosts; cat /etc/hostname")
	must(t, os.Symlink("busybox", filepath.Join(root, "bin/cut")))
	must(t, os.Symlink("busybox", filepath.Join(root, "bin/tail")))
	files, err := runspec.NetFiles(spec, runspec.NetOptions{ExtraHosts: []string{"far:10.1.2.3"}})
	must(t, err)
	r := run(t, Options{ID: o.ID, Spec: spec, Files: files})
	if want := " lo\nup\n0123456789ab\n127.0.0.1\tlocalhost\n10.1.2.3\tfar\n0123456789ab\n"; r.out != want {
		t.Errorf("got %q, want %q; %q", r.out, want, r.stderr)
	}
}

// TestEmptyImage runs a program that is all there is in its image: it gets the
// files about the network nevertheless, and nothing of them stays.
func TestEmptyImage(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	must(t, unix.Mount("tmpfs", root, "tmpfs", 0, "mode=0755"))
	t.Cleanup(func() { must(t, unix.Unmount(root, 0)) })
	data, err := os.ReadFile(filepath.Join(busyboxRoot(t), "bin/busybox"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(root, "sh"), data, 0o755))
	spec := describe(t, runspec.Options{Root: root, Args: []string{"/sh", "-c", "while read line; do echo $line; done </etc/resolv.conf; echo $$"}}, "")
	r := run(t, Options{Spec: spec, Files: []runspec.File{{Path: "/etc/resolv.conf", Data: []byte("nameserver 1.2.3.4\n")}}})
	if r.out != "nameserver 1.2.3.4\n1\n" || r.code != 0 {
		t.Errorf("%+v", r)
	}
	if got := list(t, root); got != "\n/sh\n" {
		t.Errorf("left: %q", got)
	}
}

// TestHostileImage has files and links where things are mounted.
func TestHostileImage(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(root string) error{
		"proc is a file":   func(root string) error { return os.WriteFile(filepath.Join(root, "proc"), nil, 0o644) },
		"dev leads to":     func(root string) error { return os.Symlink("/nowhere", filepath.Join(root, "dev")) },
		"sys is itself":    func(root string) error { return os.Symlink("sys", filepath.Join(root, "sys")) },
		"proc is an image": func(root string) error { return os.Symlink("/proc/self/root", filepath.Join(root, "proc")) },
	} {
		root := busyboxRoot(t)
		for _, dir := range []string{"proc", "dev", "sys"} {
			must(t, os.Remove(filepath.Join(root, dir)))
		}
		must(t, spoil(root))
		before := list(t, root)
		r := run(t, Options{Spec: describe(t, runspec.Options{Root: root}, "true")})
		if r.code != CodeFailed || r.err == nil {
			t.Errorf("%s: %+v", name, r)
		}
		if after := list(t, root); after != before {
			t.Errorf("%s: left\n%s\nwas\n%s", name, after, before)
		}
	}
}
