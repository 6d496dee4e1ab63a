package integration

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"unio/integration/peers"
	"unio/unionfs/transport/transporttest"
)

// binary is the path of the unio under test, set by TestMain.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "unio-test-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := transporttest.Settle(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if binary, err = build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// build makes the binary as `make build` does; $UNIO names one that is there
// already.
func build(dir string) (string, error) {
	if given := os.Getenv("UNIO"); given != "" {
		return filepath.Abs(given)
	}
	path := filepath.Join(dir, "unio")
	cmd := exec.Command("go", "build", "-tags", "urfave_cli_no_docs", "-trimpath", "-ldflags", "-s -w", "-o", path, "../cmd/unio")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, os.Chmod(dir, 0o755)
}

// need skips the test because a capability of the machine is missing; where
// UNIO_TEST_REQUIRE=all, as in CI, that is a failure.
func need(t *testing.T, capability string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if os.Getenv("UNIO_TEST_REQUIRE") == "all" {
		t.Fatalf("required here: %s: %v", capability, err)
	}
	t.Skipf("needs %s: %v", capability, err)
}

// needRoot skips the test unless it runs as root with FUSE.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		need(t, "root", errors.New("not root"))
	}
	_, err := os.Stat("/dev/fuse")
	need(t, "FUSE", err)
}

// needTool skips the test unless the programs are installed.
func needTool(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		_, err := exec.LookPath(name)
		need(t, name, err)
	}
}

// box is a unio with a store and a run folder of its own.
type box struct {
	t   *testing.T
	dir string              // scratch, removed at the end
	env []string            // added to the environment
	as  *syscall.Credential // whom unio runs as; nil: the user of the test
}

// newBox makes an empty one. At the end of the test nothing stays mounted.
func newBox(t *testing.T) *box {
	t.Helper()
	needRoot(t)
	b := &box{t: t, dir: t.TempDir()}
	t.Cleanup(func() {
		b.unmountAll()
		b.env = nil
	})
	return b
}

func (b *box) store() string           { return filepath.Join(b.dir, "store") }
func (b *box) path(name string) string { return filepath.Join(b.dir, name) }

// unmountAll asks unio first; what is left then is detached and reported.
func (b *box) unmountAll() {
	for _, point := range b.mountPoints() {
		b.try("umount", point)
	}
	if left := b.mountPoints(); len(left) > 0 {
		b.t.Errorf("unio umount left %v mounted", left)
		if err := peers.UnmountBelow(b.dir); err != nil {
			b.t.Error(err)
		}
	}
}

// mountPoints lists the FUSE mounts below the box.
func (b *box) mountPoints() []string {
	data, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		b.t.Fatal(err)
	}
	var points []string
	for line := range strings.Lines(string(data)) {
		words := strings.Fields(line)
		if strings.HasPrefix(words[1], b.dir+"/") && strings.HasPrefix(words[2], "fuse") {
			points = append(points, words[1])
		}
	}
	return points
}

// result is what a program left.
type result struct {
	stdout, stderr string
	code           int
}

func (b *box) command(args ...string) *exec.Cmd {
	cmd := exec.Command(binary, append([]string{"--root", b.store(), "--runroot", b.path("run")}, args...)...)
	cmd.Env = append(os.Environ(), b.env...)
	cmd.Dir = b.dir
	if b.as != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: b.as}
	}
	return cmd
}

// try runs unio and returns whatever came of it.
func (b *box) try(args ...string) result { return b.tryWith("", args...) }

// tryWith is try with something on standard input.
func (b *box) tryWith(stdin string, args ...string) result {
	b.t.Helper()
	var out, problems bytes.Buffer
	cmd := b.command(args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &problems
	// A server in the background must not keep the test waiting.
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		b.t.Fatalf("unio %s: %v\n%s", strings.Join(args, " "), err, problems.String())
	}
	return result{stdout: out.String(), stderr: problems.String(), code: cmd.ProcessState.ExitCode()}
}

// run runs unio, which must succeed, and returns its standard output trimmed.
func (b *box) run(args ...string) string { return b.runWith("", args...) }

// runWith is run with something on standard input.
func (b *box) runWith(stdin string, args ...string) string {
	b.t.Helper()
	r := b.tryWith(stdin, args...)
	if r.code != 0 {
		b.t.Fatalf("unio %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return strings.TrimSpace(r.stdout)
}

// mount mounts and returns the folder.
func (b *box) mount(args ...string) string {
	b.t.Helper()
	dir := b.path(fmt.Sprintf("mnt%d", time.Now().UnixNano()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		b.t.Fatal(err)
	}
	b.run(append(append([]string{"mount"}, args...), dir)...)
	return dir
}

// tool runs another program, which must succeed.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := peers.Run(t.Context(), name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// onDisk puts the box's store on an ext4 of its own, of the given size and
// with the given features, until the end of the test.
func (b *box) onDisk(size, features string) {
	b.t.Helper()
	needTool(b.t, "mkfs.ext4")
	must(b.t, os.Mkdir(b.store(), 0o700))
	shell(b.t, b.dir, "truncate -s "+size+" disk.img && mkfs.ext4 -q -O "+features+" disk.img && mount -o loop disk.img store && rmdir store/lost+found")
	b.t.Cleanup(func() {
		b.unmountAll()
		if err := unmount(b.store()); err != nil {
			b.t.Errorf("unmount %s: %v", b.store(), err)
		}
	})
}

// shell runs a script on the host, which must succeed.
func shell(t *testing.T, dir, script string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/bin/bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s\n%v\n%s", script, err, out)
	}
	return strings.TrimSpace(string(out))
}

// unmount takes a mount away. A program that another test is just starting
// holds all descriptors of this process until it runs, so it may be busy for a
// moment.
func unmount(dir string) error {
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if err := unix.Unmount(dir, 0); err != unix.EBUSY || time.Now().After(end) {
			return err
		}
	}
}
