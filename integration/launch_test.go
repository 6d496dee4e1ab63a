package integration

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMountClientKilled kills mount commands at all times of their life. Their
// server is started before they know what to mount: it must end by itself when
// nobody comes with its task, and a mount is there as a whole or not at all.
func TestMountClientKilled(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	b.run("import", "-q", busyboxRoot(t, b.dir), "example/killed:base")
	mnt := b.path("mnt")
	must(t, os.Mkdir(mnt, 0o755))
	for after := range 15 {
		cmd := b.command("mount", "--read-only", "example/killed:base", mnt)
		must(t, cmd.Start())
		time.Sleep(time.Duration(2*after) * time.Millisecond)
		_ = cmd.Process.Signal(unix.SIGKILL) // it may have ended
		_ = cmd.Wait()
		b.awaitNone(mnt)
	}
	if r := b.try("mount", "--read-only", "example/nosuch", mnt); r.code != 1 {
		t.Errorf("exit code %d, %q", r.code, r.stderr)
	}
	if left := b.processes("serve", mnt); len(left) > 0 {
		t.Errorf("an image that is not there has left servers: %v", left)
	}
}

// awaitNone takes a mount away that may be there, or be about to come or to go
// because its client has, and waits until there is no server.
func (b *box) awaitNone(mnt string) {
	b.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for len(b.processes("serve", mnt))+len(b.mountPoints()) > 0 {
		if time.Now().After(deadline) {
			b.t.Fatalf("servers %v, mounts %v", b.processes("serve", mnt), b.mountPoints())
		}
		if len(b.mountPoints()) > 0 {
			b.try("umount", mnt)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
