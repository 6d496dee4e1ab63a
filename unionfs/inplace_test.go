package unionfs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"unio/cow"
	"unio/unionfs/merge"
)

// message makes a request: header, arguments of 4 or 8 bytes each, and the rest.
func message(op uint32, node uint64, rest string, args ...any) []byte {
	b := make([]byte, inHeadSize)
	binary.NativeEndian.PutUint32(b[4:], op)
	binary.NativeEndian.PutUint64(b[8:], 4242)
	binary.NativeEndian.PutUint64(b[16:], node)
	for _, a := range args {
		b, _ = binary.Append(b, binary.NativeEndian, a)
	}
	b = append(b, rest...)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	return b
}

func readMessage(op uint32, node, off uint64, size uint32) []byte {
	return message(op, node, "", uint64(0), off, size, uint32(0), uint64(0), uint32(0), uint32(0))
}

func writeMessage(node, off uint64, data string) []byte {
	return message(opWrite, node, data, uint64(0), off, uint32(len(data)), uint32(0), uint64(0), uint32(0), uint32(0))
}

// inPlace makes the handler of a mount, and go-fuse's alone.
func (w *twice) inPlace() (*inPlace, *fuse.ProtocolServer) {
	log := slog.New(slog.DiscardHandler)
	w.log = log
	rest := fuse.NewProtocolServer(w.filesystem, protocolOptions(&Options{Cow: w.cow, Log: log}))
	return newInPlace(w.filesystem, w.o.Lower, rest), rest
}

// answerOf hands a request over in one piece or, as a ring has it, in three, of
// which the last is where the answer goes.
func answerOf(t *testing.T, h interface {
	HandleRequest(in, out [][]byte) (int, fuse.Status)
}, request []byte, ring bool,
) []byte {
	t.Helper()
	const most = 64 << 10
	out := make([]byte, most)
	in, to := [][]byte{bytes.Clone(request)}, [][]byte{out}
	if ring {
		size, _ := argsOf(binary.NativeEndian.Uint32(request[4:]))
		copy(out[outHeadSize:], request[inHeadSize+size:])
		in = [][]byte{request[:inHeadSize], request[inHeadSize : inHeadSize+size], out[outHeadSize:][:len(request)-inHeadSize-size]}
		to = [][]byte{out[:outHeadSize], out[outHeadSize:]}
	}
	n, status := h.HandleRequest(in, to)
	if status != fuse.OK {
		t.Fatalf("not answered: %v", status)
	}
	return out[:n]
}

// TestInPlace compares what is answered without go-fuse with what go-fuse makes
// of the same request.
func TestInPlace(t *testing.T) {
	w := newTwice(t, false)
	d, rest := w.inPlace()
	a, full := w.number("a"), w.number("full")
	up := w.write("up", "content")
	long := strings.Repeat("n", 300)
	requests := map[string][]byte{
		"lookup":                 message(opLookup, 1, "a\x00"),
		"lookup in the upper":    message(opLookup, 1, "up\x00"),
		"lookup none":            message(opLookup, 1, "none\x00"),
		"lookup in a file":       message(opLookup, a, "a\x00"),
		"lookup a long name":     message(opLookup, 1, long+"\x00"),
		"lookup without an end":  message(opLookup, 1, "a"),
		"lookup in nothing":      message(opLookup, 12345, "a\x00"),
		"getattr":                message(opGetattr, a, "", uint32(0), uint32(0), uint64(0)),
		"getattr in the upper":   message(opGetattr, up, "", uint32(0), uint32(0), uint64(0)),
		"getattr of nothing":     message(opGetattr, 12345, "", uint32(0), uint32(0), uint64(0)),
		"read":                   readMessage(opRead, a, 0, 4096),
		"read in the upper":      readMessage(opRead, up, 3, 4096),
		"read behind the end":    readMessage(opRead, up, 4096, 4096),
		"read a folder":          readMessage(opRead, 1, 0, 4096),
		"readdir":                readMessage(opReaddir, 1, 0, 4096),
		"readdir a part":         readMessage(opReaddir, 1, 2, 64),
		"readdir no room":        readMessage(opReaddir, 1, 0, 8),
		"readdirplus":            readMessage(opReaddirplus, 1, 0, 4096),
		"readdirplus below":      readMessage(opReaddirplus, full, 0, 4096),
		"readdirplus of a file":  readMessage(opReaddirplus, a, 0, 4096),
		"readlink of no link":    message(opReadlink, a, ""),
		"statfs":                 message(opStatfs, 1, ""),
		"getxattr none":          message(opGetxattr, a, "user.none\x00", uint32(64), uint32(0)),
		"getxattr":               message(opGetxattr, up, "user.x\x00", uint32(64), uint32(0)),
		"getxattr length":        message(opGetxattr, up, "user.x\x00", uint32(0), uint32(0)),
		"getxattr little room":   message(opGetxattr, up, "user.x\x00", uint32(1), uint32(0)),
		"unlink none":            message(opUnlink, 1, "none\x00"),
		"rmdir a file":           message(opRmdir, 1, "a\x00"),
		"mknod what is there":    message(opMknod, 1, "a\x00", uint32(unix.S_IFREG|0o644), uint32(0), uint32(0), uint32(0)),
		"mkdir what is there":    message(opMkdir, 1, "full\x00", uint32(0o755), uint32(0)),
		"write a folder":         writeMessage(1, 0, "x"),
		"write":                  writeMessage(up, 0, "content"),
		"an opcode of go-fuse's": message(13, 1, "none\x00x\x00", uint64(1)), // LINK
	}
	for name, request := range requests {
		want := answerOf(t, rest, request, false)
		if got := answerOf(t, d, request, false); !bytes.Equal(got, want) {
			t.Errorf("%s:\n% x\nwant\n% x", name, got, want)
		}
		if _, here := argsOf(binary.NativeEndian.Uint32(request[4:])); !here {
			continue
		}
		if got := answerOf(t, d, request, true); !bytes.Equal(got, want) {
			t.Errorf("%s, in pieces:\n% x\nwant\n% x", name, got, want)
		}
	}
}

