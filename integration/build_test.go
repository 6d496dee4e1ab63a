package integration

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// builder is a box with an image "bb" of busybox, and an empty context.
type builder struct{ *box }

func newBuilder(t *testing.T) *builder {
	t.Helper()
	b := &builder{newBox(t)}
	b.run("import", "-q", "-c", "ENV PATH=/bin", busyboxRoot(t, b.dir), "bb")
	must(t, os.Mkdir(b.path("context"), 0o755))
	return b
}

// dockerfile writes a Dockerfile and returns its path.
func (b *builder) dockerfile(name, text string) string {
	b.t.Helper()
	must(b.t, os.WriteFile(b.path(name), []byte(text), 0o644))
	return b.path(name)
}

// start starts a build and returns once its output has said a word.
func (b *builder) start(file, word string) (*buildRun, error) {
	r := &buildRun{said: make(chan struct{}), word: word}
	cmd := b.command("build", "-f", file, b.path("context"))
	cmd.Stdout, cmd.Stderr = r, r
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	r.kill = cmd.Process.Signal
	r.end = func() int { _ = cmd.Wait(); return cmd.ProcessState.ExitCode() }
	select {
	case <-r.said:
		return r, nil
	case <-time.After(30 * time.Second):
		_ = cmd.Process.Kill()
		return nil, fmt.Errorf("the build never said %q: %s", word, r.text())
	}
}

// buildRun is a build that goes on.
type buildRun struct {
	kill func(os.Signal) error
	end  func() int
	word string
	said chan struct{}
	mu   sync.Mutex
	out  bytes.Buffer
}

func (r *buildRun) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := strings.Contains(r.out.String(), r.word)
	r.out.Write(p)
	if !before && strings.Contains(r.out.String(), r.word) {
		close(r.said)
	}
	return len(p), nil
}

func (r *buildRun) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.String()
}

// running counts the processes of this machine with a word in their command
// line.
func running(word string) int {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	n := 0
	for _, f := range files {
		if line, err := os.ReadFile(f); err == nil && bytes.Contains(line, []byte(word)) {
			n++
		}
	}
	return n
}

// assertNothingLeft waits until nothing of builds is left: no process with that
// word, no mount, and, when swept says so, no folder.
func (b *builder) assertNothingLeft(word string, swept bool) {
	b.t.Helper()
	var left string
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		folders, _ := filepath.Glob(b.store() + "/state/build/*")
		points, _ := filepath.Glob(b.path("run") + "/build/*")
		if !swept {
			folders, points = nil, nil
		}
		left = fmt.Sprintf("%d processes, mounts %v, folders %v", running(word), b.mountPoints(), append(folders, points...))
		if left == "0 processes, mounts [], folders []" {
			return
		}
	}
	b.t.Errorf("left: %s", left)
}

// TestBuildInterrupted: Ctrl-C and SIGTERM in a RUN end what it started, in the
// background too, and leave nothing.
func TestBuildInterrupted(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	for i, sig := range []os.Signal{unix.SIGINT, unix.SIGTERM} {
		word := fmt.Sprintf("86400.%d%d", os.Getpid(), i)
		file := b.dockerfile("Dockerfile", "FROM bb AS one\nRUN sleep "+word+" & echo begun; sleep "+word+
			"\nFROM bb\nRUN sleep "+word+"\nCOPY --from=one / /\n")
		r, err := b.start(file, "begun")
		must(t, err)
		must(t, r.kill(sig))
		if code := r.end(); code != 130 {
			t.Errorf("%v: exit code %d\n%s", sig, code, r.text())
		}
		b.assertNothingLeft(word, true)
	}
	if n := strings.Count(b.run("images", "-q", "-a"), "\n"); n != 0 {
		t.Errorf("%d images more", n)
	}
	b.run("fsck")
}

// TestBuildKilled: when a build is killed by SIGKILL, its programs and mounts
// end with it, and the next build sweeps what lies about; so also when the
// server of the mounts is killed with it.
func TestBuildKilled(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	for i, both := range []bool{false, true} {
		word := fmt.Sprintf("86401.%d%d", os.Getpid(), i)
		file := b.dockerfile("Dockerfile", "FROM bb\nRUN echo x > /x\nRUN echo begun; sleep "+word+"\n")
		r, err := b.start(file, "begun")
		must(t, err)
		if both {
			b.killServers()
		}
		must(t, r.kill(unix.SIGKILL))
		r.end()
		if both { // nobody is left who could take the dead mount away
			b.run("build", "-q", "-f", b.dockerfile("Dockerfile", "FROM bb\nLABEL a=b\n"), b.path("context"))
		}
		b.assertNothingLeft(word, both)
	}
	out := b.run("build", "-f", b.dockerfile("Dockerfile", "FROM bb\nRUN echo x > /x\nLABEL a=b\n"), b.path("context"))
	if !strings.Contains(out, "Using cache") {
		t.Errorf("what was done before the kill is done again:\n%s", out)
	}
	b.assertNothingLeft("86401.", true)
	b.run("fsck")
}

// killServers kills the processes that serve the mounts of builds of this box.
func (b *builder) killServers() {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		line, err := os.ReadFile(f)
		if err != nil || !bytes.Contains(line, []byte("build-mounts")) || !bytes.Contains(line, []byte(b.dir)) {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(f, "/proc/%d/", &pid); err == nil {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// TestBuildsAtOnce runs five builds of several stages in one store, kills one of
// them, prunes meanwhile, and looks at what the others made.
func TestBuildsAtOnce(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	victim := fmt.Sprintf("86402.%d", os.Getpid())
	killed, err := b.start(b.dockerfile("victim", "FROM bb\nRUN echo begun; sleep "+victim+"\n"), "begun")
	must(t, err)
	var all sync.WaitGroup
	for i := range 5 {
		file := b.dockerfile(fmt.Sprintf("D%d", i), fmt.Sprintf(`FROM bb AS one
RUN echo shared > /shared
RUN echo %[1]d > /own
FROM bb AS two
RUN seq 1000 > /numbers
FROM one
COPY --from=two /numbers /n/
RUN cat /shared /own > /both && rm /etc/motd || true
`, i))
		all.Go(func() {
			r := b.try("build", "-q", "-t", fmt.Sprintf("app:%d", i), "-f", file, b.path("context"))
			if r.code != 0 {
				t.Errorf("build %d: %s", i, r.stderr)
			}
		})
	}
	must(t, killed.kill(unix.SIGKILL))
	killed.end()
	all.Wait()
	for i := range 5 {
		b.run("build", "-q", "-o", b.path(fmt.Sprint("out", i)), "-f", b.dockerfile("D", fmt.Sprintf("FROM app:%d\n", i)), b.path("context"))
		got, err := os.ReadFile(b.path(fmt.Sprintf("out%d/both", i)))
		if want := fmt.Sprintf("shared\n%d\n", i); err != nil || string(got) != want {
			t.Errorf("build %d: %q %v", i, got, err)
		}
	}
	b.assertNothingLeft(victim, true)
	b.run("fsck")
	b.run("builder", "prune", "-a", "-f")
	b.run("fsck")
}
