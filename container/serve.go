package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"unio/container/rootless"
	"unio/cow"
	"unio/unionfs"
	"unio/unionfs/keeper"
	"unio/unionfs/merge"
	"unio/unionfs/transport"
)

// Lower is the merged tree of an image, open for reading.
type Lower interface {
	merge.Lower
	io.Closer
}

// ServeOptions connect a server with the images.
type ServeOptions struct {
	// OpenLower opens the merged tree of an image.
	OpenLower func(ctx context.Context, image digest.Digest) (Lower, error)
	// Transport says how requests are to come; "": transport.Auto.
	Transport transport.Kind
}

// Serve is the server's side of [Store.Mount]: it reads its task from control,
// mounts, says so, and serves until the mount is gone. An error before the
// mount answers has been sent to the caller of Mount. SIGTERM and SIGINT
// unmount; a mount in use is then taken out of the tree and served until
// nobody uses it.
func (s *Store) Serve(ctx context.Context, control *os.File, o ServeOptions) error {
	if err := closeOnExec(); err != nil {
		return err
	}
	closeRoom(control)
	unionfs.PrepareProcess() // the task may still be on its way
	got, err := readOrder(control)
	if err != nil {
		return err
	}
	t := &got.task
	if got.Legacy == nil {
		if err := writeLog(t.Mount.Log); err != nil {
			return errors.Join(err, tell(control, err))
		}
	}
	s.log = serverLog(t)
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	w := &served{store: s, task: t, legacy: got.Legacy, log: s.log, start: time.Now(), reloads: make(chan reload)}
	err = w.open(ctx, o)
	if w.legacy == nil {
		err = w.report(control, err)
	}
	if err == nil {
		s.log.Info("mounted", "dir", t.Mount.Dir, "target", t.Mount.Target(), "image", t.Mount.Image,
			"read-only", t.Mount.ReadOnly,
			"restarts", w.restarts(), "transport", w.server.Transport())
		err = w.serve(control, signals)
	}
	switch {
	case w.left:
		return nil // nothing is closed: all of it is in use
	case err != nil && w.takeover() != nil && w.server == nil:
		s.log.Error("take over", "dir", t.Mount.Dir, "err", err)
		return err // as if it had died: the keeper decides
	}
	err = errors.Join(err, w.close())
	s.log.Info("ended", "dir", t.Mount.Dir, "err", err)
	return err
}

// report tells the caller of Mount how opening went.
func (w *served) report(control *os.File, err error) error {
	sayErr := tell(control, err)
	if err == nil && sayErr != nil {
		err = sayErr // the caller has gone, perhaps by Ctrl-C
		_ = w.server.Unmount(true)
	}
	control.Close()
	return err
}

