package transport

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestCountersAreExact(t *testing.T) {
	s := startServer(t, config{})
	statfs(t, s.dir)
	before := s.counters()
	if before["INIT"] != 1 {
		t.Errorf("INIT: %d", before["INIT"])
	}
	for range 7 {
		statfs(t, s.dir)
	}
	for range 3 {
		if _, err := os.Lstat(filepath.Join(s.dir, "no such name")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("lstat: %v", err)
		}
	}
	for range 5 { // the second and later ones are answered by the kernel
		if _, err := os.Lstat(filepath.Join(s.dir, "1234")); err != nil {
			t.Error(err)
		}
	}
	after := s.counters()
	for name, want := range map[string]int{"STATFS": 7, "LOOKUP": 4, "INIT": 0, "READ": 0} {
		if got := after[name] - before[name]; got != want {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
	sum := 0
	for _, n := range after {
		sum += n
	}
	if total := s.ask("total"); total != fmt.Sprint(sum) {
		t.Errorf("total %s, sum %d", total, sum)
	}
}

func TestCounterNames(t *testing.T) {
	var c Counters
	for _, op := range []uint32{1, 1, 2, 3, 8, 26, 41, 53, 7, 63, 64, 4096, 1 << 31} {
		c.add(op)
	}
	want := "COPY_FILE_RANGE_64=1 FORGET=1 GETATTR=1 INIT=1 LOOKUP=2 MKNOD=1 NOTIFY_REPLY=1 OPCODE_63=1 OPCODE_7=1 OTHER=3"
	if got := c.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if c.Total() != 13 {
		t.Errorf("total %d", c.Total())
	}
}

// TestSlowRequestsDoNotBlock lets many requests hang in the handler; others
// are still answered.
func TestSlowRequestsDoNotBlock(t *testing.T) {
	s := startServer(t, config{readers: 2})
	const slow = 40
	done := make(chan error, slow)
	for range slow {
		go func() {
			var st unix.Stat_t
			done <- ignoringEINTR(func() error { return unix.Stat(filepath.Join(s.dir, "slow"), &st) })
		}()
	}
	waitFor(t, "the slow ones to arrive", func() bool { return s.ask("blocked") == fmt.Sprint(slow) })
	for range 100 {
		begin := time.Now()
		statfs(t, s.dir)
		if d := time.Since(begin); d > 2*time.Second {
			t.Fatalf("statfs took %v", d)
		}
	}
	select {
	case err := <-done:
		t.Errorf("a slow request ended: %v", err)
	default:
	}
	s.ask("release")
	for range slow {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if got := s.unmount(); got != "ended; nothing left" {
		t.Errorf("after the unmount: %s", got)
	}
}

// TestBoundOfReaders: when all readers there may be are busy, requests wait,
// and go on afterwards.
func TestBoundOfReaders(t *testing.T) {
	s := startServer(t, config{readers: 1, bound: 3})
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			var st unix.Stat_t
			if err := ignoringEINTR(func() error { return unix.Stat(filepath.Join(s.dir, "slow"), &st) }); err != nil {
				t.Error(err)
			}
		})
	}
	waitFor(t, "three to arrive", func() bool { return s.ask("blocked") == "3" })
	time.Sleep(50 * time.Millisecond)
	if n := s.ask("blocked"); n != "3" {
		t.Errorf("%s requests at work", n)
	}
	s.ask("release")
	wg.Wait()
	s.unmount()
}

func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestUnmountEndsWithRequestsAtWork(t *testing.T) {
	s := startServer(t, config{})
	go func() {
		var st unix.Stat_t
		_ = unix.Stat(filepath.Join(s.dir, "slow"), &st)
	}()
	waitFor(t, "the slow one", func() bool { return s.ask("blocked") == "1" })
	if err := Unmount(s.dir, UnmountOptions{Lazy: true}); err != nil {
		t.Fatal(err)
	}
	// The child may be at its end before it has said that it released.
	got := s.ask("release")
	if end := s.end(); !strings.HasPrefix(got, "ended") {
		got = end
	}
	if got != "ended; nothing left" {
		t.Errorf("after the unmount: %s", got)
	}
}

