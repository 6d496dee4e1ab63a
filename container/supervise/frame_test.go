package supervise

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"unio/container/runner"
)

// pair connects a client with what serves it, as a supervisor's socket does.
func pair(t *testing.T) (client, server *framed) {
	t.Helper()
	ours, file, err := controlPair()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := net.FileConn(file)
	if err = errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return newFramed(ours), newFramed(theirs)
}

func TestFrames(t *testing.T) {
	client, server := pair(t)
	payloads := [][]byte{nil, []byte("text"), bytes.Repeat([]byte("x"), 100<<10), bytes.Repeat([]byte("y"), maxFrame)}
	go func() {
		for _, p := range payloads {
			if err := client.send(kindInput, p); err != nil {
				t.Error(err)
			}
		}
		client.conn.Close()
	}()
	buf := make([]byte, 10)
	for i, want := range payloads {
		k, got, err := server.receive(buf)
		if err != nil || k != kindInput || !bytes.Equal(got, want) {
			t.Errorf("frame %d: kind %q, %d bytes, %v; want %d", i, k, len(got), err, len(want))
		}
	}
	if _, _, err := server.receive(buf); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

// TestBrokenFrames: what is no frame ends the connection, and reserves no memory.
func TestBrokenFrames(t *testing.T) {
	long := binary.BigEndian.AppendUint32([]byte{byte(kindInput)}, maxFrame+1)
	for name, c := range map[string]struct {
		bytes []byte
		want  error // nil: any
	}{
		"too long":         {append(long, "text"...), nil},
		"half a head":      {long[:3], io.ErrUnexpectedEOF},
		"half a payload":   {[]byte{byte(kindInput), 0, 0, 0, 9, 'x'}, io.ErrUnexpectedEOF},
		"no payload":       {[]byte{byte(kindInput), 0, 0, 0, 9}, io.ErrUnexpectedEOF},
		"nothing whatever": {nil, io.EOF},
	} {
		client, server := pair(t)
		if _, err := client.conn.Write(c.bytes); err != nil {
			t.Fatal(err)
		}
		client.conn.Close()
		if _, _, err := server.receive(nil); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	client, server := pair(t)
	if err := client.send(kindEOF, nil); err != nil {
		t.Fatal(err)
	}
	if err := server.receiveJSON(kindHello, new(hello)); err == nil || !strings.Contains(err.Error(), `'e'`) {
		t.Errorf("another kind: %v", err)
	}
}

// TestManySenders: frames of several senders are whole.
func TestManySenders(t *testing.T) {
	client, server := pair(t)
	const senders, each = 8, 50
	var wg sync.WaitGroup
	for i := range senders {
		wg.Go(func() {
			for range each {
				if err := client.send(kindInput, bytes.Repeat([]byte{byte(i)}, 5000+i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	count := map[byte]int{}
	for range senders * each {
		_, data, err := server.receive(nil)
		if err != nil {
			t.Fatal(err)
		}
		i := data[0]
		if len(data) != 5000+int(i) || !bytes.Equal(data, bytes.Repeat([]byte{i}, len(data))) {
			t.Fatalf("a mixed frame of %d bytes", len(data))
		}
		count[i]++
	}
	wg.Wait()
	for i := range byte(senders) {
		if count[i] != each {
			t.Errorf("%d frames of sender %d", count[i], i)
		}
	}
}

// answers plays a supervisor: it takes the hello and sends what is given.
func answers(t *testing.T, server *framed, r reply, then func()) {
	t.Helper()
	go func() {
		if err := server.receiveJSON(kindHello, new(hello)); err != nil {
			t.Error(err)
		}
		if err := server.sendJSON(kindReply, r); err != nil {
			t.Error(err)
		}
		if then != nil {
			then()
		}
	}()
}

func TestSession(t *testing.T) {
	client, server := pair(t)
	s := &Session{framed: client}
	answers(t, server, reply{Warnings: []string{"no swap"}}, func() {
		_ = server.send(kindStdout, []byte("out"))
		_ = server.send(kindStderr, []byte("err"))
		_ = server.send(kindStdout, []byte("put"))
		_ = server.sendJSON(kindExit, Exit{Code: 7, Error: "busy"})
	})
	if err := s.greet(hello{}); err != nil || len(s.Warnings) != 1 || s.Warnings[0] != "no swap" {
		t.Fatalf("%v, warnings %q", err, s.Warnings)
	}
	var out, errs strings.Builder
	e, err := s.Copy(&out, &errs)
	if err != nil || e.Code != 7 || e.Error != "busy" || out.String() != "output" || errs.String() != "err" {
		t.Errorf("%+v, %v, printed %q and %q", e, err, out.String(), errs.String())
	}
}

// TestRefused: why a container does not run, and with which exit code.
func TestRefused(t *testing.T) {
	client, server := pair(t)
	answers(t, server, reply{Error: "no such file", Code: 127}, nil)
	var start *StartError
	if err := (&Session{framed: client}).greet(hello{}); !errors.As(err, &start) || start.Code != 127 || start.Text != "no such file" {
		t.Errorf("refused: %v", err)
	}
	for err, want := range map[error]int{
		&runner.StartError{Code: 126, Err: unix.EACCES}:                                    126,
		errors.Join(unix.EIO, &runner.StartError{Code: 127, Err: unix.ENOENT}, unix.EBUSY): 127,
		unix.ENOSPC: codeFailed,
	} {
		if got := codeOf(err); got != want {
			t.Errorf("%v: code %d, want %d", err, got, want)
		}
	}
}

// TestLost: a supervisor that dies is told from a program that ends.
func TestLost(t *testing.T) {
	client, server := pair(t)
	server.conn.Close()
	if err := (&Session{framed: client}).greet(hello{}); !errors.Is(err, ErrLost) {
		t.Errorf("before it answers: %v", err)
	}
	client, server = pair(t)
	if err := server.send(kindStdout, []byte("half")); err != nil {
		t.Fatal(err)
	}
	server.conn.Close()
	var out strings.Builder
	if _, err := (&Session{framed: client}).Copy(&out, io.Discard); !errors.Is(err, ErrLost) || out.String() != "half" {
		t.Errorf("while it prints: %v, %q", err, out.String())
	}
}

// failing is a writer whose other end is gone.
type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// TestNobodyReads: of a client whose output goes nowhere the program hears
// nothing; any other error of writing is the client's end.
func TestNobodyReads(t *testing.T) {
	for given, want := range map[error]error{unix.EPIPE: nil, unix.ENOSPC: unix.ENOSPC} {
		client, server := pair(t)
		_ = server.send(kindStdout, []byte("text"))
		_ = server.sendJSON(kindExit, Exit{Code: 3})
		e, err := (&Session{framed: client}).Copy(failing{given}, io.Discard)
		if !errors.Is(err, want) || want == nil && (err != nil || e.Code != 3) {
			t.Errorf("%v: %+v, %v", given, e, err)
		}
	}
}
