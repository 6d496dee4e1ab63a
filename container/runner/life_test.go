package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"unio/container/runspec"
)

// waitFor waits until something holds, for ten seconds at most.
func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s does not happen", what)
		}
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func gone(pid int) bool { return unix.Kill(pid, 0) == unix.ESRCH }

// TestSignals sends signals to programs with and without an init.
func TestSignals(t *testing.T) {
	t.Parallel()
	for _, init := range []bool{false, true} {
		root := busyboxRoot(t)
		spec := describe(t, runspec.Options{Root: root}, `trap "exit 42" TERM; echo >/tmp/ready; while :; do sleep 0.02; done`)
		p, finish, err := start(t, Options{Spec: spec, Init: init})
		must(t, err)
		waitFor(t, "the trap", func() bool { return exists(filepath.Join(root, "tmp/ready")) })
		must(t, p.Signal(unix.SIGTERM))
		if r := finish(); r.code != 42 {
			t.Errorf("init %v: code %d, %v, %s", init, r.code, r.err, r.stderr)
		}
		if err := p.Signal(unix.SIGTERM); err != os.ErrProcessDone {
			t.Errorf("signal after the end: %v", err)
		}
		must(t, p.Kill())
	}
}

// TestInit checks that the init of a container is small in what it may do, reaps
// orphans, and ends with the program.
func TestInit(t *testing.T) {
	t.Parallel()
	root := busyboxRoot(t)
	spec := describe(t, runspec.Options{Root: root}, `
		sh -c 'sleep 0.01 & exit 0'; sh -c 'sleep 0.01 & exit 0'
		sleep 0.3
		ps -o stat | grep -c Z
		grep CapEff /proc/1/status
		cat /proc/1/comm
		cat /proc/1/mem 2>/dev/null | head -c1 | wc -c
		sleep 100 &
		exit 5`)
	r := run(t, Options{Spec: spec, Init: true})
	if r.code != 5 || r.out != "0\nCapEff:\t00000000a80425fb\nunio-init\n0\n" {
		t.Errorf("code %d, %v: %q %q", r.code, r.err, r.out, r.stderr)
	}
}

// tiedEnv makes this test a starter that waits to be killed.
const tiedEnv = "UNIO_TEST_TIED"

// TestTied kills the starter of a container, which goes with it, and cleans up
// what is left.
func TestTied(t *testing.T) {
	if root := os.Getenv(tiedEnv); root != "" {
		beKilled(t, root)
		return
	}
	t.Parallel()
	for _, init := range []string{"", "init"} {
		root := busyboxRoot(t)
		must(t, os.Remove(filepath.Join(root, "proc")))
		cmd := exec.Command("/proc/self/exe", "-test.run", "^TestTied$")
		cmd.Env = append(os.Environ(), tiedEnv+"="+root, "UNIO_TEST_INIT="+init)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		var pid int
		_, err = fmt.Fscanf(out, "%d\n", &pid)
		must(t, err)
		waitFor(t, "the program", func() bool { return exists(filepath.Join(root, "tmp/pids")) })
		must(t, cmd.Process.Kill())
		_ = cmd.Wait()
		waitFor(t, "the end of the container", func() bool { return gone(pid) })
		if !exists(filepath.Join(root, "proc")) {
			t.Error("no trace of the killed container: the test tests nothing")
		}
		o := Options{ID: testID + "0002" + init, StateDir: filepath.Join(root, "root"), Spec: describe(t, runspec.Options{Root: root}, "")}
		must(t, Clean(o))
		must(t, Clean(o))
		for _, left := range append(cgroupDirs(o.ID), filepath.Join(root, "proc")) {
			if exists(left) {
				t.Errorf("%s is left", left)
			}
		}
	}
}

func beKilled(t *testing.T, root string) {
	init := os.Getenv("UNIO_TEST_INIT")
	id := testID + "0002" + init
	spec := describe(t, runspec.Options{Root: root, ID: id, Resources: runspec.Resources{Pids: 20}}, "sleep 100 & echo $! >/tmp/pids; sleep 100")
	p, _, err := start(t, Options{
		ID: id, Spec: spec, Tied: true, Init: init != "", StateDir: filepath.Join(root, "root"),
	})
	must(t, err)
	fmt.Println(p.Pid())
	time.Sleep(time.Minute)
}

// cgroupDirs lists where the cgroups of a container would be.
func cgroupDirs(id string) (dirs []string) {
	for _, h := range hierarchies() {
		dirs = append(dirs, filepath.Join(h.dir, groupName, id))
	}
	return dirs
}

