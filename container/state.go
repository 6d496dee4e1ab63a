package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// Status is what a container is doing, in docker's words.
type Status string

// The states of a container.
const (
	StatusCreated Status = "created" // has never run
	StatusRunning Status = "running"
	// StatusRestarting: it has ended, and the restart policy starts it again
	// in a moment.
	StatusRestarting Status = "restarting"
	StatusExited     Status = "exited"
	StatusDead       Status = "dead" // half removed
)

// CodeUnknown is the exit code of a program whose end nobody saw: the machine
// went down, or its supervisor was killed (docker's choice).
const CodeUnknown = 255

// State is what state.json holds: how the last run of a container went. The
// container's supervisor writes it, and whoever finds that this one is gone.
type State struct {
	Status     Status
	Boot       string  // the kernel's boot ID: processes mean nothing under another
	Supervisor process // while it runs
	Init       process // the program, as the host sees it
	Mounted    bool    // the supervisor made the mount
	StartedAt  time.Time
	FinishedAt time.Time
	ExitCode   int
	OOMKilled  bool
	Error      string // why it could not be started
	Restarts   int    // by the restart policy
	Paused     bool   `json:"-"` // see pause.go
}

// Running reports whether the program runs.
func (s *State) Running() bool { return s.Status == StatusRunning }

// Active reports whether the program runs or is about to be started again.
func (s *State) Active() bool { return s.Status == StatusRunning || s.Status == StatusRestarting }

// Pid is the host's number of the container's first process; 0: none runs.
func (s *State) Pid() int {
	if !s.Running() {
		return 0
	}
	return s.Init.Pid
}

func (c *Container) statePath() string { return filepath.Join(c.dir, "state.json") }

// runLockPath is the file that the supervisor holds locked.
func (c *Container) runLockPath() string { return filepath.Join(c.dir, "run") }

// readState reads the state of a container. One without a file has never run.
func (c *Container) readState() error {
	s := State{Status: StatusCreated}
	err := readJSON(c.statePath(), &s)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	c.State = s
	c.State.Paused = c.paused()
	return nil
}

