package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"unio/container"
	"unio/cow"
	"unio/unionfs"
	"unio/unionfs/dirlower"
)

// startOverlay starts the server in a session of its own and waits until its
// mount answers. Nothing of ours stays open in it: a container engine reads
// its helper's stderr to the end.
func startOverlay(ctx context.Context, t *overlayTask) error {
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close_range: %w", err)
	}
	task, err := json.Marshal(t)
	if err != nil {
		return err
	}
	log := os.DevNull
	if t.Log != "" {
		log = t.Log
	}
	stderr, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer stderr.Close()
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{"unio", "overlay-server", "--", t.Dir}, Dir: "/",
		Stdin: strings.NewReader(string(task)), Stderr: stderr,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	answer, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the mount server: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })()
	said, err := io.ReadAll(answer)
	switch {
	case err != nil:
		return fmt.Errorf("start the mount server: %w", err)
	case string(said) == mounted:
		return cmd.Process.Release()
	}
	_ = cmd.Wait() // it ends by itself after an error
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case len(said) > 0:
		return errors.New(string(said))
	}
	return errors.New("the mount server died")
}

// mounted is what a server says whose mount answers; anything else is why it
// does not.
const mounted = "ok"

// runOverlayServer is the other side of startOverlay.
func runOverlayServer(task io.Reader, answer *os.File) error {
	if control, err := controlSocket(); err == nil {
		return resumeOverlay(control)
	}
	var t overlayTask
	if err := json.NewDecoder(task).Decode(&t); err != nil {
		return fmt.Errorf("read the task: %w", err)
	}
	told := false
	tell := func() error {
		told = true
		_, err := io.WriteString(answer, mounted)
		return errors.Join(err, detachStreams())
	}
	w := &overlayServer{task: &t, log: overlayLog(os.Stderr, t.Options.Debug), start: time.Now(), background: true}
	err := w.run(tell)
	if err != nil && !told {
		_, _ = io.WriteString(answer, err.Error())
	}
	return err
}

// detachStreams puts /dev/null in the place of stdin and stdout, whose other
// ends wait for that.
func detachStreams() error {
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(null)
	return errors.Join(unix.Dup3(null, 0, 0), unix.Dup3(null, 1, 0))
}

// serveOverlay makes a mount, calls ready when it answers and serves it until
// it is gone. SIGTERM and SIGINT unmount; a mount in use is then taken out of
// the tree and served until nobody uses it.
func serveOverlay(ctx context.Context, t *overlayTask, log io.Writer, ready func() error) error {
	w := &overlayServer{task: t, log: overlayLog(log, t.Options.Debug), start: time.Now(), stop: ctx.Done()}
	return w.run(ready)
}

// run is the life of a server.
func (w *overlayServer) run(ready func() error) error {
	unionfs.PrepareProcess()
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	err := w.open()
	if err != nil && w.heir.resumed() {
		w.log.Error("take over", "dir", w.task.Dir, "err", err)
		return err // as if it had died: the keeper decides
	}
	if err == nil {
		w.announce()
		if err = ready(); err != nil {
			_ = w.server.Unmount(true)
		}
		w.log.Info("mounted", "dir", w.task.Dir, "lower", w.task.Options.Lower, "upper", w.task.Options.Upper)
		go w.endOn(signals)
		err = errors.Join(err, w.wait())
	}
	return errors.Join(err, w.close())
}

