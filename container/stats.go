package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"runtime"
	"time"

	"unio/container/inroot"
	"unio/cow"
	"unio/unionfs/transport"
)

// Stats are the figures of a server.
type Stats struct {
	Dir    string `json:"dir"`    // where it is mounted
	Target string `json:"target"` // the container's name, or the image's
	// Requests counts what the kernel asked, by operation: the names of
	// include/uapi/linux/fuse.h without FUSE_.
	Requests map[string]uint64 `json:"requests"`
	Total    uint64            `json:"total"`
	// Stats says more of each operation, and how much data was moved.
	transport.Stats
	Upper   *cow.Stats   `json:"upper,omitempty"` // of a writable mount
	Process ProcessStats `json:"process"`
}

// ProcessStats are figures of the process that serves a mount.
type ProcessStats struct {
	Pid         int     `json:"pid"`
	Resident    uint64  `json:"resident"` // bytes of memory, the mapped indexes included
	Goroutines  int     `json:"goroutines"`
	Descriptors int     `json:"descriptors"` // open files
	Uptime      float64 `json:"uptime"`      // seconds
	Restarts    uint64  `json:"restarts"`    // servers that this mount has outlived
	// Transport tells how requests come: transport.Dev or transport.Uring.
	Transport transport.Kind `json:"transport"`
}

// ownStats returns the figures of the calling process, as far as /proc tells.
func ownStats(start time.Time) ProcessStats {
	p := ProcessStats{Pid: os.Getpid(), Goroutines: runtime.NumGoroutine(), Uptime: time.Since(start).Seconds()}
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		p.Descriptors = len(fds) - 1 // without the one it was read through
	}
	if text, err := os.ReadFile("/proc/self/statm"); err == nil {
		var size, resident uint64 // in pages (proc_pid_statm(5))
		if _, err := fmt.Sscan(string(text), &size, &resident); err == nil {
			p.Resident = resident * uint64(os.Getpagesize())
		}
	}
	return p
}

// statsWait bounds how long either side waits for the other.
const statsWait = 3 * time.Second

// Stats asks the server of a mount for its figures, over a socket beside the
// note, so that the question is no request of its own.
func (s *Store) Stats(ref string) (*Stats, error) {
	m, err := s.FindMount(ref)
	if err != nil {
		return nil, err
	}
	return s.statsOf(m)
}

// AllStats asks the servers of all mounts. Those that do not answer are left
// out and named by the error.
func (s *Store) AllStats() ([]*Stats, error) {
	mounts, err := s.Mounts()
	if err != nil {
		return nil, err
	}
	var all []*Stats
	var errs []error
	for _, m := range mounts {
		stats, err := s.statsOf(m)
		if err == nil {
			all = append(all, stats)
		}
		errs = append(errs, err)
	}
	return all, errors.Join(errs...)
}

func (s *Store) statsOf(m *Mount) (*Stats, error) {
	stats := Stats{Dir: m.Dir, Target: m.Target()}
	err := s.inMountsDir(m.ID, statsSocket, func(path string) error {
		conn, err := net.DialTimeout("unix", path, statsWait)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(statsWait)); err != nil {
			return err
		}
		return json.NewDecoder(conn).Decode(&stats)
	})
	if err != nil {
		return nil, fmt.Errorf("ask the server of %s: %w", m.Dir, err)
	}
	return &stats, nil
}

// Sockets of a mount, beside its note.
const (
	statsSocket   = "sock"
	controlSocket = "ctl"
)

// inMountsDir calls do with a path of a mount's socket that is short enough
// for a socket address (108 bytes, unix(7)) however deep the run root lies.
func (s *Store) inMountsDir(id, kind string, do func(path string) error) error {
	dir, err := os.Open(s.mountsDir())
	if err != nil {
		return err
	}
	defer dir.Close()
	return do(inroot.FDPath(int(dir.Fd())) + "/" + id[:16] + "." + kind)
}

// socket is one on which a server answers.
type socket struct {
	listener net.Listener
	remove   func() error
}

// serveStats answers every connection with the figures.
func (v *socket) serveStats(figures func() *Stats, log *slog.Logger) {
	go v.accept(log, func(conn net.Conn) {
		_ = conn.SetDeadline(time.Now().Add(statsWait))
		if err := json.NewEncoder(conn).Encode(figures()); err != nil {
			log.Debug("stats", "err", err)
		}
	})
}

// listen opens a socket of a mount, in place of one that a dead server left.
func (s *Store) listen(id, kind string) (*socket, error) {
	v := &socket{remove: func() error {
		return s.inMountsDir(id, kind, func(path string) error {
			if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return nil
		})
	}}
	if err := os.MkdirAll(s.mountsDir(), 0o700); err != nil {
		return nil, err
	}
	if err := v.remove(); err != nil {
		return nil, err
	}
	err := s.inMountsDir(id, kind, func(path string) (err error) {
		v.listener, err = net.Listen("unix", path)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	// The path that it knows ends with a descriptor that is closed by now.
	v.listener.(*net.UnixListener).SetUnlinkOnClose(false)
	return v, nil
}

// accept serves one connection after the other.
func (v *socket) accept(log *slog.Logger, serve func(net.Conn)) {
	for {
		conn, err := v.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			log.Warn("accept", "err", err)
			time.Sleep(time.Second) // as when descriptors run out
			continue
		}
		serve(conn)
		conn.Close()
	}
}

func (v *socket) Close() error {
	return errors.Join(v.listener.Close(), v.remove())
}
