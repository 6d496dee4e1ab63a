package unionfs_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"unio/unionfs/merge/lowertest"
)

// foreigner mounts another union filesystem over the same folders.
type foreigner func(r *rig) error

func kernelOverlay(r *rig) error {
	return unix.Mount("overlay", r.dir, "overlay", 0,
		"redirect_dir=on,metacopy=on,index=off,xino=off,lowerdir="+r.lower+",upperdir="+r.upper+",workdir="+r.work)
}

func fuseOverlay(r *rig) error {
	out, err := exec.Command("fuse-overlayfs", "-o",
		"lowerdir="+r.lower+",upperdir="+r.upper+",workdir="+r.work, r.dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w", out, err)
	}
	return nil
}

// abroad runs something on the other filesystem's mount.
func (r *rig) abroad(mount foreigner, do func()) {
	r.t.Helper()
	if err := mount(r); err != nil {
		r.t.Fatal(err)
	}
	defer func() {
		if err := unmount(r.dir); err != nil {
			unix.Unmount(r.dir, unix.MNT_DETACH)
			r.t.Errorf("unmount: %v", err)
		}
	}()
	do()
}

// foreignRig has two lower folders and a server that reads them in place.
func foreignRig(t *testing.T, env ...string) *rig {
	t.Helper()
	r := newRig(t, `mkdir -p a/b/c d e/f g; for i in 1 2 3; do for d in a a/b a/b/c d e/f g; do echo $d $i > $d/$i; done; done
head -c 300000 /dev/urandom > big; ln -s a/b link; mkfifo fifo; mknod dev c 1 3; setfattr -n user.note -v text a/b; rm -r g; mkdir g`)
	under := t.TempDir()
	r.sh(under, "mkdir -p g a/b; echo under > g/u; echo under > a/b/u; echo hidden > a/1; chmod 755 .")
	r.lower += ":" + under
	r.env = append(env, foldersEnv+"=1")
	return r
}

// TestForeignUppers has an upper changed at random by another union filesystem
// and by ours in turn: each sees what the other left.
func TestForeignUppers(t *testing.T) {
	rounds := 2
	if os.Getenv("UNIO_TEST_LONG") != "" {
		rounds = 40
	}
	for name, mount := range map[string]foreigner{"overlayfs": kernelOverlay, "fuse-overlayfs": fuseOverlay} {
		for seed := range rounds {
			t.Run(fmt.Sprint(name, seed), func(t *testing.T) {
				r := foreignRig(t, "UNIO_TEST_PLAIN=1", "UNIO_TEST_NAMES=1")
				c := &lowertest.Changer{Rand: rand.New(rand.NewPCG(uint64(seed), 2))}
				for range 3 {
					r.takeTurns(mount, func() {
						for range 40 {
							c.Step(r.dir)
						}
					})
				}
			})
		}
	}
}

// onlyHere is what the comparison leaves out: each union's own attributes, which
// others show, and change times, since overlayfs writes its own attributes when it
// merely looks.
var onlyHere = regexp.MustCompile(` (trusted[.]unio|user[.]fuseoverlayfs)[.][a-z]+="[^"]*"| ctime [0-9.]+`)

// seen describes what is mounted.
func (r *rig) seen() []string {
	r.t.Helper()
	lines := lowertest.Folder(r.t, r.dir)
	for i := range lines {
		lines[i] = onlyHere.ReplaceAllString(lines[i], "")
	}
	return lines
}

func (r *rig) takeTurns(mount foreigner, change func()) {
	r.t.Helper()
	var want []string
	r.abroad(mount, change)
	r.abroad(mount, func() { want = r.seen() })
	r.mount(false)
	lowertest.Same(r.t, "ours after theirs", r.seen(), want)
	change()
	r.remount()
	want = r.seen()
	r.unmount()
	r.abroad(mount, func() { lowertest.Same(r.t, "theirs after ours", r.seen(), want) })
}

// TestForeignUpperFull does one turn of each kind that needs all of the
// format: redirects of both forms, metacopy, opaque.
func TestForeignUpperFull(t *testing.T) {
	r := foreignRig(t)
	var want []string
	r.abroad(kernelOverlay, func() {
		r.run(`mv a/b a/bb; mv a aa; mv aa/bb/c .; chmod 600 big; mv big g/bigger; ln g/bigger twice; rm -r d; mkdir d; echo > d/new
mv e/f e/ff; mv e/ff/1 e/ff/one; chown 1:2 e/ff/2; rm dev; mkdir x; mv c x/c`)
		want = r.seen()
	})
	r.mount(false)
	lowertest.Same(t, "overlayfs's upper", r.seen(), want)
	r.run(`mv x/c/1 back; mv aa a; mv g/bigger big; chmod 640 big; mv a/bb d/bb; echo more >> twice; mv e/ff/2 two; rm -r e`)
	want = r.seen()
	r.remount()
	lowertest.Same(t, "after a remount", r.seen(), want)
}

