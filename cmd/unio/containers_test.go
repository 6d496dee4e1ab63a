package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// world is a store of a test with the image "bb".
type world struct {
	t   *testing.T
	dir string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	t.Cleanup(func() { // what a test that failed has left
		out, _ := w.try("ps", "-aq")
		for id := range strings.FieldsSeq(out) {
			_, _ = w.try("rm", "-f", id)
		}
		for _, dir := range mountsBelow(w.dir) {
			_ = unix.Unmount(dir, unix.MNT_DETACH)
		}
	})
	tree := t.TempDir()
	for _, name := range []string{"bin", "etc", "tmp", "proc", "sys", "dev"} {
		must(t, os.Mkdir(filepath.Join(tree, name), 0o755))
	}
	program, err := exec.LookPath("busybox")
	must(t, err)
	data, err := os.ReadFile(program)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(tree, "bin/busybox"), data, 0o755))
	for _, name := range applets {
		must(t, os.Symlink("busybox", filepath.Join(tree, "bin", name)))
	}
	must(t, exec.Command("tar", "-C", tree, "-cf", w.dir+"/root.tar", ".").Run())
	w.run("import", "-q", "-c", `CMD ["sh"]`, w.dir+"/root.tar", "bb")
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// try runs unio and returns what it prints on both streams.
func (w *world) try(args ...string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	cmd := &exec.Cmd{Path: self, Args: append([]string{"unio"}, args...), Env: unioEnv(w.dir), Stdin: strings.NewReader("")}
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (w *world) run(args ...string) string {
	w.t.Helper()
	out, err := w.try(args...)
	if err != nil {
		w.t.Fatalf("unio %v: %v\n%s", args, err, out)
	}
	return out
}

// waitFor runs a command again and again until it prints this.
func (w *world) waitFor(want string, args ...string) {
	w.t.Helper()
	var out string
	var err error
	for range 250 {
		if out, err = w.try(args...); err == nil && out == want {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	w.t.Fatalf("unio %v: %v\n%s\nwant %s", args, err, out, want)
}

// running is what a test needs to know of a container that runs.
type running struct {
	Status           string
	Supervisor, Init struct{ Pid int }
}

func (w *world) state(id string) running {
	w.t.Helper()
	var s running
	data, err := os.ReadFile(filepath.Join(w.dir, "store/containers", id, "state.json"))
	must(w.t, err)
	must(w.t, json.Unmarshal(data, &s))
	return s
}

// server is the process that serves a container's mount.
func (w *world) server(id string) int {
	w.t.Helper()
	var m struct{ Server struct{ Pid int } }
	data, err := os.ReadFile(filepath.Join(w.dir, "run/mounts", id+".json"))
	must(w.t, err)
	must(w.t, json.Unmarshal(data, &m))
	return m.Server.Pid
}

// checkNothingLeft looks for mounts, processes and cgroups of containers that
// have ended.
func (w *world) checkNothingLeft(ids, inits []string) {
	w.t.Helper()
	if list := mountsBelow(w.dir); len(list) > 0 {
		w.t.Errorf("mounted: %q", list)
	}
	for _, pid := range inits {
		// One whose parent was killed may wait for a slow process 1 to reap it.
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		if err == nil && !strings.Contains(string(stat), ") Z ") {
			w.t.Errorf("process %s still runs: %s", pid, stat)
		}
	}
	for _, id := range ids {
		left, _ := filepath.Glob("/sys/fs/cgroup/*/unio/" + id)
		more, _ := filepath.Glob("/sys/fs/cgroup/unio/" + id)
		if left = append(left, more...); len(left) > 0 {
			w.t.Errorf("cgroups: %q", left)
		}
	}
	w.run("fsck")
}

// TestTwentyContainers starts many at once, kills supervisors, mount servers
// and programs among them, and looks whether ps tells the truth and nothing
// is left.
func TestTwentyContainers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const n = 20
	ids, inits := make([]string, n), make([]string, n)
	atOnce(n, func(i int) {
		out, err := w.try("run", "-d", "--name", fmt.Sprintf("c%d", i), "bb", "sh", "-c", "echo up >/tmp/file; sleep 1000")
		if err != nil {
			t.Errorf("run: %v\n%s", err, out)
		}
		ids[i] = out
	})
	if t.Failed() {
		t.FailNow()
	}
	for i, id := range ids {
		s := w.state(id)
		inits[i] = fmt.Sprint(s.Init.Pid)
		if s.Status != "running" || s.Init.Pid == 0 {
			t.Fatalf("state %+v", s)
		}
	}
	if out := w.run("ps", "-q"); len(strings.Fields(out)) != n {
		t.Fatalf("ps: %q", out)
	}
	atOnce(n, func(i int) {
		switch i % 4 {
		case 0:
			_ = unix.Kill(w.state(ids[i]).Supervisor.Pid, unix.SIGKILL)
		case 1: // the keeper starts another one
			_ = unix.Kill(w.server(ids[i]), unix.SIGKILL)
			if out, err := w.try("exec", ids[i], "cat", "/tmp/file"); err != nil || out != "up" {
				t.Errorf("after the death of its server: %v %q", err, out)
			}
			_, _ = w.try("kill", ids[i])
		case 2:
			if out, err := w.try("stop", "-t", "0", ids[i]); err != nil {
				t.Errorf("stop: %v %q", err, out)
			}
		case 3:
			if out, err := w.try("rm", "-f", ids[i]); err != nil {
				t.Errorf("rm: %v %q", err, out)
			}
		}
	})
	// A process that was killed takes a moment to die.
	w.waitFor("", "ps", "-q")
	rows := strings.Split(w.run("ps", "-a", "--format", "{{.Names}} {{.State}} {{.Status}}"), "\n")
	if len(rows) != n*3/4 {
		t.Errorf("%d rows: %q", len(rows), rows)
	}
	for _, row := range rows {
		if !strings.Contains(row, "exited Exited (137)") && !strings.Contains(row, "exited Exited (255)") {
			t.Errorf("ps: %q", row)
		}
	}
	w.checkNothingLeft(ids, inits)
	w.run("container", "prune", "-f")
	if out := w.run("ps", "-aq"); out != "" {
		t.Errorf("left: %q", out)
	}
}

// atOnce runs do for 0 to n-1 at the same time.
func atOnce(n int, do func(int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { do(i) })
	}
	wg.Wait()
}

// TestSupervisorKilled looks at one container whose supervisor dies: the
// program dies with it, and who lists it next sees the truth. It starts again
// with what it had changed.
func TestSupervisorKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.run("run", "-d", "--name", "one", "bb", "sh", "-c", "cat /tmp/file; echo kept >/tmp/file; sleep 1000")
	w.waitFor("kept", "exec", "one", "cat", "/tmp/file")
	s := w.state(id)
	must(t, unix.Kill(s.Supervisor.Pid, unix.SIGKILL))
	w.waitFor("exited 255 0", "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.State.Pid}}", "one")
	w.checkNothingLeft([]string{id}, []string{fmt.Sprint(s.Init.Pid)})
	w.run("start", "one")
	w.waitFor("cat: can't open '/tmp/file': No such file or directory\nkept", "logs", "one")
	w.run("rm", "-f", "one")
}

// TestContainerOnTerminal types into a container, leaves it, comes back, and
// changes the size of the terminal.
func TestContainerOnTerminal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	size := pty.Winsize{Rows: 24, Cols: 80}
	o := startUnio(t, w.dir, size, "run", "-it", "--name", "one", "bb", "sh")
	o.waitFor("#")
	o.typeKeys("stty size; echo a=$((40+2))\r")
	o.waitFor("24 80")
	o.waitFor("a=42")
	o.resize(90, 30)
	o.typeKeys("until stty size | grep 30; do sleep 0.05; done\r") // the signal has its way to go
	o.waitFor("30 90")
	o.typeKeys("sh -c 'echo runs=$((3+4)); exec sleep 100'\r") // says itself that the terminal is its own
	o.waitFor("runs=7")
	o.typeKeys("\x03echo after=$((1+1))\r")
	o.waitFor("after=2")
	o.typeKeys("\x10\x11")
	if code, text := o.end(); code != 0 {
		t.Errorf("detached: code %d\n%s", code, text)
	}
	if out := w.run("ps", "--format", "{{.Names}} {{.State}}"); out != "one running" {
		t.Errorf("ps: %q", out)
	}
	o = startUnio(t, w.dir, size, "attach", "one")
	o.typeKeys("echo b=$((20+3))\r")
	o.waitFor("b=23")
	o.typeKeys("exit 7\r")
	if code, text := o.end(); code != 7 {
		t.Errorf("attached: code %d\n%s", code, text)
	}
	w.run("start", "one")
	o = startUnio(t, w.dir, size, "exec", "-it", "one", "sh")
	o.typeKeys("stty size; exit 5\r")
	o.waitFor("24 80")
	if code, text := o.end(); code != 5 {
		t.Errorf("exec: code %d\n%s", code, text)
	}
	w.run("rm", "-f", "one")
}

