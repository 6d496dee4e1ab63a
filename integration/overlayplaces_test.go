package integration

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestMakeInstall: the links are where shells, engines and mount(8) look.
func TestMakeInstall(t *testing.T) {
	b := newBox(t)
	shell(t, b.dir, "mkdir out && cp "+binary+" out/unio")
	shell(t, "..", "make -s install OUT="+b.path("out")+" DESTDIR="+b.path("root")+" PREFIX=/usr MOUNTDIR=/usr/sbin")
	for link, want := range map[string]string{
		"usr/bin/unio-overlay": "unio", "usr/sbin/mount.fuse.unio": "/usr/bin/unio",
	} {
		if target, err := os.Readlink(b.path("root/" + link)); err != nil || target != want {
			t.Errorf("%s leads to %q, want %q: %v", link, target, want, err)
		}
	}
}

// TestMountCommand mounts by mount(8) and by a line of fstab.
func TestMountCommand(t *testing.T) {
	b := overlayBox(t, twoLowers)
	// In a mount namespace of its own, where /sbin has our link.
	script := `mkdir up wk && mount -t overlay -o lowerdir=/usr/sbin,upperdir=up,workdir=wk overlay /usr/sbin
		ln -sfn ` + binary + ` /usr/sbin/mount.fuse.unio
		here=$PWD
		mount -t fuse.unio none mnt -o lowerdir=$here/a:$here/b,upperdir=$here/upper,workdir=$here/work
		cat mnt/both; echo new >mnt/new; grep " $here/mnt fuse" /proc/mounts | cut -d' ' -f1,3,4
		umount mnt
		flock -w 10 work true
		echo "none $here/mnt fuse.unio lowerdir=$here/a,upperdir=$here/upper,workdir=$here/work,noauto,nosuid,x-systemd.automount,fsname=tab 0 0" >fstab
		mount -T fstab $here/mnt
		cat mnt/new; grep " $here/mnt fuse" /proc/mounts | cut -d' ' -f1,3,4
		mount -o remount,ro,noexec mnt
		! touch mnt/refused 2>&1
		grep -c " $here/mnt fuse.unio ro,nosuid,noexec,relatime," /proc/mounts
		mount -o remount,rw mnt
		touch mnt/taken
		umount mnt
		! mount -t fuse.unio none mnt -o lowerdir=$here/a,frobnicate 2>err
		grep -c 'unknown mount option "frobnicate"' err`
	cmd := exec.Command("unshare", "-m", "bash", "-euc", script)
	cmd.Dir = b.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != 7 || lines[0] != "top" || lines[2] != "new" || lines[5] != "1" || lines[6] != "1" {
		t.Fatalf("got %q", lines)
	}
	if !strings.HasPrefix(lines[1], "unio-overlay fuse.unio rw,relatime,") || strings.Contains(lines[1], "nosuid") {
		t.Errorf("mounted %q", lines[1])
	}
	if !strings.HasSuffix(lines[4], "Read-only file system") {
		t.Errorf("remounted read-only: %s", lines[4])
	}
	if !strings.HasPrefix(lines[3], "tab fuse.unio rw,nosuid,relatime,") {
		t.Errorf("mounted from fstab %q", lines[3])
	}
}

// TestOverlayUser: an ordinary user mounts through fusermount3, keeps owners in
// attributes, and sees his own files as his own.
func TestOverlayUser(t *testing.T) {
	b := userBox(t)
	b.asUser(`mkdir a b upper work mnt; echo 1 >a/f; mkdir -p b/d/e; echo 2 >b/d/e/g; ln -s f a/s
		` + binary + ` overlay -o lowerdir=a:b,upperdir=upper,workdir=work mnt`)
	got := b.asUser(`id=$(id -u); stat -c %u mnt/f mnt/d mnt/s | grep -cx "$id"
		echo more >>mnt/f; mv mnt/d mnt/moved; cat mnt/f mnt/moved/e/g; mknod mnt/p p; touch mnt/new
		stat -c %u mnt/new mnt/f mnt/moved mnt/p mnt/s | grep -cx "$id"
		! chown 0 mnt/new 2>/dev/null; rm mnt/s; ls mnt | xargs
		fusermount3 -u mnt; flock -w 10 work true
		` + binary + ` overlay -o lowerdir=a:b,upperdir=upper,workdir=work mnt
		cat mnt/moved/e/g; stat -c %F mnt/p; ls mnt | xargs; fusermount3 -u mnt`)
	want := strings.Fields("3 1 more 2 5 f moved new p 2 fifo f moved new p")
	if strings.Join(strings.Fields(got), " ") != strings.Join(want, " ") {
		t.Errorf("got %q, want %q", strings.Fields(got), want)
	}
}

// TestOverlayUserNamespace: the root user of a user namespace mounts by himself,
// as rootless engines have their mount program do, with real owners and user.*
// attributes.
func TestOverlayUserNamespace(t *testing.T) {
	b := userBox(t)
	b.asUser(`mkdir a b upper work mnt bin; ln -s ` + binary + ` bin/unio-overlay; ln -s ` + binary + ` bin/mount.fuse.unio
		echo 1 >a/f; mkdir -p b/d/e b/gone; echo 2 >b/d/e/g; echo 3 >b/gone/x`)
	for _, name := range []string{"unio-overlay", "mount.fuse.unio"} {
		got := b.asUser(`unshare -Urm bash -euc '
			cd $PWD; bin/` + name + ` -o lowerdir=a:b,upperdir=upper,workdir=work mnt
			echo more >>mnt/f; mv mnt/d mnt/moved; rm -r mnt/gone; cat mnt/f mnt/moved/e/g; stat -c %u:%g mnt/f mnt/moved
			umount mnt; flock -w 10 work true
			bin/` + name + ` -o lowerdir=a:b,upperdir=upper,workdir=work mnt
			cat mnt/moved/e/g; ls mnt | xargs; umount mnt; flock -w 10 work true'
			getfattr --only-values -n user.overlay.` + map[string]string{"unio-overlay": "opaque", "mount.fuse.unio": "redirect"}[name] + ` upper/moved; echo
			rm -rf upper; rm -rf work; mkdir upper work`)
		last := map[string]string{"unio-overlay": "y", "mount.fuse.unio": "/d"}[name]
		want := "1 more 2 0:0 0:0 2 f moved " + last
		if strings.Join(strings.Fields(got), " ") != want {
			t.Errorf("%s: got %q, want %q", name, strings.Fields(got), want)
		}
	}
}
