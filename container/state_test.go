package container

import (
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// hold takes a container for the test.
func hold(t *testing.T, s *Store, c *Container) *Run {
	t.Helper()
	r, err := s.Hold(c)
	must(t, err)
	t.Cleanup(func() { r.Close() })
	return r
}

func started(t *testing.T, r *Run, pid int) {
	t.Helper()
	durable, err := r.Started(pid, false)
	must(t, err)
	must(t, durable())
}

func lookup(t *testing.T, s *Store, name string) *Container {
	t.Helper()
	c, err := s.Lookup(name)
	must(t, err)
	return c
}

func TestStates(t *testing.T) {
	s := newStore(t)
	c := mustCreate(t, s, "one")
	if c.State.Status != StatusCreated || c.State.Active() {
		t.Errorf("new: %+v", c.State)
	}
	r := hold(t, s, c)
	if _, err := s.Hold(c); !errors.Is(err, ErrRunning) {
		t.Errorf("held twice: %v", err)
	}
	must(t, r.Begin())
	started(t, r, os.Getpid())
	c = lookup(t, s, "one")
	if !c.State.Running() || c.State.Pid() != os.Getpid() || c.State.StartedAt.IsZero() {
		t.Errorf("running: %+v", c.State)
	}
	if err := s.Remove(t.Context(), c, RemoveOptions{}); !errors.Is(err, ErrRunning) {
		t.Errorf("removed while it runs: %v", err)
	}
	if r.Stopped() {
		t.Error("stopped before anybody said so")
	}
	must(t, s.MarkStopped(c))
	if !r.Stopped() {
		t.Error("not stopped")
	}
	must(t, r.Restarting(End{Code: 4, At: time.Now()}))
	if c = lookup(t, s, "one"); c.State.Status != StatusRestarting || c.State.Pid() != 0 || c.State.Restarts != 1 {
		t.Errorf("restarting: %+v", c.State)
	}
	if err := c.Signal(unix.SIGTERM); !errors.Is(err, ErrNotRunning) || err.Error() != "Container "+c.ID+" is not running" {
		t.Errorf("signal: %v", err)
	}
	must(t, r.Ended(End{Code: 5, At: time.Now()}))
	must(t, r.Close())
	state, err := s.Wait(t.Context(), c)
	must(t, err)
	if state.Status != StatusExited || state.ExitCode != 5 || state.FinishedAt.IsZero() {
		t.Errorf("ended: %+v", state)
	}
	must(t, s.Remove(t.Context(), lookup(t, s, "one"), RemoveOptions{}))
}

// TestFailedStart leaves a container as it was, with the reason.
func TestFailedStart(t *testing.T) {
	s := newStore(t)
	r := hold(t, s, mustCreate(t, s, "one"))
	must(t, r.Ended(End{Code: 127, At: time.Now(), Failed: "no such program"}))
	c := lookup(t, s, "one")
	if c.State.Status != StatusCreated || c.State.ExitCode != 127 || c.State.Error != "no such program" {
		t.Errorf("state: %+v", c.State)
	}
}

// TestAfterReboot finds a container that was running under another kernel, with
// the number of a process that is somebody else's now.
func TestAfterReboot(t *testing.T) {
	s := newStore(t)
	c := mustCreate(t, s, "one")
	other := exec.Command("sleep", "100")
	must(t, other.Start())
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	p, err := processOf(other.Process.Pid)
	must(t, err)
	must(t, writeJSON(c.statePath(), &State{
		Status: StatusRunning, Boot: "another", Supervisor: p, Init: p, StartedAt: time.Now(), Mounted: true,
	}))
	if c = lookup(t, s, "one"); c.State.Status != StatusExited || c.State.ExitCode != CodeUnknown {
		t.Errorf("state: %+v", c.State)
	}
	if !p.alive() {
		t.Error("somebody else's process was killed")
	}
}

// TestSupervisorGone ends what a supervisor has left that was killed; with
// --rm the container goes.
func TestSupervisorGone(t *testing.T) {
	needRoot(t)
	for _, remove := range []bool{false, true} {
		s := newStore(t)
		c, err := s.Create(CreateOptions{Name: "one", Image: mustCreate(t, s, "two").Image, Host: HostConfig{AutoRemove: remove}})
		must(t, err)
		program := exec.Command("sleep", "100")
		must(t, program.Start())
		go func() { _ = program.Wait() }()
		p, err := processOf(program.Process.Pid)
		must(t, err)
		must(t, writeJSON(c.statePath(), &State{
			Status: StatusRunning, Boot: bootID(), Supervisor: process{Pid: 1 << 21, Start: 1}, Init: p, StartedAt: time.Now(),
		}))
		found, err := s.Lookup("one")
		switch {
		case remove && !errors.Is(err, ErrNotFound):
			t.Errorf("--rm: %v, %v", found, err)
		case !remove && (err != nil || found.State.Status != StatusExited || found.State.ExitCode != CodeUnknown):
			t.Errorf("state: %+v, %v", found, err)
		}
		if p.alive() {
			t.Error("the program still runs")
		}
	}
}

// TestDamagedState is a container whose state cannot be read: it is told of,
// and hides no other.
func TestDamagedState(t *testing.T) {
	s := newStore(t)
	mustCreate(t, s, "good")
	bad := mustCreate(t, s, "bad")
	must(t, os.WriteFile(bad.statePath(), []byte("{"), 0o600))
	if list, err := s.List(); err != nil || len(list) != 1 {
		t.Errorf("%d, %v", len(list), err)
	}
	if _, err := s.ListIntact(); err == nil {
		t.Error("what guards images does not know")
	}
}

func TestRename(t *testing.T) {
	s := newStore(t)
	one, _ := mustCreate(t, s, "one"), mustCreate(t, s, "two")
	for name, want := range map[string]string{
		"one": "Renaming a container with the same name as its current name",
		"":    "Neither old nor new names may be empty",
		"x y": "Error when allocating new name: Invalid container name (/x y), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
	} {
		if err := s.Rename(one, name); err == nil || err.Error() != want {
			t.Errorf("%q: %v", name, err)
		}
	}
	if err := s.Rename(one, "two"); !errors.Is(err, ErrConflict) {
		t.Errorf("taken: %v", err)
	}
	must(t, s.Rename(one, "/three"))
	if c := lookup(t, s, "three"); c.ID != one.ID {
		t.Errorf("found %s", c.ID)
	}
}
