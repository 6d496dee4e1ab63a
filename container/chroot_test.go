package container

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"unio/container/runspec"
)

// busyboxRoot makes a root folder, a filesystem of its own, with a shell and
// the usual commands.
func busyboxRoot(t *testing.T) string {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"))
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	for _, d := range []string{"bin", "dev", "proc", "sys", "etc", "tmp", "root"} {
		must(t, os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	copyBusybox(t, filepath.Join(dir, "bin/busybox"))
	for _, name := range []string{"sh", "ls", "cat", "id", "kill", "sleep", "mkdir", "readlink", "stat", "tty", "test"} {
		must(t, os.Symlink("busybox", filepath.Join(dir, "bin", name)))
	}
	write(t, dir, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000:Ann:/home/ann:/bin/sh\n")
	write(t, dir, "etc/group", "root:x:0:\nann:x:1000:\nwheel:x:10:ann\naudio:x:29:root,ann\n")
	return dir
}

func copyBusybox(t *testing.T, to string) {
	t.Helper()
	from, err := exec.LookPath("busybox")
	must(t, err)
	data, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(to, data, 0o755))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
}

// result is what a program in a chroot said.
type result struct {
	code        int
	err         error
	out, stderr string
}

// runIn runs a program in a root and collects its output.
func runIn(t *testing.T, o ChrootOptions) result {
	t.Helper()
	outR, outW, err := os.Pipe()
	must(t, err)
	errR, errW, err := os.Pipe()
	must(t, err)
	null, err := os.Open(os.DevNull)
	must(t, err)
	defer null.Close()
	o.Stdin, o.Stdout, o.Stderr = null, outW, errW
	o.Runner = []string{"/proc/self/exe", "runner"}
	out, errText := collect(outR), collect(errR)
	var r result
	r.code, r.err = Chroot(t.Context(), o)
	outW.Close()
	errW.Close()
	r.out, r.stderr = <-out, <-errText
	return r
}

func collect(r *os.File) <-chan string {
	c := make(chan string, 1)
	go func() {
		defer r.Close()
		data, _ := io.ReadAll(r)
		c <- string(data)
	}()
	return c
}

// sh runs a shell script in a root and returns what it printed.
func sh(t *testing.T, root, script string) string {
	t.Helper()
	r := runIn(t, ChrootOptions{Root: root, Args: []string{"sh", "-c", script}})
	if r.code != 0 || r.err != nil {
		t.Fatalf("%s: code %d, err %v, stderr %q", script, r.code, r.err, r.stderr)
	}
	return strings.TrimSpace(r.out)
}

func TestChrootCodes(t *testing.T) {
	root := busyboxRoot(t)
	write(t, root, "bin/plain", "no program")
	write(t, root, "bin/odd", "#!/no/such/interpreter\n")
	must(t, os.Chmod(filepath.Join(root, "bin/odd"), 0o755))
	for _, test := range []struct {
		args []string
		code int
		text string
	}{
		{[]string{"sh", "-c", "exit 0"}, 0, ""},
		{[]string{"sh", "-c", "exit 7"}, 7, ""},
		{[]string{"sh", "-c", "kill -9 $$"}, 137, ""},
		{[]string{"nothing"}, 127, `exec: "nothing": executable file not found in $PATH`},
		{[]string{"/bin/nothing"}, 127, `exec: "/bin/nothing": stat /bin/nothing: no such file or directory`},
		{[]string{"/bin/odd"}, 127, "interpreter or loader that it names is missing"},
		{[]string{"/bin/plain"}, 126, `exec: "/bin/plain": permission denied`},
		{[]string{"plain"}, 126, `exec: "plain": permission denied`},
		{[]string{"/etc"}, 126, `exec: "/etc": permission denied`},
	} {
		r := runIn(t, ChrootOptions{Root: root, Args: test.args})
		got := ""
		if r.err != nil {
			got = r.err.Error()
		}
		if r.code != test.code || !strings.Contains(got, test.text) || (test.text == "") != (got == "") {
			t.Errorf("%q: code %d, error %q; want %d, %q", test.args, r.code, got, test.code, test.text)
		}
	}
	if r := runIn(t, ChrootOptions{Root: root + "/missing", Args: []string{"sh"}}); r.code != CodeFailed || r.err == nil {
		t.Errorf("missing root: code %d, %v", r.code, r.err)
	}
}

func TestChrootSurroundings(t *testing.T) {
	root := busyboxRoot(t)
	before := mountsBelow(t, root)
	for script, want := range map[string]string{
		"echo $PATH":                   runspec.DefaultPath,
		"echo $HOME":                   "/root",
		"pwd":                          "/",
		"id -u":                        "0",
		"id -G":                        "0 29",
		"cat /proc/self/comm":          "cat",
		"echo x >/dev/null && echo ok": "ok",
		"readlink /dev/fd":             "/proc/self/fd",
		"stat -c %a:%t:%T /dev/full":   "666:1:7",
		"stat -f -c %T /dev/shm":       "tmpfs",
		"ls /dev/pts/ptmx":             "/dev/pts/ptmx",
		"mkdir /sys/x 2>/dev/null || echo read-only": "read-only",
		"cd / && ls -d proc sys dev":                 "dev\nproc\nsys",
	} {
		if got := sh(t, root, script); got != want {
			t.Errorf("%s: got %q, want %q", script, got, want)
		}
	}
	if after := mountsBelow(t, root); after != before {
		t.Errorf("mounts on the host changed:\n%s\nwas:\n%s", after, before)
	}
}

// mountsBelow lists the host's mounts on dir and below it: other tests make
// others at the same time.
func mountsBelow(t *testing.T, dir string) string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	var list strings.Builder
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, " "+dir) {
			list.WriteString(line)
		}
	}
	return list.String()
}