// TestTerminal gives a program a terminal, of which it is the session's leader.
func TestTerminal(t *testing.T) {
	t.Parallel()
	for _, init := range []bool{false, true} {
		root := busyboxRoot(t)
		master, slave, err := pty.Open()
		must(t, err)
		defer master.Close()
		must(t, pty.Setsize(master, &pty.Winsize{Rows: 33, Cols: 77}))
		spec := describe(t, runspec.Options{Root: root, TTY: true, User: "ann"},
			"tty; test -t 1 && test -w /dev/console && echo terminal; echo $TERM; trap 'echo resized; exit 3' WINCH; echo ready; while :; do sleep 0.02; done")
		p, _, err := start(t, Options{Spec: spec, Console: slave, Init: init})
		must(t, err)
		slave.Close()
		got := readUntil(t, master, "ready")
		must(t, pty.Setsize(master, &pty.Winsize{Rows: 40, Cols: 100}))
		code, err := p.Wait()
		rest, _ := io.ReadAll(master) // ends with an error, as nobody has the terminal any more
		got += string(rest)
		if want := "/dev/console\r\nterminal\r\nxterm\r\nready\r\nresized\r\n"; code != 3 || err != nil || got != want {
			t.Errorf("init %v: code %d, %v, %q; want %q", init, code, err, got, want)
		}
	}
}

// TestExecTerminal joins a container with a terminal, whose keys reach the
// program and nobody else.
func TestExecTerminal(t *testing.T) {
	t.Parallel()
	root := busyboxRoot(t)
	spec := describe(t, runspec.Options{Root: root, TTY: true}, "")
	spec.Process.Terminal, spec.Process.Args = false, []string{"sleep", "100"}
	p, finish, err := start(t, Options{Spec: spec})
	must(t, err)
	master, slave, err := pty.Open()
	must(t, err)
	defer master.Close()
	joined := *spec
	joined.Process = new(specs.Process)
	*joined.Process = *spec.Process
	joined.Process.Terminal = true
	joined.Process.Args = []string{"sh", "-c", "trap 'echo keys' INT; echo ready; read x; read x; echo $x; ps -o pid,tty,args | grep -c 'sl[e]ep 100'; exit 6"}
	e, err := Exec(t.Context(), p.Pid(), Options{Spec: &joined, Console: slave, Command: []string{"/proc/self/exe", "runner"}})
	slave.Close()
	must(t, err)
	readUntil(t, master, "ready")
	_, err = master.WriteString("\x03")
	must(t, err)
	readUntil(t, master, "keys")
	_, err = master.WriteString("typed\nagain\n")
	must(t, err)
	code, err := e.Wait()
	rest, _ := io.ReadAll(master)
	if code != 6 || err != nil || !strings.Contains(string(rest), "typed") {
		t.Errorf("code %d, %v, %q", code, err, rest)
	}
	must(t, p.Kill())
	finish()
}

// TestHostPIDs kills a container whose processes are among the host's.
func TestHostPIDs(t *testing.T) {
	t.Parallel()
	root := busyboxRoot(t)
	id := testID + "0006"
	spec := describe(t, runspec.Options{Root: root, ID: id, Namespaces: runspec.Namespaces{PID: "host"}},
		"for i in 1 2 3; do sleep 100 & echo $!; done >/tmp/pids; mv /tmp/pids /tmp/ready; wait")
	must(t, os.Symlink("busybox", filepath.Join(root, "bin/mv")))
	p, finish, err := start(t, Options{ID: id, Spec: spec})
	must(t, err)
	waitFor(t, "the list", func() bool { return exists(filepath.Join(root, "tmp/ready")) })
	must(t, p.Kill())
	finish()
	data, err := os.ReadFile(filepath.Join(root, "tmp/ready"))
	must(t, err)
	for _, word := range strings.Fields(string(data)) {
		pid, err := strconv.Atoi(word)
		must(t, err)
		waitFor(t, "the end of "+word, func() bool { return gone(pid) })
	}
	noCgroups(t, id)
}

// TestLimits sets limits and looks at what the kernel says of them, in the
// container, in a program that joins it, and afterwards.
func TestLimits(t *testing.T) {
	t.Parallel()
	root := busyboxRoot(t)
	id := testID + "0003"
	spec := describe(t, runspec.Options{Root: root, ID: id, Resources: runspec.Resources{
		Memory: 32 << 20, NanoCPUs: 500_000_000, CPUShares: 512, Pids: 12, CPUSet: "0",
	}, Ulimits: []string{"nofile=100:200", "core=0"}}, `ulimit -n; ulimit -Hn; cat /sys/fs/cgroup/memory/memory.limit_in_bytes; echo 1 2>/dev/null >/sys/fs/cgroup/pids/pids.max || echo no; sleep 100`)
	if list := Warnings(spec.Linux); len(list) > 0 {
		t.Fatalf("this system cannot limit: %q", list)
	}
	p, finish, err := start(t, Options{ID: id, Spec: spec})
	must(t, err)
	for _, want := range []string{"memory.limit_in_bytes 33554432", "cpu.cfs_quota_us 50000", "cpu.shares 512", "pids.max 12", "cpuset.cpus 0"} {
		file, value, _ := strings.Cut(want, " ")
		found, _ := filepath.Glob("/sys/fs/cgroup/*/" + groupName + "/" + id + "/" + file)
		if len(found) == 0 {
			t.Errorf("no %s", file)
			continue
		}
		data, err := os.ReadFile(found[0])
		must(t, err)
		if strings.TrimSpace(string(data)) != value {
			t.Errorf("%s is %q, not %s", file, data, value)
		}
	}
	r := execIn(t, p, spec, "i=0; while [ $i -lt 20 ]; do sleep 100 >/dev/null 2>&1 & i=$((i+1)); done; echo all")
	if r.code != 2 || r.out != "" { // a shell that cannot fork ends so
		t.Errorf("more processes than allowed: %+v", r)
	}
	must(t, p.Kill())
	if r := finish(); r.out != "100\n200\n33554432\nno\n" {
		t.Errorf("limits of the shell: %q %q", r.out, r.stderr)
	}
	noCgroups(t, id)
}

