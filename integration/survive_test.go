package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"unio/unionfs/transport"
	"unio/unionfs/transport/transporttest"
)

// survivor is a mount whose server is killed over and over.
type survivor struct {
	*box
	mnt  string
	gaps []time.Duration // from a kill to the next answer
}

// noted is what a mount's note says of its processes.
type noted struct {
	Server, Keeper struct{ Pid int }
}

// note reads the note of the only mount.
func (s *survivor) note() (n noted, err error) {
	list, err := filepath.Glob(s.path("run/mounts/*.json"))
	if err != nil || len(list) != 1 {
		return n, fmt.Errorf("notes of mounts: %v, %w", list, err)
	}
	data, err := os.ReadFile(list[0])
	if err == nil {
		err = json.Unmarshal(data, &n)
	}
	return n, err
}

// waitKept waits until the mount has a keeper, another than the given one.
func (s *survivor) waitKept(not int) noted {
	s.t.Helper()
	for range 500 {
		if n, err := s.note(); err == nil && n.Keeper.Pid != 0 && n.Keeper.Pid != not {
			return n
		}
		time.Sleep(20 * time.Millisecond)
	}
	s.t.Fatal("the mount has no keeper")
	return noted{}
}

// waitServer waits until another server than the given one has noted itself.
func (s *survivor) waitServer(not int) noted {
	s.t.Helper()
	for range 2000 {
		if n, err := s.note(); err == nil && n.Server.Pid != not {
			return n
		}
		time.Sleep(5 * time.Millisecond)
	}
	s.t.Fatalf("no server has come after %d\n%s", not, s.log())
	return noted{}
}

// log is what the servers and the keeper have said.
func (s *survivor) log() string {
	text, _ := os.ReadFile(s.logPath())
	return string(text)
}

func (s *survivor) logPath() string {
	list, _ := filepath.Glob(s.path("store/containers/*/log"))
	return strings.Join(list, "")
}

// kill kills the server and measures until the mount answers again.
func (s *survivor) kill() {
	s.t.Helper()
	n, err := s.note()
	must(s.t, err)
	start := time.Now()
	if err := unix.Kill(n.Server.Pid, unix.SIGKILL); err != nil && err != unix.ESRCH {
		s.t.Fatal(err)
	}
	var st unix.Statfs_t
	if err := ignoringEINTR(func() error { return unix.Statfs(s.mnt, &st) }); err != nil {
		s.t.Errorf("the mount after a kill: %v", err)
	}
	s.gaps = append(s.gaps, time.Since(start))
	s.waitServer(n.Server.Pid)
}

