package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"unio/imagestore/registry/registrytest"
)

// TestPullsSaveAndPruneAtOnce runs two pulls of images that share a layer, a
// save and prunes on one store. All succeed, the archive is as one that is
// saved in peace, and fsck finds nothing, not even garbage.
func TestPullsSaveAndPruneAtOnce(t *testing.T) {
	addr := registrytest.Start(t)
	maker := newBox(t)
	shell(t, maker.dir, "mkdir a b; head -c 6000000 /dev/urandom >a/noise; seq 100000 >a/text; head -c 3000000 /dev/urandom >b/noise")
	for _, name := range []string{"a", "b"} {
		pack(t, maker.path(name), maker.path(name+".tar"))
	}
	maker.run("import", "-q", maker.path("a.tar"), addr+"/one:1")
	mnt := maker.mount("--name", "two", addr+"/one:1")
	shell(t, mnt, "cp "+maker.path("b/noise")+" new; rm text")
	maker.run("commit", "-q", "two", addr+"/two:1")
	maker.run("import", "-q", maker.path("b.tar"), "local:1")
	maker.run("save", "-q", "-o", maker.path("local.tar"), "local:1")
	maker.run("push", "-q", addr+"/one:1")
	maker.run("push", "-q", addr+"/two:1")
	want, err := os.ReadFile(maker.path("local.tar"))
	must(t, err)

	b := newBox(t)
	b.run("load", "-q", "-i", maker.path("local.tar"))
	for round := range 4 {
		// What prune has to do: an image without a name.
		b.run("import", "-q", maker.path("a.tar"))
		out := b.path(fmt.Sprintf("saved%d.tar", round))
		running := []*exec.Cmd{
			b.command("pull", "-q", addr+"/one:1"), b.command("pull", "-q", addr+"/two:1"),
			b.command("save", "-q", "-o", out, "local:1"),
			b.command("image", "prune", "-f"), b.command("system", "prune", "-f"),
		}
		for _, cmd := range running {
			cmd.Stderr = &bytes.Buffer{}
			must(t, cmd.Start())
		}
		for _, cmd := range running {
			if err := cmd.Wait(); err != nil {
				t.Errorf("round %d: %v: %v\n%s", round, cmd.Args[5:], err, cmd.Stderr)
			}
		}
		got, err := os.ReadFile(out)
		must(t, err)
		if !bytes.Equal(got, want) {
			t.Errorf("round %d: the archive differs from one saved in peace", round)
		}
		b.run("image", "prune", "-f")
		if r := b.try("fsck"); r.code != 0 || strings.Contains(r.stdout+r.stderr, "garbage") {
			t.Errorf("round %d: fsck: %d\n%s%s", round, r.code, r.stdout, r.stderr)
		}
		if n := len(strings.Fields(b.run("images", "-aq"))); n != 3 {
			t.Errorf("round %d: %d images\n%s", round, n, b.run("images", "-a"))
		}
		b.run("rmi", addr+"/one:1", addr+"/two:1")
	}
}

// TestStoreStorm runs everything that changes or reads a store at once, again and
// again. The only thing that may go wrong is that an image has just been removed.
func TestStoreStorm(t *testing.T) {
	addr := registrytest.Start(t)
	b := newBox(t)
	shell(t, b.dir, "mkdir a b; head -c 1000000 /dev/urandom >a/noise; seq 50000 >a/text; head -c 500000 /dev/urandom >b/noise")
	one, two := addr+"/one:1", addr+"/two:1"
	for name, dir := range map[string]string{one: "a", two: "b"} {
		pack(t, b.path(dir), b.path(dir+".tar"))
		b.run("import", "-q", b.path(dir+".tar"), name)
		b.run("push", "-q", name)
	}
	b.run("save", "-q", "-o", b.path("both.tar"), one, two)
	rounds := 3
	if long() {
		rounds = 100
	}
	for round := range rounds {
		var running []*exec.Cmd
		for _, line := range []string{
			"pull -q ONE", "pull -q TWO", "pull -q ONE", "load -q -i " + b.path("both.tar"), "image prune -af", "system prune -af",
			"rmi ONE", "import -q " + b.path("a.tar") + " new:N", "images -a", "system df -v", "fsck", "tag TWO other:N",
			"diff ONE TWO", "inspect ONE", "history TWO", "push -q TWO", "save -q -o " + b.path("save.tar") + " TWO",
		} {
			words := strings.Fields(strings.NewReplacer("ONE", one, "TWO", two, "N", fmt.Sprint(round)).Replace(line))
			cmd := b.command(words...)
			cmd.Stderr = &bytes.Buffer{}
			must(t, cmd.Start())
			running = append(running, cmd)
		}
		for _, cmd := range running {
			err := cmd.Wait()
			said := fmt.Sprint(cmd.Stderr)
			gone := strings.Contains(said, "No such") || strings.Contains(said, "does not exist")
			if err != nil && !gone {
				t.Errorf("round %d: %v: %v\n%s", round, cmd.Args[5:], err, said)
			}
		}
		if r := b.try("fsck"); r.code != 0 {
			t.Errorf("round %d: fsck: %d\n%s%s", round, r.code, r.stdout, r.stderr)
		}
	}
	b.run("system", "prune", "-af")
	if left := shell(t, b.store(), "find blobs layers views state/tmp -type f"); left != "" {
		t.Errorf("left after all was pruned:\n%s", left)
	}
}

