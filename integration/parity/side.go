package parity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"unio/integration/peers"
)

// Answer is what a command left.
type Answer struct {
	Stdout, Stderr string
	Code           int
}

// String is the answer as a transcript has it, and as it is recorded.
func (a Answer) String() string {
	var b strings.Builder
	b.WriteString(a.Stdout)
	for line := range strings.Lines(a.Stderr) {
		b.WriteString("2> " + line)
	}
	fmt.Fprintf(&b, "[exit code %d]", a.Code)
	return b.String()
}

// Side is one of the two that are compared: a program under the name
// "docker", an environment, a work folder, and what masks its output.
type Side struct {
	Name string
	dir  string // the work folder
	env  []string
	mask *masker
}

// NewSide makes a side below dir: program is what "docker" runs there, env is
// added to the environment.
func NewSide(name, dir, program string, env ...string) (*Side, error) {
	s := &Side{Name: name, dir: filepath.Join(dir, "work")}
	bin, home := filepath.Join(dir, "bin"), filepath.Join(dir, "home")
	for _, d := range []string{s.dir, bin, home} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	if err := os.Symlink(program, filepath.Join(bin, "docker")); err != nil {
		return nil, err
	}
	s.env = append(os.Environ(),
		"PATH="+bin+":"+os.Getenv("PATH"), "HOME="+home, "DOCKER_CONFIG="+filepath.Join(home, ".docker"),
		"SIDE="+name, "TZ=UTC", "LC_ALL=C.UTF-8", "DOCKER_CLI_HINTS=false", "NO_COLOR=1")
	s.env = append(append(s.env, peers.NoNetwork()...), env...)
	s.mask = newMasker(name, s.dir)
	return s, nil
}

// limit is how long a command may take.
const limit = time.Minute

// ErrSlow says that a command was stopped after a minute.
var ErrSlow = errors.New("no end after a minute")

// Run runs a command line through the shell and returns its answer as it is.
func (s *Side) Run(ctx context.Context, line string) (Answer, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, ErrSlow)
	defer cancel()
	var out, problems bytes.Buffer
	cmd := exec.CommandContext(ctx, "/bin/bash", "-c", line)
	cmd.Dir, cmd.Env = s.dir, s.env
	cmd.Stdout, cmd.Stderr = &out, &problems
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	// What a command leaves running in the background may hold its output.
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return Answer{}, fmt.Errorf("%s: %s: %w\n%s%s", s.Name, line, context.Cause(ctx), &out, &problems)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		return Answer{}, fmt.Errorf("%s: %s: %w", s.Name, line, err)
	}
	return Answer{Stdout: out.String(), Stderr: problems.String(), Code: cmd.ProcessState.ExitCode()}, nil
}

// Masked is an answer of this side in the form that can be compared.
func (s *Side) Masked(a Answer) Answer {
	a.Stdout, a.Stderr = s.mask.mask(a.Stdout), s.mask.mask(a.Stderr)
	return a
}

// Hide makes a word that differs between runs read as another one.
func (s *Side) Hide(word, as string) { s.mask.hide(word, as) }
