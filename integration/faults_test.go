package integration

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"unio/integration/tree"
)

// killRounds is how often each command is killed.
const killRounds = 17

// killRepeatedly runs unio again and again and kills it with SIGKILL after a
// random part of the time that it takes. reset makes the next round start from
// nothing; it is told whether the command had come to its end. Each time the
// store must be sound. At least half of the rounds must be interrupted, or the
// test says little.
func (b *box) killRepeatedly(reset func(round int, finished bool), args ...string) {
	b.t.Helper()
	reset(0, true)
	usual := timed(func() { b.run(args...) })
	reset(1, true)
	interrupted := 0
	for round := 2; interrupted < killRounds; round++ {
		if round > 5*killRounds {
			b.t.Fatalf("only %d of %d rounds interrupted", interrupted, round)
		}
		took, finished := b.killed(usual, args...)
		if finished {
			usual = took
		} else {
			interrupted++
		}
		b.assertSound()
		reset(round, finished)
	}
	b.t.Logf("interrupted %d times; a whole run takes %v", interrupted, usual)
}

// killed runs unio and kills it after a random part of the time it usually
// takes. It reports whether it had finished before, and after how long.
func (b *box) killed(usual time.Duration, args ...string) (took time.Duration, finished bool) {
	b.t.Helper()
	cmd := b.command(args...)
	start := time.Now()
	must(b.t, cmd.Start())
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			b.t.Fatalf("unio %s failed by itself: %v", strings.Join(args, " "), err)
		}
		return time.Since(start), true
	case <-time.After(time.Duration(rand.Int64N(int64(usual) + 1))):
		if err := cmd.Process.Kill(); !errors.Is(err, os.ErrProcessDone) {
			must(b.t, err)
		}
		return time.Since(start), <-done == nil
	}
}