func overlayLog(w io.Writer, debug bool) *slog.Logger {
	level := slog.LevelInfo
	if debug {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

// overlayServer is what a server holds, in the order of opening.
type overlayServer struct {
	task   *overlayTask
	log    *slog.Logger
	clones []*os.File
	lower  *dirlower.Tree
	upper  *cow.FS
	server *unionfs.Server
	start  time.Time
	known  *container.Announced // nil: the mount could not be made known
	heir   heirloom
	stop   <-chan struct{} // closed when the mount is to end; nil: never

	background bool // so there may be a keeper
}

func (w *overlayServer) open() (err error) {
	t := w.task
	if err := w.heir.inherit(w.background); err != nil {
		return err
	}
	dirs := t.Options.Lower
	if t.Clone {
		if dirs, err = w.clone(dirs); err != nil {
			return err
		}
	}
	w.lower, err = dirlower.Open(dirlower.Options{
		Dirs: dirs, Root: t.Root, UserXattr: !t.Trusted, HostOwners: true, Log: w.log,
		Names: w.heir.names,
	})
	if err != nil {
		return err
	}
	o := t.serverOptions()
	o.Lower, o.Log = w.lower, w.log
	o.Transport = w.heir.legacy.Transport(o.Transport)
	if t.Options.Upper != "" {
		up := t.Upper
		up.Lower, up.Log = w.lower, w.log
		if err := w.heir.resumeUpper(&up); err != nil {
			return err
		}
		if w.upper, err = openUpper(up); err != nil {
			return err
		}
		o.Cow = w.upper
	}
	o.Ledger = w.heir.ledger
	if w.heir.resumed() {
		o.Takeover = &unionfs.Takeover{Device: w.heir.files.Device, Init: w.heir.legacy.Init}
	}
	if err := w.heir.legacy.ClearMount(); err != nil {
		return err
	}
	w.server, err = unionfs.Mount(o)
	return err
}

// lockWait is how long the server of a mount that has just been unmounted may
// take to let go of the upper: umount(8) does not wait for it, and a container
// engine mounts again at once.
const lockWait = time.Second

func openUpper(o cow.Options) (*cow.FS, error) {
	for end := time.Now().Add(lockWait); ; time.Sleep(lockWait / 200) {
		upper, err := cow.Open(o)
		if !errors.Is(err, cow.ErrInUse) || time.Now().After(end) {
			return upper, err
		}
	}
}

func (w *overlayServer) clone(dirs []string) ([]string, error) {
	paths := make([]string, len(dirs))
	for i, dir := range dirs {
		c, err := w.heir.clone(i, dir)
		if err != nil {
			return nil, err
		}
		w.clones = append(w.clones, c)
		paths[i] = fmt.Sprintf("/proc/self/fd/%d", c.Fd())
	}
	return paths, nil
}

// endOn unmounts when a signal or the context says so, lazily if the mount is
// in use.
func (w *overlayServer) endOn(signals <-chan os.Signal) {
	done := w.stop
	for {
		select {
		case sig := <-signals:
			if sig == unix.SIGHUP {
				continue
			}
		case <-done:
			done = nil
		}
		if w.server.Unmount(false) == nil {
			return
		}
		if err := w.server.Unmount(true); err != nil {
			w.log.Error("unmount", "err", err)
		}
	}
}

// announce lets "unio mount" and "unio umount" know of the mount. It lives
// without, as where the run root is another user's.
func (w *overlayServer) announce() {
	var err error
	if w.task.ID == "" {
		w.task.ID = container.NewID()
	}
	w.known, err = container.Open("", w.task.RunRoot, w.log).Announce(container.Served{
		ID: w.task.ID, Dir: w.task.Dir, Name: cmp.Or(w.task.Options.FsName, overlayName), ReadOnly: w.task.Options.ReadOnly || w.upper == nil,
		Server: w.server, Upper: w.upper, Start: w.start, Log: w.log,
	})
	if err != nil {
		w.log.Debug("the mount is not made known", "err", err)
	}
	if w.heir.keeper != nil {
		w.known.Kept(w.heir.keeper.Pid)
	}
}

// close gives everything back, in reverse.
func (w *overlayServer) close() error {
	var errs []error
	if w.known != nil {
		errs = append(errs, w.known.Close())
	}
	if w.upper != nil {
		errs = append(errs, w.upper.Close())
	}
	if w.lower != nil {
		errs = append(errs, w.lower.Close())
	}
	for _, c := range w.clones {
		errs = append(errs, c.Close())
	}
	w.heir.dismiss(w.log)
	return errors.Join(errs...)
}
