package transport

import (
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// fakeKernel is the other end of a device: a socket that keeps messages apart.
type fakeKernel struct {
	t      *testing.T
	fd     int
	unique uint64
}

func newFakeKernel(t *testing.T) (*fakeKernel, *Device) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	o := MountOptions{Dir: "/fake"}
	o.normalise()
	k := &fakeKernel{t: t, fd: pair[0]}
	t.Cleanup(k.hangUp)
	return k, newDevice(pair[1], &o)
}

func (k *fakeKernel) hangUp() {
	if k.fd >= 0 {
		unix.Close(k.fd)
		k.fd = -1
	}
}

func (k *fakeKernel) send(op uint32) {
	k.t.Helper()
	k.unique++
	b := make([]byte, 64)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint32(b[4:], op)
	binary.NativeEndian.PutUint64(b[8:], k.unique)
	if _, err := unix.Write(k.fd, b); err != nil {
		k.t.Fatal(err)
	}
}

// receive returns the error of the next answer, and whose answer it is.
func (k *fakeKernel) receive() (code int32, unique uint64) {
	k.t.Helper()
	b := make([]byte, 1<<16)
	n, err := unix.Read(k.fd, b)
	if err != nil || n < outHeaderSize {
		k.t.Fatalf("receive: %d %v", n, err)
	}
	return int32(binary.NativeEndian.Uint32(b[4:])), binary.NativeEndian.Uint64(b[8:])
}

// handlerFunc gets the opcode and answers with a status.
type handlerFunc func(op uint32) (int, fuse.Status)

func (f handlerFunc) HandleRequest(in, out [][]byte) (int, fuse.Status) {
	n, status := f(binary.NativeEndian.Uint32(in[0][4:]))
	if n > 0 {
		copy(out[0], appendHeader(nil, 0, uint32(-status), binary.NativeEndian.Uint64(in[0][8:])))
	}
	return n, status
}

func answerAll(uint32) (int, fuse.Status) { return outHeaderSize, fuse.OK }