func (o *onTerminal) typeKeys(keys string) {
	o.t.Helper()
	if _, err := o.master.WriteString(keys); err != nil {
		o.t.Fatal(err)
	}
}

// TestContainerMemory adds up what a running container takes beside its
// program: 40 MiB at most for supervisor and mount server.
func TestContainerMemory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.run("run", "-d", "--name", "one", "bb", "sh", "-c", "yes | head -c 3000000; sleep 1000")
	time.Sleep(500 * time.Millisecond)
	const most = 40 << 10
	supervisor, server := private(t, w.state(id).Supervisor.Pid), private(t, w.server(id))
	t.Logf("supervisor %d KiB, mount server %d KiB", supervisor, server)
	if supervisor+server > most {
		t.Errorf("%d KiB, more than %d", supervisor+server, most)
	}
	w.run("rm", "-f", "one")
}

// private is a process's part of the memory in KiB: the program's pages, which
// several share, count by their part.
func private(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	must(t, err)
	for line := range strings.Lines(string(text)) {
		var kib int
		if n, _ := fmt.Sscanf(line, "Pss: %d kB", &kib); n == 1 {
			return kib
		}
	}
	t.Fatal("no Pss")
	return 0
}

// background starts unio without a terminal. Its output is read when it ends.
func (w *world) background(args ...string) (cmd *exec.Cmd, out func() string) {
	w.t.Helper()
	self, err := os.Executable()
	must(w.t, err)
	f, err := os.CreateTemp(w.t.TempDir(), "")
	must(w.t, err)
	w.t.Cleanup(func() { f.Close() })
	cmd = &exec.Cmd{Path: self, Args: append([]string{"unio"}, args...), Env: unioEnv(w.dir), Stdout: f, Stderr: f}
	must(w.t, cmd.Start())
	w.t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd, func() string {
		data, _ := os.ReadFile(f.Name())
		return string(data)
	}
}

// TestStuckClient stops a client that is attached to a container which prints
// all the time: the container can be ended all the same.
func TestStuckClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.run("run", "-d", "--name", "one", "bb", "sh", "-c", "while true; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done")
	client, out := w.background("attach", "one")
	for range 250 {
		if out() != "" {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	must(t, client.Process.Signal(unix.SIGSTOP))
	time.Sleep(200 * time.Millisecond) // its socket fills up
	w.run("kill", "one")
	if state := w.state(id); state.Status != "exited" {
		t.Errorf("state %+v", state)
	}
	w.run("rm", "one")
	must(t, client.Process.Kill())
	_ = client.Wait()
	w.checkNothingLeft([]string{id}, nil)
}

// TestSignals passes signals on to the program, and leaves one alone that does
// not heed them.
func TestSignals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client, out := w.background("run", "--name", "one", "bb", "sh", "-c", "trap 'echo got; exit 9' TERM; echo ready; while true; do sleep 0.05; done")
	waitText(t, out, "ready")
	must(t, client.Process.Signal(unix.SIGTERM))
	_ = client.Wait()
	if code := client.ProcessState.ExitCode(); code != 9 || !strings.Contains(out(), "got") {
		t.Errorf("code %d: %q", code, out())
	}
	client, out = w.background("run", "--name", "two", "bb", "sh", "-c", "trap 'echo no' INT; echo ready; while true; do sleep 0.05; done")
	waitText(t, out, "ready")
	for i := range 3 {
		must(t, client.Process.Signal(unix.SIGINT))
		if i < 2 {
			waitText(t, out, strings.Repeat("no\n", i+1))
		}
	}
	_ = client.Wait()
	if code := client.ProcessState.ExitCode(); code != 1 || !strings.HasSuffix(out(), "got 3 SIGTERM/SIGINTs, forcefully exiting\n") {
		t.Errorf("code %d: %q", code, out())
	}
	if out := w.run("ps", "--format", "{{.Names}}"); out != "two" {
		t.Errorf("ps: %q", out)
	}
	// The supervisor ends its container when it is told to end itself.
	id := w.run("ps", "-q", "--no-trunc")
	must(t, unix.Kill(w.state(id).Supervisor.Pid, unix.SIGTERM))
	time.Sleep(100 * time.Millisecond)
	w.run("kill", "two")
	w.run("rm", "one", "two")
}

func waitText(t *testing.T, out func() string, want string) {
	t.Helper()
	for range 500 {
		if strings.Contains(out(), want) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("no %q: %q", want, out())
}
