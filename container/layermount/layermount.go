// Package layermount mounts chains of layers, each with a writable folder on
// top or read-only, for as long as the caller works with them: the steps of a
// build. One process in the background serves all mounts of one caller
// ([Start], [Serve]); when the caller ends, however that may be, so do the
// mounts.
//
// What such a mount changes is not durable before [Mounter.Unmount] has
// returned and the caller has made a layer of it: a crash loses the step. There
// is no record, no keeper and no note; containers are package container's.
package layermount

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Options say what to mount where.
type Options struct {
	Layers []digest.Digest // diffIDs, bottom first; none: an empty tree
	// Upper takes up what changes and Work is the union's own, on the same
	// filesystem. Both must exist. Empty: the mount is read-only.
	Upper, Work string
	Dir         string // an existing folder, absolute
}

// ErrEnded says that the process that serves the mounts has ended.
var ErrEnded = errors.New("the server of the mounts has ended")

// request is what the server is told, in JSON, over its control socket.
type request struct {
	N       uint64
	Mount   *Options
	Unmount string // the folder
}

// reply answers the request of the same number.
type reply struct {
	N     uint64
	Error string
}

// Mounter mounts and unmounts. Its methods may be called by several goroutines.
type Mounter struct {
	cmd     *exec.Cmd
	control *os.File
	gone    chan struct{} // closed when no answer will come any more

	mu      sync.Mutex // guards what follows, and writing to control
	last    uint64
	waiting map[uint64]chan string
}

// Start starts the server: command is the command line, the path of the
// program first, of a process that calls [Serve] with descriptor 3. Its log
// goes to log, nil: nowhere.
func Start(command []string, log *os.File) (*Mounter, error) {
	if len(command) == 0 {
		return nil, errors.New("start the mount server: no command line")
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("start the mount server: socketpair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control")
	defer theirs.Close()
	// What a shell or a test left open must not reach the server.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		ours.Close()
		return nil, fmt.Errorf("start the mount server: close_range: %w", err)
	}
	cmd := &exec.Cmd{
		Path: command[0], Args: append([]string{"unio"}, command[1:]...), Dir: "/",
		ExtraFiles: []*os.File{theirs}, SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if log != nil {
		cmd.Stderr = log
	}
	if err := cmd.Start(); err != nil {
		ours.Close()
		return nil, fmt.Errorf("start the mount server: %w", err)
	}
	m := &Mounter{cmd: cmd, control: ours, gone: make(chan struct{}), waiting: map[uint64]chan string{}}
	go m.listen()
	return m, nil
}

// listen hands answers to those who wait for them.
func (m *Mounter) listen() {
	defer close(m.gone)
	for dec := json.NewDecoder(m.control); ; {
		var r reply
		if dec.Decode(&r) != nil {
			return
		}
		m.mu.Lock()
		answer := m.waiting[r.N]
		delete(m.waiting, r.N)
		m.mu.Unlock()
		if answer != nil {
			answer <- r.Error
		}
	}
}

// ask sends a request and waits for its answer.
func (m *Mounter) ask(r request) error {
	answer := make(chan string, 1)
	m.mu.Lock()
	m.last++
	r.N = m.last
	m.waiting[r.N] = answer
	err := json.NewEncoder(m.control).Encode(r)
	m.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrEnded, err)
	}
	select {
	case text := <-answer:
		if text != "" {
			return errors.New(text)
		}
		return nil
	case <-m.gone:
		return ErrEnded
	}
}

// Mount mounts a chain and returns when the mount answers.
func (m *Mounter) Mount(o Options) error {
	if err := m.ask(request{Mount: &o}); err != nil {
		return fmt.Errorf("mount on %s: %w", o.Dir, err)
	}
	return nil
}

// Unmount takes a mount away. When it returns, all that was written there is
// in the upper folder, and nothing changes it any more unless a process still
// uses the mount.
func (m *Mounter) Unmount(dir string) error {
	err := flush(dir)
	return errors.Join(err, m.ask(request{Unmount: dir}))
}

// flush lets the kernel hand what it has collected to the server.
func flush(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("flush %s: %w", dir, err)
	}
	defer unix.Close(fd)
	if err := unix.Syncfs(fd); err != nil {
		return fmt.Errorf("flush %s: %w", dir, err)
	}
	return nil
}

// Close ends the server, which unmounts what is still mounted.
func (m *Mounter) Close() error {
	// Not Close: listen is reading.
	err := unix.Shutdown(int(m.control.Fd()), unix.SHUT_WR)
	waitErr := m.cmd.Wait()
	<-m.gone
	return errors.Join(err, waitErr, m.control.Close())
}
