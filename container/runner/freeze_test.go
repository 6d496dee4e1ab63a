package runner

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"unio/container/runspec"
)

// TestFreeze stops a container without a cgroup that makes processes all the time.
func TestFreeze(t *testing.T) {
	t.Parallel()
	root := busyboxRoot(t)
	id := testID + "000a"
	p, _, err := start(t, Options{ID: id, Spec: describe(t, runspec.Options{Root: root, ID: id}, "i=0; while :; do i=$((i+1)); echo $i >/count; sleep 0.001; done")})
	must(t, err)
	t.Cleanup(func() { RemoveCgroups(id) })
	count := func() string { return read(t, filepath.Join(root, "count")) }
	waitFor(t, "the first round", func() bool { return exists(filepath.Join(root, "count")) && count() != "" })
	must(t, Freeze(id, func() ([]int, error) { return children(t, p.Pid()), nil }))
	if members := Members(id); len(members) == 0 {
		t.Error("the cgroup is empty")
	}
	was := count()
	time.Sleep(50 * time.Millisecond)
	if now := count(); now != was {
		t.Errorf("it goes on: %s, %s", was, now)
	}
	must(t, Thaw(id))
	waitFor(t, "the next round", func() bool { now := count(); return now != "" && now != was })
	must(t, Freeze(id, func() ([]int, error) { return children(t, p.Pid()), nil }))
	RemoveCgroups(id)
	if code, err := p.Wait(); err != nil || code != 128+int(unix.SIGKILL) {
		t.Errorf("the end: %d, %v", code, err)
	}
	noCgroups(t, id)
}

// TestFreezeZombie stops a container with a process that has ended and that
// nobody reaps: no cgroup takes it any more.
func TestFreezeZombie(t *testing.T) {
	t.Parallel()
	root := busyboxRoot(t)
	id := testID + "000z"
	p, _, err := start(t, Options{ID: id, Spec: describe(t, runspec.Options{Root: root, ID: id}, "sleep 0 & exec sleep 100")})
	must(t, err)
	t.Cleanup(func() { RemoveCgroups(id) })
	waitFor(t, "the zombie", func() bool {
		return slices.ContainsFunc(children(t, p.Pid()), ended)
	})
	must(t, Freeze(id, func() ([]int, error) { return children(t, p.Pid()), nil }))
	RemoveCgroups(id)
	if code, err := p.Wait(); err != nil || code != 128+int(unix.SIGKILL) {
		t.Errorf("the end: %d, %v", code, err)
	}
}

// TestFreezeFails leaves nothing stopped behind an error.
func TestFreezeFails(t *testing.T) {
	t.Parallel()
	id := testID + "000b"
	t.Cleanup(func() { RemoveCgroups(id) })
	want := errors.New("nobody knows")
	if err := Freeze(id, func() ([]int, error) { return nil, want }); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
	f, err := findFreezer(id)
	must(t, err)
	if state := read(t, filepath.Join(f.dir, f.file)); strings.TrimSpace(state) != f.moves {
		t.Errorf("state %q", state)
	}
	must(t, Thaw(testID+"000c"))
	for _, bad := range []string{"", "../x"} {
		if err := Freeze(bad, nil); !errors.Is(err, ErrNoFreezer) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestFewProcesses allows programs fewer processes than the runner itself has
// threads.
func TestFewProcesses(t *testing.T) {
	t.Parallel()
	root := busyboxRoot(t)
	for i, test := range []struct {
		init   bool
		script string
		code   int
	}{
		{script: "true"},
		{script: "true & wait", code: 2}, // a shell that cannot fork ends so
		{init: true, script: "true"},
	} {
		id := testID + "1" + strconv.Itoa(i)
		o := runspec.Options{Root: root, ID: id, Resources: runspec.Resources{Pids: 1}}
		if r := run(t, Options{ID: id, Init: test.init, Spec: describe(t, o, test.script)}); r.code != test.code || r.err != nil {
			t.Errorf("%+v: %+v", test, r)
		}
	}
	id := testID + "20"
	o := runspec.Options{Root: root, ID: id, Args: []string{"/etc/passwd"}, Resources: runspec.Resources{Pids: 1}}
	if r := run(t, Options{ID: id, Spec: describe(t, o, "")}); r.code != CodeNotExecutable || r.err == nil {
		t.Errorf("a file that is no program: %+v", r)
	}
}

// TestTerminalOfContainer finds the terminal of a further program by its name, and
// is not misled by what the container has in its place.
func TestTerminalOfContainer(t *testing.T) {
	t.Parallel()
	root := busyboxRoot(t)
	p, _, err := start(t, Options{Spec: describe(t, runspec.Options{Root: root}, "sleep 100")})
	must(t, err)
	master, slave, err := openTerminalIn("/proc/" + strconv.Itoa(p.Pid()) + "/root")
	must(t, err)
	defer master.Close()
	if n, err := unix.IoctlGetUint32(int(master.Fd()), unix.TIOCGPTN); err != nil || n != 0 {
		t.Errorf("number %d, %v: not the first one of the container", n, err)
	}
	must(t, slave.Close())
	fake := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(fake, "dev/pts"), 0o755))
	for _, make := range []func(name string) error{
		func(name string) error { return os.WriteFile(name, nil, 0o600) },
		func(name string) error { return os.Symlink("/dev/ptmx", name) },
		func(name string) error {
			return unix.Mknod(name, unix.S_IFCHR|0o666, int(unix.Mkdev(ptmxMajor, ptmxMinor)))
		},
	} {
		name := filepath.Join(fake, "dev/pts/ptmx")
		must(t, make(name))
		if _, _, err := openTerminalIn(fake); err == nil {
			t.Error("opened what is no multiplexer of a container's")
		}
		must(t, os.Remove(name))
	}
}

// TestMemoryHabits sets what only version 1 of cgroups knows.
func TestMemoryHabits(t *testing.T) {
	t.Parallel()
	swappiness, keep := uint64(30), true
	list := limitsOf(&specs.LinuxResources{Memory: &specs.LinuxMemory{Swappiness: &swappiness, DisableOOMKiller: &keep}})
	if len(list) != 2 {
		t.Fatalf("%+v", list)
	}
	for i, want := range []setting{{"memory.swappiness", "30"}, {"memory.oom_control", "1"}} {
		if l := list[i]; len(l.v1) != 1 || l.v1[0] != want || len(l.v2) != 0 || l.warning == "" || l.possible(&hierarchy{dir: t.TempDir()}) {
			t.Errorf("%+v", l)
		}
	}
}

// noCgroups checks that a container has left no cgroup.
func noCgroups(t *testing.T, id string) {
	t.Helper()
	for _, dir := range cgroupDirs(id) {
		if exists(dir) {
			t.Errorf("%s is left", dir)
		}
	}
}

// children lists a process and those below it.
func children(t *testing.T, pid int) []int {
	t.Helper()
	list := []int{pid}
	data, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/task/" + strconv.Itoa(pid) + "/children")
	for _, word := range strings.Fields(string(data)) {
		child, err := strconv.Atoi(word)
		must(t, err)
		list = append(list, children(t, child)...)
	}
	return list
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	must(t, err)
	return strings.TrimSpace(string(data))
}
