package integration

import (
	"strings"
	"testing"
)

// busyboxImage imports a root filesystem of busybox as "bb".
func (b *box) busyboxImage() {
	b.t.Helper()
	shell(b.t, b.dir, `mkdir root root/bin root/etc root/tmp && cp "$(command -v busybox)" root/bin/busybox &&
		for name in sh id touch cat rm ls sleep echo stat; do ln -s busybox root/bin/$name; done &&
		echo 'root:x:0:0:root:/:/bin/sh' > root/etc/passwd && tar -C root -cf bb.tar . && chmod a+r bb.tar`)
	b.run("import", "-q", "-c", "ENV PATH=/bin", b.path("bb.tar"), "bb")
}

// TestRootlessContainers runs containers as an ordinary user, through
// fusermount3 and in a user namespace.
func TestRootlessContainers(t *testing.T) {
	b := userBox(t)
	b.busyboxImage()
	out := b.run("run", "--rm", "bb", "sh", "-c", "id -u; touch /x; stat -c '%u %g' /x /etc/passwd")
	if out != "0\n0 0\n0 0" {
		t.Errorf("inside: %q", out)
	}
	b.run("run", "-d", "--name", "one", "-v", "vol:/data", "bb", "sh", "-c", "echo kept >/data/file; sleep 1000")
	if out := b.run("exec", "one", "sh", "-c", "id -u; grep Seccomp: /proc/1/status /proc/self/status"); out !=
		"0\n/proc/1/status:Seccomp:\t2\n/proc/self/status:Seccomp:\t2" {
		t.Errorf("exec: %q", out)
	}
	b.run("cp", "one:/etc/passwd", b.path("passwd"))
	b.run("cp", b.path("passwd"), "one:/tmp/back")
	if out := b.run("exec", "one", "stat", "-c", "%u %s", "/tmp/back"); !strings.HasPrefix(out, "0 ") {
		t.Errorf("copied: %q", out)
	}
	b.run("stop", "-t", "0", "one")
	if out := b.run("ps", "-a", "--format", "{{.Names}} {{.State}}"); out != "one exited" {
		t.Errorf("ps: %q", out)
	}
	if out := b.run("run", "--rm", "-v", "vol:/y:ro", "bb", "cat", "/y/file"); out != "kept" {
		t.Errorf("volume: %q", out)
	}
	b.run("rm", "one")
	b.run("fsck")
}

// TestContainerThroughRunc has an OCI runtime run a container; killing its
// supervisor leaves nothing of it.
func TestContainerThroughRunc(t *testing.T) {
	needRoot(t)
	needTool(t, "runc")
	b := newBox(t)
	b.busyboxImage()
	if out := b.run("run", "--rm", "--runtime", "runc", "bb", "echo", "through runc"); out != "through runc" {
		t.Errorf("run: %q", out)
	}
	b.run("run", "-d", "--name", "one", "--runtime", "runc", "bb", "sleep", "1000")
	if out := b.run("exec", "one", "echo", "beside"); out != "beside" {
		t.Errorf("exec: %q", out)
	}
	pid := b.run("inspect", "-f", "{{.State.Pid}}", "one")
	b.run("kill", "one")
	if out := b.run("wait", "one"); out != "137" {
		t.Errorf("wait: %q", out)
	}
	shell(t, b.dir, "! kill -0 "+pid+" 2>/dev/null")
	b.run("rm", "one")
}
