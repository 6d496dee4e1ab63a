package layermount

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"unio/container/rootless"
	"unio/cow"
	"unio/unionfs"
	"unio/unionfs/merge"
	"unio/unionfs/transport"
)

// Lower is the merged tree of a chain of layers, open for reading.
type Lower interface {
	merge.Lower
	io.Closer
}

// OpenLower opens a chain, bottom first.
type OpenLower func(ctx context.Context, diffIDs []digest.Digest) (Lower, error)

// ServeOptions say what a server needs.
type ServeOptions struct {
	Open      OpenLower
	Transport transport.Kind // how requests are to come; "": transport.Auto
	Log       *slog.Logger
}

// Serve is the server's side of [Start]. It returns when the caller of Start
// has closed its end or has died; what is still mounted goes away then.
func Serve(ctx context.Context, control *os.File, o ServeOptions) error {
	// Those signals come by the terminal to everybody; the caller decides.
	signal.Ignore(unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	unionfs.PrepareProcess()
	s := &server{ctx: ctx, o: o, log: o.Log, say: json.NewEncoder(control), mounts: map[string]*mounted{}}
	var busy sync.WaitGroup
	for dec := json.NewDecoder(control); ; {
		var r request
		if err := dec.Decode(&r); err != nil {
			break // the caller has gone
		}
		busy.Go(func() { s.answer(r) })
	}
	busy.Wait()
	s.end()
	return nil
}

// server holds all mounts of one caller.
type server struct {
	ctx context.Context
	o   ServeOptions
	log *slog.Logger

	sayMu sync.Mutex // keeps answers apart
	say   *json.Encoder

	mu     sync.Mutex // guards mounts
	mounts map[string]*mounted
}

// mounted is one mount.
type mounted struct {
	lower  Lower
	upper  *cow.FS // nil: read-only
	server *unionfs.Server
}

func (s *server) answer(r request) {
	var err error
	if r.Mount != nil {
		err = s.mount(r.Mount)
	} else {
		err = s.unmount(r.Unmount)
	}
	a := reply{N: r.N}
	if err != nil {
		a.Error = err.Error()
	}
	s.sayMu.Lock()
	defer s.sayMu.Unlock()
	if err := s.say.Encode(a); err != nil {
		s.log.Error("answer", "err", err)
	}
}

func (s *server) mount(o *Options) (err error) {
	lower, err := s.o.Open(s.ctx, o.Layers)
	if err != nil {
		return err
	}
	m := &mounted{lower: lower}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.close())
		}
	}()
	if o.Upper != "" {
		m.upper, err = cow.Open(cow.Options{
			Upper: o.Upper, Work: o.Work, Lower: m.lower, Root: os.Geteuid() == 0, Log: s.log,
			Volatile: true, // a crash loses the step anyway
		})
		if err != nil {
			return err
		}
	}
	m.server, err = unionfs.Mount(unionfs.Options{
		Lower: m.lower, Cow: m.upper, Dir: o.Dir, FsName: "unio-build",
		AllowOther: os.Geteuid() == 0 || rootless.Others(), Writeback: true, Log: s.log, IDs: rootless.IDs(), Transport: s.o.Transport,
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mounts[o.Dir] = m
	return nil
}

// unmountWait is how long a mount may go on after it was taken out of the
// tree: the namespace of a program that has just ended holds it for a moment.
const unmountWait = 5 * time.Second

func (s *server) unmount(dir string) error {
	s.mu.Lock()
	m := s.mounts[dir]
	delete(s.mounts, dir)
	s.mu.Unlock()
	if m == nil {
		return fmt.Errorf("unmount %s: not mounted", dir)
	}
	err := m.server.Unmount(true)
	ended := make(chan error, 1)
	go func() { ended <- m.server.Wait() }()
	select {
	case waitErr := <-ended:
		return errors.Join(err, waitErr, m.close())
	case <-time.After(unmountWait):
		// Some other namespace has a copy of the mount. What was written
		// before is in the upper; the end of this process ends the rest.
		s.log.Warn("unmounted here, in use elsewhere", "dir", dir)
		return err
	}
}

// end takes away what the caller left mounted.
func (s *server) end() {
	for dir := range s.mounts {
		if err := s.mounts[dir].server.Unmount(true); err != nil {
			s.log.Error("unmount", "dir", dir, "err", err)
		}
	}
}

// close gives back what lies below a mount that has ended.
func (m *mounted) close() error {
	var errs []error
	if m.upper != nil {
		errs = append(errs, m.upper.Close())
	}
	return errors.Join(append(errs, m.lower.Close())...)
}