// TestSaveOfRemoved removes an image, and its layers from disk, while it is
// being saved into a pipe that nobody reads yet.
func TestSaveOfRemoved(t *testing.T) {
	b := newBox(t)
	archive := bigArchive(t, b)
	b.run("load", "-q", "-i", archive)
	b.run("save", "-q", "-o", b.path("peace.tar"), "example/big:1")
	cmd := b.command("save", "-q", "example/big:1")
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	first := make([]byte, 512) // it has begun
	_, err = io.ReadFull(out, first)
	must(t, err)
	b.run("rmi", "example/big:1")
	b.run("image", "prune", "-f")
	if left := shell(t, b.store(), "find blobs -type f | wc -l"); left != "0" {
		t.Errorf("%s blobs left", left)
	}
	rest, err := io.ReadAll(out)
	must(t, err)
	must(t, cmd.Wait())
	peace, err := os.ReadFile(b.path("peace.tar"))
	must(t, err)
	if !bytes.Equal(append(first, rest...), peace) {
		t.Error("the archive differs from one saved in peace")
	}
}

// TestKillSave kills save at random moments: its file is as before or whole,
// and nothing else is left beside it.
func TestKillSave(t *testing.T) {
	b := newBox(t)
	b.run("load", "-q", "-i", bigArchive(t, b))
	must(t, os.Mkdir(b.path("out"), 0o755))
	out := b.path("out/image.tar")
	usual := timed(func() { b.run("save", "-q", "-o", out, "example/big:1") })
	whole, err := os.ReadFile(out)
	must(t, err)
	interrupted := 0
	for round := 0; interrupted < 10 && round < 100; round++ {
		before := ""
		if round%2 == 0 {
			must(t, os.RemoveAll(out))
		} else {
			before = "something else"
			must(t, os.WriteFile(out, []byte(before), 0o600))
		}
		_, finished := b.killed(usual, "save", "-q", "-o", out, "example/big:1")
		if !finished {
			interrupted++
		}
		got, err := os.ReadFile(out)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if !bytes.Equal(got, whole) && (finished || string(got) != before) {
			t.Errorf("round %d, finished %v: a file of %d bytes", round, finished, len(got))
		}
		// A file is replaced by link(2) and rename(2): between them all of it is
		// there under the other name.
		left, err := filepath.Glob(b.path("out/.unio-save-*"))
		must(t, err)
		for _, name := range left {
			data, err := os.ReadFile(name)
			must(t, err)
			if before == "" || !bytes.Equal(data, whole) {
				t.Errorf("round %d: left over %s, %d bytes", round, name, len(data))
			}
			must(t, os.Remove(name))
		}
	}
	if interrupted < 10 {
		t.Errorf("only %d rounds were interrupted", interrupted)
	}
	b.assertSound()
}

// TestKillImport kills import at random moments.
func TestKillImport(t *testing.T) {
	b := newBox(t)
	shell(t, b.dir, "mkdir root; head -c 30000000 /dev/urandom >root/noise; seq 300000 >root/text; tar -C root -czf root.tar.gz .")
	args := []string{"import", "-q", b.path("root.tar.gz"), "example/import:1"}
	usual := timed(func() { b.run(args...) })
	id := b.run("images", "-q", "--no-trunc")
	b.run("rmi", "example/import:1")
	interrupted := 0
	for round := 0; interrupted < 8 && round < 80; round++ {
		_, finished := b.killed(usual, args...)
		if !finished {
			interrupted++
		}
		b.assertSound()
		if out := b.run("images", "-q", "--no-trunc"); finished && out == "" || !finished && out == id {
			t.Errorf("round %d, finished %v: images %q", round, finished, out)
		}
		b.try("rmi", "-f", "example/import:1")
	}
	if interrupted < 8 {
		t.Errorf("only %d rounds were interrupted", interrupted)
	}
	b.run(args...)
	mnt := b.mount("--read-only", "example/import:1")
	shell(t, b.dir, "cmp root/noise "+mnt+"/noise && cmp root/text "+mnt+"/text")
}

// TestDiskFullWhileWriting fills the disk at random points of an import, a load
// from a pipe and a save: one line, exit code 1, and everything as before.
func TestDiskFullWhileWriting(t *testing.T) {
	b := newBox(t)
	archive := bigArchive(t, b)
	b.onDisk("200M", "^has_journal")
	b.run("import", "-q", smallTar(t, b), "example/small:1")
	b.run("load", "-q", "-i", archive)
	must(t, os.Mkdir(filepath.Join(b.store(), "out"), 0o700))
	kept := filepath.Join(b.store(), "out/kept.tar")
	must(t, os.WriteFile(kept, []byte("kept"), 0o600))
	b.fails("save", func() result {
		return b.try("save", "-q", "-o", kept, "example/big:1")
	})
	if text, err := os.ReadFile(kept); err != nil || string(text) != "kept" {
		t.Errorf("the file before the failed saves: %.40q, %v", text, err)
	}
	b.run("rmi", "example/big:1")
	b.fails("load", func() result {
		text, err := os.ReadFile(archive)
		must(t, err)
		return b.tryWith(string(text), "load", "-q")
	})
	b.fails("import", func() result { return b.try("import", "-q", b.path("big-root.tar"), "example/import:1") })
	b.run("load", "-q", "-i", archive) // with room again
	b.assertSound()
}