// serverLog writes to stderr, which is the log file.
func serverLog(t *task) *slog.Logger {
	level := slog.LevelInfo
	if t.Debug {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	return log.With("pid", os.Getpid())
}

// tell sends the answer that Mount waits for.
func tell(control *os.File, err error) error {
	var a answer
	if err != nil {
		a.Error = err.Error()
		for name, kind := range errorKinds() {
			if errors.Is(err, kind) {
				a.Kind = name
			}
		}
	}
	return json.NewEncoder(control).Encode(a)
}

// served is what a server holds, in the order of opening.
type served struct {
	store  *Store
	task   *task
	log    *slog.Logger
	legacy *keeper.Legacy // of a dead server; nil: this is the first
	files  keeper.Files   // that it has left
	ledger *unionfs.Ledger
	lock   *os.File // of the container
	lower  Lower
	upper  *cow.FS
	server *unionfs.Server
	stats  *socket
	ctl    *socket
	noted  bool
	keeper *keeper.Keeper // nil: there is none
	left   bool           // for another server
	start  time.Time

	reloads chan reload
}

// open takes everything into use, up to the mount itself.
func (w *served) open(ctx context.Context, o ServeOptions) (err error) {
	if err := w.inherit(); err != nil {
		return err
	}
	if w.task.Mount.Container != "" {
		if err := w.openContainer(); err != nil {
			return err
		}
	}
	listening := make(chan error, 1)
	go func() { listening <- w.listen() }()
	err = w.mount(ctx, o)
	if listenErr := <-listening; err == nil {
		err = listenErr
	}
	if err == nil {
		err = w.publish()
	}
	if err != nil && w.server != nil {
		err = errors.Join(err, w.server.Unmount(true))
	}
	return err
}

// mount opens what is to be mounted, and mounts it.
func (w *served) mount(ctx context.Context, o ServeOptions) (err error) {
	m := w.task.Mount
	if w.lower, err = o.OpenLower(ctx, m.Image); err != nil {
		return err
	}
	if m.Container != "" {
		if err := w.openUpper(); err != nil {
			return err
		}
	}
	if err := w.legacy.ClearMount(); err != nil {
		return err
	}
	w.server, err = unionfs.Mount(unionfs.Options{
		Lower: w.lower, Cow: w.upper, ReadOnly: m.ReadOnly, Dir: m.Dir, FsName: m.Target(),
		AllowOther: w.task.Others || w.isOurs() && rootless.Others(), Suid: w.task.Suid, Dev: w.task.Dev, Writeback: w.task.Writeback, ACL: w.task.ACL, Log: w.log,
		Takeover: w.takeover(), Ledger: w.ledger, IDs: rootless.IDs(), Transport: w.legacy.Transport(o.Transport),
	})
	return err
}

// isOurs reports whether a mount lies where no other user gets to.
func (w *served) isOurs() bool { return within(w.task.Mount.Dir, w.store.runRoot) }

// openContainer takes the container's lock.
func (w *served) openContainer() (err error) {
	m := w.task.Mount
	c, err := w.store.load(m.Container)
	if err != nil {
		return err
	}
	if w.lock, err = w.inheritedLock(lockContainer); err != nil || w.lock != nil {
		return err
	}
	w.lock, err = openLock(c.lockPath(), false)
	if errors.Is(err, errLocked) {
		if other, noteErr := w.store.readNote(c.ID); noteErr == nil {
			return mountedAt(c, other.Dir)
		}
		return say(ErrMounted, "container %s is being mounted or unmounted by another process", c.Name)
	}
	return err
}

func (w *served) openUpper() (err error) {
	c, err := w.store.load(w.task.Mount.Container)
	if err != nil {
		return err
	}
	if root := os.Geteuid() == 0; root != c.Privileged {
		return fmt.Errorf("container %s was made %s and cannot be mounted %s", c.Name, byWhom(c.Privileged), byWhom(root))
	}
	o := cow.Options{
		Upper: c.UpperDir(), Work: c.WorkDir(), Lower: w.lower, Root: c.Privileged, Log: w.log,
		Volatile: w.task.Volatile, ACL: w.task.ACL, Resume: w.takeover() != nil,
	}
	work, err := w.inheritedLock(lockWork)
	if err != nil {
		return err
	}
	if work != nil {
		defer work.Close()
		if o.WorkFD, err = unix.FcntlInt(work.Fd(), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return os.NewSyscallError("dup", err)
		}
	}
	w.upper, err = cow.Open(o)
	return err
}

func byWhom(root bool) string {
	if root {
		return "by root"
	}
	return "without root"
}

// listen makes the sockets of the mount and finds out what its note says of this
// process. It runs beside mount, whose fields it leaves alone, and behind the
// container's lock: the sockets of another server of it are in use.
func (w *served) listen() (err error) {
	m := w.task.Mount
	if m.Server, err = self(); err != nil {
		return err
	}
	if w.stats, err = w.store.listen(m.ID, statsSocket); err != nil {
		return err
	}
	w.ctl, err = w.store.listen(m.ID, controlSocket)
	return err
}

// publish notes the mount for others and answers those who ask for figures.
func (w *served) publish() (err error) {
	m := w.task.Mount
	w.stats.serveStats(w.figures, w.log)
	w.ctl.serveReloads(w.reloads, w.log)
	m.Keeper, m.Transport = process{}, w.server.Transport()
	if w.takeover() != nil {
		if m.Keeper, err = processOf(os.Getppid()); err != nil {
			return err
		}
	}
	if err := w.store.note(m); err != nil {
		return err
	}
	w.noted = true
	return nil
}

// figures are what the server says of itself.
func (w *served) figures() *Stats {
	s := figuresOf(w.task.Mount, w.server, w.upper, w.start)
	s.Process.Restarts = uint64(w.restarts())
	return s
}

// serve waits for the end of the mount, and ends it when a signal says so. It
// sees to it that there is a keeper.
func (w *served) serve(control *os.File, signals <-chan os.Signal) error {
	done := make(chan error, 1)
	go func() { done <- w.server.Wait() }()
	var keep <-chan time.Time
	if len(w.task.Keeper) > 0 && !w.join(control) {
		keep = time.After(keepAfter)
	}
	lost := w.lost()
	for {
		select {
		case err := <-done:
			return err
		case <-keep:
			err := w.keep(w.task.Keeper[0])
			if err != nil && !errors.Is(err, os.ErrClosed) { // closed: the mount ends just now
				w.log.Error("nobody keeps this mount", "err", err)
				keep = time.After(keeperPause)
			}
			lost = w.lost()
		case <-lost:
			w.log.Warn("the keeper has died")
			w.keeper, lost, keep = nil, nil, time.After(keeperPause)
		case r := <-w.reloads:
			err := w.leave(r)
			r.answer <- err
			<-r.sent
			if err == nil {
				w.left = true
				return nil
			}
			lost = w.lost()
		case sig := <-signals:
			if sig != unix.SIGHUP {
				w.log.Info("unmount", "signal", sig.String())
				w.end()
			}
		}
	}
}

// end unmounts, lazily if the mount is in use.
func (w *served) end() {
	if w.server.Unmount(false) == nil {
		return
	}
	if err := w.server.Unmount(true); err != nil {
		w.log.Error("unmount", "err", err)
	}
}

// close gives everything back, in reverse.
func (w *served) close() error {
	var errs []error
	if w.ctl != nil {
		errs = append(errs, w.ctl.Close())
	}
	if w.server != nil {
		errs = append(errs, w.server.Wait())
	}
	if w.stats != nil {
		errs = append(errs, w.stats.Close())
	}
	if w.upper != nil {
		errs = append(errs, w.upper.Close())
	}
	if w.lower != nil {
		errs = append(errs, w.lower.Close())
	}
	if w.noted {
		w.store.forget(w.task.Mount)
	}
	w.dismiss()
	if w.lock != nil {
		w.lock.Close()
	}
	return errors.Join(errs...)
}
