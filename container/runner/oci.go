package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"unio/container/inroot"
	"unio/container/seccomp"
)

// An OCI runtime runs in the foreground as the parent of the container: it
// passes signals on and ends with the program's code. That the program runs is
// seen by the file with its number, which the runtime writes then.

// ociRun is one container in the hands of a runtime.
type ociRun struct {
	o      *Options
	bundle string
	made   []point // what the runtime makes in the root to mount on
	cmd    *exec.Cmd
}

// startRuntime hands the spec to an OCI runtime.
func startRuntime(ctx context.Context, o *Options) (*Process, error) {
	if o.StateDir == "" || o.ID == "" {
		return nil, errors.New("an OCI runtime needs a folder for its state, and an ID")
	}
	r := &ociRun{o: o, bundle: filepath.Join(o.StateDir, "bundle")}
	if err := r.writeBundle(); err != nil {
		return nil, fmt.Errorf("make a bundle for %s: %w", o.Runtime, err)
	}
	if err := r.foresee(); err != nil {
		return nil, err
	}
	p := &Process{ended: make(chan struct{}), clean: r.remove, kill: r.kill}
	started := make(chan error, 1)
	go r.live(p, started)
	if err := <-started; err != nil {
		r.remove()
		return nil, fmt.Errorf("start %s: %w", o.Runtime, err)
	}
	if err := r.await(ctx, p); err != nil {
		_ = r.kill()
		_ = r.cmd.Process.Kill()
		_, _ = p.Wait()
		return nil, err
	}
	return p, nil
}

// writeBundle writes config.json and the files that are lent.
func (r *ociRun) writeBundle() error {
	if err := os.RemoveAll(r.bundle); err != nil {
		return err
	}
	if err := os.MkdirAll(r.bundle, 0o700); err != nil {
		return err
	}
	spec := *r.o.Spec
	spec.Mounts = slices.Clone(spec.Mounts)
	for i, f := range r.o.Files {
		name := filepath.Join(r.bundle, "file"+strconv.Itoa(i))
		if err := os.WriteFile(name, f.Data, 0o644); err != nil {
			return err
		}
		spec.Mounts = append(spec.Mounts, specs.Mount{
			Destination: f.Path, Type: "bind", Source: name, Options: []string{"bind", "rprivate"},
		})
	}
	if spec.Linux != nil && spec.Linux.Seccomp != nil && !seccomp.Supported() {
		linux := *spec.Linux
		linux.Seccomp, spec.Linux = nil, &linux // with a warning, see Warnings
	}
	data, err := json.Marshal(&spec)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.bundle, "config.json"), data, 0o600)
}

// command is a command line of the runtime.
func (r *ociRun) command(words ...string) *exec.Cmd {
	line := []string{"--root", filepath.Join(r.o.StateDir, "runtime"), "--log", r.path("log"), "--log-format", "json"}
	cmd := exec.Command(r.o.Runtime, append(line, words...)...)
	cmd.Dir = "/"
	return cmd
}

func (r *ociRun) path(name string) string { return filepath.Join(r.bundle, name) }

// live runs the runtime to its end, in a thread of its own (see launch.live).
func (r *ociRun) live(p *Process, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r.cmd = r.command("run", "--bundle", r.bundle, "--pid-file", r.path("pid"), r.o.ID)
	o := r.o
	stdin, stdout, stderr := o.Stdin, o.Stdout, o.Stderr
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: !o.Foreground}
	if o.Spec.Process.Terminal {
		stdin, stdout, stderr = o.Console, o.Console, o.Console
		r.cmd.SysProcAttr.Setctty = true
	}
	if o.Tied {
		r.cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM // which it passes on
	}
	// A nil *os.File in an interface is not nil.
	if stdin != nil {
		r.cmd.Stdin = stdin
	}
	if stdout != nil {
		r.cmd.Stdout = stdout
	}
	if stderr != nil {
		r.cmd.Stderr = stderr
	}
	err := closeOnExec()
	if err == nil {
		err = r.cmd.Start()
	}
	started <- err
	if err != nil {
		return
	}
	p.waitErr = r.cmd.Wait()
	p.state = r.cmd.ProcessState
	close(p.ended)
}

// runtimePoll is how often the file with the number of the program is looked
// for.
const runtimePoll = 2 * time.Millisecond

// await waits for the program to run.
func (r *ociRun) await(ctx context.Context, p *Process) error {
	for {
		if data, err := os.ReadFile(r.path("pid")); err == nil && len(data) > 0 {
			if p.pid, err = strconv.Atoi(strings.TrimSpace(string(data))); err != nil {
				return fmt.Errorf("%s: number of the process: %w", r.o.Runtime, err)
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-p.ended:
			if _, err := os.Stat(r.path("pid")); err != nil {
				return r.failure()
			}
		case <-time.After(runtimePoll):
		}
	}
}

// failure is what the runtime wrote last into its log, with docker's code for it
// (moby, daemon/start.go).
func (r *ociRun) failure() error {
	data, _ := os.ReadFile(r.path("log"))
	text := r.o.Runtime + " failed without a word"
	for line := range strings.Lines(string(data)) {
		var entry struct{ Level, Msg string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Level == "error" {
			text = entry.Msg
		}
	}
	code := CodeFailed
	switch {
	case strings.Contains(text, "executable file not found"), strings.Contains(text, "no such file or directory"):
		code = CodeNotFound
	case strings.Contains(text, "permission denied"), strings.Contains(text, "is a directory"):
		code = CodeNotExecutable
	}
	return &StartError{code, errors.New(text)}
}

// kill ends all of the container.
func (r *ociRun) kill() error {
	out, err := r.command("kill", r.o.ID, strconv.Itoa(int(unix.SIGKILL))).CombinedOutput()
	gone := strings.Contains(string(out), "does not exist") || strings.Contains(string(out), "not running") ||
		strings.Contains(string(out), "already finished")
	if err != nil && !gone {
		return fmt.Errorf("%s kill: %w: %s", r.o.Runtime, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// remove takes away what the runtime has left, and the bundle.
func (r *ociRun) remove() {
	_ = r.command("delete", "--force", r.o.ID).Run() // it has done so itself, unless it was killed
	os.RemoveAll(r.bundle)
	if len(r.made) > 0 {
		clearPoints(r.o.Spec.Root.Path, r.made, r.o.ClearAll)
		forgetPoints(r.o.StateDir)
	}
}

// foresee notes what the runtime will make in the root: the places of mounts that
// are not there.
func (r *ociRun) foresee() error {
	root, err := inroot.Dir(r.o.Spec.Root.Path)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	look := &rootfs{fd: root}
	for _, m := range r.o.Spec.Mounts {
		st, err := os.Stat(m.Source)
		file := m.Type == "bind" && err == nil && !st.IsDir()
		r.expect(look, m.Destination, point{Keep: !isDefault(m.Destination)}, file)
	}
	for _, f := range r.o.Files {
		r.expect(look, f.Path, point{}, true)
	}
	return notePoints(r.o.StateDir, r.made)
}

// expect appends the missing parts of one path.
func (r *ociRun) expect(look *rootfs, name string, p point, file bool) {
	missing, _ := look.missing(name)
	for i, at := range missing {
		p.Path, p.Dir = at, !file || i < len(missing)-1
		known := slices.ContainsFunc(r.made, func(q point) bool { return q.Path == at })
		if !known {
			r.made = append(r.made, p)
		}
	}
}
