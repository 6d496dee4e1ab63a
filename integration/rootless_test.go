package integration

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// userBox is a box whose unio runs as an ordinary user: nobody when the test
// is root.
func userBox(t *testing.T) *box {
	t.Helper()
	info, err := os.Stat("/dev/fuse")
	need(t, "FUSE", err)
	if open := os.FileMode(0o006); os.Geteuid() == 0 && info.Mode()&open != open {
		// udev opens the device to everybody; here there is no udev.
		must(t, os.Chmod("/dev/fuse", 0o666))
		t.Cleanup(func() { must(t, os.Chmod("/dev/fuse", info.Mode().Perm())) })
	}
	needTool(t, "fusermount3")
	dir, err := os.MkdirTemp("", "unio-rootless-")
	must(t, err)
	b := &box{t: t, dir: dir, env: []string{"HOME=" + dir}}
	must(t, os.Chmod(dir, 0o755))
	if os.Geteuid() == 0 {
		b.as = &syscall.Credential{Uid: 65534, Gid: 65534, NoSetGroups: false}
		must(t, os.Chown(dir, 65534, 65534))
	}
	t.Cleanup(func() {
		b.unmountAll()
		must(t, os.RemoveAll(dir))
	})
	return b
}

// asUser runs a shell script as the box's user.
func (b *box) asUser(script string) string {
	b.t.Helper()
	var out bytes.Buffer
	cmd := exec.Command("/bin/bash", "-euo", "pipefail", "-c", script)
	cmd.Dir, cmd.Stdout, cmd.Stderr = b.dir, &out, &out
	cmd.Env = append(os.Environ(), b.env...)
	if b.as != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: b.as}
	}
	if err := cmd.Run(); err != nil {
		b.t.Fatalf("%s\n%v\n%s", script, err, out.String())
	}
	return strings.TrimSpace(out.String())
}

// TestRootlessJourney imports, mounts through fusermount3, changes, commits
// and mounts the result, all without privilege.
func TestRootlessJourney(t *testing.T) {
	b := userBox(t)
	b.asUser(`mkdir -p src/etc src/bin mnt again
		echo old >src/etc/old; echo keep >src/etc/keep; ln src/etc/keep src/etc/link; chmod 640 src/etc/keep
		tar -cf src.tar -C src --owner=0 --group=0 .`)
	b.run("import", "-q", b.path("src.tar"), "user:1")
	b.run("mount", "--name", "work", "user:1", b.path("mnt"))
	b.asUser(`cd mnt; [ "$(cat etc/link)" = keep ]; rm etc/old; echo new >etc/new; echo more >>etc/keep; mkdir -p a/b
		ln -s nowhere a/b/link; chmod 755 a; mv a/b a/c
		[ "$(tail -n 1 etc/link)" = more ]`)
	want := "C /etc\nC /etc/keep\nC /etc/link\nA /etc/new\nD /etc/old"
	if diff := b.run("diff", "work"); !strings.Contains(diff, want) {
		t.Errorf("diff says\n%s\nwant in it\n%s", diff, want)
	}
	b.run("commit", "-q", "work", "user:2")
	b.run("mount", "--read-only", "user:2", b.path("again"))
	b.asUser(`diff -r --no-dereference mnt again
		[ "$(stat -c '%a %u %g %h' mnt/etc/keep)" = "$(stat -c '%a %u %g %h' again/etc/keep)" ]`)
	b.run("umount", b.path("mnt"))
	b.run("umount", b.path("again"))
}

// TestRootlessWithoutFusermount takes fusermount3 away: the message says which
// package brings it.
func TestRootlessWithoutFusermount(t *testing.T) {
	needRoot(t) // to hide the program, in a mount namespace of its own
	b := userBox(t)
	b.asUser(`mkdir -p src mnt; echo 1 >src/file; tar -cf src.tar -C src .`)
	b.run("import", "-q", b.path("src.tar"), "user:1")
	path, err := exec.LookPath("fusermount3")
	must(t, err)
	cmd := exec.Command("unshare", "-m", "--propagation", "private", "/bin/sh", "-ec",
		`mount --bind /dev/null "$1"; shift; exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@"`, "sh", path)
	cmd.Args = append(cmd.Args, b.command("mount", "--read-only", "user:1", b.path("mnt")).Args...)
	cmd.Env = append(os.Environ(), b.env...)
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "fusermount3") || !strings.Contains(string(out), "package fuse3") {
		t.Errorf("%v, %q; want an error and a word on the package fuse3", err, out)
	}
}
