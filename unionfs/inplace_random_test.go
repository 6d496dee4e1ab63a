package unionfs

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"unio/cow"
	"unio/unionfs/merge"
)

// find returns the number of what has a path, or one that nothing has.
func (w *twice) find(path string) uint64 {
	ino := merge.RootIno
	for name := range strings.SplitSeq(path, "/") {
		var st cow.Stat
		if name != "" && w.cow.Lookup(ino, name, &st) != nil {
			return 999_999
		} else if name != "" {
			ino = st.Ino
		}
	}
	return uint64(ino)
}

// randomRequest makes a request about the node that of gives for a path.
func randomRequest(r *rand.Rand, of func(path string) uint64) []byte {
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	dir, name := of(pick("", "", "dir", "full", "m", "a")), pick("a", "b", "dir", "full", "h", "i", "x", "m", "n", "o")+"\x00"
	node := of(pick("a", "b", "dir", "full", "full/x", "h", "i", "m", "n", "dir/n"))
	off, size := uint64(r.IntN(5000)), uint32(1+r.IntN(4096))
	switch r.IntN(13) {
	case 0:
		return message(opLookup, dir, name)
	case 1:
		return message(opMknod, dir, name, uint32(unix.S_IFREG|0o4640), uint32(0), uint32(0), uint32(0))
	case 2:
		return message(opMkdir, dir, name, uint32(0o2755), uint32(0))
	case 3:
		return message(opUnlink, dir, name)
	case 4:
		return message(opRmdir, dir, name)
	case 5, 6:
		return writeMessage(node, off, strings.Repeat(name, 1+r.IntN(900)))
	case 7, 8:
		return readMessage(opRead, node, off, size)
	case 9:
		return readMessage(opReaddir, dir, 0, size)
	case 10:
		return readMessage(opReaddirplus, dir, 0, size)
	case 11:
		return message(opGetattr, node, "", uint64(0), uint64(0))
	}
	in := fuse.SetAttrIn{}
	in.Valid, in.Mode, in.Size = []uint32{fuse.FATTR_MODE, fuse.FATTR_SIZE, fuse.FATTR_MODE | fuse.FATTR_SIZE}[r.IntN(3)], 0o751, off
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&in)), unsafe.Sizeof(in))
	return message(opSetattr, node, string(raw[inHeadSize:]))
}

// said tells what an answer says, without what differs between two unions that
// have lived the same: numbers of files in the upper, and times.
func said(op uint32, answer []byte) string {
	code, body := int32(binary.NativeEndian.Uint32(answer[4:])), answer[outHeadSize:]
	if code != 0 {
		return unix.Errno(-code).Error()
	}
	attr := func(a *fuse.Attr) string {
		return fmt.Sprintf("%o %d links, %d bytes, %d:%d", a.Mode, a.Nlink, a.Size, a.Uid, a.Gid)
	}
	switch op {
	case opLookup, opMknod, opMkdir:
		e := as[fuse.EntryOut](body)
		return fmt.Sprintf("%d bytes, %v, %s", len(body), e.NodeId != 0, attr(&e.Attr))
	case opGetattr, opSetattr:
		return fmt.Sprintf("%d bytes, %s", len(body), attr(&as[fuse.AttrOut](body).Attr))
	case opReaddir, opReaddirplus:
		return listed(op, body)
	}
	return string(body)
}

// listed lists the names of a READDIR's answer (struct fuse_dirent: number,
// cookie, length of the name, type).
func listed(op uint32, body []byte) string {
	const head = 24
	var list strings.Builder
	for len(body) > 0 {
		if op == opReaddirplus {
			body = body[unsafe.Sizeof(fuse.EntryOut{}):]
		}
		n := int(binary.NativeEndian.Uint32(body[16:]))
		fmt.Fprintf(&list, "%s %o\n", body[head:head+n], binary.NativeEndian.Uint32(body[20:]))
		body = body[(head+n+7)&^7:]
	}
	return list.String()
}

// TestInPlaceRandom sends the same random requests to two unions, of which one
// has all answered by go-fuse. They say the same and become the same.
func TestInPlaceRandom(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	ours, theirs := newTwice(t, false), newTwice(t, false)
	d, _ := ours.inPlace()
	_, rest := theirs.inPlace()
	failed := 0
	for i := range 1500 {
		state := r.Uint64()
		draw := func(w *twice) []byte { return randomRequest(rand.New(rand.NewPCG(state, 1)), w.find) }
		request := draw(ours)
		op := binary.NativeEndian.Uint32(request[4:])
		want := said(op, answerOf(t, rest, draw(theirs), false))
		if got := said(op, answerOf(t, d, request, i%2 == 0)); got != want {
			t.Fatalf("seed %d, request %d, opcode %d: %q, want %q", seed, i, op, got, want)
		}
		if strings.HasPrefix(want, "no such") || strings.HasPrefix(want, "stale") {
			failed++
		}
	}
	if failed > 1200 {
		t.Errorf("%d of 1500 requests found nothing", failed)
	}
	a, b := noNumbers(ours.picture(merge.RootIno, "")), noNumbers(theirs.picture(merge.RootIno, ""))
	if got, want := strings.Join(a, "\n"), strings.Join(b, "\n"); got != want {
		t.Errorf("seed %d: in the end\n%s\nwant\n%s", seed, got, want)
	}
}
