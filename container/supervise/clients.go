package supervise

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"unio/container/runner"
)

// accept serves everybody who attaches later.
func (s *supervisor) accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				s.log.Error("accept", "err", err)
			}
			return
		}
		go s.welcome(newFramed(conn))
	}
}

// welcome serves one who attaches. The answer comes before any output, so that
// a client can tell a supervisor that dies from a program that prints nothing.
func (s *supervisor) welcome(f *framed) {
	var h hello
	if err := f.receiveJSON(kindHello, &h); err != nil {
		f.conn.Close()
		return
	}
	if err := f.sendJSON(kindReply, reply{}); err != nil {
		f.conn.Close()
		return
	}
	_, streams := s.now()
	streams.resize(h.Attach.Size)
	s.hub.add(f, h.Attach)
	s.hear(f, h.Attach)
}

// hear does what a client says until it has nothing more to say.
func (s *supervisor) hear(f *framed, a Attach) {
	buf := make([]byte, 32<<10)
	for {
		k, data, err := f.receive(buf)
		if err != nil {
			s.hub.remove(f)
			if _, streams := s.now(); a.Stdin {
				streams.inputEnds()
			}
			return
		}
		process, streams := s.now()
		switch k {
		case kindInput:
			if a.Stdin {
				streams.input(data)
			}
		case kindEOF:
			if a.Stdin {
				streams.inputEnds()
			}
		case kindSize:
			streams.resizeTo(data)
		case kindSignal:
			s.signal(process, data)
		case kindDetach:
			a.Stdin = false
			s.hub.remove(f)
		}
	}
}

// signal sends the program a signal that a client has got.
func (s *supervisor) signal(process *runner.Process, data []byte) {
	var sig unix.Signal
	if err := json.Unmarshal(data, &sig); err != nil || sig <= 0 {
		return
	}
	if err := process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.log.Warn("pass a signal on", "signal", sig, "err", err)
	}
}

// hub hands the output to all who are attached.
type hub struct {
	mu      sync.Mutex // guards what follows; not held while sending
	clients map[*framed]Attach
}

func newHub() *hub { return &hub{clients: map[*framed]Attach{}} }

func (h *hub) add(f *framed, a Attach) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clients[f] = a
}

// remove forgets a client and ends its connection.
func (h *hub) remove(f *framed) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.clients, f)
	f.conn.Close()
}

// list returns those who want a stream.
func (h *hub) list(wants func(Attach) bool) []*framed {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []*framed
	for f, a := range h.clients {
		if wants(a) {
			list = append(list, f)
		}
	}
	return list
}

// print sends output. Who does not read holds the program up, as docker does.
func (h *hub) print(k kind, data []byte) {
	for _, f := range h.list(func(a Attach) bool { return k == kindStdout && a.Stdout || k == kindStderr && a.Stderr }) {
		if f.send(k, data) != nil {
			h.remove(f)
		}
	}
}

// hurry bounds how long who does not read can hold up what is sent from now on,
// and what is being sent.
func (h *hub) hurry(atMost time.Duration) {
	for _, f := range h.list(func(Attach) bool { return true }) {
		_ = f.conn.SetWriteDeadline(time.Now().Add(atMost)) // it may have left just now
	}
}

// exit tells everybody how the program ended.
func (h *hub) exit(e Exit) {
	h.hurry(drainWait)
	for _, f := range h.list(func(Attach) bool { return true }) {
		_ = f.sendJSON(kindExit, e) // it may have left just now
		h.remove(f)
	}
}
