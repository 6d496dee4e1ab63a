package runner

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"unio/container/runspec"
)

// callsRoot is a root folder with a program that makes system calls.
func callsRoot(t *testing.T) string {
	t.Helper()
	root := busyboxRoot(t)
	cmd := exec.Command("go", "build", "-o", filepath.Join(root, "bin/calls"), "./testdata/calls")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return root
}

const statusScript = "calls; grep -E 'Seccomp|NoNew|Speculation' /proc/self/status"

// TestFilterSameAsRunc makes the same system calls under the filters of docker's
// profile and of own ones, as our own code and runc with libseccomp set them,
// and in programs that join or have an init.
func TestFilterSameAsRunc(t *testing.T) {
	t.Parallel()
	runc, err := exec.LookPath("runc")
	must(t, err)
	root := callsRoot(t)
	own := `seccomp={"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
		{"names":["mkdirat","no_such"],"action":"SCMP_ACT_ERRNO","errnoRet":77},
		{"name":"socket","action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":2,"op":"SCMP_CMP_EQ"}]},
		{"names":["bpf"],"action":"SCMP_ACT_ERRNO","errnoRet":5,"excludes":{"caps":["CAP_BPF"]}}]}`
	for i, test := range []struct {
		o     runspec.Options
		lines string // some of what runc says
	}{
		{runspec.Options{}, "keyctl: 1,clone3: 38,unshare: 1,socket vsock: 1,personality odd: 1,to come: 38,mkdirat: 14,Seccomp:\t2"},
		{runspec.Options{User: "ann"}, "keyctl: 1,unshare: 1,Seccomp:\t2,NoNewPrivs:\t0"},
		{runspec.Options{User: "ann", SecurityOpts: []string{"no-new-privileges", "seccomp=builtin"}}, "keyctl: 1,NoNewPrivs:\t1"},
		{runspec.Options{CapAdd: []string{"SYS_ADMIN", "SYS_PTRACE", "SYS_TIME"}}, "keyctl: 1,unshare: 22,clone3: 22,kcmp: 3,Seccomp:\t2"},
		{runspec.Options{SecurityOpts: []string{"seccomp:unconfined"}}, "keyctl: 95,unshare: 22,Seccomp:\t0"},
		{runspec.Options{SecurityOpts: []string{own, "no-new-privileges"}}, "mkdirat: 77,socket inet: 1,bpf: 5,keyctl: 95"},
		{runspec.Options{Privileged: true}, "keyctl: 95,Seccomp:\t0"},
		{runspec.Options{Privileged: true, SecurityOpts: []string{own}}, "mkdirat: 77,bpf: 22,Seccomp:\t2"},
	} {
		o := test.o
		o.Root, o.ID = root, testID+"3"+string(rune('a'+i))
		got := map[string]result{}
		for name, options := range map[string]Options{"": {}, "init": {Init: true}, "runc": {Runtime: runc, StateDir: t.TempDir()}} {
			options.ID, options.Spec, options.ClearAll = o.ID+name, describe(t, o, statusScript), true
			got[name] = run(t, options)
		}
		p, _, err := start(t, Options{ID: o.ID, Spec: describe(t, o, "sleep 100")})
		must(t, err)
		got["exec"] = execIn(t, p, describe(t, o, statusScript), statusScript)
		must(t, p.Kill())
		for _, line := range strings.Split(test.lines, ",") {
			if !strings.Contains(got["runc"].out, line) {
				t.Errorf("%+v: no %q in\n%s", o, line, got["runc"].out)
			}
		}
		for name, r := range got {
			if r.code != 0 || r.err != nil || strings.TrimSpace(r.out) != strings.TrimSpace(got["runc"].out) {
				t.Errorf("%+v: %q\n%+v\n-- runc:\n%s", o, name, r, got["runc"].out)
			}
		}
	}
}

// TestFilterRefuses starts what no profile lets start, and a profile that cannot
// be had.
func TestFilterRefuses(t *testing.T) {
	t.Parallel()
	root := busyboxRoot(t)
	for profile, want := range map[string]string{
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["execve"],"action":"SCMP_ACT_ERRNO"}]}`: "operation not permitted",
		`{"defaultAction":"SCMP_ACT_KILL_PROCESS"}`:                                                      "died",
		`{"defaultAction":"SCMP_ACT_NOTIFY"}`:                                                            `seccomp profile: action "SCMP_ACT_NOTIFY" is not supported`,
	} {
		for _, init := range []bool{false, true} {
			spec := describe(t, runspec.Options{Root: root, SecurityOpts: []string{"seccomp=" + profile}}, "true")
			r := run(t, Options{Spec: spec, Init: init})
			if r.err == nil || !strings.Contains(r.err.Error(), want) {
				t.Errorf("%s, init %v: %+v", profile, init, r)
			}
		}
	}
	spec := describe(t, runspec.Options{Root: root}, "true")
	spec.Linux.Seccomp.Architectures = []specs.Arch{"SCMP_ARCH_NONE"}
	if r := run(t, Options{Spec: spec}); r.err != nil || r.code != 0 {
		t.Errorf("an architecture that is not ours: %+v", r)
	}
}
