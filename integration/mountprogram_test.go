package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"

	"unio/integration/peers"
	"unio/integration/tree"
)

// engine is a podman whose layers a given program mounts.
func engine(t *testing.T, program string) *peers.Podman {
	t.Helper()
	p := podman(t)
	p.MountProgram = program
	return p
}

// mountProgram is the binary under the name that engines call.
func mountProgram(t *testing.T) string {
	t.Helper()
	link := filepath.Join(t.TempDir(), "unio-overlay")
	must(t, os.Symlink(binary, link))
	return link
}

// changing is what the containers of these tests do: writes, deletions, moved
// folders of the image, links, owners.
const changing = `
	echo more >>/etc/passwd
	mv /usr/share/doc /usr/share/moved && echo x >/usr/share/moved/a/new
	rm /usr/share/data
	rm -r /usr/share/moved/a/2 /tmp/fifo
	mkdir /usr/share/doc && echo again >/usr/share/doc/file
	echo tail >>/usr/share/moved/a/one-more-name
	ln /usr/share/moved/a/3 /etc/three
	chmod 700 /usr && chown 5:6 /etc/group
	cat /usr/share/moved/a/1 /usr/share/moved/a/one-more-name`

// journey takes an image through a container, a commit and a build, and
// returns what podman says of it: the diff, and the trees of the results.
func journey(t *testing.T, p *peers.Podman, archive string) []string {
	t.Helper()
	in := func(args ...string) []string {
		return append([]string{"run", "--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"}, args...)
	}
	peer(t, p, "load", "-q", "-i", archive)
	out := peer(t, p, in("--name", "changed", "busybox:engine", "sh", "-euc", changing)...)
	if out != "text 1\ntail\ntext 1\ntail" {
		t.Errorf("the container printed %q", out)
	}
	diff := sortedLines(peer(t, p, "diff", "changed"))
	peer(t, p, "commit", "-q", "changed", "busybox:changed")
	// /etc/hosts has the container's name and address.
	const list = `cd / && find etc usr tmp ! -name hosts -exec stat -c '%n %F %a %u:%g %h %s' {} + | sed '/ directory /s/ [0-9]* [0-9]*$//' | sort`
	committed := peer(t, p, in("--rm", "busybox:changed", "sh", "-c", list)...)
	folder := t.TempDir()
	must(t, os.WriteFile(filepath.Join(folder, "Dockerfile"), []byte("FROM localhost/busybox:changed\n"+
		"RUN mv /usr/share/moved /usr/share/built && rm /etc/three\nCOPY Dockerfile /usr/share/built/a/\nRUN rm -r /usr/share/doc\n"), 0o644))
	must(t, p.Build(t.Context(), "built", folder))
	built := peer(t, p, in("--rm", "localhost/built", "sh", "-c", list)...)
	return []string{diff, committed, built}
}

