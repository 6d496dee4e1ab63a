package unionfs

import (
	"bytes"
	"sync/atomic"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"

	"unio/cow"
	"unio/unionfs/merge"
	"unio/unionfs/transport"
)

// inPlace answers the requests that come by the thousand, where they lie: it
// reads the kernel's structures in the request and writes those of the answer
// into the reply. It allocates nothing for that, while go-fuse makes some 700
// bytes of garbage of each request and takes a lock that all readers share. What
// is rare, and what comes in a form that is not expected here, is go-fuse's.
//
// The structures are those of include/uapi/linux/fuse.h.
type inPlace struct {
	fs    *filesystem
	rest  transport.Handler
	keeps bool // the lower keeps the names that it is asked for
	tasks [mostTasks]task
}

var _ transport.Handler = (*inPlace)(nil)

// mostTasks is how many requests may be at work here at once. More come only
// when many wait for something slow; those beyond are go-fuse's.
const mostTasks = 64

const (
	inHeadSize  = int(unsafe.Sizeof(fuse.InHeader{}))
	outHeadSize = int(unsafe.Sizeof(fuse.OutHeader{}))
	argsMost    = int(unsafe.Sizeof(fuse.SetAttrIn{})) // the longest of the arguments below, with the header
	nameMost    = 256                                  // a longer name goes to go-fuse
)

// Opcodes (enum fuse_opcode).
const (
	opLookup      = 1
	opForget      = 2
	opGetattr     = 3
	opSetattr     = 4
	opReadlink    = 5
	opMknod       = 8
	opMkdir       = 9
	opUnlink      = 10
	opRmdir       = 11
	opRead        = 15
	opWrite       = 16
	opStatfs      = 17
	opGetxattr    = 22
	opReaddir     = 28
	opInterrupt   = 36
	opBatchForget = 42
	opReaddirplus = 44
)

// task is the room for what answering one request takes.
type task struct {
	unique atomic.Uint64              // of the request at work; 0: none
	args   [(argsMost + 7) / 8]uint64 // header and arguments, aligned
	name   [nameMost]byte             // the name that follows them
	st     cow.Stat
	list   fuse.DirEntryList
	fs     *filesystem
	add    func(cow.Dirent) bool // addEntry and addPlus as values: making one allocates
	plus   func(cow.Dirent) bool
}

func newInPlace(fs *filesystem, lower merge.Lower, rest transport.Handler) *inPlace {
	d := &inPlace{fs: fs, rest: rest}
	_, d.keeps = lower.(merge.Counter)
	for i := range d.tasks {
		t := &d.tasks[i]
		t.fs, t.add, t.plus = fs, t.addEntry, t.addPlus
	}
	return d
}

// argsOf returns how many bytes of arguments follow the header of a request, and
// false for those that are go-fuse's.
func argsOf(op uint32) (size int, ok bool) {
	switch op {
	case opLookup, opReadlink, opUnlink, opRmdir, opStatfs:
		return 0, true
	case opMkdir, opGetxattr:
		return 8, true
	case opGetattr, opMknod:
		return 16, true
	case opRead, opWrite, opReaddir, opReaddirplus:
		return 40, true
	case opSetattr:
		return 88, true
	}
	return 0, false
}

// HandleRequest answers one request: in and out are its pieces and the room for
// those of the answer, whose length is returned.
func (d *inPlace) HandleRequest(in, out [][]byte) (int, fuse.Status) {
	if len(in) == 0 || len(in[0]) < inHeadSize {
		return d.rest.HandleRequest(in, out)
	}
	head := (*fuse.InHeader)(unsafe.Pointer(unsafe.SliceData(in[0])))
	switch head.Opcode {
	case opForget, opBatchForget:
		return d.forget(in, out)
	case opInterrupt:
		return d.interrupt(in, out)
	}
	size, ok := argsOf(head.Opcode)
	answer, body, whole := room(out)
	if !ok || !whole || head.TotalExtlen != 0 || head.Unique == 0 {
		return d.rest.HandleRequest(in, out)
	}
	t := d.claim(head.Unique)
	if t == nil {
		return d.rest.HandleRequest(in, out)
	}
	defer t.unique.Store(0)
	data, ok := split(in, t.bytes()[:inHeadSize+size])
	if !ok {
		return d.rest.HandleRequest(in, out)
	}
	n, status := d.answer(t, data, body)
	if status == notHere {
		return d.rest.HandleRequest(in, out)
	}
	if status != fuse.OK {
		n = 0
	}
	*answer = fuse.OutHeader{
		Length: uint32(outHeadSize + n), Status: -int32(status), Unique: t.head().Unique,
	}
	return outHeadSize + n, fuse.OK
}

