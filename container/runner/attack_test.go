package runner

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"unio/container/runspec"
)

// TestDescriptors checks that a program gets its standard streams and nothing
// else, whatever is open here and however it was opened.
func TestDescriptors(t *testing.T) {
	t.Parallel()
	root := busyboxRoot(t)
	secret, err := os.Open("/etc")
	must(t, err)
	defer secret.Close()
	leaky, err := unix.Dup(int(secret.Fd())) // without close-on-exec
	must(t, err)
	defer unix.Close(leaky)
	for _, init := range []bool{false, true} {
		// 3 is the folder that ls itself reads.
		spec := describe(t, runspec.Options{Root: root}, "ls /proc/self/fd; cat /proc/self/environ | wc -c")
		if r := run(t, Options{Spec: spec, Init: init}); !strings.HasPrefix(r.out, "0\n1\n2\n3\n") {
			t.Errorf("init %v: %+v", init, r)
		}
	}
}

// TestFolderOfDescriptor takes links of /proc as working folder and as program:
// none may lead to what is open in the one who sets up the container
// (CVE-2024-21626).
func TestFolderOfDescriptor(t *testing.T) {
	t.Parallel()
	root := busyboxRoot(t)
	for n := range 16 {
		spec := describe(t, runspec.Options{Root: root}, "pwd; ls -a")
		spec.Process.Cwd = fmt.Sprintf("/proc/self/fd/%d", n)
		for _, strict := range []bool{false, true} {
			if r := run(t, Options{Spec: spec, StrictCwd: strict}); r.err == nil {
				t.Errorf("working folder %s: %q %q", spec.Process.Cwd, r.out, r.stderr)
			}
		}
		spec = describe(t, runspec.Options{Root: root, Args: []string{fmt.Sprintf("/proc/self/fd/%d/../../../../bin/true", n)}}, "")
		if r := run(t, Options{Spec: spec}); r.err == nil {
			t.Errorf("program %s runs: %+v", spec.Process.Args, r)
		}
		spec = describe(t, runspec.Options{Root: root, Args: []string{fmt.Sprintf("/proc/self/fd/%d", n)}}, "")
		if r := run(t, Options{Spec: spec}); r.err == nil {
			t.Errorf("program %s runs: %+v", spec.Process.Args, r)
		}
		must(t, os.Symlink(fmt.Sprintf("/proc/self/fd/%d", n), filepath.Join(root, fmt.Sprintf("w%d", n))))
		spec = describe(t, runspec.Options{Root: root}, "pwd")
		spec.Process.Cwd = fmt.Sprintf("/w%d", n)
		if r := run(t, Options{Spec: spec, StrictCwd: true}); r.err == nil {
			t.Errorf("working folder by a link: %+v", r)
		}
	}
}

// TestOwnProgram lets a container open the program of the one who set it up,
// and write to it once nobody runs it any more (CVE-2019-5736), at the start and
// when others join it.
//
// It is not parallel: programs that other tests start hold, for a moment, what is
// open for writing here.
func TestOwnProgram(t *testing.T) {
	root := busyboxRoot(t)
	self := filepath.Join(t.TempDir(), "program")
	data, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	must(t, os.WriteFile(self, data, 0o755))
	write(t, root, "bin/evil", "#!/proc/self/exe\n")
	must(t, os.Chmod(filepath.Join(root, "bin/evil"), 0o755))
	for _, o := range []runspec.Options{{}, {CapAdd: []string{"SYS_PTRACE"}}, {Privileged: true}} {
		o.Root = root
		spec := describe(t, o, `
			i=0
			while [ $i -lt 100 ]; do
				for p in /proc/[0-9]*; do
					case $(readlink $p/exe) in
					*busybox|"") ;;
					*) ( exec 9<$p/exe; n=0; echo opened
						while [ $n -lt 40 ]; do echo x >>/proc/self/fd/9; n=$((n+1)); sleep 0.01; done ) & ;;
					esac
				done 2>/dev/null
				i=$((i+1)); echo >/tmp/ready
			done; wait`)
		p, finish, err := start(t, Options{Spec: spec, Command: []string{self, "runner"}})
		must(t, err)
		waitFor(t, "the attack", func() bool { return exists(filepath.Join(root, "tmp/ready")) })
		evil := *spec
		evil.Process = new(specs.Process)
		*evil.Process = *spec.Process
		for range 5 {
			for _, args := range [][]string{{"evil"}, {"sh", "-c", "sleep 0.02"}} {
				evil.Process.Args = args
				if e, err := Exec(t.Context(), p.Pid(), Options{Spec: &evil, Command: []string{self, "runner"}}); err == nil {
					_, _ = e.Wait()
				}
			}
		}
		must(t, p.Kill())
		r := finish()
		t.Logf("opened %d times", strings.Count(r.out, "opened"))
		if now, err := os.ReadFile(self); err != nil || !bytes.Equal(now, data) {
			t.Fatalf("%+v: the program was written to (%v)", o.CapAdd, err)
		}
	}
}