func sortedLines(text string) string {
	lines := strings.Split(text, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// TestMountProgram: podman and buildah do the same through unio-overlay as on
// the kernel's overlayfs. (Through fuse-overlayfs 1.10 the folder that was
// moved away and made again shows its old entries in the committed image.)
func TestMountProgram(t *testing.T) {
	needTool(t, "podman", "buildah", "runc")
	b := newBox(t)
	b.run("import", "-q", busyboxRoot(t, b.dir), "busybox:engine")
	archive := b.path("busybox-engine.tar")
	b.run("save", "-o", archive, "busybox:engine")
	ours := journey(t, engine(t, mountProgram(t)), archive)
	theirs := journey(t, engine(t, ""), archive)
	// An opaque folder of the kernel's is to podman one that was removed.
	theirs[0] = sortedLines(strings.Replace(theirs[0], "D /usr/share/doc", "C /usr/share/doc\nD /usr/share/doc/a", 1))
	for i, what := range []string{"diff", "the committed image", "the built image"} {
		if ours[i] != theirs[i] {
			t.Errorf("%s:\n%s", what, lineDiff(t, theirs[i], ours[i]))
		}
	}
}

// lineDiff is diff(1) of two texts.
func lineDiff(t *testing.T, want, got string) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "want"), []byte(want+"\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "got"), []byte(got+"\n"), 0o644))
	out, _ := exec.Command("diff", filepath.Join(dir, "want"), filepath.Join(dir, "got")).CombinedOutput()
	return string(out)
}

// layersToChange are two lowers, and alter what each filesystem makes of them.
const (
	layersToChange = `mkdir -p a/d/sub b/d/sub b/gone b/opaque; echo 1 >a/d/f; echo 2 >b/d/sub/g; echo 3 >b/gone/x
		echo 4 >b/opaque/hidden; echo 5 >b/file; ln b/file b/d/link; head -c 300k /dev/urandom >b/big; ln -s ../file b/d/symlink
		setfattr -n user.k -v v b/file; chown 3:4 b/big`
	alter = `echo more >>mnt/d/f; rm -r mnt/gone mnt/opaque; mkdir mnt/opaque; echo new >mnt/opaque/seen
		mv mnt/d/sub mnt/moved 2>/dev/null; chmod 640 mnt/big; echo w >>mnt/file; rm mnt/d/symlink; mkfifo mnt/p; ln mnt/file mnt/third`
)

// TestPlainUpperElsewhere: what unio-overlay leaves in an upper shows the same
// in the kernel's overlayfs and in fuse-overlayfs.
func TestPlainUpperElsewhere(t *testing.T) {
	needTool(t, "fuse-overlayfs")
	b := overlayBox(t, layersToChange)
	const folders = "lowerdir=a:b,upperdir=upper,workdir=work"
	if r := b.named("unio-overlay", "-o", folders, "mnt"); r.code != 0 {
		t.Fatal(r.stderr)
	}
	shell(t, b.dir, "find mnt >/dev/null; "+alter) // names that nobody has asked for are not known
	want := treeOf(t, b.path("mnt"))
	tool(t, "umount", b.path("mnt"))
	waitFree(t, b)
	for _, command := range []string{
		"mount -t overlay overlay -o " + folders + " mnt", "fuse-overlayfs -o " + folders + " mnt",
	} {
		shell(t, b.dir, "rm -rf work; mkdir work; "+command)
		sameTrees(t, command, want, treeOf(t, b.path("mnt")))
		tool(t, "umount", b.path("mnt"))
	}
}

// TestUppersOfOthers: and the reverse.
func TestUppersOfOthers(t *testing.T) {
	needTool(t, "fuse-overlayfs")
	b := overlayBox(t, layersToChange)
	const folders = "lowerdir=a:b,upperdir=upper,workdir=work"
	for _, c := range []struct{ name, command string }{
		{"overlayfs", "mount -t overlay overlay -o " + folders + ",redirect_dir=on,metacopy=on mnt"},
		{"overlayfs, plain", "mount -t overlay overlay -o " + folders + ",redirect_dir=off,metacopy=off mnt"},
		{"fuse-overlayfs", "fuse-overlayfs -o " + folders + " mnt"},
	} {
		t.Run(c.name, func(t *testing.T) {
			shell(t, b.dir, "rm -rf upper work; mkdir upper work; "+c.command+"\n"+alter)
			// fuse-overlayfs knows some names as one file until it ends.
			tool(t, "umount", b.path("mnt"))
			shell(t, b.dir, "rm -rf work; mkdir work; "+c.command)
			want := treeOf(t, b.path("mnt"))
			tool(t, "umount", b.path("mnt"))
			shell(t, b.dir, "rm -rf work; mkdir work")
			for _, name := range []string{"unio-overlay", "mount.fuse.unio"} {
				if r := b.named(name, "-o", folders, "mnt"); r.code != 0 {
					t.Fatal(r.stderr)
				}
				sameTrees(t, name, want, treeOf(t, b.path("mnt")))
				tool(t, "umount", b.path("mnt"))
				waitFree(t, b)
			}
		})
	}
}

// TestOverlayPOSIX runs go-fuse's suite on an overlay mount, and fio with
// verification.
func TestOverlayPOSIX(t *testing.T) {
	needTool(t, "fio")
	for _, name := range []string{"unio-overlay", "mount.fuse.unio"} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			t.Cleanup(func() { detach(t, b.dir) })
			b.onDisk("512M", "ea_inode")
			shell(t, b.dir, "mkdir a store/upper store/work mnt; head -c 24M /dev/zero >a/data")
			if r := b.named(name, "-o", "lowerdir=a,upperdir=store/upper,workdir=store/work", "mnt"); r.code != 0 {
				t.Fatal(r.stderr)
			}
			for test, run := range posixtest.All {
				if exempt[test] != "" {
					continue
				}
				t.Run(test, func(t *testing.T) {
					dir := b.path("mnt/posix-" + test)
					must(t, os.Mkdir(dir, 0o755))
					run(t, dir)
				})
			}
			for _, how := range []string{"--ioengine=psync --direct=1", "--ioengine=mmap", "--ioengine=libaio --iodepth=8"} {
				shell(t, b.path("mnt"), fmt.Sprintf("fio --name=t --filename=data --size=24M --bs=4k --rw=randwrite --verify=crc32c "+
					"--verify_fatal=1 --randseed=7 --output=/dev/null %s", how))
			}
			tool(t, "umount", b.path("mnt"))
		})
	}
}

// treeOf is a tree without what overlay filesystems do each in their way: the
// link counts of lower files, and which names are one.
func treeOf(t *testing.T, dir string) map[string]tree.Entry {
	t.Helper()
	// What a union of ours keeps in its upper others show to root.
	entries := readTree(t, dir, tree.Options{NoDirTimes: true, IgnoreXattr: func(name string) bool {
		return strings.HasPrefix(name, "trusted.unio.")
	}})
	for path, e := range entries {
		e.Nlink, e.Linked = 0, ""
		entries[path] = e
	}
	return entries
}

func sameTrees(t *testing.T, what string, want, got map[string]tree.Entry) {
	t.Helper()
	for _, line := range tree.Diff(want, got, 20) {
		t.Errorf("%s: %s", what, line)
	}
}
