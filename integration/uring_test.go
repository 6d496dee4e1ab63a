package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"unio/unionfs/transport"
	"unio/unionfs/transport/transporttest"
)

// Over io_uring a server's death cannot go unnoticed (see keeper.Estate.Uring):
// files that are open are lost. What these tests ask is that nothing hangs, that
// what was written is there, and that the mount comes back by itself.

// newRinged is newSurvivor over io_uring. At the end a connection that hangs is
// cut, or the test would never end.
func newRinged(t *testing.T, options ...string) *survivor {
	t.Helper()
	transporttest.NeedUring(t)
	s := newSurvivorOver(t, transport.Uring, options...)
	t.Cleanup(func() {
		if state, err := transport.State(s.mnt); err != nil || state == transport.StateHung {
			t.Errorf("the mount hangs: %v", transport.Abort(s.mnt))
		}
	})
	return s
}

// soon runs something that must not hang.
func soon(t *testing.T, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s hangs", what)
	}
}

// murder kills the server and waits for the next one and its keeper.
func (s *survivor) murder() {
	s.t.Helper()
	n := s.waitKept(0)
	if err := unix.Kill(n.Server.Pid, unix.SIGKILL); err != nil && err != unix.ESRCH {
		s.t.Fatal(err)
	}
	soon(s.t, "the mount", func() {
		s.waitServer(n.Server.Pid)
		s.waitKept(n.Keeper.Pid)
	})
}

// TestUringKilled kills the server of a mount that is not busy, three times.
func TestUringKilled(t *testing.T) {
	s := newRinged(t)
	kept := filepath.Join(s.mnt, "kept")
	must(t, os.WriteFile(kept, []byte("kept"), 0o600))
	for range 3 {
		open, err := os.Open(filepath.Join(s.mnt, "etc"))
		must(t, err)
		s.murder()
		soon(t, "reading", func() {
			if data, err := os.ReadFile(kept); err != nil || string(data) != "kept" {
				t.Errorf("%q, %v", data, err)
			}
			if _, err := open.Readdirnames(-1); err == nil {
				t.Error("a folder that was open is still readable")
			}
			open.Close()
		})
	}
	if text := s.log(); !strings.Contains(text, "made anew") || !strings.Contains(text, "io_uring") {
		t.Errorf("the log does not say what was done:\n%s", text)
	}
	if n := s.figures(s.mnt).Process; n.Transport != "uring" || n.Restarts != 3 {
		t.Errorf("%+v", n)
	}
	s.run("umount", s.mnt)
	s.nothingLeft()
}

// TestUringKilledUnderLoad kills the server while sixteen workers use the mount.
// Each goes on with the next server; no file that was reported as written is
// lost.
func TestUringKilledUnderLoad(t *testing.T) {
	s := newRinged(t)
	var workers sync.WaitGroup
	var stop atomic.Bool
	steps := make([]atomic.Int64, 16)
	for w := range steps {
		workers.Go(func() {
			for i := 0; !stop.Load(); i++ {
				useMount(s.mnt, w, i)
				steps[w].Add(1)
			}
		})
	}
	deaths := 5
	if long() {
		deaths = 60
	}
	for range deaths {
		time.Sleep(300 * time.Millisecond)
		s.murder()
		soon(t, "a worker", func() { awaitSteps(steps) })
	}
	stop.Store(true)
	soon(t, "a worker", workers.Wait)
	s.checkWorkers(len(steps))
	s.run("umount", s.mnt)
	s.nothingLeft()
}

// useMount makes files, of which one keeps a number that was written, reads,
// lists, renames and removes. Errors are of no interest, except that a number
// is only written after the one before was.
func useMount(mnt string, w, i int) {
	name := filepath.Join(mnt, fmt.Sprint("w", w))
	if os.WriteFile(name+".new", fmt.Appendf(nil, "%d", i), 0o644) == nil && os.Rename(name+".new", name) == nil {
		_ = os.WriteFile(name+".log", fmt.Appendf(nil, "%d", i), 0o644)
	}
	_, _ = os.ReadFile(name)
	_, _ = os.ReadDir(mnt)
	_ = os.Mkdir(name+".d", 0o755)
	if f, err := os.Create(name + ".d/f"); err == nil {
		_, _ = f.Write(make([]byte, 300_000))
		if i%8 == 0 {
			_ = f.Sync()
		}
		_ = f.Close()
	}
	_ = os.RemoveAll(name + ".d")
	if i%4 == 0 {
		_ = os.Chmod(filepath.Join(mnt, "bin/busybox"), 0o755)
	}
}

