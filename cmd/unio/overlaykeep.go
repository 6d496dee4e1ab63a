package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"unio/container"
	"unio/cow"
	"unio/unionfs"
	"unio/unionfs/keeper"
	"unio/unionfs/transport"
)

// overlayKeepCommand is the keeper of an overlay mount; its server starts it.
func overlayKeepCommand() *cli.Command {
	return &cli.Command{
		Name: "overlay-keep", Usage: "Keep an overlay mount (started by overlay-server)", ArgsUsage: "DIR", Hidden: true,
		Action: func(*cli.Context) error {
			control, err := controlSocket()
			if err != nil {
				return err
			}
			return silent(keepOverlay(control))
		},
	}
}

func keepOverlay(control *os.File) error {
	unix.CloseOnExec(int(control.Fd()))
	log := overlayLog(os.Stderr, false)
	return keeper.Run(control, log, func(e keeper.Estate) {
		var t overlayTask
		if err := json.Unmarshal(e.Task, &t); err == nil {
			container.Open("", t.RunRoot, log).Forget(t.ID)
		}
	})
}

const (
	// overlayKeepAfter is how long a mount must have lasted for its keeper to
	// be started.
	overlayKeepAfter = 50 * time.Millisecond
	// overlayKeepPause is how long a server waits before it replaces a keeper.
	overlayKeepPause = time.Second
)

// Places among the descriptors that servers of one mount hand on; the clones
// of the lower folders come behind.
const (
	estateNames  = iota // dirlower's journal
	estateWork          // the lock of the upper, if there is one
	estateClones        // the first of them
)

// heirloom is what servers of one overlay mount hand on.
type heirloom struct {
	legacy *keeper.Legacy // nil: this server is the first
	files  keeper.Files
	ledger *unionfs.Ledger
	names  *os.File
	keeper *keeper.Keeper
}

// inherit takes over what a dead server has left, or makes what one in the
// background is to leave.
func (h *heirloom) inherit(background bool) (err error) {
	if h.legacy == nil && !background {
		return nil // nobody keeps it
	}
	if !h.resumed() {
		fd, err := unix.MemfdCreate("unio-names", unix.MFD_CLOEXEC)
		if err != nil {
			return fmt.Errorf("make a journal of names: %w", err)
		}
		h.names = os.NewFile(uintptr(fd), "names")
	}
	if h.legacy == nil {
		h.ledger, err = unionfs.NewLedger()
		return err
	}
	if h.files, err = h.legacy.Inherit(); err != nil {
		return err
	}
	if len(h.files.Locks) < estateClones {
		return errors.New("the keeper has not passed on all that a server needs")
	}
	if h.resumed() {
		h.names = h.files.Locks[estateNames]
	}
	h.ledger, err = unionfs.OpenLedger(h.files.Ledger)
	return err
}

// second reports whether another server was here before.
func (h *heirloom) second() bool { return h.legacy != nil }

// resumed reports whether the mount is another server's, and goes on.
func (h *heirloom) resumed() bool { return h.legacy != nil && h.legacy.Device }

// lost returns a channel that is closed when the keeper has died.
func (h *heirloom) lost() <-chan struct{} {
	if h.keeper == nil {
		return nil
	}
	return h.keeper.Lost()
}

// dismiss ends the keeper, which has copies of the locks.
func (h *heirloom) dismiss(log *slog.Logger) {
	if h.keeper == nil || h.keeper.Dismiss() != nil {
		return
	}
	select {
	case <-h.keeper.Lost():
	case <-time.After(overlayKeepPause):
		log.Warn("the keeper stays", "keeper", h.keeper.Pid)
	}
}

// keep starts a keeper of the mount.
func (w *overlayServer) keep() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	f := keeper.Files{Ledger: w.heir.ledger.File()}
	work := w.heir.names // without an upper there is nothing to lock
	if w.upper != nil {
		if work, err = w.upper.Lock(); err != nil {
			return err
		}
		defer work.Close()
	}
	f.Locks = append([]*os.File{estateNames: w.heir.names, estateWork: work}, w.clones...)
	if f.Device, err = w.server.Device(); err != nil {
		return err
	}
	defer f.Device.Close()
	e := keeper.Estate{
		Dir: w.task.Dir, Init: w.server.InitRequest(),
		Uring:  w.server.Transport() == transport.Uring,
		Server: []string{self, "overlay-server", "--", w.task.Dir},
		Keeper: []string{self, "overlay-keep", "--", w.task.Dir},
	}
	if w.heir.legacy != nil {
		e.Restarts = w.heir.legacy.Restarts
		if !w.heir.resumed() {
			e.Deaths = w.heir.legacy.Deaths
		}
	}
	if e.Task, err = json.Marshal(w.task); err != nil {
		return err
	}
	if w.heir.keeper, err = keeper.Start(e, f); err != nil {
		return err
	}
	w.known.Kept(w.heir.keeper.Pid)
	return nil
}

// wait waits for the end of the mount, and sees to it that it is kept.
func (w *overlayServer) wait() error {
	done := make(chan error, 1)
	go func() { done <- w.server.Wait() }()
	var keep <-chan time.Time
	if w.background && w.heir.keeper == nil {
		keep = time.After(overlayKeepAfter)
	}
	for lost := w.heir.lost(); ; {
		select {
		case err := <-done:
			return err
		case <-keep:
			keep = nil
			if err := w.keep(); err != nil {
				if !errors.Is(err, os.ErrClosed) { // closed: the mount ends just now
					w.log.Error("nobody keeps this mount", "err", err)
				}
				return <-done
			}
			lost = w.heir.lost()
		case <-lost:
			w.log.Warn("the keeper has died")
			w.heir.keeper, lost, keep = nil, nil, time.After(overlayKeepPause)
		}
	}
}

// resumeOverlay is the life of a server that a keeper has started.
func resumeOverlay(control *os.File) error {
	unix.CloseOnExec(int(control.Fd()))
	var got struct{ Legacy *keeper.Legacy }
	var t overlayTask
	err := json.NewDecoder(control).Decode(&got)
	if err == nil && got.Legacy == nil {
		err = errors.New("nothing was left")
	}
	if err == nil {
		err = json.Unmarshal(got.Legacy.Task, &t)
	}
	if err != nil {
		return fmt.Errorf("read the task: %w", err)
	}
	w := &overlayServer{task: &t, log: overlayLog(os.Stderr, t.Options.Debug), start: time.Now(), background: true}
	w.heir.legacy = got.Legacy
	if w.heir.resumed() {
		w.heir.keeper = keeper.Join(control)
	}
	return w.run(func() error { return nil })
}

// resumeUpper lets the upper be taken over from a dead server, with its lock.
func (h *heirloom) resumeUpper(o *cow.Options) (err error) {
	if !h.second() {
		return nil
	}
	o.Resume = h.resumed()
	o.WorkFD, err = unix.FcntlInt(h.files.Locks[estateWork].Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("dup", err)
	}
	return nil
}

// clone returns the i-th lower folder, mounted anew, or as the first server
// has mounted it.
func (h *heirloom) clone(i int, dir string) (*os.File, error) {
	if !h.second() {
		return cloneLower(dir)
	}
	if estateClones+i >= len(h.files.Locks) {
		return nil, errors.New("the keeper has not passed on the lower folders")
	}
	return h.files.Locks[estateClones+i], nil
}
