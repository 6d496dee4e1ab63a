package container

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"unio/container/inroot"
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

// RuntimeDir makes a folder, which a reboot empties, for the state that an OCI
// runtime keeps of this run.
func (r *Run) RuntimeDir() (string, error) {
	dir := filepath.Join(r.store.runsDir(), r.ID+".runtime")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the folder of the runtime: %w", err)
	}
	return dir, nil
}