// TestWhiteoutNames reads the oldest forms of deletion in an upper, and writes
// the newer.
func TestWhiteoutNames(t *testing.T) {
	r := foreignRig(t, "UNIO_TEST_NAMES=1")
	r.sh(r.upper, `mkdir -p a d e/f; touch a/.wh.1 a/.wh.nothing d/.wh..wh..opq d/new .wh.big .wh..wh.plnk .wh. .wh.e; touch a/.wh.b; mkdir a/b; touch a/b/only`)
	want := ".\n./a\n./a/2\n./a/3\n./a/b\n./a/b/only\n./d\n./d/new\n./dev\n./e\n./e/f\n./fifo\n./g\n./g/u\n./link\n"
	for _, when := range []string{"at first", "once replaced"} {
		r.mount(false)
		r.equal(when, r.run("find . | sort"), want)
		if out := r.fails("touch a/.wh.x"); !strings.Contains(out, "not permitted") {
			t.Errorf("making a whiteout name: %s", out)
		}
		r.fails("mv a/2 a/.wh.x")
		r.unmount()
		if out := r.sh(r.upper, "find . -name '.wh.*' ! -name .wh. ! -name '.wh..wh.plnk'"); out != "" {
			t.Errorf("left in the upper: %s", out)
		}
	}
	r.abroad(kernelOverlay, func() {
		if out := r.run("find . ! -name '.wh*' | sort"); out != want {
			t.Errorf("overlayfs shows %s", out)
		}
	})
}

// TestPlainNames keeps such names as a user's where they mean nothing.
func TestPlainNames(t *testing.T) {
	r := newRig(t, "echo x > x")
	r.mount(false)
	r.run("echo mine > .wh.x; mkdir .wh..wh..opq")
	r.remount()
	r.equal("names", r.run("ls -A; cat .wh.x"), ".wh..wh..opq\n.wh.x\nx\nmine\n")
}

// TestDamagedUpper puts all kinds of nonsense into an upper's bookkeeping. The
// mount serves on, and no data of the upper is lost.
func TestDamagedUpper(t *testing.T) {
	r := foreignRig(t)
	r.mount(false)
	r.run(`chmod 600 big; echo more >> a/1; mv a/b moved; mkdir new; echo new > new/file; mv d/1 d/one`)
	r.unmount()
	set := func(name, value, path string) {
		t.Helper()
		if err := unix.Lsetxattr(filepath.Join(r.upper, path), "trusted."+name, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, value := range []string{"", "/", "//", "/..", "/../../etc", "../x", "a/b", "/nowhere", "/a//b", ".", "/a/1", "\xff\n", strings.Repeat("x", 300)} {
		for _, name := range []string{"overlay.redirect", "unio.origin", "overlay.opaque", "overlay.metacopy", "unio.nlink", "overlay.origin"} {
			set(name, value, "new")
			set(name, value, "a")
			if name != "overlay.metacopy" { // that says what it says whatever its value
				set(name, value, "a/1")
				set(name, value, "new/file")
			}
		}
		r.mount(false)
		if got := r.run("cat a/1 new/file"); got != "a 1\nmore\nnew\n" {
			t.Errorf("with %q: %q", value, got)
		}
		r.run("find . -type f | xargs cat > /dev/null; ls -lR > /dev/null; touch new/t a/t; rm new/t a/t")
		r.unmount()
	}
}

// TestRedirectCircle has two folders of an upper claim the same lower one, and
// one claim that which it lies in.
func TestRedirectCircle(t *testing.T) {
	r := foreignRig(t)
	r.sh(r.upper, `mkdir -p one/two/three x y; for d in x y; do setfattr -n trusted.overlay.redirect -v /e/f $d; done
setfattr -n trusted.overlay.redirect -v /one one/two; setfattr -n trusted.overlay.redirect -v /a one/two/three; setfattr -n trusted.overlay.redirect -v /a one`)
	r.mount(false)
	if out := r.run("find . | wc -l; find x y | sort"); !strings.HasSuffix(out, "x\nx/1\nx/2\nx/3\ny\n") {
		t.Errorf("shows %s", out)
	}
	r.run("rm -rf one x y; echo done > done")
}

// TestMetacopyWithoutData must not show zeros as a file's content.
func TestMetacopyWithoutData(t *testing.T) {
	r := foreignRig(t)
	r.sh(r.upper, "truncate -s 4096 lost; setfattr -n trusted.overlay.metacopy lost; echo kept > kept")
	r.mount(false)
	if out := r.fails("cat lost"); !strings.Contains(out, "Input/output error") {
		t.Errorf("reading says %s", out)
	}
	r.equal("others", r.run("cat kept; stat -c %s lost"), "kept\n4096\n")
	r.run(": > lost; echo new > lost")
	r.remount()
	r.equal("written anew", r.run("cat lost"), "new\n")
}