// TestMemoryLimit lets a program take more memory than it may.
func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	root := busyboxRoot(t)
	id := testID + "0004"
	o := runspec.Options{Root: root, ID: id, Resources: runspec.Resources{Memory: 64 << 20, MemorySwap: 64 << 20}}
	p, finish, err := start(t, Options{ID: id, Spec: describe(t, o, "dd if=/dev/zero of=/dev/null bs=200M count=1")})
	must(t, err)
	r := finish()
	if !p.OOMKilled() {
		t.Error("nobody notices")
	}
	if r.code != 137 && !strings.Contains(r.stderr, "Killed") {
		t.Errorf("code %d, %v, %q, %q", r.code, r.err, r.out, r.stderr)
	}
}

// TestCancel gives up starts at any moment; nothing is left of them.
func TestCancel(t *testing.T) {
	t.Parallel()
	root := busyboxRoot(t)
	must(t, os.Remove(filepath.Join(root, "proc")))
	before := list(t, root)
	id := testID + "0009"
	canceled := 0
	for i := range 30 {
		spec := describe(t, runspec.Options{Root: root, ID: id, Resources: runspec.Resources{Pids: 20}}, "sleep 100")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Duration(i)*time.Millisecond, errGivenUp)
		p, err := Start(ctx, Options{ID: id, Spec: spec, Command: []string{"/proc/self/exe", "runner"}})
		cancel()
		if err == nil {
			must(t, p.Kill())
			_, err := p.Wait()
			must(t, err)
			continue
		}
		canceled++
		if !errors.Is(err, errGivenUp) {
			t.Errorf("given up: %v", err)
		}
	}
	if canceled == 0 {
		t.Error("no start was given up in time: the test tests nothing")
	}
	noCgroups(t, id)
	if after := list(t, root); after != before {
		t.Errorf("left:\n%s\nwas:\n%s", after, before)
	}
}

var errGivenUp = errors.New("given up")

// TestMemoryTooLow leaves no room for setting up a container.
func TestMemoryTooLow(t *testing.T) {
	t.Parallel()
	root := busyboxRoot(t)
	id := testID + "0008"
	spec := describe(t, runspec.Options{Root: root, ID: id}, "true")
	least := int64(200 << 10)
	spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &least, Swap: &least}
	r := run(t, Options{ID: id, Spec: spec})
	if r.code != CodeFailed || r.err == nil || !strings.Contains(r.err.Error(), "OOM-killed (memory limit too low?)") {
		t.Errorf("%+v", r)
	}
}

// TestNumbers checks that the number of a process is one of the caller's, and
// that a job survives JSON.
func TestNumbers(t *testing.T) {
	t.Parallel()
	root := busyboxRoot(t)
	spec := describe(t, runspec.Options{Root: root}, "sleep 100")
	p, _, err := start(t, Options{Spec: spec})
	must(t, err)
	data, err := os.ReadFile("/proc/" + strconv.Itoa(p.Pid()) + "/status")
	must(t, err)
	if !strings.Contains(string(data), fmt.Sprintf("NSpid:\t%d\t1\n", p.Pid())) {
		t.Errorf("status: %s", data)
	}
	if _, err := json.Marshal(job{Spec: spec}); err != nil {
		t.Error(err)
	}
}

// TestJobOfAnySize: the child reads the job to its end, however long it is. A
// JSON decoder fills buffers of these sizes and would stop before the last
// newline, and what is unread when the program starts looks like a death.
func TestJobOfAnySize(t *testing.T) {
	t.Parallel()
	root := busyboxRoot(t)
	for _, size := range []int{7680, 7681, 15872, 32256} {
		spec := describe(t, runspec.Options{Root: root}, "exit 7")
		spec.Linux.Seccomp = nil // which would fill a job alone
		spec.Annotations = map[string]string{"pad": ""}
		short, err := json.Marshal(job{Spec: spec})
		must(t, err)
		spec.Annotations["pad"] = strings.Repeat("x", size-len(short))
		if r := run(t, Options{Spec: spec}); r.code != 7 || r.err != nil {
			t.Errorf("a job of %d bytes: code %d, %v", size, r.code, r.err)
		}
	}
}