// bootID names this run of the kernel (proc(5), sys/kernel/random/boot_id).
func bootID() string {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// supervised reports whether the supervisor that the state names is there.
func (s *State) supervised() bool { return s.Boot == bootID() && s.Supervisor.alive() }

// Run is a container that this process runs or changes: nobody else can start
// or remove it meanwhile.
type Run struct {
	*Container
	store *Store
	lock  *os.File
}

// runWait is how long Hold waits for who holds a container: lists hold it for
// a moment when they find that its supervisor is gone.
const runWait = 500 * time.Millisecond

// Hold takes a container for this process. It gives ErrRunning for one that
// runs, and ErrNotFound for one that is gone by now.
func (s *Store) Hold(c *Container) (*Run, error) {
	lock, err := lockWithin(c.runLockPath(), runWait)
	if errors.Is(err, errLocked) {
		return nil, say(ErrRunning, "container %s is running", c.ID)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, say(ErrNotFound, "No such container: %s", c.ID)
	}
	if err != nil {
		return nil, err
	}
	fresh, err := s.load(c.ID)
	if err != nil {
		lock.Close()
		return nil, err
	}
	return &Run{Container: fresh, store: s, lock: lock}, nil
}

// Close lets go of the container.
func (r *Run) Close() error { return r.lock.Close() }

// Started notes that the program runs, with the host's number of its process.
// It is on disk when durable returns, which takes its time.
func (r *Run) Started(pid int, mounted bool) (durable func() error, err error) {
	s := State{
		Status: StatusRunning, Boot: bootID(), Mounted: mounted,
		StartedAt: time.Now().UTC(), Restarts: r.State.Restarts,
	}
	if s.Supervisor, err = self(); err != nil {
		return nil, err
	}
	if s.Init, err = processOf(pid); err != nil {
		s.Init = process{Pid: pid} // it has ended already
	}
	r.State = s
	temp, err := renameio.NewPendingFile(r.statePath(), renameio.WithPermissions(0o600))
	if err != nil {
		return nil, err
	}
	if err := encodeJSON(temp, &s); err != nil {
		return nil, errors.Join(err, temp.Cleanup())
	}
	// The name first: a reader must not have to wait for the disk.
	if err := os.Rename(temp.Name(), r.statePath()); err != nil {
		return nil, errors.Join(err, temp.Cleanup())
	}
	return func() error { return errors.Join(temp.Sync(), temp.Close(), syncDir(r.dir)) }, nil
}

// End is how a run ended.
type End struct {
	Code int
	At   time.Time
	OOM  bool
	// Failed says why the program could not be started; then it has not run.
	Failed string
}

// Ended notes how the program ended, or why it could not be started.
func (r *Run) Ended(e End) error {
	s := r.State
	s.ExitCode, s.Error, s.OOMKilled = e.Code, e.Failed, e.OOM
	if s.Active() {
		s.Status, s.FinishedAt = StatusExited, e.At.UTC()
	}
	s.Supervisor, s.Init, s.Mounted = process{}, process{}, false
	r.State = s
	return writeJSON(r.statePath(), &s)
}

// Restarting notes that the program has ended and will be started again.
func (r *Run) Restarting(e End) error {
	r.State.Status, r.State.ExitCode, r.State.FinishedAt, r.State.OOMKilled = StatusRestarting, e.Code, e.At.UTC(), e.OOM
	r.State.Init = process{}
	r.State.Restarts++
	return writeJSON(r.statePath(), &r.State)
}

// stoppedPath is a file that is there once a user has ended a run: then no
// restart policy starts it again. It is no part of the state, which the
// supervisor alone writes.
func (c *Container) stoppedPath() string { return filepath.Join(c.dir, "stopped") }

// Stopped reports whether a user has ended this run.
func (r *Run) Stopped() bool {
	_, err := os.Lstat(r.stoppedPath())
	return err == nil
}

// Begin forgets what a user wanted of the run before.
func (r *Run) Begin() error {
	r.State.Restarts = 0
	if err := os.Remove(r.stoppedPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// settleRun makes the state of a container true whose supervisor is gone: what is
// left of the run is ended, and noted as such. Who cannot see to it now leaves
// it to the next one.
func (s *Store) settleRun(c *Container) {
	if !c.State.Active() || c.State.supervised() {
		return
	}
	r, err := s.Hold(c)
	if err != nil {
		s.log.Debug("a container without supervisor is being seen to", "container", c.Name, "err", err)
		return
	}
	defer r.Close()
	c.State = r.State
	if !r.State.Active() || r.State.supervised() {
		return
	}
	if err := r.clear(); err != nil {
		s.log.Error("what a killed supervisor has left stays", "container", c.Name, "err", err)
		return
	}
	if err := r.Ended(End{Code: CodeUnknown, At: time.Now()}); err != nil {
		s.log.Error("write the state", "container", c.Name, "err", err)
		return
	}
	c.State = r.State
	if c.Host.AutoRemove {
		if err := r.Remove(context.Background()); err != nil {
			s.log.Error("remove the container", "container", c.Name, "err", err)
			return
		}
		c.State.Status = StatusDead
	}
}

// clearWait is how long the kernel may take to end the processes of a
// container.
const clearWait = 5 * time.Second

// clear ends what is left of a run: the processes (which end with the first of
// them, pid_namespaces(7)) and the mount.
func (r *Run) clear() error {
	if err := r.Resumed(); err != nil {
		return err
	}
	if r.State.Boot == bootID() && r.State.Init.alive() {
		if err := r.State.Init.signal(unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("end process %d: %w", r.State.Init.Pid, err)
		}
		if ended, err := r.State.Init.wait(context.Background(), clearWait); err != nil || !ended {
			return errors.Join(err, fmt.Errorf("process %d does not end", r.State.Init.Pid))
		}
	}
	if err := r.cleanRuntime(); err != nil {
		return err
	}
	if !r.State.Mounted {
		return nil
	}
	err := r.store.Unmount(context.Background(), r.ID, UnmountOptions{Lazy: true})
	if errors.Is(err, ErrNotMounted) {
		return nil
	}
	return err
}

// signal sends a signal to the process, and to no other that has its number.
func (p process) signal(sig unix.Signal) error {
	fd, err := unix.PidfdOpen(p.Pid, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if now, err := processOf(p.Pid); err != nil || now != p {
		return unix.ESRCH
	}
	return unix.PidfdSendSignal(fd, sig, nil, 0)
}

// Signal sends a signal to the program of a container that runs. It gives
// ErrNotRunning.
func (c *Container) Signal(sig unix.Signal) error {
	if !c.State.Running() {
		return say(ErrNotRunning, "Container %s is not running", c.ID)
	}
	err := c.State.Init.signal(sig)
	if errors.Is(err, unix.ESRCH) {
		return say(ErrNotRunning, "Container %s is not running", c.ID)
	}
	return err
}

// Fresh reads a container's record and state anew.
func (s *Store) Fresh(c *Container) (*Container, error) {
	fresh, err := s.load(c.ID)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, say(ErrNotFound, "No such container: %s", c.ID)
	}
	if err == nil {
		s.settleRun(fresh)
	}
	return fresh, err
}

// MarkStopped notes that a user ends a container, so that its restart policy
// does not start it again.
func (s *Store) MarkStopped(c *Container) error {
	if !c.State.Active() {
		return nil
	}
	f, err := os.OpenFile(c.stoppedPath(), os.O_WRONLY|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it is gone
	}
	if err != nil {
		return fmt.Errorf("stop container %s: %w", c.Name, err)
	}
	return f.Close()
}

// waitPoll is how often Wait looks at the state of a container whose
// supervisor lives.
const waitPoll = 250 * time.Millisecond

// Wait waits until a container does not run any more, and returns its state.
// One that has been removed meanwhile has the last state that was seen.
func (s *Store) Wait(ctx context.Context, c *Container) (*State, error) {
	for {
		fresh, err := s.Fresh(c)
		if errors.Is(err, ErrNotFound) || err == nil && fresh.State.Status == StatusDead {
			return &c.State, nil
		}
		if err != nil {
			return nil, err
		}
		if !fresh.State.Active() {
			return &fresh.State, nil
		}
		c = fresh
		// The state is final before the supervisor ends: it has clients to tell.
		if _, err := c.State.Supervisor.wait(ctx, waitPoll); err != nil {
			return nil, err
		}
	}
}