// write makes a file in the upper with an attribute, and returns its number.
func (w *twice) write(name, content string) uint64 {
	w.t.Helper()
	var st cow.Stat
	err := w.cow.Create(merge.RootIno, name, cow.New{Mode: unix.S_IFREG | 0o644}, &st)
	if err == nil {
		_, err = w.cow.Write(st.Ino, []byte(content), 0, cow.How{})
	}
	if err == nil {
		err = w.cow.Setxattr(st.Ino, "user.x", []byte("value"), 0)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return uint64(st.Ino)
}

// TestInPlaceAllocations bounds what answering a request allocates, the kernel's
// part and the transport's aside.
func TestInPlaceAllocations(t *testing.T) {
	w := newTwice(t, false)
	d, _ := w.inPlace()
	a, up := w.number("a"), w.write("up", "content")
	for i := range 200 {
		w.write(fmt.Sprintf("many%d", i), "")
	}
	out := [][]byte{make([]byte, 64<<10)}
	for _, c := range []struct {
		name    string
		request []byte
		most    float64
	}{
		{"LOOKUP", message(opLookup, 1, "a\x00"), 0},
		{"LOOKUP of nothing", message(opLookup, 1, "none\x00"), 0},
		{"LOOKUP in the upper", message(opLookup, 1, "up\x00"), 0},
		{"GETATTR", message(opGetattr, a, "", uint32(0), uint32(0), uint64(0)), 0},
		{"GETATTR in the upper", message(opGetattr, up, "", uint32(0), uint32(0), uint64(0)), 0},
		{"READ", readMessage(opRead, a, 0, 4096), 0},
		{"READ in the upper", readMessage(opRead, up, 0, 4096), 0},
		{"WRITE", writeMessage(up, 0, "content"), 0},
		{"GETXATTR of nothing", message(opGetxattr, a, "security.capability\x00", uint32(64), uint32(0)), 0},
		// None for an entry: the folder has 200.
		{"READDIRPLUS", readMessage(opReaddirplus, 1, 0, 60<<10), 6},
	} {
		in := [][]byte{c.request}
		n := testing.AllocsPerRun(200, func() { d.HandleRequest(in, out) })
		if n > c.most {
			t.Errorf("%s: %v allocations, want %v at most", c.name, n, c.most)
		}
	}
}

// TestInPlaceCrowd has more requests at work than there is room for.
func TestInPlaceCrowd(t *testing.T) {
	w := newTwice(t, false)
	d, _ := w.inPlace()
	for i := range d.tasks {
		d.tasks[i].unique.Store(uint64(1000 + 2*i))
	}
	if got := answerOf(t, d, message(opLookup, 1, "a\x00"), false); len(got) <= outHeadSize {
		t.Errorf("answered %x, want an entry", got)
	}
	// An interrupt of what is at work is not answered: the kernel would repeat it.
	if got := answerOf(t, d, message(opInterrupt, 0, "", uint64(1000)), false); len(got) != 0 {
		t.Errorf("INTERRUPT was answered %x", got)
	}
	if got := answerOf(t, d, message(opInterrupt, 0, "", uint64(999)), false); len(got) != outHeadSize {
		t.Errorf("INTERRUPT of nothing was answered %x, want EAGAIN", got)
	}
	for i := range d.tasks {
		d.tasks[i].unique.Store(0)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			in := [][]byte{message(opLookup, 1, "a\x00")}
			out := [][]byte{make([]byte, 4096)}
			binary.NativeEndian.PutUint64(in[0][8:], uint64(2+128*i)) // all want the same place
			for range 1000 {
				if n, _ := d.HandleRequest(in, out); n <= outHeadSize {
					t.Errorf("answer of %d bytes", n)
				}
			}
		})
	}
	wg.Wait()
}