func ignoringEINTR(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

// reportGaps logs how long nobody was served.
func (s *survivor) reportGaps() {
	slices.Sort(s.gaps)
	if n := len(s.gaps); n > 0 {
		s.t.Logf("%d servers killed; not served for %v (median), %v (most)", n, s.gaps[n/2], s.gaps[n-1])
	}
}

// newSurvivor mounts a container over an image of busybox and waits for its
// keeper.
func newSurvivor(t *testing.T, options ...string) *survivor {
	t.Helper()
	return newSurvivorOver(t, transport.Dev, options...)
}

// newSurvivorOver is newSurvivor for one way in which requests come.
func newSurvivorOver(t *testing.T, kind transport.Kind, options ...string) *survivor {
	t.Helper()
	t.Setenv(transporttest.Variable, string(kind))
	b := newBox(t)
	b.run("import", "-q", busyboxRoot(t, b.dir), "example/sv:1")
	s := &survivor{box: b}
	s.mnt = b.mount(append(append([]string{"--name", "sv"}, options...), "example/sv:1")...)
	s.waitKept(0)
	return s
}

// nothingLeft checks that an unmounted container leaves no process, mount or
// note.
func (s *survivor) nothingLeft() {
	s.t.Helper()
	notes := s.path("run/mounts/*")
	for range 500 {
		left, err := filepath.Glob(notes)
		must(s.t, err)
		if len(left)+len(s.processes("serve", s.mnt))+len(s.processes("keep", s.mnt)) == 0 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	for _, command := range []string{"serve", "keep"} {
		if pids := s.processes(command, s.mnt); len(pids) > 0 {
			s.t.Errorf("processes %v still %s", pids, command)
		}
	}
	if points := s.mountPoints(); len(points) > 0 {
		s.t.Errorf("still mounted: %v", points)
	}
	left, err := filepath.Glob(notes)
	must(s.t, err)
	if len(left) > 0 {
		s.t.Errorf("left in the run root: %v", left)
	}
	left, err = filepath.Glob(s.path("store/containers/*/work/*/*"))
	must(s.t, err)
	for _, path := range left {
		if !strings.Contains(path, "/work/hub/") && !strings.Contains(path, "/work/tmp/") {
			s.t.Errorf("left in the work folder: %s", path)
		}
	}
}

// survivalTime is how long the servers die.
func survivalTime() time.Duration {
	if os.Getenv("UNIO_TEST_LONG") != "" {
		return time.Minute
	}
	return 10 * time.Second
}

// TestSurvive kills the server of a mount about every half second, while all
// sorts of programs use it. None of them sees an error, and what they leave is
// what they should.
func TestSurvive(t *testing.T) {
	needTool(t, "sqlite3", "git", "tar")
	s := newSurvivor(t)
	ctx, stop := context.WithTimeout(t.Context(), survivalTime())
	defer stop()
	var running sync.WaitGroup
	checks := make(chan func() error, len(survivals()))
	for name, load := range survivals() {
		dir := filepath.Join(s.mnt, name)
		must(t, os.Mkdir(dir, 0o755))
		scratch := t.TempDir()
		running.Go(func() {
			check, err := load(ctx, dir, scratch)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			checks <- func() error {
				if check == nil || err != nil {
					return nil
				}
				if err := check(); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				return nil
			}
		})
	}
	for ctx.Err() == nil {
		time.Sleep(300*time.Millisecond + rand.N(400*time.Millisecond))
		s.kill()
	}
	running.Wait()
	close(checks)
	s.reportGaps()
	s.run("umount", s.mnt)
	s.nothingLeft()
	s.run("mount", "sv", s.mnt)
	for check := range checks {
		if err := check(); err != nil {
			t.Error(err)
		}
	}
	s.run("commit", "-q", "sv", "example/sv:2")
	again := s.mount("--read-only", "example/sv:2")
	if out, err := diffTrees(s.mnt, again); err != nil {
		t.Errorf("the committed image differs: %v\n%s", err, out)
	}
	if t.Failed() {
		t.Logf("%s", s.log())
	}
}

// TestSurviveIdle kills the servers of a mount with a thousand files in the
// upper, that nobody asks for anything meanwhile but whether it answers.
func TestSurviveIdle(t *testing.T) {
	s := newSurvivor(t)
	shell(t, s.mnt, "mkdir many; for i in $(seq 1000); do echo $i >many/$i; done; mv many less")
	open, err := os.Open(filepath.Join(s.mnt, "less/500"))
	must(t, err)
	defer open.Close()
	for range 8 {
		time.Sleep(400 * time.Millisecond) // those that live shorter are not replaced at once
		s.kill()
	}
	s.reportGaps()
	buf := make([]byte, 10)
	if n, err := open.ReadAt(buf, 0); string(buf[:n]) != "500\n" {
		t.Errorf("an open file: %q, %v", buf[:n], err)
	}
	if n := strings.Count(shell(t, s.mnt, "ls less"), "\n"); n != 999 {
		t.Errorf("%d files left", n+1)
	}
}

// TestFiveDeaths lets servers die before they can answer anything: the mount
// comes to a clean end.
func TestFiveDeaths(t *testing.T) {
	s := newSurvivor(t)
	open, err := os.Open(filepath.Join(s.mnt, "etc"))
	must(t, err)
	defer open.Close()
	keeper := s.waitKept(0).Keeper.Pid
	for end := time.Now().Add(30 * time.Second); exists(keeper); time.Sleep(time.Millisecond) {
		for _, pid := range s.processes("serve", s.mnt) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		if time.Now().After(end) {
			t.Fatalf("the keeper goes on\n%s", s.log())
		}
	}
	if text := s.log(); !strings.Contains(text, "died too often") {
		t.Errorf("the log does not say so:\n%s", text)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(open.Fd()), &st); err != nil && err != unix.ENOTCONN {
		t.Errorf("an open file: %v", err)
	}
	if _, err := open.Readdirnames(-1); !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.ECONNABORTED) {
		t.Errorf("reading an open folder: %v", err)
	}
	s.nothingLeft()
	s.run("mount", "sv", s.mnt)
}

func exists(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(data), ") Z ")
}

// TestKeeperKilled kills the keeper: the server goes on and finds another one,
// which keeps the mount.
func TestKeeperKilled(t *testing.T) {
	s := newSurvivor(t)
	for range 2 {
		n := s.waitKept(0)
		must(t, unix.Kill(n.Keeper.Pid, unix.SIGKILL))
		must(t, os.WriteFile(filepath.Join(s.mnt, "kept"), []byte("x"), 0o600))
		s.waitKept(n.Keeper.Pid)
		s.kill()
	}
	s.run("umount", s.mnt)
	s.nothingLeft()
}

// TestKeeperTerminated passes SIGTERM on: the mount ends as by its server.
func TestKeeperTerminated(t *testing.T) {
	s := newSurvivor(t)
	must(t, unix.Kill(s.waitKept(0).Keeper.Pid, unix.SIGTERM))
	s.nothingLeft()
}