// TestChrootDescriptors checks that a program gets its standard streams and
// nothing else, whatever is open here and however it was opened.
func TestChrootDescriptors(t *testing.T) {
	root := busyboxRoot(t)
	secret, err := os.Open("/etc/passwd")
	must(t, err)
	defer secret.Close()
	leaky, err := unix.Dup(int(secret.Fd())) // without close-on-exec
	must(t, err)
	defer unix.Close(leaky)
	// 3 is the folder that ls itself reads.
	if got := sh(t, root, "ls /proc/self/fd"); got != "0\n1\n2\n3" {
		t.Errorf("descriptors: %q", got)
	}
}

// TestChrootLeavesNoTrace checks that what is made to mount on goes away again,
// times included.
func TestChrootLeavesNoTrace(t *testing.T) {
	root := busyboxRoot(t)
	for _, dir := range []string{"dev", "proc", "sys"} {
		must(t, os.Remove(filepath.Join(root, dir)))
	}
	old := time.Unix(1234567890, 0)
	must(t, os.Chtimes(filepath.Join(root, "etc"), old, old))
	must(t, os.Chtimes(root, old, old))
	if got := sh(t, root, "test -s /etc/hosts && cat /proc/self/comm"); got != "cat" {
		t.Errorf("got %q", got)
	}
	for _, dir := range []string{"dev", "proc", "sys", "etc/hosts", "etc/resolv.conf"} {
		if _, err := os.Lstat(filepath.Join(root, dir)); err == nil {
			t.Errorf("/%s stayed", dir)
		}
	}
	for _, dir := range []string{"", "etc"} {
		st, err := os.Stat(filepath.Join(root, dir))
		must(t, err)
		if !st.ModTime().Equal(old) {
			t.Errorf("/%s: time became %v", dir, st.ModTime())
		}
	}
}