// TestDevices makes nodes of a disk everywhere in a container and tries to open
// them, and has devices given to it.
func TestDevices(t *testing.T) {
	t.Parallel()
	root, volume := busyboxRoot(t), t.TempDir()
	o := runspec.Options{
		Root: root, Devices: []string{"/dev/fuse:/dev/given"},
		Mounts: []runspec.Mount{{Type: "bind", Source: volume, Target: "/v"}, {Type: "tmpfs", Target: "/t", Options: []string{"dev"}}},
	}
	got := sh(t, o, `
		for d in / /tmp /dev /dev/shm /v /t; do
			mknod $d/mem c 1 1 2>/dev/null; mknod $d/zero2 c 1 5 2>/dev/null
			head -c1 $d/mem 2>/dev/null | wc -c; head -c1 $d/zero2 2>/dev/null | wc -c
		done; stat -c %t:%T /dev/given; echo >/dev/null && echo null`)
	if want := strings.Repeat("0\n", 12) + "a:e5\nnull"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	o = runspec.Options{Root: root, Privileged: true}
	got = sh(t, o, `test -c /dev/fuse && mknod /tmp/zero3 c 1 5 && head -c1 /tmp/zero3 | wc -c; mount -t tmpfs x /tmp && echo mounted; mkdir /sys/x 2>&1 | grep -c -i read-only`+"; true")
	if want := "1\nmounted\n0"; got != want {
		t.Errorf("privileged: got %q, want %q", got, want)
	}
}

// TestPrivileges checks what the flags about privileges leave to a program.
func TestPrivileges(t *testing.T) {
	t.Parallel()
	root := busyboxRoot(t)
	must(t, os.Remove(filepath.Join(root, "bin/su")))
	data, err := os.ReadFile(filepath.Join(root, "bin/busybox"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(root, "bin/id2"), data, 0o755))
	must(t, os.Chmod(filepath.Join(root, "bin/id2"), 0o755|os.ModeSetuid))
	const caps = "grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status | while read a b; do echo ${b#0000000}; done | tr '\n' ' '"
	must(t, os.Symlink("busybox", filepath.Join(root, "bin/tr")))
	for _, test := range []struct {
		o            runspec.Options
		script, want string
	}{
		{runspec.Options{}, caps, "000000000 0a80425fb 0a80425fb 0a80425fb 000000000"},
		{runspec.Options{User: "ann"}, caps, "000000000 000000000 000000000 0a80425fb 000000000"},
		{runspec.Options{CapDrop: []string{"ALL"}}, caps, "000000000 000000000 000000000 000000000 000000000"},
		{runspec.Options{CapDrop: []string{"ALL"}, CapAdd: []string{"chown", "CAP_KILL"}}, caps, "000000000 000000021 000000021 000000021 000000000"},
		{runspec.Options{CapAdd: []string{"SYS_PTRACE"}, CapDrop: []string{"MKNOD"}}, caps, "000000000 0a00c25fb 0a00c25fb 0a00c25fb 000000000"},
		{runspec.Options{User: "ann"}, "id -u; id -G; id2 sh -c id; echo x >/dev/stdout", "1000\n1000 10 29\n"},
		{runspec.Options{User: "ann", SecurityOpts: []string{"no-new-privileges"}}, "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1"},
		{runspec.Options{User: "1234:4321", Groups: []string{"wheel", "77"}}, "id -u; id -g; id -G", "1234\n4321\n4321 10 77"},
	} {
		test.o.Root = root
		if got := sh(t, test.o, test.script); !strings.HasPrefix(got, test.want) {
			t.Errorf("%+v: got %q, want %q", test.o, got, test.want)
		}
	}
}

// TestSwapper has a place to mount on swapped for a link that leads out, all the
// time, in a volume that others can write to.
func TestSwapper(t *testing.T) {
	t.Parallel()
	root, volume, outside, source := busyboxRoot(t), t.TempDir(), t.TempDir(), t.TempDir()
	write(t, outside, "canary", "alive")
	write(t, source, "mounted", "")
	must(t, os.Mkdir(filepath.Join(volume, "a"), 0o755))
	must(t, os.Symlink("/../../../../../../"+outside, filepath.Join(volume, "b")))
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		a, b := filepath.Join(volume, "a"), filepath.Join(volume, "b")
		for !stop.Load() {
			_ = unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
		}
	}()
	mounts := []runspec.Mount{
		{Type: "bind", Source: volume, Target: "/v"},
		{Type: "bind", Source: source, Target: "/v/a/sub/deep", ReadOnly: true},
	}
	for range 30 {
		r := run(t, Options{Spec: describe(t, runspec.Options{Root: root, Mounts: mounts}, "find / -xdev -name canary; echo x >/v/a/sub/deep/x"), ClearAll: true})
		if strings.Contains(r.out, "canary") {
			t.Errorf("the outside is seen: %q", r.out)
		}
	}
	stop.Store(true)
	<-done
	if got := list(t, outside); got != "\n/canary\n" {
		t.Errorf("outside: %q", got)
	}
	if got := list(t, source); got != "\n/mounted\n" {
		t.Errorf("a read-only source was written to: %q", got)
	}
}
