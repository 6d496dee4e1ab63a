package unionfs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// refused mounts what must not be mounted and returns what the server says.
func (r *rig) refused() string {
	r.t.Helper()
	out, err := r.server(r.dir).CombinedOutput()
	if err == nil {
		r.t.Fatalf("the server mounted an upper that it should refuse: %s", out)
	}
	return string(out)
}

// TestVolatile mounts without waiting for the disk: fsync costs one request
// for good, the upper is marked while the mount lives, an end without a clean
// unmount is refused by name, and a clean one takes the mark away.
func TestVolatile(t *testing.T) {
	r := newRig(t, "echo old > file")
	t.Setenv("UNIO_TEST_VOLATILE", "1")
	r.mount(false)
	r.run("for i in 1 2 3 4 5; do echo $i >> file; sync -d file; sync file; sync .; done")
	got := r.requests()
	if got["FSYNC"] > 1 || got["FSYNCDIR"] > 1 {
		t.Errorf("%d FSYNC and %d FSYNCDIR reached a volatile mount, want one of each", got["FSYNC"], got["FSYNCDIR"])
	}
	mark := filepath.Join(r.work, "work", "incompat", "volatile")
	if _, err := os.Stat(mark); err != nil {
		t.Errorf("no mark while mounted: %v", err)
	}
	r.unmount()
	if left := r.sh(r.work, "find . -name incompat -o -name volatile"); left != "" {
		t.Errorf("marks after a clean unmount: %s", left)
	}
	r.mount(false)
	r.equal("after a clean unmount", r.run("cat file"), "old\n1\n2\n3\n4\n5\n")
	r.kill()
	for _, volatile := range []string{"1", ""} {
		t.Setenv("UNIO_TEST_VOLATILE", volatile)
		if said := r.refused(); !strings.Contains(said, mark+": a volatile mount") || !strings.Contains(said, "remove") {
			t.Errorf("volatile=%q: an unclean upper was refused with %q, want the name of the mark %s", volatile, said, mark)
		}
	}
	r.equal("the refused upper", r.sh(r.upper, "cat file"), "old\n1\n2\n3\n4\n5\n")
	r.sh(r.work, "rm -r work/incompat")
	r.mount(false)
	r.equal("after removing the marks", r.run("cat file"), "old\n1\n2\n3\n4\n5\n")
}

// TestVolatileAndOverlayfs leaves an upper from a volatile mount to the
// kernel's overlayfs and takes one from it: each refuses the other's.
func TestVolatileAndOverlayfs(t *testing.T) {
	r := newRig(t, "echo old > file")
	options := "lowerdir=" + r.lower + ",upperdir=" + r.upper + ",workdir=" + r.work + ",volatile"
	t.Setenv("UNIO_TEST_VOLATILE", "1")
	r.mount(false)
	r.run("echo new > file")
	r.kill()
	if out, err := exec.Command("mount", "-t", "overlay", "overlay", "-o", options, r.dir).CombinedOutput(); err == nil {
		unix.Unmount(r.dir, 0)
		t.Fatal("overlayfs mounted an upper that our volatile mount left unclean")
	} else {
		t.Logf("overlayfs on ours: %s", out)
	}
	r.sh(r.work, "rm -rf work")
	r.sh(r.upper, "rm -rf file")
	if out, err := exec.Command("mount", "-t", "overlay", "overlay", "-o", options, r.dir).CombinedOutput(); err != nil {
		t.Fatalf("mount overlayfs: %s", out)
	}
	if err := unix.Unmount(r.dir, 0); err != nil {
		t.Fatal(err)
	}
	want := filepath.Join(r.work, "work", "incompat", "volatile") + ": a volatile mount"
	if said := r.refused(); !strings.Contains(said, want) {
		t.Errorf("the upper of a volatile overlayfs was refused with %q, want %q", said, want)
	}
}
