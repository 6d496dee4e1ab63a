package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"unio/unionfs/transport"
)

// drainWait is how long a server that is to be replaced waits for the requests
// at work. What takes longer is repeated by its successor.
const drainWait = 2 * time.Second

// reloadWait bounds how long a reload may take.
const reloadWait = 20 * time.Second

// reload asks a server to make room for another one.
type reload struct {
	Program string // path of the program that is to serve
	answer  chan error
	sent    chan struct{} // closed when the answer is out
}

// Reload puts another program, the calling one, below a live mount: its server
// hands over to one that is started from the program at the given path. It
// returns when that one answers. Processes that use the mount wait meanwhile.
func (s *Store) Reload(ctx context.Context, m *Mount, program string) (*Mount, error) {
	err := s.inMountsDir(m.ID, controlSocket, func(path string) error {
		conn, err := net.DialTimeout("unix", path, statsWait)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(reloadWait)); err != nil {
			return err
		}
		if err := json.NewEncoder(conn).Encode(reload{Program: program}); err != nil {
			return err
		}
		var a answer
		if err := json.NewDecoder(conn).Decode(&a); err != nil {
			return err
		}
		if a.Error != "" {
			return errors.New(a.Error)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reload the server of %s: %w", m.Dir, err)
	}
	return s.awaitSuccessor(ctx, m)
}

// awaitSuccessor waits until another server has noted the mount.
func (s *Store) awaitSuccessor(ctx context.Context, m *Mount) (*Mount, error) {
	for deadline := time.Now().Add(reloadWait); time.Now().Before(deadline); {
		now, err := s.readNote(m.ID)
		if err != nil {
			return nil, fmt.Errorf("reload the server of %s: its mount has ended: %w", m.Dir, err)
		}
		if now.Server != m.Server && now.Server.alive() {
			return now, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil, fmt.Errorf("reload the server of %s: no other server has come; see %s", m.Dir, m.Log)
}

// serveReloads listens to those who want the server replaced.
func (v *socket) serveReloads(to chan<- reload, log *slog.Logger) {
	go v.accept(log, func(conn net.Conn) {
		r := reload{answer: make(chan error, 1), sent: make(chan struct{})}
		defer close(r.sent)
		if err := json.NewDecoder(conn).Decode(&r); err != nil {
			return
		}
		to <- r
		var a answer
		if err := <-r.answer; err != nil {
			a.Error = err.Error()
		}
		_ = json.NewEncoder(conn).Encode(a)
	})
}

// errUringReload says why such a server stays: whatever it has not answered
// when it ends would wait for ever (see keeper.Estate.Uring).
var errUringReload = errors.New("its requests come over io_uring, which no other server can take over: " +
	"unmount it and mount it again, or mount it with --transport dev")

// leave ends the server for another one, which a keeper from the given program
// will start. After an error everything is as before.
func (w *served) leave(r reload) error {
	if w.server.Transport() == transport.Uring {
		return errUringReload
	}
	if w.keeper == nil {
		return errors.New("this mount has no keeper (option restart=off)")
	}
	if _, err := os.Stat(r.Program); err != nil {
		return err
	}
	if err := w.keep(r.Program); err != nil {
		return err
	}
	if !w.server.Drain(drainWait) {
		w.log.Warn("requests at work are left to the next server")
	}
	return w.keeper.Leave()
}
