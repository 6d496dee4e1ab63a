package transport

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// testFS is a folder in which a name says what its file does:
//
//	N     a file of N bytes, that reads as its offsets and takes writes
//	slow  its attributes take until "release" is commanded
//	panic the handler panics
//
// The files' numbers are 2 + the size; two are special.
type testFS struct {
	fuse.RawFileSystem
	device  *Device
	logged  fmt.Stringer
	gate    chan struct{}
	blocked atomic.Int32
	written atomic.Int64

	repeated atomic.Int32 // GETATTRs marked as repeated
}

const (
	slowNode  = 1 << 40
	panicNode = 1<<40 + 1
	blankSize = 1 << 30 // larger files read as anything, for benchmarks
)

func newTestFS() *testFS {
	return &testFS{RawFileSystem: fuse.NewDefaultRawFileSystem(), gate: make(chan struct{})}
}

// wrap puts a panic that go-fuse cannot catch in front of a handler.
func (f *testFS) wrap(h Handler) Handler { return panicky{h} }

type panicky struct{ Handler }

func (p panicky) HandleRequest(in, out [][]byte) (int, fuse.Status) {
	const getattr = 3
	b := in[0]
	if b[4] == getattr && b[16] == panicNode&0xff && b[21] == panicNode>>40 {
		panic("test")
	}
	return p.Handler.HandleRequest(in, out)
}

func (f *testFS) command(words []string) string {
	switch words[0] {
	case "counters":
		return f.device.Counters().String()
	case "logged":
		return f.logged.String()
	case "transport":
		return string(f.device.Transport())
	case "total":
		return fmt.Sprint(f.device.Counters().Total())
	case "init":
		return fmt.Sprint(len(f.device.InitRequest()))
	case "connection":
		return fmt.Sprintf("%d %x", f.device.fd, f.device.InitRequest())
	case "drain":
		return fmt.Sprint(f.device.Drain(5 * time.Second))
	case "repeated":
		return fmt.Sprint(f.repeated.Load())
	case "release":
		close(f.gate)
		return "released"
	case "blocked":
		return fmt.Sprint(f.blocked.Load())
	case "written":
		return fmt.Sprint(f.written.Load())
	case "gc":
		runtime.GC()
		return "collected"
	case "goroutines":
		return fmt.Sprint(runtime.NumGoroutine())
	case "invalidate":
		return fmt.Sprint(f.device.InvalidateEntry(1, words[1]), f.device.InvalidateInode(1, 0, 0))
	case "umount":
		return fmt.Sprint(Unmount(f.device.Dir(), UnmountOptions{Wait: time.Second}))
	case "exit":
		os.Exit(3)
	}
	return "unknown command"
}

func (f *testFS) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	switch size, err := strconv.ParseUint(name, 10, 40); {
	case name == "slow":
		out.NodeId = slowNode
	case name == "panic":
		out.NodeId = panicNode
	case err == nil:
		out.NodeId = 2 + size
		out.SetEntryTimeout(time.Hour)
		out.SetAttrTimeout(time.Hour)
	default:
		return fuse.ENOENT
	}
	f.attr(out.NodeId, &out.Attr)
	return fuse.OK
}

func (f *testFS) attr(node uint64, a *fuse.Attr) {
	*a = fuse.Attr{Ino: node, Mode: fuse.S_IFREG | 0o666, Nlink: 1, Blksize: 4096}
	a.Uid, a.Gid = uint32(os.Getuid()), uint32(os.Getgid())
	switch {
	case node == 1:
		a.Mode = fuse.S_IFDIR | 0o755
	case node < slowNode:
		a.Size = node - 2
	}
}

func (f *testFS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	if in.Unique&Repeated != 0 {
		f.repeated.Add(1)
	}
	if in.NodeId == slowNode {
		f.blocked.Add(1)
		<-f.gate
	}
	f.attr(in.NodeId, &out.Attr)
	if in.NodeId == 1 {
		out.SetTimeout(time.Hour)
	}
	return fuse.OK
}

func (f *testFS) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	f.attr(in.NodeId, &out.Attr)
	return fuse.OK
}

func (f *testFS) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	out.Bsize, out.NameLen = 4096, 255
	return fuse.OK
}

func (f *testFS) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	size := in.NodeId - 2
	if in.Offset >= size {
		return fuse.ReadResultData(nil), fuse.OK
	}
	buf = buf[:min(uint64(len(buf)), size-in.Offset)]
	if size > blankSize {
		return fuse.ReadResultData(buf), fuse.OK
	}
	for i := range buf {
		buf[i] = pattern(in.Offset + uint64(i))
	}
	return fuse.ReadResultData(buf), fuse.OK
}

// pattern is the byte at an offset of every file.
func pattern(off uint64) byte { return byte(off ^ off>>8 ^ off>>16) }

func (f *testFS) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	for i, b := range data {
		if b != pattern(in.Offset+uint64(i)) {
			return 0, fuse.EINVAL
		}
	}
	f.written.Add(int64(len(data)))
	return uint32(len(data)), fuse.OK
}

// Flush tells the kernel to do without.
func (f *testFS) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }
