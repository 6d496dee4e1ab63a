package transport

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// onCPU runs f on a processor, and returns its error by the channel.
func onCPU(cpu int, f func() error) <-chan error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // to the end: nobody else is to have this thread
		if err := pin(cpu); err != nil {
			done <- err
			return
		}
		done <- ignoringEINTR(f)
	}()
	return done
}

func statOf(path string) func() error {
	return func() error {
		var st unix.Stat_t
		return unix.Stat(path, &st)
	}
}

func statfsOf(path string) func() error {
	return func() error {
		var st unix.Statfs_t
		return unix.Statfs(path, &st)
	}
}

// blockOn lets so many clients on one processor wait in the handler.
func blockOn(t *testing.T, s *child, cpu, clients, atWork int) []<-chan error {
	t.Helper()
	var list []<-chan error
	for range clients {
		list = append(list, onCPU(cpu, statOf(filepath.Join(s.dir, "slow"))))
	}
	waitFor(t, "the slow ones", func() bool { return s.ask("blocked") == fmt.Sprint(atWork) })
	return list
}

func within(t *testing.T, what string, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: no answer", what)
		return nil
	}
}

// TestUringSlowOnOneProcessor: clients that wait for something slow hold up no
// other one of their processor, however many they are.
func TestUringSlowOnOneProcessor(t *testing.T) {
	needUring(t)
	s := startServer(t, config{kind: Uring})
	var slow []<-chan error
	for n := 1; n <= 64; n *= 2 {
		slow = append(slow, blockOn(t, s, 0, n-len(slow), n)...)
		for range 20 {
			if err := within(t, fmt.Sprintf("statfs beside %d", n), onCPU(0, statfsOf(s.dir))); err != nil {
				t.Error(err)
			}
		}
	}
	// Threads that wait, in the handler or in the kernel, do not hold it up.
	if got := s.ask("gc"); got != "collected" {
		t.Error(got)
	}
	s.ask("release")
	for _, done := range slow {
		if err := within(t, "a slow one", done); err != nil {
			t.Error(err)
		}
	}
	if got := s.unmount(); got != "ended; nothing left" {
		t.Errorf("after the unmount: %s", got)
	}
}

// TestUringAllEntriesAtWork: when there may be no more entries the requests of
// that processor wait. What goes by /dev/fuse flows, and in the end everything
// is answered.
func TestUringAllEntriesAtWork(t *testing.T) {
	needUring(t)
	s := startServer(t, config{kind: Uring, bound: 3})
	if err := statOf(filepath.Join(s.dir, "77"))(); err != nil {
		t.Fatal(err)
	}
	slow := blockOn(t, s, 0, 8, 3)
	quick := onCPU(0, statfsOf(s.dir))
	if got := s.ask("invalidate 77"); got != "<nil> <nil>" {
		t.Errorf("a message to the kernel: %s", got)
	}
	waitFor(t, "FORGET", func() bool { c := s.counters(); return c["FORGET"]+c["BATCH_FORGET"] > 0 })
	select {
	case err := <-quick:
		t.Errorf("a fourth request was answered: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if got := s.ask("blocked"); got != "3" {
		t.Errorf("%s requests at work", got)
	}
	s.ask("release")
	for _, done := range append(slow, quick) {
		if err := within(t, "one that waited", done); err != nil {
			t.Error(err)
		}
	}
	if got := s.unmount(); got != "ended; nothing left" {
		t.Errorf("after the unmount: %s", got)
	}
}

// TestUringEndsUnderLoad ends connections in each way there is while requests
// are at work, wait and come. Nobody hangs, and what can be unmounted is.
func TestUringEndsUnderLoad(t *testing.T) {
	needUring(t)
	needRoot(t)
	for name, end := range map[string]func(*testing.T, *child){
		"killed":     func(_ *testing.T, s *child) { s.kill() },
		"terminated": func(t *testing.T, s *child) { s.signal(t, unix.SIGTERM) },
		"aborted": func(t *testing.T, s *child) {
			if err := Abort(s.dir); err != nil {
				t.Error(err)
			}
		},
		"unmounted lazily": func(t *testing.T, s *child) {
			if err := Unmount(s.dir, UnmountOptions{Lazy: true}); err != nil {
				t.Error(err)
			}
			s.ask("release")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t, config{kind: Uring, bound: 8})
			load := blockOn(t, s, 0, 12, 8)
			for cpu := range min(2, runtime.NumCPU()) {
				load = append(load, onCPU(cpu, func() error {
					for err := error(nil); ; err = statfsOf(s.dir)() {
						var st unix.Statfs_t
						if err == nil && unix.Statfs(s.dir, &st) == nil && st.Type != unix.FUSE_SUPER_MAGIC {
							return nil // unmounted
						}
						if err != nil {
							return err
						}
					}
				}))
			}
			end(t, s)
			for _, done := range load {
				err := within(t, "a client", done)
				if err != nil && !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.ECONNABORTED) {
					t.Errorf("a client: %v", err)
				}
			}
			if name == "aborted" {
				s.ask("release")
				if got := s.end(); got != "ended; nothing left" && got != "released" {
					t.Errorf("the server: %s", got)
				}
			}
		})
	}
}

