package runner

import (
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"unio/container/runspec"
)

// execIn runs a shell script in a container that runs.
func execIn(t *testing.T, p *Process, spec *specs.Spec, script string) result {
	t.Helper()
	outR, outW, err := os.Pipe()
	must(t, err)
	program := *spec.Process
	program.Args = []string{"sh", "-c", script}
	e, err := Exec(t.Context(), p.Pid(), Options{
		Spec: &specs.Spec{Process: &program, Linux: spec.Linux}, Stdout: outW, Command: []string{"/proc/self/exe", "runner"},
	})
	outW.Close()
	out := collect(outR)
	must(t, err)
	var r result
	r.code, r.err = e.Wait()
	r.out = strings.TrimSpace(<-out)
	return r
}

// TestExec joins a container: what is seen there, codes, and the numbers of
// processes.
func TestExec(t *testing.T) {
	t.Parallel()
	root := busyboxRoot(t)
	spec := describe(t, runspec.Options{Root: root, Hostname: "inside", ID: testID + "0001"}, "echo $$; exec sleep 100")
	p, finish, err := start(t, Options{Spec: spec, ID: testID + "0001"})
	must(t, err)
	for script, want := range map[string]string{
		"hostname":                   "inside",
		"pwd":                        "/",
		"ps | grep -c 'slee[p] 100'": "1",
		"cat /proc/1/comm":           "sleep",
		"ls /proc/self/fd":           "0\n1\n2\n3",
		"echo x >/tmp/x; cat /tmp/x": "x",
		"test $(readlink /proc/self/ns/pid) = $(readlink /proc/1/ns/pid); echo $?": "0",
		"grep -E 'Cap(Prm|Eff|Bnd)' /proc/self/status | grep -c 00000000a80425fb":  "3",
	} {
		if r := execIn(t, p, spec, script); r.out != want {
			t.Errorf("%s: got %q, want %q (code %d, %v)", script, r.out, want, r.code, r.err)
		}
	}
	if r := execIn(t, p, spec, "exit 9"); r.code != 9 {
		t.Errorf("code %d, %v", r.code, r.err)
	}
	must(t, p.Kill())
	if r := finish(); r.code != 137 {
		t.Errorf("after kill: code %d, %v", r.code, r.err)
	}
}
