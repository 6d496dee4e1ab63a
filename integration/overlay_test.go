package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"unio/integration/peers"
)

// overlayBox is a box with the folders of an overlay mount: lower a over b,
// upper, work and mnt.
func overlayBox(t *testing.T, script string) *box {
	t.Helper()
	b := newBox(t)
	t.Cleanup(func() { detach(t, b.dir) })
	shell(t, b.dir, "mkdir a b upper work mnt\n"+script)
	return b
}

// detach unmounts what a failed test left and waits for the servers.
func detach(t *testing.T, dir string) {
	t.Helper()
	if err := peers.UnmountBelow(dir); err != nil {
		t.Error(err)
	}
}

const twoLowers = `echo top >a/both; echo low >b/both; echo b >b/only; mkdir -p b/d/sub; echo deep >b/d/sub/f`

// named runs the binary under another name.
func (b *box) named(name string, args ...string) result {
	b.t.Helper()
	link := b.path("bin-" + name + "/" + name)
	if _, err := os.Lstat(link); err != nil {
		must(b.t, os.MkdirAll(filepath.Dir(link), 0o755))
		must(b.t, os.Symlink(binary, link))
	}
	var out, problems bytes.Buffer
	cmd := exec.Command(link, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = b.dir, &out, &problems
	cmd.WaitDelay = 5 * time.Second
	if b.as != nil {
		b.t.Fatal("only as root")
	}
	if err := cmd.Run(); err == exec.ErrWaitDelay {
		b.t.Errorf("%s: the server keeps its caller's streams open", name)
	}
	return result{stdout: out.String(), stderr: problems.String(), code: cmd.ProcessState.ExitCode()}
}

// mountLine is the line of /proc/mounts for a folder, empty without a mount.
func (b *box) mountLine(dir string) string {
	b.t.Helper()
	data, err := os.ReadFile("/proc/self/mounts")
	must(b.t, err)
	for line := range strings.Lines(string(data)) {
		if strings.Fields(line)[1] == b.path(dir) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// TestOverlayNames mounts under each name and in each form that engines and
// mount(8) use.
func TestOverlayNames(t *testing.T) {
	b := overlayBox(t, twoLowers)
	const folders = "lowerdir=a:b,upperdir=upper,workdir=work"
	for _, c := range []struct {
		name string
		args []string
		want []string // in the line of /proc/mounts
	}{
		{"unio", []string{"overlay", "-o", folders, "mnt"}, []string{"unio-overlay ", " fuse.unio rw,", "allow_other"}},
		{"unio", []string{"overlay", "mnt", "-o", folders, "-o", "ro,noexec,nosuid"}, []string{" fuse.unio ro,nosuid,noexec,"}},
		{"unio-overlay", []string{"-o", folders, "mnt"}, []string{" rw,nodev,"}},
		{"fuse-overlayfs", []string{"-olowerdir=a:b", "-o" + "upperdir=upper,workdir=work,fsname=mine", "mnt"}, []string{"mine "}},
		{"mount.fuse.unio", []string{"none", "mnt", "-s", "-v", "-n", "-o", "rw,frobnicate," + folders}, []string{"unio-overlay "}},
		{"mount.fuse.unio", []string{"-o", folders + `,fsname=src\,1,subtype=other`, "source", "mnt", "-t", "fuse.unio"}, []string{"src,1 ", " fuse.other "}},
	} {
		t.Run(c.name+" "+strings.Join(c.args, " "), func(t *testing.T) {
			r := b.named(c.name, c.args...)
			if r.code != 0 || r.stdout+r.stderr != "" {
				t.Fatalf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
			}
			line := b.mountLine("mnt")
			for _, want := range c.want {
				if !strings.Contains(line, want) {
					t.Errorf("/proc/mounts has %q, which lacks %q", line, want)
				}
			}
			if got := shell(t, b.dir, "cat mnt/both mnt/only mnt/d/sub/f"); got != "top\nb\ndeep" {
				t.Errorf("reads %q", got)
			}
			tool(t, "umount", b.path("mnt"))
		})
	}
}

// TestOverlayFake: mount(8) -f asks for everything but the mount.
func TestOverlayFake(t *testing.T) {
	b := overlayBox(t, twoLowers)
	if r := b.named("mount.fuse.unio", "none", "mnt", "-f", "-o", "lowerdir=a"); r.code != 0 || b.mountLine("mnt") != "" {
		t.Errorf("exit code %d, mounted %q\n%s", r.code, b.mountLine("mnt"), r.stderr)
	}
}

// TestOverlayAnswers: help and version, as programs ask for them.
func TestOverlayAnswers(t *testing.T) {
	b := overlayBox(t, "")
	for _, name := range []string{"unio-overlay", "fuse-overlayfs", "mount.fuse.unio"} {
		for _, flag := range []string{"-V", "--version"} {
			if r := b.named(name, flag); r.code != 0 || !strings.HasPrefix(r.stdout, name+": version ") {
				t.Errorf("%s %s: %d %q", name, flag, r.code, r.stdout)
			}
		}
		if r := b.named(name, "-h"); r.code != 0 || !strings.Contains(r.stdout, "lowerdir=") {
			t.Errorf("%s -h: %d %q", name, r.code, r.stdout)
		}
		if r := b.named(name); r.code != 1 || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("%s: %d %q", name, r.code, r.stderr)
		}
	}
}

// TestOverlayRefuses: each fault has one line that names what is wrong, and
// nothing is mounted or changed.
func TestOverlayRefuses(t *testing.T) {
	b := overlayBox(t, twoLowers+`
		mkdir -p upper/in work/in a/in mnt/in other; touch file
		truncate -s 16M disk.img; mkfs.ext4 -q disk.img; mkdir disk; mount -o loop disk.img disk; mkdir disk/work`)
	t.Cleanup(func() { must(t, unmount(b.path("disk"))) })
	many := "lowerdir=" + strings.Repeat("b:", 3) + "a"
	for i := range 500 {
		many += fmt.Sprintf(":/nowhere%d", i)
	}
	for _, c := range []struct{ options, dir, want string }{
		{"lowerdir=missing", "mnt", "lowerdir " + b.path("missing") + ": no such file or directory"},
		{"lowerdir=file", "mnt", "lowerdir " + b.path("file") + ": not a folder"},
		{"lowerdir=a,upperdir=missing,workdir=work", "mnt", "upperdir " + b.path("missing") + ": no such"},
		{"lowerdir=a,upperdir=upper,workdir=missing", "mnt", "workdir " + b.path("missing") + ": no such"},
		{"lowerdir=a", "missing", "mount point missing: no such"},
		{"lowerdir=a", "file", "mount point file: not a folder"},
		{"lowerdir=a,upperdir=upper,workdir=disk/work", "mnt", "must be on the filesystem of upperdir"},
		{"lowerdir=a,upperdir=upper,workdir=upper/in", "mnt", "workdir " + b.path("upper/in") + " lies in upperdir"},
		{"lowerdir=a,upperdir=work/in,workdir=work", "mnt", "lies in workdir"},
		{"lowerdir=a:upper/in,upperdir=upper,workdir=work", "mnt", "lowerdir " + b.path("upper/in") + " lies in upperdir"},
		{"lowerdir=a,upperdir=a/in,workdir=work", "mnt", "lies in lowerdir"},
		{"lowerdir=a:mnt/in", "mnt", "lies in the mount point"},
		{"lowerdir=a,upperdir=upper,workdir=work", "upper/in", "mount point " + b.path("upper/in") + " lies in upperdir"},
		{"lowerdir=a:a/in", "mnt", "inside"},
		{"lowerdir=a,upperdir=upper", "mnt", "workdir"},
		{"upperdir=upper,workdir=work", "mnt", "lowerdir"},
		{"lowerdir=a,frobnicate=1", "mnt", `"frobnicate=1"`},
		{many, "mnt", "500"},
	} {
		r := b.named("unio-overlay", "-o", c.options, c.dir)
		if r.code != 1 || strings.Count(r.stderr, "\n") != 1 || !strings.Contains(r.stderr, c.want) || r.stdout != "" {
			t.Errorf("%.80s on %s: exit code %d, %q, want %q in it", c.options, c.dir, r.code, r.stderr, c.want)
		}
	}
	if line := b.mountLine("mnt"); line != "" {
		t.Errorf("mounted: %s", line)
	}
}

// TestOverlayInUse: two mounts never write to one upper.
func TestOverlayInUse(t *testing.T) {
	b := overlayBox(t, twoLowers)
	b.run("overlay", "-o", "lowerdir=a:b,upperdir=upper,workdir=work", "mnt")
	shell(t, b.dir, "mkdir two work2")
	for _, work := range []string{"work", "work2"} {
		r := b.try("overlay", "-o", "lowerdir=a:b,upperdir=upper,workdir="+work, "two")
		if r.code != 1 || !strings.Contains(r.stderr, "in use by another mount") {
			t.Errorf("workdir %s: exit code %d, %q", work, r.code, r.stderr)
		}
	}
	tool(t, "umount", b.path("mnt"))
	// Though its server may still be about to end.
	b.run("overlay", "-o", "lowerdir=a:b,upperdir=upper,workdir=work", "two")
}

// TestOverlayKnown: unio's own commands know an overlay mount.
func TestOverlayKnown(t *testing.T) {
	b := overlayBox(t, twoLowers)
	b.run("overlay", "-o", "lowerdir=a:b,upperdir=upper,workdir=work,fsname=mine", "mnt")
	shell(t, b.dir, "echo more >>mnt/only")
	if list := b.run("mount"); !strings.Contains(list, b.path("mnt")) || !strings.Contains(list, "mine") {
		t.Errorf("unio mount lists\n%s", list)
	}
	if stats := b.run("mount", "--stats", "--format", "json", "mnt"); !strings.Contains(stats, `"WRITE":1`) {
		t.Errorf("unio mount --stats: %s", stats)
	}
	b.run("umount", "mnt")
	if line := b.mountLine("mnt"); line != "" {
		t.Errorf("after unio umount: %s", line)
	}
	if list := b.run("mount"); strings.Contains(list, b.path("mnt")) {
		t.Errorf("unio mount still lists\n%s", list)
	}
}

// TestOverlayAgainAtOnce mounts and unmounts without a pause.
func TestOverlayAgainAtOnce(t *testing.T) {
	b := overlayBox(t, twoLowers)
	for i := range 20 {
		b.run("overlay", "-o", "volatile,lowerdir=a:b,upperdir=upper,workdir=work", "mnt")
		shell(t, b.dir, fmt.Sprintf("echo %d >>mnt/only", i))
		tool(t, "umount", b.path("mnt"))
	}
	if got := shell(t, b.dir, "wc -l <upper/only"); got != "21" {
		t.Errorf("%s lines", got)
	}
}

// TestOverlayOverItsLower mounts on a lower folder itself and inside of one.
func TestOverlayOverItsLower(t *testing.T) {
	b := overlayBox(t, twoLowers+"\nmkdir b/inside; echo x >b/inside/x")
	b.run("overlay", "-o", "lowerdir=b,upperdir=upper,workdir=work", "b")
	if got := shell(t, b.dir, "echo new >b/new; cat b/only b/new"); got != "b\nnew" {
		t.Errorf("reads %q", got)
	}
	tool(t, "umount", b.path("b"))
	if got := shell(t, b.dir, "ls b"); strings.Contains(got, "new") {
		t.Errorf("the lower has been changed: %s", got)
	}
	b.run("overlay", "-o", "lowerdir=b", "b/inside")
	if got := shell(t, b.dir, "cat b/inside/only; ls b/inside/inside"); got != "b\nx" {
		t.Errorf("reads %q", got)
	}
	tool(t, "umount", b.path("b/inside"))
}

// TestOverlayRemount: links, numbers and content are the same after it.
func TestOverlayRemount(t *testing.T) {
	b := overlayBox(t, twoLowers+"\nln b/only b/d/link")
	const o = "lowerdir=a:b,upperdir=upper,workdir=work"
	for _, name := range []string{"unio", "unio-overlay"} {
		t.Run(name, func(t *testing.T) {
			mount := func() {
				t.Helper()
				args := []string{"-o", o, "mnt"}
				if name == "unio" {
					args = append([]string{"overlay"}, args...)
				}
				if r := b.named(name, args...); r.code != 0 {
					t.Fatal(r.stderr)
				}
			}
			mount()
			before := shell(t, b.dir, "stat -c '%n %i' mnt/only mnt/both mnt/d mnt/d/sub/f")
			shell(t, b.dir, `echo more >>mnt/only; mv mnt/d mnt/e; chmod 600 mnt/both; mkdir mnt/new; rm mnt/e/sub/f; echo 2 >mnt/e/sub/f2`)
			state := `cat mnt/only mnt/e/link mnt/e/sub/f2; stat -c '%n %i %h %a' mnt/only mnt/e/link mnt/both mnt/e; find mnt | sort`
			want := shell(t, b.dir, state)
			tool(t, "umount", b.path("mnt"))
			waitFree(t, b)
			mount()
			if got := shell(t, b.dir, state); got != want {
				t.Errorf("after the remount:\n%s\nbefore:\n%s", got, want)
			}
			if !strings.Contains(want, "b\nmore\nb\nmore\n") {
				t.Errorf("the two names are no longer one file:\n%s", want)
			}
			tool(t, "umount", b.path("mnt"))
			waitFree(t, b)
			for line := range strings.Lines(before) {
				if w := strings.Fields(line); w[0] == "mnt/both" && !strings.Contains(want, w[0]+" "+w[1]+" ") {
					t.Errorf("the number of %s has changed:\n%s", w[0], want)
				}
			}
			shell(t, b.dir, "rm -rf upper work; mkdir upper work")
		})
	}
}

// waitFree waits until the server of a mount that is gone has let go of the
// work folder.
func waitFree(t *testing.T, b *box) {
	t.Helper()
	shell(t, b.dir, "timeout 10 flock work true && timeout 10 flock upper true")
}

// TestOverlayManyLowers: 500 folders, in a path that needs escapes.
func TestOverlayManyLowers(t *testing.T) {
	b := overlayBox(t, `mkdir -p 'l:,\'; for i in $(seq 500); do mkdir 'l:,\'/$i; echo $i >'l:,\'/$i/f$i; echo $i >'l:,\'/$i/same; done`)
	var list []string
	for i := range 500 {
		list = append(list, fmt.Sprintf(`l\:\,\\/%d`, i+1))
	}
	b.run("overlay", "-o", "lowerdir="+strings.Join(list, ":"), "mnt")
	if got := shell(t, b.dir, "ls mnt | wc -l; cat mnt/same mnt/f500 mnt/f1"); got != "501\n1\n500\n1" {
		t.Errorf("reads %q", got)
	}
	tool(t, "umount", b.path("mnt"))
}

// TestOverlayOwners: mapped and squashed owners, both ways.
func TestOverlayOwners(t *testing.T) {
	b := overlayBox(t, `touch a/root a/one; chown 1:1 a/one`)
	mounted := func(options, script string) string {
		t.Helper()
		b.run("overlay", "-o", "lowerdir=a,upperdir=upper,workdir=work,"+options, "mnt")
		out := shell(t, b.dir, script)
		tool(t, "umount", b.path("mnt"))
		waitFree(t, b)
		return strings.Join(strings.Fields(out), " ")
	}
	for _, c := range []struct{ options, script, want string }{
		{"uidmapping=0:1000:1:1:110000:65536,gidmapping=0:1000:1:1:110000:65536", "stat -c %u:%g mnt/root mnt/one", "1000:1000 110000:110000"},
		{"uidmapping=0:1000:1:1:110000:65536", "chown 110004 mnt/one; stat -c %u:%g mnt/one upper/one", "110004:1 5:1"},
		{"uidmapping=1:1:10", "stat -c %u:%g mnt/root", "65534:0"},
		{"squash_to_root", "stat -c %u:%g mnt/one; touch mnt/made; stat -c %u upper/made", "0:0 0"},
		{"squash_to_uid=7,squash_to_gid=8", "stat -c %u:%g mnt/one mnt/root", "7:8 7:8"},
	} {
		if got := mounted(c.options, c.script); got != c.want {
			t.Errorf("%s: %q, want %q", c.options, got, c.want)
		}
	}
}

// TestOverlayTraits: options that change how the mount behaves.
func TestOverlayTraits(t *testing.T) {
	b := overlayBox(t, `mkdir -p a/d/e; setfattr -n user.note -v x a/d; head -c 1M /dev/zero >a/big; echo old >a/changed`)
	mounted := func(options, script string) string {
		t.Helper()
		shell(t, b.dir, "rm -rf upper work; mkdir upper work")
		b.run("overlay", "-o", "lowerdir=a,upperdir=upper,workdir=work,"+options, "mnt")
		out := shell(t, b.dir, script)
		tool(t, "umount", b.path("mnt"))
		waitFree(t, b)
		return strings.Join(strings.Fields(out), " ")
	}
	for _, c := range []struct{ options, script, want string }{
		{"static_nlink", "stat -c %h mnt/d", "1"},
		{"rw", "stat -c %h mnt/d", "3"},
		{"noxattrs", "(getfattr -n user.note mnt/d 2>&1 || true) | grep -o 'not supported'", "not supported"},
		{"rw", "getfattr --only-values -n user.note mnt/d", "x"},
		{"timeout=0", "cat mnt/changed; echo new1 >a/changed; stat -c %s mnt/changed; echo old >a/changed", "old 5"},
		{"metacopy=off", "chmod 600 mnt/big; stat -c %b upper/big", "2048"},
		{"rw", "chmod 600 mnt/big; stat -c %b upper/big", "0"},
		{"redirect_dir=off", "mv mnt/d mnt/x; getfattr --only-values -n trusted.overlay.opaque upper/x; ls upper/x", "ye"},
		{"rw", "mv mnt/d mnt/x; getfattr --only-values -n trusted.overlay.redirect upper/x", "/d"},
		{"userxattr", "mv mnt/d mnt/x; getfattr --only-values -n user.overlay.redirect upper/x", "/d"},
		{"volatile", "ls -d work/work/incompat/volatile", "work/work/incompat/volatile"},
		{"acl", "setfacl -m u:1234:r mnt/changed; getfacl -cn mnt/changed | grep user:1234; getfacl -cn upper/changed | grep user:1234", "user:1234:r-- user:1234:r--"},
		{"noacl", "(setfacl -m u:1234:r mnt/changed 2>&1 || true) | grep -o 'not supported'", "not supported"},
		{"xattr_permissions=2", "touch mnt/n; chown 5:6 mnt/n; stat -c %u:%g mnt/n upper/n", "5:6 0:0"},
	} {
		if got := mounted(c.options, c.script); !slices.Contains([]string{c.want}, got) {
			t.Errorf("%s: %s gives %q, want %q", c.options, c.script, got, c.want)
		}
	}
}

// TestOverlayInterrupted: the rename of a lower folder into a plain upper copies
// all of it, and can be interrupted; what one sees is then as before. (Where the
// copy is faster than the signal, the rename has been done.)
func TestOverlayInterrupted(t *testing.T) {
	b := overlayBox(t, `mkdir a/d; for i in $(seq 1500); do echo $i >a/d/$i; done`)
	if r := b.named("unio-overlay", "-o", "lowerdir=a,upperdir=upper,workdir=work", "mnt"); r.code != 0 {
		t.Fatal(r.stderr)
	}
	got := shell(t, b.dir, `if timeout -s INT 0.3 mv mnt/d mnt/e; then ls mnt; else ls mnt | tr d e; fi
		cat mnt/[de]/* | sort -n | cmp - <(seq 1500)`)
	if got != "e" {
		t.Errorf("the mount shows %q", got)
	}
	tool(t, "umount", b.path("mnt"))
}