// TestPanicIsEIO: a panic costs one request, not the server.
func TestPanicIsEIO(t *testing.T) {
	s := startServer(t, config{readers: 1})
	for range 3 {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(s.dir, "panic"), &st); !errors.Is(err, unix.EIO) {
			t.Errorf("stat: %v", err)
		}
	}
	statfs(t, s.dir)
	if got := s.unmount(); got != "ended; nothing left" {
		t.Errorf("after the unmount: %s", got)
	}
}

func TestInterruptedClient(t *testing.T) {
	s := startServer(t, config{})
	client := killableStat(t, filepath.Join(s.dir, "slow"))
	waitFor(t, "the slow one", func() bool { return s.ask("blocked") == "1" })
	client.kill()
	waitFor(t, "the interrupt", func() bool { return s.counters()["INTERRUPT"] >= 1 })
	s.ask("release")
	client.wait()
	statfs(t, s.dir)
	s.unmount()
}

func TestInvalidation(t *testing.T) {
	s := startServer(t, config{})
	name := filepath.Join(s.dir, "77")
	lookups := func() int {
		before := s.counters()["LOOKUP"]
		if _, err := os.Lstat(name); err != nil {
			t.Fatal(err)
		}
		return s.counters()["LOOKUP"] - before
	}
	if a, b := lookups(), lookups(); a != 1 || b != 0 {
		t.Errorf("lookups: %d, %d", a, b)
	}
	if got := s.ask("invalidate 77"); got != "<nil> <nil>" {
		t.Errorf("invalidate: %s", got)
	}
	if n := lookups(); n != 1 {
		t.Errorf("lookups after the invalidation: %d", n)
	}
	if got := s.ask("invalidate unknown"); !strings.Contains(got, "no such file") {
		t.Errorf("invalidate an unknown name: %s", got)
	}
}

// TestLargeReadsAndWrites moves data in the largest requests, at odd places.
func TestLoadOfReadsAndWrites(t *testing.T) {
	s := startServer(t, config{})
	const size = 5<<20 + 123
	file, err := os.OpenFile(filepath.Join(s.dir, fmt.Sprint(size)), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(file)
	if err != nil || len(data) != size {
		t.Fatalf("read %d: %v", len(data), err)
	}
	for i, b := range data {
		if b != pattern(uint64(i)) {
			t.Fatalf("byte %d is %d", i, b)
		}
	}
	written := 0
	for range 20 {
		off := rand.IntN(size)
		n := rand.IntN(size - off)
		if _, err := file.WriteAt(data[off:off+n], int64(off)); err != nil {
			t.Fatal(err)
		}
		written += n
	}
	if err := file.Close(); err != nil {
		t.Error(err)
	}
	if got := s.ask("written"); got != fmt.Sprint(written) {
		t.Errorf("written %d, arrived %s", written, got)
	}
	s.unmount()
}

// TestLoadFromManyClients is for the race detector, in client and server.
func TestLoadFromManyClients(t *testing.T) {
	s := startServer(t, config{})
	var wg sync.WaitGroup
	for client := range 16 {
		wg.Go(func() {
			buf := make([]byte, 10000)
			for i := range 100 {
				statfs(t, s.dir)
				path := filepath.Join(s.dir, fmt.Sprint(client*1000+i))
				data, err := os.ReadFile(path)
				if err != nil || len(data) != client*1000+i {
					t.Errorf("%s: %d %v", path, len(data), err)
				}
				if err := os.WriteFile(path, buf[:0], 0o666); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := s.counters()["STATFS"]; got != 1600 {
		t.Errorf("STATFS: %d", got)
	}
	if got := s.unmount(); got != "ended; nothing left" {
		t.Errorf("after the unmount: %s", got)
	}
}

// TestRoundTrips prints what a request costs.
func TestRoundTrips(t *testing.T) {
	s := startServer(t, config{})
	const n = 10000
	begin := time.Now()
	for range n {
		statfs(t, s.dir)
	}
	d := time.Since(begin)
	t.Logf("%d round trips: %v each", n, d/n)
	if got := s.counters()["STATFS"]; got != n {
		t.Errorf("STATFS: %d", got)
	}
}
