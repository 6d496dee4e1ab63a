package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"unio/unionfs"
	"unio/unionfs/transport"
)

const (
	// healthy is how long a server must have lived to count as one that works,
	// whether anybody asked it for something or not.
	healthy = 10 * time.Second
	// brisk is how long it must have lived for the next one to be started at
	// once; after others there is a pause, longer each time.
	brisk      = 300 * time.Millisecond
	firstPause = 20 * time.Millisecond
	maxPause   = time.Second
)

// Run is the life of a keeper, in the process that [Start] has started with
// control. ended is called when the mount has come to its end here and not by
// its server, which then has cleaned up nothing; the connection is cut and the
// mount taken out of the tree by then.
func Run(control *os.File, log *slog.Logger, ended func(Estate)) error {
	shrink()
	k := &keep{log: log}
	if err := json.NewDecoder(control).Decode(&k.estate); err != nil {
		return fmt.Errorf("read what is to be kept: %w", err)
	}
	files, next, err := inherit(k.estate.Locks, true)
	if err != nil {
		return err
	}
	k.files, k.deaths = files, k.estate.Deaths
	k.number, _ = transport.Connection(k.estate.Dir)
	if k.ledger, err = unionfs.OpenLedger(files.Ledger); err != nil {
		return err
	}
	unix.CloseOnExec(next)
	pidfd := os.NewFile(uintptr(next), "pidfd")
	if pidfd == nil {
		return errors.New("the server's pidfd is missing")
	}
	k.server = watchServer(control, pidfd)
	if _, err := control.Write([]byte{wordReady}); err != nil {
		return fmt.Errorf("answer the server: %w", err)
	}
	if k.run() {
		ended(k.estate)
	}
	return nil
}

// shrink makes do with as little memory as the language allows.
func shrink() {
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(10)
	debug.FreeOSMemory()
}

// keep is what a keeper has.
type keep struct {
	estate Estate
	files  Files
	log    *slog.Logger
	ledger *unionfs.Ledger
	number int // of the connection, 0 if it was gone already
	server *server
	deaths int           // in a row, with no request answered in between
	pause  time.Duration // before the next start
}

// server is the process that serves.
type server struct {
	control *os.File
	pidfd   *os.File  // of one that was there first
	cmd     *exec.Cmd // of one that was started here
	born    time.Time
	ended   chan struct{}
	done    chan struct{} // closed when it dismisses the keeper
	last    chan byte     // what it said last, 0 for nothing, once it has ended
}

func watchServer(control, pidfd *os.File) *server {
	s := &server{control: control, pidfd: pidfd, born: time.Now(), ended: make(chan struct{})}
	s.listen()
	go func() {
		awaitProcess(pidfd)
		close(s.ended)
	}()
	return s
}

// awaitProcess waits until a process and all its threads have ended.
func awaitProcess(pidfd *os.File) {
	poll := []unix.PollFd{{Fd: int32(pidfd.Fd()), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(poll, -1); err != unix.EINTR {
			return
		}
	}
}

// listen keeps the last word of the server until the stream ends.
func (s *server) listen() {
	s.last, s.done = make(chan byte, 1), make(chan struct{})
	go func() {
		var word, last [1]byte
		for {
			if _, err := io.ReadFull(s.control, word[:]); err != nil {
				s.last <- last[0]
				return
			}
			last = word
			if word[0] == wordDone {
				close(s.done)
				return
			}
		}
	}()
}

func (s *server) signal(sig os.Signal) error {
	if s.cmd != nil {
		return s.cmd.Process.Signal(sig)
	}
	number, ok := sig.(unix.Signal)
	if !ok {
		return errors.ErrUnsupported
	}
	return unix.PidfdSendSignal(int(s.pidfd.Fd()), number, nil, 0)
}

// lastWord is what a server has said last that has ended.
func (s *server) lastWord() byte {
	select {
	case <-s.done:
		return wordDone
	case word := <-s.last:
		if s.control != nil {
			s.control.Close()
		}
		if s.pidfd != nil {
			s.pidfd.Close()
		}
		return word
	}
}

// run keeps the mount, until its server dismisses the keeper, or until it comes
// to its end here: then the answer is true.
func (k *keep) run() (ended bool) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	for {
		k.await(signals)
		switch word := k.server.lastWord(); {
		case word == wordDone:
			return false
		case transport.Gone(int(k.files.Device.Fd())):
			k.log.Info("the mount is gone, and its server", "dir", k.estate.Dir)
			k.giveUp()
			return true
		case !k.judge(word):
			k.giveUp()
			return true
		}
		if why := k.cannotGoOn(); why != "" {
			return k.remount(why)
		}
		time.Sleep(k.pause)
		if err := k.start(); err != nil {
			k.log.Error("start a server", "dir", k.estate.Dir, "err", err)
			k.server = stillborn()
		}
	}
}

// await waits for the end of the server, or its farewell, and passes signals on.
func (k *keep) await(signals <-chan os.Signal) {
	for {
		select {
		case <-k.server.ended:
			return
		case <-k.server.done:
			return
		case sig := <-signals:
			if sig == unix.SIGHUP {
				continue
			}
			if err := k.server.signal(sig); err != nil {
				k.log.Warn("pass on a signal", "signal", sig.String(), "err", err)
			}
		}
	}
}