// notHere is what a request that must be go-fuse's after all is answered here.
const notHere fuse.Status = -1

// claim takes a free task for a request; nil: all are in use.
func (d *inPlace) claim(unique uint64) *task {
	for i := range uint64(mostTasks) { // numbers of requests are even
		if t := &d.tasks[(unique/2+i)%mostTasks]; t.unique.CompareAndSwap(0, unique) {
			return t
		}
	}
	return nil
}

// room finds where an answer goes: its header, and what follows it, which must
// be one piece.
func room(out [][]byte) (head *fuse.OutHeader, body []byte, ok bool) {
	if len(out) == 0 || len(out) > 2 || len(out[0]) < outHeadSize {
		return nil, nil, false
	}
	head, body = (*fuse.OutHeader)(unsafe.Pointer(unsafe.SliceData(out[0]))), out[0][outHeadSize:]
	if len(out) == 2 {
		if len(body) > 0 {
			return nil, nil, false
		}
		body = out[1]
	}
	return head, body, true
}

// split copies the beginning of a message to head. It returns what follows, and
// false if that is not one piece.
func split(in [][]byte, head []byte) (rest []byte, ok bool) {
	for i, piece := range in {
		n := copy(head, piece)
		if head = head[n:]; len(head) > 0 {
			continue
		}
		if rest = piece[n:]; len(rest) == 0 && i+1 < len(in) {
			i++
			rest = in[i]
		}
		return rest, i == len(in)-1
	}
	return nil, false
}

func (t *task) bytes() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&t.args)), int(unsafe.Sizeof(t.args)))
}

func (t *task) head() *fuse.InHeader { return (*fuse.InHeader)(unsafe.Pointer(&t.args)) }

// take takes the name at the start of data, which a zero ends, and which is good
// until the request has been answered. It is a copy: data may lie where the
// answer goes.
func (t *task) take(data []byte) (name string, ok bool) {
	n := bytes.IndexByte(data, 0)
	if n < 0 || n > len(t.name) {
		return "", false
	}
	copy(t.name[:], data[:n])
	return unsafe.String(&t.name[0], n), true
}

// forget answers FORGET and BATCH_FORGET, by nothing.
func (d *inPlace) forget(in, out [][]byte) (int, fuse.Status) {
	var args [inHeadSize + 8]byte
	data, ok := split(in, args[:])
	if !ok {
		return d.rest.HandleRequest(in, out)
	}
	head := (*fuse.InHeader)(unsafe.Pointer(&args))
	if head.Opcode == opForget {
		d.fs.Forget(head.NodeId, *(*uint64)(unsafe.Pointer(&args[inHeadSize])))
		return 0, fuse.OK
	}
	const one = 16 // struct fuse_forget_one
	for n := *(*uint32)(unsafe.Pointer(&args[inHeadSize])); n > 0 && len(data) >= one; n-- {
		d.fs.Forget(*(*uint64)(unsafe.Pointer(&data[0])), *(*uint64)(unsafe.Pointer(&data[8])))
		data = data[one:]
	}
	return 0, fuse.OK
}

// interrupt answers INTERRUPT. What is at work here is not interrupted, and the
// kernel is not told anything: it would ask again until the answer is there. All
// others are go-fuse's, which has it ask again for what it does not know yet.
func (d *inPlace) interrupt(in, out [][]byte) (int, fuse.Status) {
	var args [inHeadSize + 8]byte
	if _, ok := split(in, args[:]); ok {
		unique := *(*uint64)(unsafe.Pointer(&args[inHeadSize]))
		for i := range d.tasks {
			if unique != 0 && d.tasks[i].unique.Load() == unique {
				return 0, fuse.OK
			}
		}
	}
	return d.rest.HandleRequest(in, out)
}