// awaitSteps waits until every worker has ended what it did and one more step.
func awaitSteps(steps []atomic.Int64) {
	for i := range steps {
		for before := steps[i].Load(); steps[i].Load() < before+2; {
			time.Sleep(time.Millisecond)
		}
	}
}

// checkWorkers compares the numbers that workers have left.
func (s *survivor) checkWorkers(n int) {
	s.t.Helper()
	number := func(path string) int {
		data, err := os.ReadFile(path)
		if err != nil {
			s.t.Errorf("a file is gone: %v", err)
		}
		i, _ := strconv.Atoi(string(data)) // empty: the server died between making and writing it
		return i
	}
	for w := range n {
		name := filepath.Join(s.mnt, fmt.Sprint("w", w))
		if noted, there := number(name+".log"), number(name); noted > there {
			s.t.Errorf("worker %d had written %d, and %d is there", w, noted, there)
		}
	}
}

// TestUringDead kills keeper and server: what is left is a dead mount, on which
// no program hangs, and which is cleaned as any other.
func TestUringDead(t *testing.T) {
	s := newRinged(t)
	for round, clean := range []func(){
		func() { s.run("umount", s.mnt) },
		func() { must(t, unmount(s.mnt)); s.run("mount") },
		func() { s.run("mount", "sv", s.mnt); s.run("umount", s.mnt) },
	} {
		n := s.waitKept(0)
		busy := exec.Command("dd", "if=/dev/zero", "of="+filepath.Join(s.mnt, "big"), "bs=1M", "oflag=sync")
		must(t, busy.Start())
		time.Sleep(100 * time.Millisecond)
		must(t, unix.Kill(n.Keeper.Pid, unix.SIGKILL))
		must(t, unix.Kill(n.Server.Pid, unix.SIGKILL))
		soon(t, "a writer", func() {
			if busy.Wait() == nil {
				t.Error("a writer has noticed nothing")
			}
		})
		for _, words := range []string{"ls %s", "rm -r %s/etc", "stat -f %s", "cat %s/kept", "touch %s/x"} {
			line := fmt.Sprintf(words, s.mnt)
			var out bytes.Buffer
			cmd := exec.Command("sh", "-c", line)
			cmd.Stdout, cmd.Stderr = &out, &out
			soon(t, line, func() {
				if err := cmd.Run(); err == nil {
					t.Errorf("%s on a dead mount says %s", line, out.String())
				}
			})
		}
		soon(t, fmt.Sprint("cleaning, round ", round), clean)
		if points := s.mountPoints(); len(points) > 0 {
			t.Errorf("round %d: still mounted: %v", round, points)
		}
		s.run("mount", "sv", s.mnt)
		must(t, os.Remove(filepath.Join(s.mnt, "big")))
	}
	s.run("umount", s.mnt)
	s.nothingLeft()
}

// TestUringContainer kills the server below a program: the program's root is
// gone, and the container can be removed as any other.
func TestUringContainer(t *testing.T) {
	transporttest.NeedUring(t)
	t.Setenv(transporttest.Variable, string(transport.Uring))
	b := newBox(t)
	b.run("import", "-q", busyboxRoot(t, b.dir), "example/sv:1")
	s := &survivor{box: b}
	b.run("run", "-d", "--name", "sv", "example/sv:1", "sh", "-c", "while :; do echo x >/tmp.x; done")
	n := s.waitKept(0)
	must(t, unix.Kill(n.Server.Pid, unix.SIGKILL))
	soon(t, "exec", func() {
		if r := b.try("exec", "sv", "cat", "/etc/passwd"); r.code == 0 {
			t.Errorf("a program has a root again: %s", r.stdout)
		}
	})
	soon(t, "rm", func() { b.run("rm", "-f", "sv") })
	s.mnt = b.path("run/mnt/sv")
	s.nothingLeft()
}

