package runner

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/creack/pty"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"unio/container/runspec"
)

// TestSameAsRunc runs the same descriptions with our own code and with runc, and
// compares what programs see.
func TestSameAsRunc(t *testing.T) {
	t.Parallel()
	runc, err := exec.LookPath("runc")
	must(t, err)
	root, volume := busyboxRoot(t), t.TempDir()
	must(t, os.Symlink("busybox", filepath.Join(root, "bin/sort")))
	for i, test := range []struct {
		o      runspec.Options
		script string
	}{
		{runspec.Options{}, "env | sort; id; pwd; hostname; grep -E 'Cap|NoNew' /proc/self/status; umask; ls /proc/self/fd; echo $$"},
		{runspec.Options{}, "ls -l /dev | while read a b c d e f; do echo $a $b $c $d; done | sort; ls /sys/firmware /proc/acpi /proc/scsi"},
		{runspec.Options{}, "for f in /proc/kcore /proc/keys /proc/timer_list; do head -c1 $f | wc -c; done; echo x >/proc/sys/kernel/x; mkdir /sys/y"},
		{runspec.Options{}, "grep -E ' /(proc|proc/sys|sys|dev/shm|dev/pts|dev/mqueue) ' /proc/mounts | while read a b c d e; do echo $a $b $c $d; done | sort"},
		{runspec.Options{User: "ann", Workdir: "/made/here", TTY: false}, "id; pwd; ls -ld /made /made/here | while read a b c d e; do echo $a $c $d; done; echo x >/dev/stdout"},
		{runspec.Options{CapAdd: []string{"NET_ADMIN"}, CapDrop: []string{"CHOWN"}, SecurityOpts: []string{"no-new-privileges"}}, "grep -E 'Cap|NoNew' /proc/self/status"},
		{runspec.Options{Hostname: "own", Namespaces: runspec.Namespaces{Network: "none"}}, "hostname; ip -o link | wc -l; ping -c1 127.0.0.1 >/dev/null; echo $?"},
		{runspec.Options{ReadOnly: true, Mounts: []runspec.Mount{
			{Type: "bind", Source: volume, Target: "/vol/in", ReadOnly: true}, {Type: "tmpfs", Target: "/scratch", Options: []string{"size=1m"}},
		}}, "echo x >/x; echo x >/vol/in/x; echo x >/scratch/x; cat /scratch/x; stat -f -c %T /scratch"},
		{runspec.Options{Ulimits: []string{"nofile=64:128", "core=0:0"}, OOMScoreAdj: 321}, "ulimit -n; ulimit -Hn; ulimit -c; cat /proc/self/oom_score_adj"},
		{runspec.Options{Privileged: true}, "grep -E 'Cap' /proc/self/status; test -c /dev/fuse; echo $?; mkdir /sys/kernel/x 2>&1 | grep -c Read-only"},
		{runspec.Options{Devices: []string{"/dev/fuse:/dev/sub/f:rw"}}, "stat -c %a:%t:%T:%u /dev/sub/f; head -c1 /dev/sub/f | wc -c"},
		{runspec.Options{Args: []string{"nothing"}}, ""},
		{runspec.Options{Args: []string{"/etc"}}, ""},
		{runspec.Options{Args: []string{"/bin/none"}}, ""},
		{runspec.Options{}, "exec 3<>/dev/ptmx && ls /dev/pts | sort; exec 4<>/dev/pts/0; echo $?"},
		{runspec.Options{}, "exit 77"},
		{runspec.Options{}, "kill -9 1; echo alive; sh -c 'kill -15 $$'; echo $?"},
	} {
		var got [2]result
		for n, runtime := range []string{"", runc} {
			id := testID + "1" + string(rune('a'+i))
			o := test.o
			o.Root, o.ID = root, id
			spec := describe(t, o, test.script)
			got[n] = run(t, Options{ID: id, Spec: spec, Runtime: runtime, StateDir: t.TempDir(), ClearAll: true})
		}
		own, theirs := got[0], got[1]
		if own.err != nil && theirs.err != nil && strings.Contains(theirs.err.Error(), own.err.Error()) {
			own.err, theirs.err = nil, nil // runc says more before and behind
			theirs.stderr = ""
		}
		if own.code != theirs.code || own.out != theirs.out || own.stderr != theirs.stderr || own.err != theirs.err {
			t.Errorf("%q\n-- own: %d %v\n%s%s\n-- runc: %d %v\n%s%s", test.script,
				own.code, own.err, own.out, own.stderr, theirs.code, theirs.err, theirs.out, theirs.stderr)
		}
	}
}

// TestRuncLife gives runc a terminal and a file to lend, signals what it runs,
// joins it, and kills it.
func TestRuncLife(t *testing.T) {
	t.Parallel()
	runc, err := exec.LookPath("runc")
	must(t, err)
	root, state := busyboxRoot(t), t.TempDir()
	master, slave, err := pty.Open()
	must(t, err)
	defer master.Close()
	id := testID + "2000"
	spec := describe(t, runspec.Options{Root: root, TTY: true, ID: id}, "tty; cat /etc/lent; trap 'exit 9' TERM; echo ready; while :; do sleep 0.02; done")
	o := Options{
		ID: id, Spec: spec, Console: slave, Runtime: runc, StateDir: state,
		Files: []runspec.File{{Path: "/etc/lent", Data: []byte("lent\n")}},
	}
	p, _, err := start(t, o)
	must(t, err)
	slave.Close()
	// runc may begin to pass words on before it has set up both terminals.
	got := strings.ReplaceAll(readUntil(t, master, "ready"), "\r\r", "\r")
	if !strings.HasPrefix(got, "/dev/pts/0\r\nlent\r\n") {
		t.Errorf("said %q", got)
	}
	plain := *spec
	plain.Process = new(specs.Process)
	*plain.Process = *spec.Process
	plain.Process.Terminal = false
	if r := execIn(t, p, &plain, "cat /proc/1/comm; exit 4"); r.out != "sh" || r.code != 4 {
		t.Errorf("joined: %+v", r)
	}
	must(t, p.Signal(unix.SIGTERM))
	if code, err := p.Wait(); code != 9 || err != nil {
		t.Errorf("code %d, %v", code, err)
	}
	o.Spec, o.Console = describe(t, runspec.Options{Root: root, ID: id}, "sleep 100"), nil
	p, finish, err := start(t, o)
	must(t, err)
	must(t, p.Kill())
	if r := finish(); r.code != 137 {
		t.Errorf("killed: %+v", r)
	}
	if left, _ := os.ReadDir(filepath.Join(state, "runtime")); len(left) > 0 || exists(filepath.Join(state, "bundle")) {
		t.Errorf("left: %v", left)
	}
}

// readUntil reads from a terminal until a word has come.
func readUntil(t *testing.T, master *os.File, word string) string {
	t.Helper()
	var got strings.Builder
	buf := make([]byte, 1000)
	for !strings.Contains(got.String(), word) {
		n, err := master.Read(buf)
		if err != nil {
			t.Fatalf("%v after %q", err, got.String())
		}
		got.Write(buf[:n])
	}
	return got.String()
}
