package container

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"

	"unio/container/inroot"
	"unio/container/runner"
)

// runsDir holds the sockets of supervisors.
func (s *Store) runsDir() string { return filepath.Join(s.runRoot, "runs") }

// inRunsDir calls do with a path of a supervisor's socket that is short enough
// for a socket address however deep the run root lies.
func (s *Store) inRunsDir(id string, do func(path string) error) error {
	if err := os.MkdirAll(s.runsDir(), 0o700); err != nil {
		return err
	}
	dir, err := os.Open(s.runsDir())
	if err != nil {
		return err
	}
	defer dir.Close()
	return do(inroot.FDPath(int(dir.Fd())) + "/" + id)
}

// DialRun connects to the supervisor of a container. It gives ErrNotRunning.
func (s *Store) DialRun(id string) (conn net.Conn, err error) {
	err = s.inRunsDir(id, func(path string) (err error) {
		conn, err = net.Dial("unix", path)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotRunning, err)
	}
	return conn, nil
}

// Listen opens the socket of a supervisor, in place of one that a dead one has
// left.
func (r *Run) Listen() (l net.Listener, err error) {
	err = r.store.inRunsDir(r.ID, func(path string) error {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		l, err = net.Listen("unix", path)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	// The path that it knows ends with a descriptor that is closed by now.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	return l, nil
}

// removeSocket takes away the socket of a supervisor.
func (r *Run) removeSocket() error {
	return r.store.inRunsDir(r.ID, func(path string) error {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

// Runtime finds the program that runs containers: "" and [OwnRuntime] are our
// own code, which is "".
func Runtime(name string) (string, error) {
	if name == "" || name == OwnRuntime {
		return "", nil
	}
	file, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("unknown or invalid runtime name: %s", name)
	}
	return file, nil
}

// OwnRuntime is what inspect calls the runner that is built in.
const OwnRuntime = "unio"

func (r *Run) runtimeDir() string { return filepath.Join(r.store.runsDir(), r.ID+".runtime") }

// Stubs lists what there is in the upper of a container that runs for the sake of
// its mounts only: empty files and folders, outermost first.
func (s *Store) Stubs(c *Container) []string {
	return runner.Stubs((&Run{Container: c, store: s}).runtimeDir())
}

// cleanRuntime clears what the runner of a killed supervisor has left.
func (r *Run) cleanRuntime() error {
	o := runner.Options{ID: r.ID, StateDir: r.runtimeDir(), Spec: &specs.Spec{Root: &specs.Root{}}, Log: r.store.log}
	o.Runtime, _ = Runtime(r.Host.Runtime) // one that is gone cannot help
	if m, err := r.store.MountOf(r.Container); err == nil && !m.Dead {
		o.Spec.Root.Path = m.Dir
	}
	if err := runner.Clean(o); err != nil {
		return err
	}
	return r.RemoveRuntimeDir()
}

// RemoveRuntimeDir takes away what RuntimeDir has made.
func (r *Run) RemoveRuntimeDir() error { return os.RemoveAll(r.runtimeDir()) }

// RuntimeDir makes a folder, which a reboot empties, for the state that the
// runner or an OCI runtime keeps of this run.
func (r *Run) RuntimeDir() (string, error) {
	dir := r.runtimeDir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the folder of the runtime: %w", err)
	}
	return dir, nil
}
