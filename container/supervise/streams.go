package supervise

import (
	"encoding/json"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/creack/pty"

	"unio/container"
	"unio/container/jsonlog"
)

// streams are the standard streams of a program: pipes, or a terminal.
type streams struct {
	// The program's ends.
	stdin, stdout, stderr, console *os.File

	tty   bool
	once  bool       // input ends with the client that sends it
	in    *os.File   // our end of its input; nil: it has none
	outs  []*os.File // our ends of its output
	log   *jsonlog.Log
	hub   *hub
	begin []func()       // the pumps, which wait until the first client is told
	pumps sync.WaitGroup // they run
	inMu  sync.Mutex     // guards in; not held while it is written, which a program that reads nothing holds up
}

// openStreams makes the streams of a container.
func openStreams(c *container.Container, h *hub, size *Size) (s *streams, err error) {
	s = &streams{tty: c.Config.Tty, once: c.Config.StdinOnce, hub: h}
	defer func() {
		if err != nil {
			s.closeTheirs()
			_ = s.close()
		}
	}()
	if c.Host.LogConfig.Type != "none" {
		o, err := jsonlog.ParseOptions(c.Host.LogConfig.Config)
		if err != nil {
			return s, err
		}
		if s.log, err = jsonlog.Open(c.OutputPath(), o); err != nil {
			return s, err
		}
	}
	if s.tty {
		return s, s.openTerminal(size)
	}
	return s, s.openPipes(c.Config.OpenStdin)
}

// openTerminal makes a terminal, which carries both output streams as one.
func (s *streams) openTerminal(size *Size) error {
	master, slave, err := pty.Open()
	if err != nil {
		return err
	}
	s.console, s.in = slave, master
	s.outs = []*os.File{master}
	s.resize(size)
	s.pump(master, kindStdout, "stdout")
	return nil
}

// openPipes makes pipes, also where nobody is attached: a program must not notice
// when clients come and go.
func (s *streams) openPipes(stdin bool) (err error) {
	if stdin {
		if s.stdin, s.in, err = os.Pipe(); err != nil {
			return err
		}
	}
	for _, p := range []struct {
		theirs **os.File
		kind   kind
		name   string
	}{{&s.stdout, kindStdout, "stdout"}, {&s.stderr, kindStderr, "stderr"}} {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		*p.theirs = w
		s.outs = append(s.outs, r)
		s.pump(r, p.kind, p.name)
	}
	return nil
}

// pump moves what the program prints to its log and to who is attached.
func (s *streams) pump(from *os.File, k kind, name string) {
	var keep *jsonlog.Stream
	if s.log != nil {
		keep = s.log.Stream(name)
	}
	s.begin = append(s.begin, func() {
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			if n > 0 {
				s.hub.print(k, buf[:n])
				if keep != nil {
					_, _ = keep.Write(buf[:n]) // a full disk must not stop the program
				}
			}
			if err != nil { // EIO of a terminal nobody has open any more
				break
			}
		}
		if keep != nil {
			_ = keep.Close()
		}
	})
}

// flow begins to hand on what the program prints.
func (s *streams) flow() {
	for _, pump := range s.begin {
		s.pumps.Go(pump)
	}
}

// drainWait is how long output may come after the program has ended: what it
// has left behind in a pipe, not what others who have the pipe print.
const drainWait = 2 * time.Second

// drain waits until all output has been handed on.
func (s *streams) drain() {
	done := make(chan struct{})
	go func() { s.pumps.Wait(); close(done) }()
	select {
	case <-done:
		return
	case <-time.After(drainWait):
	}
	s.hub.hurry(0) // it may be a client that does not read
	for _, f := range s.outs {
		_ = f.SetReadDeadline(time.Now())
	}
	select {
	case <-done:
	case <-time.After(drainWait):
	}
}

// closeTheirs closes the program's ends, which it has copies of by now.
func (s *streams) closeTheirs() {
	for _, f := range []*os.File{s.stdin, s.stdout, s.stderr, s.console} {
		if f != nil {
			f.Close()
		}
	}
}

// close closes our ends.
func (s *streams) close() error {
	s.inMu.Lock()
	defer s.inMu.Unlock()
	if s.in != nil && !s.tty {
		s.in.Close()
	}
	s.in = nil
	for _, f := range s.outs {
		f.Close()
	}
	s.outs = nil
	if s.log == nil {
		return nil
	}
	defer func() { s.log = nil }()
	return s.log.Close()
}

// input hands bytes to the program, which may have closed its input.
func (s *streams) input(data []byte) {
	s.inMu.Lock()
	in := s.in
	s.inMu.Unlock()
	if in == nil {
		return
	}
	if _, err := in.Write(data); err != nil && !errors.Is(err, os.ErrClosed) {
		s.closeInput()
	}
}

// inputEnds is told when a client that sends input has no more.
func (s *streams) inputEnds() {
	if s.once && !s.tty {
		s.closeInput()
	}
}

func (s *streams) closeInput() {
	s.inMu.Lock()
	defer s.inMu.Unlock()
	if s.in != nil && !s.tty {
		s.in.Close()
		s.in = nil
	}
}

// resizeTo reads a size as a client sends it.
func (s *streams) resizeTo(data []byte) {
	var size Size
	if json.Unmarshal(data, &size) == nil {
		s.resize(&size)
	}
}

// resize gives the terminal the size of the client's.
func (s *streams) resize(size *Size) {
	if size == nil || !s.tty {
		return
	}
	s.inMu.Lock()
	defer s.inMu.Unlock()
	if s.in != nil {
		_ = pty.Setsize(s.in, &pty.Winsize{Rows: size.Rows, Cols: size.Cols})
	}
}
