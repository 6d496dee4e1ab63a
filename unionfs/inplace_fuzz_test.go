package unionfs

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"unio/unionfs/merge/mergetest"
)

// cut divides a message into pieces, of which the first holds the header as the
// transports have it.
func cut(b []byte, at ...int) [][]byte {
	pieces, from := [][]byte(nil), 0
	for _, to := range at {
		if to = min(to, len(b)); to >= from {
			pieces, from = append(pieces, b[from:to]), to
		}
	}
	return append(pieces, b[from:])
}

// answerTo hands a request over in pieces and returns all that comes of it.
func answerTo(h interface {
	HandleRequest(in, out [][]byte) (int, fuse.Status)
}, in [][]byte, room int,
) (answer []byte, status fuse.Status) {
	out := make([]byte, room)
	n, status := h.HandleRequest(in, cut(out, outHeadSize))
	return out[:n], status
}

// theirs reports whether a request means something else to go-fuse: it keeps a
// node and a name for itself (poll.go there), and reads nothing, of no matter
// what, without asking.
func theirs(b []byte) bool {
	const node, name, sizeAt = ^uint64(0), ".go-fuse-epoll-hack", 56
	if len(b) < inHeadSize {
		return false
	}
	if binary.NativeEndian.Uint32(b[4:]) == opRead && len(b) >= sizeAt+4 && binary.NativeEndian.Uint32(b[sizeAt:]) == 0 {
		return true
	}
	return binary.NativeEndian.Uint64(b[16:]) == node || bytes.Contains(b, []byte(name))
}

// FuzzInPlace hands over what no kernel sends: short and long messages, sizes
// that are lies, names without an end, pieces cut anywhere, too little room. On
// a read-only mount, which no request changes, go-fuse's answer to each is ours.
func FuzzInPlace(f *testing.F) {
	lower, err := mergetest.FromDir(".")
	if err != nil {
		f.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	o := &Options{Lower: lower, Log: log}
	fs := newFilesystem(o)
	rest := fuse.NewProtocolServer(fs, protocolOptions(o))
	d := newInPlace(fs, lower, rest)
	for _, b := range [][]byte{
		message(opLookup, 1, "tree.go\x00"), message(opLookup, 1, "tree.go"), message(opLookup, 1, ""), message(opLookup, 1, "..\x00"),
		message(opGetattr, 2, "", uint64(0), uint64(0)), message(opGetattr, 2, "", uint64(0)),
		readMessage(opRead, 2, 0, 4096), readMessage(opRead, 2, 1<<63, 1), readMessage(opRead, 2, 0, 1<<31),
		readMessage(opReaddir, 1, 0, 512), readMessage(opReaddirplus, 1, 3, 1<<20), readMessage(opReaddirplus, 1, 1<<63, 100),
		writeMessage(2, 0, "text"), writeMessage(2, 0, "text")[:100],
		message(opMknod, 1, "n\x00", uint32(unix.S_IFREG), uint32(0), uint32(0), uint32(0)), message(opMkdir, 1, "n\x00", uint64(0)),
		message(opUnlink, 1, "tree.go\x00"), message(opRmdir, 1, "\x00"), message(opReadlink, 2, ""), message(opStatfs, 1, ""),
		message(opGetxattr, 2, "user.x\x00", uint32(64), uint32(0)), message(opGetxattr, 2, "user.x", uint32(0), uint32(0)),
		message(opSetattr, 2, string(make([]byte, 88))), message(opForget, 2, "", uint64(1)), message(opForget, 2, ""),
		message(opBatchForget, 0, "", uint32(1<<31), uint32(0), uint64(2), uint64(1)), message(opInterrupt, 0, "", uint64(0)),
	} {
		f.Add(b, uint16(inHeadSize), uint16(inHeadSize+40), uint32(1<<16))
		f.Add(b, uint16(inHeadSize+3), uint16(0), uint32(0))
	}
	f.Fuzz(func(t *testing.T, b []byte, first, second uint16, room uint32) {
		room = uint32(outHeadSize) + room%(1<<18) // the transports have room for a header at least
		in := cut(b, int(first), int(second))
		got, status := answerTo(d, in, int(room))
		if status == fuse.OK && len(got) > 0 {
			if len(got) < outHeadSize || binary.NativeEndian.Uint32(got) != uint32(len(got)) || !bytes.Equal(got[8:16], b[8:16]) {
				t.Fatalf("request % x: answer % x", b, got)
			}
		}
		for i := range d.tasks {
			if d.tasks[i].unique.Load() != 0 {
				t.Fatalf("request % x stays at work", b)
			}
		}
		if theirs(b) {
			return
		}
		if want, wants := answerTo(rest, in, int(room)); status != wants || !bytes.Equal(got, want) {
			t.Errorf("request % x\nanswer % x, %v\nwant % x, %v", b, got, status, want, wants)
		}
	})
}
