package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"unio/unionfs"
	"unio/unionfs/keeper"
	"unio/unionfs/transport"
)

const (
	// keepAfter is how long a mount must have lasted for its keeper to be
	// started: a mount that one command makes and takes away has no need of it.
	keepAfter = 50 * time.Millisecond
	// keeperPause is how long a server waits before it replaces a keeper that
	// has died.
	keeperPause = time.Second
	// keeperEnd is how long a server waits for the end of a keeper that it has
	// dismissed, and which holds copies of its locks.
	keeperEnd = time.Second
)

// Places of the locks among keeper.Files.Locks.
const (
	lockContainer = iota
	lockWork
)

// order is the first message that a server gets: a task from [Store.Mount], or
// what a dead server has left from its keeper, with the task in it.
type order struct {
	task
	Legacy *keeper.Legacy
}

// readOrder reads the first message.
func readOrder(control *os.File) (*order, error) {
	var o order
	err := json.NewDecoder(control).Decode(&o)
	if err == nil && o.Legacy != nil {
		err = json.Unmarshal(o.Legacy.Task, &o.task)
	}
	if err == nil && o.Mount == nil {
		err = errors.New("it names no mount")
	}
	if err != nil {
		return nil, fmt.Errorf("read the task: %w", err)
	}
	return &o, nil
}

// inherit takes over what a dead server has left, or makes what this one is to
// leave.
func (w *served) inherit() (err error) {
	if w.legacy == nil {
		if len(w.task.Keeper) > 0 {
			w.ledger, err = unionfs.NewLedger()
		}
		return err
	}
	if w.files, err = w.legacy.Inherit(); err != nil {
		return err
	}
	w.ledger, err = unionfs.OpenLedger(w.files.Ledger)
	return err
}

// takeover is what the union needs of a predecessor, nil if there was none.
func (w *served) takeover() *unionfs.Takeover {
	if w.files.Device == nil {
		return nil
	}
	return &unionfs.Takeover{Device: w.files.Device, Init: w.legacy.Init}
}

// inheritedLock returns a copy of a lock that a predecessor held, nil if there
// was none.
func (w *served) inheritedLock(place int) (*os.File, error) {
	if place >= len(w.files.Locks) {
		return nil, nil
	}
	fd, err := unix.FcntlInt(w.files.Locks[place].Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	return os.NewFile(uintptr(fd), "lock"), nil
}

// keep starts a keeper of the mount, by the given program.
func (w *served) keep(program string) error {
	f, err := w.estateFiles()
	if err != nil {
		return err
	}
	defer func() {
		for _, file := range append(f.Locks, f.Device) {
			file.Close()
		}
	}()
	m := w.task.Mount
	e := keeper.Estate{
		Dir: m.Dir, Init: w.server.InitRequest(), Restarts: w.restarts(), Remount: w.task.Remount,
		Uring: w.server.Transport() == transport.Uring, Deaths: w.deaths(),
		Server: append([]string{program}, w.task.Server[1:]...),
		Keeper: append([]string{program}, w.task.Keeper[1:]...),
	}
	if e.Task, err = json.Marshal(w.task); err != nil {
		return fmt.Errorf("start the keeper: %w", err)
	}
	k, err := keeper.Start(e, f)
	if err != nil {
		return err
	}
	w.dismiss()
	w.keeper = k
	if m.Keeper, err = processOf(k.Pid); err != nil {
		return fmt.Errorf("the keeper: %w", err)
	}
	return w.store.note(m)
}

// estateFiles returns copies of the descriptors that a keeper is to hold, but
// the ledger itself.
func (w *served) estateFiles() (f keeper.Files, err error) {
	f.Ledger = w.ledger.File()
	if w.lock != nil {
		mine, err := dupFile(w.lock)
		if err != nil {
			return f, err
		}
		work, err := w.upper.Lock()
		if err != nil {
			mine.Close()
			return f, err
		}
		f.Locks = []*os.File{lockContainer: mine, lockWork: work}
	}
	f.Device, err = w.server.Device()
	return f, err
}

func dupFile(file *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	return os.NewFile(uintptr(fd), file.Name()), nil
}

// deaths is how many servers have died in a row without an answer before this
// one, where it has mounted anew; a keeper that goes on counts by itself.
func (w *served) deaths() int {
	if w.legacy == nil || w.legacy.Device {
		return 0
	}
	return w.legacy.Deaths
}

func (w *served) restarts() int {
	if w.legacy == nil {
		return 0
	}
	return w.legacy.Restarts
}

// join adopts the keeper that has started this server. One that mounts anew
// starts its own.
func (w *served) join(control *os.File) bool {
	if w.legacy == nil || !w.legacy.Device {
		return false
	}
	w.keeper = keeper.Join(control)
	return true
}

// lost returns a channel that is closed when the keeper has died.
func (w *served) lost() <-chan struct{} {
	if w.keeper == nil {
		return nil
	}
	return w.keeper.Lost()
}

// dismiss ends the keeper, if there is one.
func (w *served) dismiss() {
	if w.keeper == nil {
		return
	}
	if w.keeper.Dismiss() == nil {
		select {
		case <-w.keeper.Lost():
		case <-time.After(keeperEnd):
			w.log.Warn("the keeper stays", "keeper", w.keeper.Pid)
		}
	}
	w.keeper = nil
}

// Keep is the life of a keeper's process: see [keeper.Run].
func (s *Store) Keep(control *os.File) error {
	if err := closeOnExec(); err != nil {
		return err
	}
	log := serverLog(&task{}).With("keeper", true)
	s.log = log
	return keeper.Run(control, log, func(e keeper.Estate) {
		var t task
		if err := json.Unmarshal(e.Task, &t); err != nil || t.Mount == nil {
			log.Error("read the task", "err", err)
			return
		}
		s.forget(t.Mount)
	})
}