// TestUringOverlay kills the server of a mount of plain folders.
func TestUringOverlay(t *testing.T) {
	transporttest.NeedUring(t)
	t.Setenv(transporttest.Variable, string(transport.Uring))
	b := newBox(t)
	shell(t, b.dir, "mkdir lower upper work m; echo low >lower/low; echo gone >lower/gone")
	s := &survivor{box: b, mnt: b.path("m")}
	b.run("overlay", "-o", "lowerdir=lower,upperdir=upper,workdir=work,volatile", s.mnt)
	shell(t, s.mnt, "echo more >>low; rm gone; mkdir d; echo new >d/new")
	for range 2 {
		s.murder()
		soon(t, "reading", func() {
			if out := shell(t, s.mnt, "cat low d/new; ls"); out != "low\nmore\nnew\nd\nlow" {
				t.Errorf("after a death: %q", out)
			}
		})
	}
	must(t, unmount(s.mnt))
	s.nothingLeft()
}

// TestUringUser serves a mount of an ordinary user over io_uring, where the
// kernel allows that, without being told to, and kills its server.
func TestUringUser(t *testing.T) {
	transporttest.NeedUring(t)
	t.Setenv(transporttest.Variable, string(transport.Auto))
	b := userBox(t)
	b.asUser("mkdir -p src/etc mnt; echo old >src/etc/old; tar -C src -cf src.tar .")
	b.run("import", "-q", b.path("src.tar"), "example/user:1")
	mnt := b.path("mnt")
	b.run("mount", "--name", "user", "example/user:1", mnt)
	if p := b.figures(mnt).Process; p.Transport != "uring" {
		t.Errorf("served by %s", p.Transport)
	}
	b.asUser("cd mnt; cat etc/old; echo new >etc/new; mv etc moved; rm moved/old; ls moved | grep -x new")
	s := &survivor{box: b, mnt: mnt}
	s.murder()
	soon(t, "reading", func() { b.asUser("ls mnt/moved | grep -x new; echo more >>mnt/moved/new") })
	b.run("umount", mnt)
	s.nothingLeft()
}

// TestUringMemory mounts one image many times, uses every mount a little, and
// compares what the servers have in memory over io_uring with those over
// /dev/fuse.
func TestUringMemory(t *testing.T) {
	transporttest.NeedUring(t)
	n := 20
	if long() {
		n = 200
	}
	var each [2]memory // of one server
	for i, kind := range []transport.Kind{transport.Dev, transport.Uring} {
		t.Setenv(transporttest.Variable, string(kind))
		b := newBox(t)
		b.run("import", "-q", busyboxRoot(t, b.dir), "example/many:1")
		for range n {
			mnt := b.mount("--read-only", "example/many:1")
			seeEverything(t, mnt+"/usr")
		}
		for _, s := range b.allFigures() {
			if s.Process.Transport != string(kind) {
				t.Errorf("a mount is served by %s, not %s", s.Process.Transport, kind)
			}
			m := memoryOf(t, s.Process.Pid)
			each[i].anon += m.anon / int64(n)
			each[i].file += m.file / int64(n)
		}
		t.Logf("%d mounts by %s: each %v", n, kind, each[i])
		b.unmountAll()
	}
	if more := each[1].anon - each[0].anon; more > 4<<20 {
		t.Errorf("over io_uring a server has %d KiB more", more>>10)
	}
}

// allFigures asks all servers of the box.
func (b *box) allFigures() (all []figures) {
	b.t.Helper()
	for dec := json.NewDecoder(strings.NewReader(b.run("mount", "--stats", "--format", "json"))); dec.More(); {
		var f figures
		must(b.t, dec.Decode(&f))
		all = append(all, f)
	}
	return all
}