func TestServeFailsBeforeReady(t *testing.T) {
	refuse := func(uint32) (int, fuse.Status) { return outHeaderSize, fuse.EPERM }
	for _, c := range []struct {
		name, want string
		op         uint32
		handler    handlerFunc
	}{
		{"no INIT", "first request is LOOKUP", 1, answerAll},
		{"refused", "INIT refused: operation not permitted", opInit, refuse},
		{"end of file", "read INIT: input/output error", 0, answerAll},
	} {
		t.Run(c.name, func(t *testing.T) {
			k, d := newFakeKernel(t)
			if c.op == 0 {
				k.hangUp()
			} else {
				k.send(c.op)
			}
			err := d.Serve(c.handler, ServeOptions{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Serve: %v", err)
			}
			select {
			case <-d.Ready():
				t.Error("ready")
			default:
			}
			if err := errors.Join(d.Close(), d.Close()); err != nil {
				t.Error(err)
			}
			if err := d.Serve(c.handler, ServeOptions{}); !errors.Is(err, ErrServed) {
				t.Errorf("second Serve: %v", err)
			}
		})
	}
}

func TestServeReturnsWhatTheDeviceSays(t *testing.T) {
	k, d := newFakeKernel(t)
	served := make(chan error, 1)
	go func() { served <- d.Serve(handlerFunc(answerAll), ServeOptions{}) }()
	k.send(opInit)
	if code, unique := k.receive(); code != 0 || unique != 1 {
		t.Errorf("INIT: %d %d", code, unique)
	}
	<-d.Ready()
	if got := len(d.InitRequest()); got != 64 {
		t.Errorf("INIT kept: %d", got)
	}
	k.hangUp()
	if err := <-served; !errors.Is(err, unix.EIO) {
		t.Errorf("Serve: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// TestAnswersThatHandlersOwe: what the handler leaves out, the pool answers.
func TestAnswersThatHandlersOwe(t *testing.T) {
	k, d := newFakeKernel(t)
	h := handlerFunc(func(op uint32) (int, fuse.Status) {
		switch op {
		case 1:
			return 0, fuse.EIO // too short a request, says ProtocolServer
		case 3:
			panic("test")
		case opForget, 36:
			return 0, fuse.OK
		case opBatchForget:
			return 0, fuse.EIO
		}
		return answerAll(op)
	})
	go func() { _ = d.Serve(h, ServeOptions{Readers: 1}) }()
	k.send(opInit)
	k.receive()
	for _, c := range []struct {
		op   uint32
		code int32
	}{{1, -int32(unix.EIO)}, {3, -int32(unix.EIO)}, {opForget, 1}, {opBatchForget, 1}, {36, 1}, {17, 0}} {
		k.send(c.op)
		if c.code > 0 { // no answer: the next one received is that of a later request
			continue
		}
		if code, unique := k.receive(); code != c.code || unique != k.unique {
			t.Errorf("opcode %d: error %d for %d, want %d for %d", c.op, code, unique, c.code, k.unique)
		}
	}
	k.hangUp()
}

// TestReadersComeAndGo watches the number of readers through a burst.
func TestReadersComeAndGo(t *testing.T) {
	k, d := newFakeKernel(t)
	gate := make(chan struct{})
	var arrived atomic.Int32
	p := newPool(d, handlerFunc(func(op uint32) (int, fuse.Status) {
		if op == 20 {
			arrived.Add(1)
			<-gate
		}
		return answerAll(op)
	}), ServeOptions{Readers: 2, MaxReaders: 10})
	ended := make(chan error, 1)
	go func() { ended <- p.run() }()
	for range 30 {
		k.send(20)
	}
	waitFor(t, "ten at work", func() bool { return arrived.Load() == 10 })
	time.Sleep(20 * time.Millisecond)
	if n, w := p.total.Load(), p.waiting.Load(); n != 10 || w != 0 {
		t.Errorf("%d readers, %d waiting", n, w)
	}
	close(gate)
	for range 30 {
		k.receive()
	}
	waitFor(t, "all to wait", func() bool { return p.waiting.Load() == 10 })
	time.Sleep(calm)
	waitFor(t, "the extra ones to leave", func() bool { // one by one
		k.send(17)
		k.receive()
		time.Sleep(time.Millisecond)
		return p.total.Load() == 2 && p.waiting.Load() == 2
	})
	k.hangUp()
	if err := <-ended; !errors.Is(err, unix.EIO) {
		t.Errorf("end: %v", err)
	}
	waitFor(t, "the last one", func() bool { return p.total.Load() == 0 && p.waiting.Load() == 0 })
}

func TestFailedRead(t *testing.T) {
	for errno, want := range map[unix.Errno]error{
		unix.ENODEV: errGone, unix.ECONNABORTED: errGone,
		unix.EINTR: nil, unix.ENOENT: nil, unix.EAGAIN: nil, unix.ENOMEM: nil,
		unix.EIO: unix.EIO, unix.EBADF: unix.EBADF, unix.EINVAL: unix.EINVAL,
	} {
		if got := failedRead(errno); got != want {
			t.Errorf("%v: %v, want %v", errno, got, want)
		}
	}
}

// TestNotifyAfterClose: a message that comes late is not written to whatever
// has the descriptor's number by then.
func TestNotifyAfterClose(t *testing.T) {
	_, d := newFakeKernel(t)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	other, err := unix.MemfdCreate("other", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(other)
	if other != d.fd { // somebody else took the number
		if err := unix.Dup3(other, d.fd, unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(d.fd)
	}
	if err := d.InvalidateEntry(1, "name"); !errors.Is(err, unix.ENODEV) {
		t.Errorf("a message after the end: %v", err)
	}
	if n, _ := unix.Seek(other, 0, unix.SEEK_END); n != 0 {
		t.Errorf("%d bytes were written to another file", n)
	}
}

// TestCloseWhileInUse: the last reader closes the descriptor.
func TestCloseWhileInUse(t *testing.T) {
	_, d := newFakeKernel(t)
	d.acquire()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(uintptr(d.fd), unix.F_GETFD, 0); err != nil {
		t.Error("closed while in use")
	}
	d.release()
	if _, err := unix.FcntlInt(uintptr(d.fd), unix.F_GETFD, 0); !errors.Is(err, unix.EBADF) {
		t.Error("left open")
	}
}

func TestAlignedBuffer(t *testing.T) {
	page := unix.Getpagesize()
	for _, at := range []int{0, 16, 80} {
		for range 50 {
			b := alignedBuffer(3*page, at)
			if len(b) != 3*page || uintptr(unsafe.Pointer(&b[at]))%uintptr(page) != 0 {
				t.Fatalf("at %d: %d bytes at %p", at, len(b), &b[at])
			}
		}
	}
}

// statClient is a process that waits in stat.
type statClient struct{ cmd *exec.Cmd }

func killableStat(t *testing.T, path string) statClient {
	t.Helper()
	cmd := exec.Command(os.Args[0], path)
	cmd.Env = append(os.Environ(), roleEnv+"=stat")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return statClient{cmd}
}

func (c statClient) kill() { _ = c.cmd.Process.Kill() }
func (c statClient) wait() { _ = c.cmd.Wait() }

func TestReaderBuffers(t *testing.T) {
	page := unix.Getpagesize()
	for _, size := range []int{page, 3*page + 1, 1 << 20} {
		r := newReader(size, size+5)
		data := [2]*byte{&r.in[inHeaderSize+writeInSize], &r.out[outHeaderSize]}
		if len(r.in) != inHeaderSize+writeInSize+size || len(r.out) != outHeaderSize+size+5 {
			t.Errorf("%d: buffers of %d and %d bytes", size, len(r.in), len(r.out))
		}
		for _, at := range data {
			if uintptr(unsafe.Pointer(at))%uintptr(page) != 0 {
				t.Errorf("%d: data at %p", size, at)
			}
		}
		for i := range r.in { // the two are not one
			r.in[i] = 1
		}
		for i, b := range r.out {
			if b != 0 {
				t.Fatalf("%d: byte %d of out is in too", size, i)
			}
			r.out[i] = 2
		}
		r.free()
	}
}
