package supervise

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// kind says what a frame carries. A frame is its kind, the length of what
// follows as four bytes, the highest first, and that many bytes.
type kind byte

const (
	// From a client.
	kindHello  kind = 'h' // hello, the first frame
	kindInput  kind = 'i' // bytes for the program
	kindEOF    kind = 'e' // the end of them
	kindSize   kind = 'w' // Size of the client's terminal
	kindSignal kind = 's' // number of a signal for the program
	kindDetach kind = 'd' // the client leaves on purpose
	// From the supervisor.
	kindReply  kind = 'r' // reply to hello
	kindStdout kind = 'o' // bytes of the program
	kindStderr kind = 'x'
	kindExit   kind = 'c' // Exit, the last frame
)

// maxFrame bounds the length of a frame: tasks hold command lines only.
const maxFrame = 1 << 20

// Size is that of a terminal, in characters.
type Size struct{ Rows, Cols uint16 }

// Exit says how the program ended.
type Exit struct {
	Code  int
	Error string // the supervisor could not see to the rest
}

// Attach says which streams a client wants.
type Attach struct {
	Stdin, Stdout, Stderr bool
	Size                  *Size // of its terminal, nil: it has none
}

// hello is a client's first frame. Task is there for a new supervisor only.
type hello struct {
	Task   *task
	Attach Attach
}

// reply answers it.
type reply struct {
	Error    string
	Code     int // of the error: 125 to 127
	Warnings []string
}

// framed is a connection that carries frames. Any number may write at once.
type framed struct {
	conn net.Conn
	in   *bufio.Reader
	mu   sync.Mutex // one frame at a time is written
}

func newFramed(conn net.Conn) *framed {
	return &framed{conn: conn, in: bufio.NewReaderSize(conn, 32<<10)}
}

func (f *framed) send(k kind, payload []byte) error {
	head := [5]byte{byte(k)}
	binary.BigEndian.PutUint32(head[1:], uint32(len(payload)))
	f.mu.Lock()
	defer f.mu.Unlock()
	buffers := net.Buffers{head[:], payload}
	_, err := buffers.WriteTo(f.conn)
	return err
}

func (f *framed) sendJSON(k kind, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return f.send(k, data)
}

// receive reads one frame into buf, which is made larger if it must.
func (f *framed) receive(buf []byte) (k kind, payload []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(f.in, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxFrame {
		return 0, nil, fmt.Errorf("a frame of %d bytes", n)
	}
	if int(n) > cap(buf) {
		buf = make([]byte, n)
	}
	payload = buf[:n]
	if _, err := io.ReadFull(f.in, payload); err != nil {
		return 0, nil, errors.Join(io.ErrUnexpectedEOF, err)
	}
	return kind(head[0]), payload, nil
}

// receiveJSON reads one frame that must be of a kind.
func (f *framed) receiveJSON(want kind, v any) error {
	got, payload, err := f.receive(nil)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("a frame of kind %q where %q must come", got, want)
	}
	return json.Unmarshal(payload, v)
}