// signal sends a signal and waits for the child's end.
func (s *child) signal(t *testing.T, sig unix.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Error(err)
	}
	_ = s.cmd.Wait()
	s.done = true
}

// TestUringMemory: large requests leave nothing behind once they are over, and
// what many at once leave is bounded.
func TestUringMemory(t *testing.T) {
	needUring(t)
	s := startServer(t, config{kind: Uring})
	const clients, size = 8, 1 << 20
	name := filepath.Join(s.dir, fmt.Sprint(16*size))
	round := func() {
		var wg sync.WaitGroup
		for client := range clients {
			wg.Go(func() {
				if err := <-onCPU(client%min(2, runtime.NumCPU()), func() error { return readLarge(name, size, 8) }); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	round()
	peak := s.buffers()
	waitFor(t, "the buffers to be given back", func() bool { return s.buffers() < 2<<20 })
	t.Logf("%d KiB of buffers after %d clients with requests of 1 MiB, then %d KiB", peak>>10, clients, s.buffers()>>10)
	for range 5 {
		round()
	}
	if n := s.buffers(); n > 24<<20 {
		t.Errorf("%d MiB after the same again and again", n>>20)
	}
	s.unmount()
}

// readLarge reads past the page cache.
func readLarge(name string, size, times int) error {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := alignedBuffer(size, 0)
	for i := range times {
		if _, err := f.ReadAt(buf, int64(i*size)); err != nil {
			return err
		}
	}
	return nil
}

// buffers returns how many bytes of the child's buffers are in memory: they are
// in the mappings that refuse huge pages.
func (s *child) buffers() int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", s.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	// The race detector's, which refuse them too, are of 128 MiB.
	const most = 100 << 10 // KiB
	sum, size, rss := 0, 0, 0
	for line := range strings.Lines(string(text)) {
		switch words := strings.Fields(line); {
		case words[0] == "Size:":
			size, _ = strconv.Atoi(words[1])
		case words[0] == "Rss:":
			rss, _ = strconv.Atoi(words[1])
		case words[0] == "VmFlags:" && size < most && slices.Contains(words, "nh"):
			sum += rss << 10
		}
	}
	return sum
}

// denyUring makes io_uring_setup(2) fail with an error, for this process, as
// the seccomp filters of containers do.
func denyUring(errno unix.Errno) error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the number of the call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_IO_URING_SETUP, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(errno)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	_, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if e != 0 {
		return e
	}
	return nil
}

// TestUringForbidden: a process that may not use io_uring serves over
// /dev/fuse, says why in one line, and refuses what was asked for expressly.
func TestUringForbidden(t *testing.T) {
	needUring(t)
	for errno, why := range map[unix.Errno]string{
		unix.EPERM:  "io_uring is forbidden here",
		unix.ENOSYS: "has no io_uring",
		unix.ENOMEM: "ulimit -l",
	} {
		deny := fmt.Sprintf("deny=%d", errno)
		s := startServer(t, config{kind: Auto, options: []string{deny}})
		if got := s.ask("transport"); got != string(Dev) {
			t.Errorf("%v: %s is in use", errno, got)
		}
		if got := s.ask("logged"); strings.Count(got, "requests come by /dev/fuse") != 1 || !strings.Contains(got, why) {
			t.Errorf("%v: the log says %q", errno, got)
		}
		statfs(t, s.dir)
		if got := s.unmount(); got != "ended; nothing left" {
			t.Errorf("%v: after the unmount: %s", errno, got)
		}
		_, err := tryServer(t, filepath.Join(t.TempDir(), "mnt"), config{kind: Uring, options: []string{deny}})
		if err == nil || !strings.Contains(err.Error(), ErrNoUring.Error()) || !strings.Contains(err.Error(), why) {
			t.Errorf("%v, with the ring asked for: %v", errno, err)
		}
	}
}

// TestUringNotOffered: a kernel that does not offer io_uring in INIT.
func TestUringNotOffered(t *testing.T) {
	for kind, refused := range map[Kind]bool{Auto: false, Dev: false, Uring: true} {
		k, d := newFakeKernel(t)
		var log bytes.Buffer
		d.wanted, d.log = kind, slog.New(slog.NewTextHandler(&log, nil))
		served := make(chan error, 1)
		go func() { served <- d.Serve(handlerFunc(answerAll), ServeOptions{}) }()
		k.send(opInit)
		if refused {
			if err := <-served; !errors.Is(err, ErrNoUring) {
				t.Errorf("%s: %v", kind, err)
			}
			continue
		}
		<-d.Ready()
		if got := d.Transport(); got != Dev {
			t.Errorf("%s: %s is in use", kind, got)
		}
		lines := strings.Count(log.String(), "\n")
		if want := map[Kind]int{Auto: 1, Dev: 0}[kind]; lines != want {
			t.Errorf("%s: %d lines in the log: %s", kind, lines, log.String())
		}
		k.hangUp()
		<-served
	}
}
