// Package keeper lets a mount survive its server. A keeper is a small process
// that holds the descriptor of /dev/fuse, the request the kernel began with and
// the locks of a mount, and watches the server. When the server dies, it starts
// another one, which inherits all of that and goes on ([transport.Takeover]);
// the kernel meanwhile lets everybody wait. The keeper reads no request and
// opens no file of the mount.
//
// Server and keeper talk over a socket by single bytes. The server that makes a
// mount starts the keeper ([Start]); a server that a keeper has started joins it
// ([Join]). Each notices the other's death by the end of the stream, or by a
// pidfd.
//
// Where requests come over io_uring there is nothing to go on with: the keeper
// cuts the connection, and the next server mounts anew. Files that were open
// are lost then.
//
// A server that ends because the mount has been taken away dismisses its keeper
// first. One that leaves for another to take over says so. Every other end is a
// death. [MaxDeaths] of them in a row, with no request answered in between, end
// the mount.
package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// MaxDeaths is how many servers in a row may die without answering a request.
const MaxDeaths = 5

// Estate is what a keeper knows of a mount and tells every server.
type Estate struct {
	Dir      string          // mount point
	Init     []byte          // the INIT request, as the kernel sent it
	Task     json.RawMessage // what the first server was told to do
	Server   []string        // command line of a server, the path of the program first
	Keeper   []string        // and of a keeper
	Locks    int             // how many descriptors hold locks
	Restarts int             // servers started by keepers
	// Remount asks for a fresh mount where a server has died, as on kernels
	// that cannot repeat requests; files that were open are lost.
	Remount bool
	// Uring says that requests came over io_uring. What a dead server has taken
	// from a ring the kernel neither sends again nor ends
	// (fs/fuse/dev_uring.c: FUSE_NOTIFY_RESEND knows no rings), so the
	// connection has to be cut and the mount made anew.
	Uring bool
	// Deaths counts servers that died one after another without an answer,
	// under the keepers before.
	Deaths int
}

// Files are the descriptors that go with an Estate.
type Files struct {
	Ledger *os.File   // unionfs.Ledger
	Locks  []*os.File // nobody else can take them while one copy is open
	Device *os.File   // /dev/fuse; nil for a server that has to mount anew
}

// list returns the files in the order in which a process inherits them.
func (f *Files) list() []*os.File {
	all := append([]*os.File{f.Ledger}, f.Locks...)
	if f.Device != nil {
		all = append(all, f.Device)
	}
	return all
}

// Close gives the files back.
func (f *Files) Close() error {
	var errs []error
	for _, file := range f.list() {
		errs = append(errs, file.Close())
	}
	return errors.Join(errs...)
}

// controlFD is the socket to the process that started this one; the files come
// behind it.
const controlFD = 3

// inherit finds the files of a process that was started with them. more is how
// many come behind.
func inherit(locks int, device bool) (f Files, next int, err error) {
	next = controlFD + 1
	take := func(name string) *os.File {
		unix.CloseOnExec(next)
		next++
		return os.NewFile(uintptr(next-1), name)
	}
	f.Ledger = take("ledger")
	for range locks {
		f.Locks = append(f.Locks, take("lock"))
	}
	if device {
		f.Device = take("/dev/fuse")
	}
	for _, file := range f.list() {
		if file == nil {
			return f, next, errors.New("a descriptor is missing that the keeper should have passed on")
		}
		if _, err := file.Stat(); err != nil {
			return f, next, fmt.Errorf("inherit from the keeper: %w", err)
		}
	}
	return f, next, nil
}

// Words that go over the socket.
const (
	wordReady   = 'r' // keeper: it is at work
	wordDone    = 'd' // server: the mount is gone
	wordLeaving = 'l' // server: another one is to take over
)

// Keeper is a server's side of its keeper.
type Keeper struct {
	Pid     int
	control *os.File
	lost    chan struct{}
}

// Start starts a keeper for the calling server and waits until it is at work.
// The files stay the caller's.
func Start(e Estate, f Files) (*Keeper, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("start the keeper: %w", err)
	}
	defer theirs.Close()
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("start the keeper: %w", os.NewSyscallError("pidfd_open", err))
	}
	me := os.NewFile(uintptr(pidfd), "pidfd")
	defer me.Close()
	cmd := command(e.Keeper, append(append([]*os.File{theirs}, f.list()...), me))
	if err := cmd.Start(); err != nil {
		ours.Close()
		return nil, fmt.Errorf("start the keeper: %w", err)
	}
	go func() { _ = cmd.Wait() }() // so that no zombie stays
	theirs.Close()
	e.Locks = len(f.Locks)
	k := &Keeper{Pid: cmd.Process.Pid, control: ours}
	if err := k.greet(e); err != nil {
		_ = cmd.Process.Kill()
		ours.Close()
		return nil, fmt.Errorf("start the keeper: %w", err)
	}
	return k.watch(), nil
}

// startWait is how long a keeper may take to begin its work.
const startWait = 10 * time.Second

func (k *Keeper) greet(e Estate) error {
	if err := json.NewEncoder(k.control).Encode(e); err != nil {
		return err
	}
	poll := []unix.PollFd{{Fd: int32(k.control.Fd()), Events: unix.POLLIN}}
	var word [1]byte
	for {
		n, err := unix.Poll(poll, int(startWait.Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return errors.Join(errors.New("it does not answer"), err)
		}
		break
	}
	if _, err := io.ReadFull(k.control, word[:]); err != nil {
		return errors.New("it ended at once")
	}
	return nil
}

// Join is the server's side of the keeper that has started it.
func Join(control *os.File) *Keeper {
	return (&Keeper{Pid: os.Getppid(), control: control}).watch()
}

// watch notices the end of the keeper, which says nothing more.
func (k *Keeper) watch() *Keeper {
	k.lost = make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, k.control)
		close(k.lost)
	}()
	return k
}

// Lost returns a channel that is closed when the keeper has ended.
func (k *Keeper) Lost() <-chan struct{} { return k.lost }

// Dismiss tells the keeper that the mount is gone, or in other hands. It ends.
func (k *Keeper) Dismiss() error { return k.say(wordDone) }

// Leave tells the keeper that the server ends for another one to take over.
func (k *Keeper) Leave() error { return k.say(wordLeaving) }

func (k *Keeper) say(word byte) error {
	if _, err := k.control.Write([]byte{word}); err != nil {
		return fmt.Errorf("tell the keeper: %w", err)
	}
	return nil
}

// socketPair returns two connected stream sockets.
func socketPair() (a, b *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control"), nil
}

// command prepares a process in a session of its own that inherits files. A
// program that is no longer at its path is replaced by the caller's own.
func command(line []string, files []*os.File) *exec.Cmd {
	path := line[0]
	if _, err := os.Stat(path); err != nil {
		path = "/proc/self/exe"
	}
	return &exec.Cmd{
		Path: path, Args: append([]string{"unio"}, line[1:]...), Dir: "/",
		Stdout: os.Stdout, Stderr: os.Stderr, ExtraFiles: files,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
}