// assertSound expects a store that opens, and that fsck finds clean once it
// has tidied up.
func (b *box) assertSound() {
	b.t.Helper()
	b.run("images")
	b.try("fsck", "--repair")
	if r := b.try("fsck"); r.code != 0 {
		b.t.Fatalf("fsck after its own repair: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}

// TestKillLoad kills load at random moments.
func TestKillLoad(t *testing.T) {
	b := newBox(t)
	archive := bigArchive(t, b)
	b.killRepeatedly(func(_ int, finished bool) {
		if finished {
			b.try("rmi", "-f", "example/big:1")
		}
	}, "load", "-q", "-i", archive)
	b.run("load", "-q", "-i", archive)
	assertSameTree(t, b.path("big"), b.mount("--read-only", "example/big:1"), tree.Options{})
}

// bigArchive saves an image of three layers whose load takes a while, and
// leaves the tree it should show in "big".
func bigArchive(t *testing.T, b *box) string {
	t.Helper()
	shell(t, b.dir, `
		mkdir -p big && cd big
		for d in a b c d e f; do mkdir $d; for i in $(seq 200); do echo $d $i >$d/$i; done
			head -c 8000000 /dev/urandom >$d/random; done`)
	pack(t, b.path("big"), b.path("big-root.tar"))
	maker := newBox(t)
	maker.run("import", "-q", b.path("big-root.tar"), "example/big:1")
	archive := b.path("big.tar")
	maker.run("save", "-o", archive, "example/big:1")
	return archive
}

// TestKillCommit kills commit of a mounted container at random moments; the
// container itself must not suffer.
func TestKillCommit(t *testing.T) {
	b := newBox(t)
	b.run("import", "-q", busyboxRoot(t, b.dir), "example/kc:base")
	mnt := b.mount("--name", "kc", "example/kc:base")
	shell(t, mnt, "mkdir new; for i in $(seq 500); do echo $i >new/$i; done; head -c 30000000 /dev/urandom >new/random; rm -rf usr/share/doc")
	b.killRepeatedly(func(round int, _ bool) {
		// A fresh file, or the layer would be there already.
		must(t, os.WriteFile(filepath.Join(mnt, "new/round"), fmt.Append(nil, round), 0o644))
	}, "commit", "-q", "kc", "example/kc:round")
	b.run("commit", "-q", "kc", "example/kc:last")
	assertSameTree(t, mnt, b.mount("--read-only", "example/kc:last"), tree.Options{})
}

func timed(do func()) time.Duration {
	start := time.Now()
	do()
	return time.Since(start)
}

// server returns the process that serves a mount point.
func (b *box) server(mnt string) int {
	b.t.Helper()
	if pids := b.processes("serve", mnt); len(pids) > 0 {
		return pids[0]
	}
	b.t.Fatalf("no process serves %s", mnt)
	return 0
}

// processes finds those of unio that run a hidden command for a mount point.
func (b *box) processes(command, mnt string) (pids []int) {
	b.t.Helper()
	entries, err := os.ReadDir("/proc")
	must(b.t, err)
	for _, e := range entries {
		var pid int
		if _, err := fmt.Sscanf(e.Name(), "%d", &pid); err != nil || pid == os.Getpid() {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && bytes.Contains(line, []byte("\x00"+command+"\x00")) && bytes.Contains(line, []byte(mnt)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// killMount kills the server of a mount point and whoever would start another
// one, and waits until the mount is dead.
func (b *box) killMount(mnt string) {
	b.t.Helper()
	for {
		pids := append(b.processes("keep", mnt), b.processes("serve", mnt)...)
		if len(pids) == 0 {
			break
		}
		for _, pid := range pids {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && err != unix.ESRCH {
				b.t.Fatal(err)
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	waitDead(b.t, mnt)
}

// TestKillServer kills the server of a writable mount and its keeper: what was closed or
// fsynced is all there after the next mount.
func TestKillServer(t *testing.T) {
	b := newBox(t)
	b.run("import", "-q", busyboxRoot(t, b.dir), "example/ks:base")
	mnt := b.mount("--name", "ks", "example/ks:base")
	for round := range 5 {
		dir := filepath.Join(mnt, fmt.Sprintf("round%d", round))
		want := writeClosed(t, dir)
		open := writeSynced(t, filepath.Join(dir, "synced"))
		must(t, os.Remove(filepath.Join(mnt, fmt.Sprintf("usr/share/doc/a/%d", round+2))))
		b.killMount(mnt)
		_ = open.Close()
		b.run("mount", "ks", mnt)
		for name, body := range want {
			got, err := os.ReadFile(name)
			if err != nil || string(got) != body {
				t.Fatalf("round %d: %s: %d bytes, %v; want %d", round, name, len(got), err, len(body))
			}
		}
		if got, err := os.ReadFile(filepath.Join(dir, "synced")); err != nil || len(got) != 1<<20 {
			t.Fatalf("round %d: fsynced file: %d bytes, %v", round, len(got), err)
		}
		if _, err := os.Lstat(filepath.Join(mnt, fmt.Sprintf("usr/share/doc/a/%d", round+2))); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("round %d: a removed file is back: %v", round, err)
		}
	}
	b.assertSound()
}

// writeClosed makes files, among them changed ones of the lower layer, and
// closes them.
func writeClosed(t *testing.T, dir string) map[string]string {
	t.Helper()
	must(t, os.Mkdir(dir, 0o755))
	want := map[string]string{}
	for i := range 200 {
		name := filepath.Join(dir, fmt.Sprint(i))
		want[name] = strings.Repeat(fmt.Sprintf("%s %d\n", dir, i), i*10)
		must(t, os.WriteFile(name, []byte(want[name]), 0o644))
	}
	lower := filepath.Join(filepath.Dir(dir), "usr/share/doc/a/1")
	want[lower] = "changed in " + dir
	must(t, os.WriteFile(lower, []byte(want[lower]), 0o644))
	return want
}

// writeSynced leaves a file open, written and fsynced.
func writeSynced(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Create(name)
	must(t, err)
	_, err = f.Write(make([]byte, 1<<20))
	must(t, err)
	must(t, f.Sync())
	return f
}

func waitDead(t *testing.T, mnt string) {
	t.Helper()
	for range 100 {
		if _, err := os.Lstat(filepath.Join(mnt, "etc")); errors.Is(err, unix.ENOTCONN) || errors.Is(err, os.ErrNotExist) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("%s still answers after its server was killed", mnt)
}

// TestUmountDead unmounts a mount point whose server is gone.
func TestUmountDead(t *testing.T) {
	b := newBox(t)
	b.run("import", "-q", busyboxRoot(t, b.dir), "example/dead:1")
	mnt := b.mount("--name", "dead", "example/dead:1")
	b.killMount(mnt)
	b.run("umount", "dead")
	if left := b.mountPoints(); len(left) > 0 {
		t.Errorf("still mounted: %v", left)
	}
}

// TestDiskFull loads an image into a store on a filesystem that is too small:
// one clear message, and a store as before.
func TestDiskFull(t *testing.T) {
	b := newBox(t)
	archive := bigArchive(t, b)
	b.onDisk("24M", "none")
	b.run("import", "-q", smallTar(t, b), "example/small:1")
	before := b.run("images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}", "--no-trunc")
	for range 3 {
		r := b.try("load", "-q", "-i", archive)
		if r.code != 1 || !strings.Contains(r.stderr, "no space left on device") {
			t.Errorf("exit code %d, stderr %q", r.code, r.stderr)
		}
		if after := b.run("images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}", "--no-trunc"); after != before {
			t.Errorf("images changed:\n%s\nwant\n%s", after, before)
		}
	}
	b.assertSound()
	if got := b.run("images", "-q", "example/small"); got == "" {
		t.Error("the image that was there is gone")
	}
	var st unix.Statfs_t
	must(t, unix.Statfs(b.store(), &st))
	if free := int64(st.Bavail) * st.Bsize; free < 10<<20 {
		t.Errorf("failed loads left garbage: only %d bytes free", free)
	}
}

func smallTar(t *testing.T, b *box) string {
	t.Helper()
	must(t, os.WriteFile(b.path("small.tar"), tarOf(t, layerOf(file("a", "small"))), 0o644))
	return b.path("small.tar")
}

// TestBadInput gives the commands what they cannot use. Each says so in one
// line, with the exit code docker gives, and changes nothing.
func TestBadInput(t *testing.T) {
	b := newBox(t)
	archive := busyboxRoot(t, b.dir)
	b.run("import", "-q", archive, "example/bad:1")
	mnt := b.mount("--name", "bad", "example/bad:1")
	shell(t, b.dir, `
		head -c 100000 `+archive+` >cut.tar
		gzip -1c `+archive+` >whole.tar.gz; head -c 200000 whole.tar.gz >cut.tar.gz
		zstd -q1c `+archive+` >whole.tar.zst; head -c 200000 whole.tar.zst >cut.tar.zst
		cp whole.tar.gz flipped.tar.gz; printf '\377\377\377\377' | dd of=flipped.tar.gz bs=1 seek=150000 conv=notrunc status=none
		head -c 100000 /dev/urandom >noise; : >empty; mkdir folder`)
	for _, c := range []struct {
		args  []string
		code  int
		says  string
		stdin string
	}{
		{args: []string{"mount", "nothing:1", b.path("folder")}, code: 1, says: "Error: No such image: nothing:1"},
		{args: []string{"mount", "example/bad:1", b.path("noise")}, code: 1, says: "noise"},
		{args: []string{"mount", "example/bad:1", mnt}, code: 1, says: mnt},
		{args: []string{"mount", "--name", "bad", "example/bad:1", b.path("folder")}, code: 1, says: "bad"},
		{args: []string{"umount", b.path("folder")}, code: 1, says: "folder"},
		{args: []string{"chroot", "nothing"}, code: 125, says: "nothing"},
		{args: []string{"commit", "nothing"}, code: 1, says: "Error: No such container: nothing"},
		{args: []string{"diff", "nothing"}, code: 1, says: "nothing"},
		{args: []string{"inspect", "nothing"}, code: 1, says: "Error: No such object: nothing"},
		{args: []string{"history", "nothing"}, code: 1, says: "Error: No such image: nothing:latest"},
		{args: []string{"rmi", "nothing"}, code: 1, says: "Error: No such image: nothing:latest"},
		{args: []string{"tag", "nothing", "x:1"}, code: 1, says: "Error: No such image: nothing:latest"},
		{args: []string{"tag", "example/bad:1", "UPPER"}, code: 1, says: "invalid reference format: repository name (library/UPPER) must be lowercase"},
		{args: []string{"save", "-o", b.path("x.tar"), "nothing"}, code: 1, says: "No such image: nothing"},
		{args: []string{"load"}, code: 1, says: "requested load from stdin, but stdin is empty"},
		{args: []string{"load", "-i", b.path("absent.tar")}, code: 1, says: "no such file or directory"},
		{args: []string{"load", "-q", "-i", b.path("noise")}, code: 1},
		{args: []string{"load", "-q", "-i", b.path("empty")}, code: 1},
		{args: []string{"load", "-q", "-i", b.path("cut.tar")}, code: 1},
		{args: []string{"import", "-q", b.path("noise"), "n:1"}, code: 1},
		{args: []string{"import", "-q", b.path("cut.tar"), "n:1"}, code: 1, says: "truncated"},
		{args: []string{"import", "-q", b.path("cut.tar.gz"), "n:1"}, code: 1, says: "gzip stream is cut short"},
		{args: []string{"import", "-q", b.path("cut.tar.zst"), "n:1"}, code: 1},
		{args: []string{"import", "-q", b.path("flipped.tar.gz"), "n:1"}, code: 1},
		{args: []string{"frobnicate"}, code: 1, says: "frobnicate"},
		{args: []string{"images", "--frobnicate"}, code: 125, says: "frobnicate"},
		{args: []string{"tag", "one"}, code: 1, says: "requires"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			r := b.tryWith(c.stdin, c.args...)
			if r.code != c.code || !strings.Contains(r.stderr, c.says) || r.stderr == "" {
				t.Errorf("exit code %d, stderr %q; want %d and %q", r.code, r.stderr, c.code, c.says)
			}
			if strings.Contains(r.stderr, "panic") || strings.Contains(r.stderr, "goroutine") {
				t.Errorf("a crash: %s", r.stderr)
			}
		})
	}
	if images := b.run("images", "-q"); strings.Contains(images, "\n") {
		t.Errorf("a failed command left an image:\n%s", images)
	}
	b.assertSound()
}

// TestCorruptStore damages each kind of file in a store: what can be rebuilt
// is rebuilt, what cannot is named by fsck.
func TestCorruptStore(t *testing.T) {
	b := newBox(t)
	b.run("import", "-q", busyboxRoot(t, b.dir), "example/corrupt:1")
	want := b.path("busybox-root")
	for _, pattern := range []string{"views/*.idx", "layers/*.idx"} {
		for _, damage := range []string{"truncate -s 100 %s", "rm %s", "printf X | dd of=%s bs=1 seek=200 conv=notrunc status=none"} {
			t.Run(pattern+" "+strings.Fields(damage)[0], func(t *testing.T) {
				found, err := filepath.Glob(filepath.Join(b.store(), pattern))
				must(t, err)
				if len(found) == 0 {
					t.Fatalf("no %s in the store", pattern)
				}
				for _, name := range found {
					shell(t, b.dir, fmt.Sprintf(damage, name))
				}
				mnt := b.mount("--read-only", "example/corrupt:1")
				assertSameTree(t, want, mnt, tree.Options{})
				b.run("umount", mnt)
				b.assertSound()
			})
		}
	}
	t.Run("a layer blob", func(t *testing.T) {
		layer := b.run("inspect", "-f", "{{index .RootFS.Layers 0}}", "example/corrupt:1")
		blob := filepath.Join(b.store(), "blobs/sha256", strings.TrimPrefix(layer, "sha256:"))
		shell(t, b.dir, "printf X | dd of="+blob+" bs=1 seek=5000 conv=notrunc status=none")
		r := b.try("fsck")
		if r.code == 0 || !strings.Contains(r.stdout+r.stderr, strings.TrimPrefix(layer, "sha256:")[:12]) {
			t.Errorf("fsck of a damaged layer: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
		}
	})
}

// TestTwoAtOnce runs many commands on one store at the same time.
func TestTwoAtOnce(t *testing.T) {
	b := newBox(t)
	archive := busyboxRoot(t, b.dir)
	big := bigArchive(t, b)
	var running []*exec.Cmd
	for i := range 4 {
		running = append(running,
			b.command("import", "-q", archive, fmt.Sprintf("example/at-once:%d", i)),
			b.command("load", "-q", "-i", big),
			b.command("images"), b.command("fsck"))
	}
	for _, cmd := range running {
		must(t, cmd.Start())
	}
	for _, cmd := range running {
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %v", cmd.Args[5:], err)
		}
	}
	if got := len(strings.Fields(b.run("images", "-q"))); got != 5 {
		t.Errorf("%d images, want 5", got)
	}
	b.assertSound()
}

// TestBadLayouts loads layouts in which one thing is wrong.
func TestBadLayouts(t *testing.T) {
	layer := tarOf(t, layerOf(file("a", strings.Repeat("content ", 1000))))
	for name, c := range map[string]struct{ damage, says string }{
		"layer of another content":   {`printf X | dd of=$(biggest) bs=1 seek=600 conv=notrunc status=none`, "digest"},
		"layer cut short":            {`truncate -s 3000 $(biggest)`, "sha256:"},
		"layer missing":              {`rm $(biggest)`, "incomplete: it has no blobs/sha256/"},
		"manifest no JSON":           {`echo '{"schemaVersion":2' >$(manifest)`, "does not match its digest"},
		"index no JSON":              {`echo nonsense >index.json`, "invalid image index"},
		"digest with a path":         {`sed -i 's#sha256:[0-9a-f]*#sha256:../../../../etc/passwd#' index.json`, "digest"},
		"digest of unknown kind":     {`sed -i 's#sha256:#md5:#' index.json`, "digest"},
		"unknown layout version":     {`echo '{"imageLayoutVersion":"9.0.0"}' >oci-layout`, "9.0.0"},
		"a manifest of 5 MiB":        {`head -c 5000000 /dev/zero | tr '\0' ' ' >>$(manifest)`, "limit exceeded"},
		"an index without manifests": {`echo '{"schemaVersion":2,"manifests":[]}' >index.json`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			layout(t, b.path("layout"), "bad", layer)
			shell(t, b.path("layout"), `
				biggest() { ls -S blobs/sha256/* | head -n 1; }
				manifest() { echo blobs/sha256/$(sed 's/.*"digest":"sha256:\([0-9a-f]*\)".*/\1/' index.json); }
				`+c.damage)
			assertLoadFails(t, b, b.path("layout"), c.says)
			b.assertSound()
		})
	}
}