// fails runs a command that needs 48 MB with less room than that, and compares
// what there is before and after.
func (b *box) fails(what string, run func() result) {
	b.t.Helper()
	look := func() string {
		return b.run("images", "-a", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}\n") + shell(b.t, b.store(), "find blobs layers views out -type f | sort; ls -A out")
	}
	before := look()
	for range 3 {
		free := int64(rand.IntN(32 << 20)) // and 10 MB that are kept for root
		b.leaveFree(free)
		r := run()
		must(b.t, os.Remove(filepath.Join(b.store(), "ballast")))
		if r.code != 1 || !strings.Contains(r.stderr, "no space left on device") || strings.Count(r.stderr, "\n") != 1 {
			b.t.Errorf("%s with %d bytes free: exit code %d, stderr %q", what, free, r.code, r.stderr)
		}
		if after := look(); after != before {
			b.t.Errorf("%s with %d bytes free changed\n%s\nto\n%s", what, free, before, after)
		}
	}
}

// leaveFree fills the disk of the store up to so many bytes, and what ext4
// keeps for root: a twentieth.
func (b *box) leaveFree(free int64) {
	b.t.Helper()
	f, err := os.Create(filepath.Join(b.store(), "ballast"))
	must(b.t, err)
	defer f.Close()
	var st unix.Statfs_t
	must(b.t, unix.Statfs(b.store(), &st))
	must(b.t, unix.Fallocate(int(f.Fd()), 0, 0, max(1, int64(st.Bavail)*st.Bsize-free)))
}

// TestLoadsInterrupted interrupts loads from pipes as Ctrl-C does: exit code
// 130 or that of a signal, no image, no garbage.
func TestLoadsInterrupted(t *testing.T) {
	b := newBox(t)
	archive := bigArchive(t, b)
	before := shell(t, b.dir, "mkdir -p store; cd store; find . -path './blobs/*' -type f")
	for range 5 {
		cmd := b.command("load", "-q")
		in, err := cmd.StdinPipe()
		must(t, err)
		var problems bytes.Buffer
		cmd.Stderr = &problems
		must(t, cmd.Start())
		text, err := os.ReadFile(archive)
		must(t, err)
		_, err = in.Write(text[:rand.IntN(len(text)/2)+1<<20])
		must(t, err)
		time.Sleep(20 * time.Millisecond)
		must(t, cmd.Process.Signal(os.Interrupt))
		if err := cmd.Wait(); err == nil || strings.Count(problems.String(), "\n") > 1 {
			t.Errorf("interrupted: %v, %q", err, problems.String())
		}
		_ = in.Close()
		if after := shell(t, b.store(), "find . -path './blobs/*' -type f"); after != before {
			t.Errorf("left behind:\n%s", after)
		}
	}
	b.assertSound()
}

// TestPullWritesOnce: a pull writes the compressed blobs and the tars once each,
// and little else: nothing is downloaded to one place and moved to another.
func TestPullWritesOnce(t *testing.T) {
	addr := registrytest.Start(t)
	maker := newBox(t)
	shell(t, maker.dir, "mkdir a; head -c 4000000 /dev/urandom >a/noise; seq 1000000 >a/text")
	pack(t, maker.path("a"), maker.path("a.tar"))
	maker.run("import", "-q", maker.path("a.tar"), addr+"/a:1")
	mnt := maker.mount("--name", "two", addr+"/a:1")
	shell(t, mnt, "seq 500000 >more; head -c 3000000 /dev/urandom >noise2")
	maker.run("commit", "-q", "two", addr+"/a:1")
	maker.run("push", "-q", addr+"/a:1")

	b := newBox(t)
	pull := b.command("pull", "-q", addr+"/a:1")
	// The kernel adds what a child has written to its parent's account when it
	// ends (task_io_accounting_add in kernel/exit.c).
	script := `"$@" >/dev/null || exit; grep ^wchar: /proc/$$/io`
	out := tool(t, "sh", append([]string{"-c", script, "sh"}, pull.Args...)...)
	var written int64
	_, err := fmt.Sscanf(out, "wchar: %d", &written)
	must(t, err)
	var content int64
	for line := range strings.SplitSeq(shell(t, b.store(), "find . -type f -printf '%s\n'"), "\n") {
		var n int64
		_, err := fmt.Sscan(line, &n)
		must(t, err)
		content += n
	}
	t.Logf("%d bytes written for a store of %d", written, content)
	if written > content+content/100+64<<10 {
		t.Errorf("%d bytes written for a store of %d", written, content)
	}
}