// judge takes note of a server's end and reports whether there is to be
// another one.
func (k *keep) judge(word byte) bool {
	lived := time.Since(k.server.born)
	if k.ledger.Answered() || lived >= healthy || word == wordLeaving {
		k.deaths = 0
	}
	switch {
	case lived >= brisk || word == wordLeaving:
		k.pause = 0
	case k.pause == 0:
		k.pause = firstPause
	default:
		k.pause = min(2*k.pause, maxPause)
	}
	if word == wordLeaving {
		k.log.Info("another server takes over", "dir", k.estate.Dir)
		return true
	}
	k.deaths++
	if k.deaths < MaxDeaths {
		k.log.Warn("the server has died; another one takes over", "dir", k.estate.Dir, "how", k.server.how(), "deaths", k.deaths)
		return true
	}
	k.log.Error("the server has died too often without answering anything: the mount ends",
		"dir", k.estate.Dir, "how", k.server.how(), "deaths", k.deaths)
	return false
}

// how says how a process ended, as far as its parent knows.
func (s *server) how() string {
	if s.cmd == nil || s.cmd.ProcessState == nil {
		return "unknown"
	}
	return s.cmd.ProcessState.String()
}

// stillborn stands for a server that could not even be started.
func stillborn() *server {
	s := &server{born: time.Now(), ended: make(chan struct{}), last: make(chan byte, 1)}
	close(s.ended)
	s.last <- 0
	return s
}

// start starts the next server.
func (k *keep) start() error {
	ours, theirs, err := socketPair()
	if err != nil {
		return err
	}
	defer theirs.Close()
	k.estate.Restarts++
	s := &server{control: ours, born: time.Now(), ended: make(chan struct{})}
	s.cmd = command(k.estate.Server, append([]*os.File{theirs}, k.files.list()...))
	if err := s.cmd.Start(); err != nil {
		ours.Close()
		return err
	}
	theirs.Close()
	s.listen()
	go func() {
		_ = s.cmd.Wait()
		close(s.ended)
	}()
	k.server = s
	// If it cannot be told, it has died, and that is noticed.
	_ = json.NewEncoder(ours).Encode(struct{ Legacy Legacy }{Legacy{Estate: k.estate, Device: k.files.Device != nil}})
	return nil
}

// cannotGoOn says why the next server has to mount anew; empty: it need not.
func (k *keep) cannotGoOn() string {
	switch {
	case k.estate.Uring:
		return "requests came over io_uring"
	case k.estate.Remount:
		return "option restart=remount"
	case !transport.CanResend(k.estate.Init):
		return "this kernel cannot repeat requests"
	}
	return ""
}

// giveUp cuts the connection and takes the mount out of the tree.
func (k *keep) giveUp() {
	k.cut()
	k.detach()
}

// cut ends the connection: everybody who waits for an answer gets an error, and
// so does everybody after them. This is its last descriptor, but the kernel
// tears the rings of a dead server down in its own time, and they hold others.
func (k *keep) cut() {
	if k.estate.Uring && k.number > 0 && !transport.Gone(int(k.files.Device.Fd())) {
		if err := transport.AbortConnection(k.number); err != nil {
			k.log.Warn("abort", "dir", k.estate.Dir, "err", err)
		}
	}
	if err := k.files.Device.Close(); err != nil {
		k.log.Error("close /dev/fuse", "dir", k.estate.Dir, "err", err)
	}
}

func (k *keep) detach() {
	err := transport.Unmount(k.estate.Dir, transport.UnmountOptions{Lazy: true})
	if err != nil && !errors.Is(err, transport.ErrNotMounted) {
		k.log.Error("take the mount away", "dir", k.estate.Dir, "err", err)
	}
}

// remount lets a server mount anew, which will start a keeper of its own. The
// dead mount stays until that server is about to put its own in its place, so
// that nobody writes to the folder below it.
func (k *keep) remount(why string) (ended bool) {
	k.log.Warn("the mount is made anew, and files that are open are lost", "dir", k.estate.Dir, "why", why)
	k.cut()
	k.files.Device, k.estate.Deaths = nil, k.deaths
	time.Sleep(k.pause)
	if err := k.start(); err != nil {
		k.log.Error("start a server", "dir", k.estate.Dir, "err", err)
		k.detach()
		return true
	}
	return false
}

// Transport tells how requests are to reach a server that mounts anew, where so
// was asked for at first: by /dev/fuse rather than not at all.
func (l *Legacy) Transport(asked transport.Kind) transport.Kind {
	if l == nil || asked != transport.Uring {
		return asked
	}
	if os.Geteuid() == 0 {
		_ = transport.EnableUring() // as it was when the first server mounted
	}
	return transport.Auto
}

// ClearMount takes away the mount of a dead server that cannot be gone on with;
// its connection is cut. It does nothing where there is one to take over.
func (l *Legacy) ClearMount() error {
	if l == nil || l.Device {
		return nil
	}
	err := transport.Unmount(l.Dir, transport.UnmountOptions{Lazy: true})
	if errors.Is(err, transport.ErrNotMounted) {
		return nil
	}
	return err
}

// Legacy is what a keeper tells a server that it starts, as the member Legacy of
// a JSON object.
type Legacy struct {
	Estate
	Device bool // there is a connection to take over; otherwise it mounts anew
}

// Inherit returns the files of a server that a keeper has started.
func (l *Legacy) Inherit() (Files, error) {
	f, _, err := inherit(l.Locks, l.Device)
	return f, err
}