// TestReload puts another program below a mount in use.
func TestReload(t *testing.T) {
	s := newSurvivor(t)
	open, err := os.Create(filepath.Join(s.mnt, "open"))
	must(t, err)
	other := filepath.Join(s.dir, "unio-new")
	shell(t, s.dir, "cp "+binary+" "+other)
	before := s.waitKept(0)
	cmd := s.command("mount", "--reload")
	cmd.Path = other
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), s.mnt) || strings.Count(string(out), "\n") != 1 {
		t.Fatalf("%v\n%s", err, out)
	}
	after := s.waitKept(before.Keeper.Pid)
	if after.Server.Pid == before.Server.Pid {
		t.Error("the server is the same")
	}
	for _, pid := range []int{after.Server.Pid, after.Keeper.Pid} {
		if path, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err != nil || path != other {
			t.Errorf("process %d runs %s, %v", pid, path, err)
		}
	}
	if _, err := open.WriteString("still"); err != nil {
		t.Error(err)
	}
	s.run("mount", "--reload", "sv")
	s.kill()
	if data, err := os.ReadFile(filepath.Join(s.mnt, "open")); err != nil || string(data) != "still" {
		t.Errorf("%q, %v", data, err)
	}
	must(t, open.Close())
	s.run("umount", s.mnt)
	s.nothingLeft()
}

// TestRemountInstead does what kernels without repetition need: the mount
// answers again, and files that were open are lost.
func TestRemountInstead(t *testing.T) {
	s := newSurvivor(t, "-o", "restart=remount")
	must(t, os.WriteFile(filepath.Join(s.mnt, "kept"), []byte("kept"), 0o600))
	open, err := os.Open(filepath.Join(s.mnt, "etc"))
	must(t, err)
	defer open.Close()
	for range 2 {
		n := s.waitKept(0)
		must(t, unix.Kill(n.Server.Pid, unix.SIGKILL))
		s.waitServer(n.Server.Pid)
		s.waitKept(n.Keeper.Pid)
		if data, err := os.ReadFile(filepath.Join(s.mnt, "kept")); err != nil || string(data) != "kept" {
			t.Errorf("%q, %v", data, err)
		}
	}
	if _, err := open.Readdirnames(-1); err == nil {
		t.Error("a folder that was open is still readable")
	}
	if !strings.Contains(s.log(), "the mount is made anew") {
		t.Error("the log does not say what was done")
	}
	s.run("umount", s.mnt)
	s.nothingLeft()
}

// TestOverlaySurvives kills the servers of a mount of plain folders: what was
// found below before is found by its successors, open and by number.
func TestOverlaySurvives(t *testing.T) {
	t.Setenv(transporttest.Variable, string(transport.Dev))
	b := newBox(t)
	shell(t, b.dir, `mkdir -p lower/d/e upper work m other; for i in $(seq 60); do echo $i >lower/d/f$i; done
echo two >lower/two; ln lower/two lower/d/too; echo other >other/other`)
	s := &survivor{box: b, mnt: b.path("m")}
	b.run("overlay", "-o", "lowerdir=other:lower,upperdir=upper,workdir=work", s.mnt)
	s.waitKept(0)
	low, err := os.Open(filepath.Join(s.mnt, "d/f7"))
	must(t, err)
	defer low.Close()
	gone, err := os.OpenFile(filepath.Join(s.mnt, "d/f8"), os.O_RDWR, 0)
	must(t, err)
	defer gone.Close()
	must(t, os.Remove(gone.Name()))
	dir, err := os.Open(filepath.Join(s.mnt, "d/e"))
	must(t, err)
	defer dir.Close()
	for round := range 4 {
		time.Sleep(400 * time.Millisecond)
		s.kill()
		must(t, os.WriteFile(filepath.Join(s.mnt, fmt.Sprint("d/e/new", round)), nil, 0o600))
		for f, want := range map[*os.File]string{low: "7\n", gone: strings.Repeat("x", round) + "8\n"[min(round, 2):]} {
			buf := make([]byte, 10)
			if n, _ := f.ReadAt(buf, 0); string(buf[:n]) != want {
				t.Errorf("round %d: %s is %q, want %q", round, f.Name(), buf[:n], want)
			}
		}
		_, err := gone.WriteAt([]byte("x"), int64(round))
		must(t, err)
	}
	s.reportGaps()
	if names, err := dir.Readdirnames(-1); err != nil || len(names) != 4 {
		t.Errorf("an open folder: %v, %v", names, err)
	}
	must(t, errors.Join(low.Close(), gone.Close(), dir.Close()))
	must(t, unmount(s.mnt))
	s.nothingLeft()
}