// TestChrootLinksStayInside gives the root links in place of what is mounted
// on, and checks that nothing outside is touched.
func TestChrootLinksStayInside(t *testing.T) {
	root := busyboxRoot(t)
	outside := t.TempDir()
	write(t, outside, "canary", "alive")
	must(t, os.Remove(filepath.Join(root, "proc")))
	must(t, os.Symlink("../../../../../../../../tmp", filepath.Join(root, "proc")))
	must(t, os.Symlink(filepath.Join(outside, "canary"), filepath.Join(root, "etc/hosts")))
	must(t, os.Symlink("../run/nowhere/resolv.conf", filepath.Join(root, "etc/resolv.conf")))
	hosts, err := os.ReadFile("/etc/hosts")
	must(t, err)
	if got := sh(t, root, "cat /etc/hosts; ls /proc/self/comm"); !strings.HasPrefix(got, strings.TrimSpace(string(hosts))) {
		t.Errorf("/etc/hosts: got %q", got)
	}
	data, err := os.ReadFile(filepath.Join(outside, "canary"))
	must(t, err)
	if !bytes.Equal(data, []byte("alive")) {
		t.Errorf("canary: %q", data)
	}
	if target, err := os.Readlink(filepath.Join(root, "etc/resolv.conf")); err != nil || target != "../run/nowhere/resolv.conf" {
		t.Errorf("resolv.conf: %q, %v", target, err)
	}
}

func TestChrootUser(t *testing.T) {
	root := busyboxRoot(t)
	for _, test := range []struct{ spec, want string }{
		{"", "0:0:0 29:/root"},
		{"ann", "1000:1000:1000 10 29:/home/ann"},
		{"1000", "1000:1000:1000 10 29:/home/ann"},
		{"ann:wheel", "1000:10:10:/home/ann"},
		{"1234", "1234:0:0:/"},
		{"1234:4321", "1234:4321:4321:/"},
		{"4294967294", "error"},
		{"bob", "error"},
		{"ann:nogroup", "error"},
	} {
		r := runIn(t, ChrootOptions{
			Root: root, User: test.spec,
			Args: []string{"sh", "-c", `echo $(id -u):$(id -g):$(id -G):$HOME`},
		})
		got := strings.TrimSpace(r.out)
		if r.err != nil {
			got = "error"
			t.Logf("user %q: %v", test.spec, r.err)
		}
		if got != test.want {
			t.Errorf("user %q: got %q, want %q", test.spec, got, test.want)
		}
	}
}

// TestChrootHostileTables gives the root tables of users that hurt a careless
// reader.
func TestChrootHostileTables(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, path string){
		"fifo":   func(t *testing.T, path string) { must(t, unix.Mkfifo(path, 0o644)) },
		"device": func(t *testing.T, path string) { must(t, unix.Mknod(path, unix.S_IFCHR|0o644, int(unix.Mkdev(1, 5)))) },
		"folder": func(t *testing.T, path string) { must(t, os.Mkdir(path, 0o755)) },
		"host":   func(t *testing.T, path string) { must(t, os.Symlink("/proc/1/root/etc/passwd", path)) },
		"huge": func(t *testing.T, path string) {
			must(t, os.WriteFile(path, nil, 0o644))
			must(t, os.Truncate(path, 1<<30))
		},
		"numbers": func(t *testing.T, path string) {
			must(t, os.WriteFile(path, []byte("ann:x:4294967296:4294967296::/:\n"), 0o644))
		},
		"minus": func(t *testing.T, path string) {
			must(t, os.WriteFile(path, []byte("ann:x:4294967295:0::/:\n"), 0o644))
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := busyboxRoot(t)
			path := filepath.Join(root, "etc/passwd")
			must(t, os.Remove(path))
			spoil(t, path)
			r := runIn(t, ChrootOptions{Root: root, User: "ann", Args: []string{"id", "-u"}})
			if r.code != CodeFailed || r.err == nil {
				t.Errorf("code %d, error %v, output %q", r.code, r.err, r.out)
			} else {
				t.Log(r.err)
			}
		})
	}
}

func TestChrootSignals(t *testing.T) {
	root := busyboxRoot(t)
	done := make(chan result, 1)
	go func() {
		done <- runIn(t, ChrootOptions{Root: root, Args: []string{"sh", "-c", `trap "exit 42" TERM; echo >/tmp/ready; while :; do sleep 0.05; done`}})
	}()
	for range 100 {
		if _, err := os.Stat(filepath.Join(root, "tmp/ready")); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	must(t, unix.Kill(os.Getpid(), unix.SIGTERM))
	if r := <-done; r.code != 42 {
		t.Errorf("code %d, %v, %s", r.code, r.err, r.stderr)
	}
}
