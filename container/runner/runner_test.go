package runner

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"unio/container/runspec"
)

// TestSurroundings looks around in a container as docker run makes it.
func TestSurroundings(t *testing.T) {
	t.Parallel()
	root := busyboxRoot(t)
	before := mountsBelow(t, root)
	host, err := os.Hostname()
	must(t, err)
	for script, want := range map[string]string{
		"echo $$":                                               "1",
		"echo $PATH $FROM $HOME":                                "/bin image /root",
		"hostname; echo $HOSTNAME":                              host + "\n" + host,
		"id -u; id -G":                                          "0\n0 29",
		"pwd":                                                   "/",
		"ls /proc/self/fd":                                      "0\n1\n2\n3", // 3 is what ls itself reads
		"echo x >/dev/null && echo ok":                          "ok",
		"head -c 4 /dev/zero | wc -c":                           "4",
		"readlink /dev/fd; readlink /dev/ptmx":                  "/proc/self/fd\npts/ptmx",
		"stat -c %a:%t:%T /dev/full":                            "666:1:7",
		"stat -f -c %T /dev/shm":                                "tmpfs",
		"stat -c %a /dev/shm":                                   "1777",
		"echo x >/dev/shm/x && echo ok":                         "ok",
		"exec 3<>/dev/ptmx && ls /dev/pts":                      "0\nptmx",
		"mkdir /sys/x 2>/dev/null || echo no":                   "no",
		"echo 1 2>/dev/null >/proc/sys/kernel/panic || echo no": "no",
		"echo b 2>/dev/null >/proc/sysrq-trigger || echo no":    "no",
		"cat /proc/kcore | wc -c":                               "0",
		"ls /sys/firmware | wc -l":                              "0",
		"grep -E 'Cap(Prm|Eff|Bnd)' /proc/self/status | grep -c 00000000a80425fb": "3",
		"grep -E 'Cap(Inh|Amb)' /proc/self/status | grep -c 0000000000000000":     "2",
		"mount -t tmpfs x /tmp 2>/dev/null || echo no":                            "no",
		"ls /proc/1/root/bin/busybox":                                             "/proc/1/root/bin/busybox",
	} {
		if got := sh(t, runspec.Options{Root: root}, script); got != want {
			t.Errorf("%s: got %q, want %q", script, got, want)
		}
	}
	if after := mountsBelow(t, root); after != before {
		t.Errorf("mounts on the host changed:\n%s\nwas:\n%s", after, before)
	}
}

// mountsBelow lists the host's mounts on dir and below it.
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

// TestCodes checks exit codes and docker's words for what cannot be run.
func TestCodes(t *testing.T) {
	t.Parallel()
	root := busyboxRoot(t)
	write(t, root, "bin/plain", "no program")
	write(t, root, "bin/odd", "#!/no/such/interpreter\n")
	write(t, root, "bin/rubbish", "\x7fELF no")
	must(t, os.Chmod(filepath.Join(root, "bin/odd"), 0o755))
	must(t, os.Chmod(filepath.Join(root, "bin/rubbish"), 0o755))
	for _, test := range []struct {
		args []string
		code int
		text string
	}{
		{[]string{"sh", "-c", "exit 0"}, 0, ""},
		{[]string{"sh", "-c", "exit 7"}, 7, ""},
		{[]string{"sh", "-c", "sh -c 'kill -9 $$'; exit $?"}, 137, ""},
		{[]string{"nothing"}, 127, `exec: "nothing": executable file not found in $PATH`},
		{[]string{"/bin/nothing"}, 127, `exec: "/bin/nothing": stat /bin/nothing: no such file or directory`},
		{[]string{"/bin/odd"}, 127, "exec /bin/odd: no such file or directory"},
		{[]string{"/bin/rubbish"}, 126, "exec /bin/rubbish: exec format error"},
		{[]string{"/bin/plain"}, 126, `exec: "/bin/plain": permission denied`},
		{[]string{"plain"}, 126, `exec: "plain": permission denied`},
		{[]string{"/etc"}, 126, `exec: "/etc": permission denied`},
	} {
		for _, init := range []bool{false, true} {
			r := run(t, Options{Spec: describe(t, runspec.Options{Root: root, Args: test.args}, ""), Init: init})
			got := ""
			if r.err != nil {
				got = r.err.Error()
			}
			if r.code != test.code || !strings.Contains(got, test.text) || (test.text == "") != (got == "") {
				t.Errorf("%q, init %v: code %d, error %q; want %d, %q", test.args, init, r.code, got, test.code, test.text)
			}
		}
	}
}
