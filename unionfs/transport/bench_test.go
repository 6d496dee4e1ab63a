package transport

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkRoundTrip measures statfs(2), which is always one request, with
// one client and with as many as there are processors.
func BenchmarkRoundTrip(b *testing.B) {
	for _, procs := range []int{2, 4} {
		roundTrips(b, fmt.Sprintf("uring,procs=%d", procs), config{kind: Uring, procs: procs})
		for _, readers := range []int{1, 2, 4} {
			roundTrips(b, fmt.Sprintf("readers=%d,procs=%d", readers, procs), config{kind: Dev, readers: readers, procs: procs})
		}
	}
}

func roundTrips(b *testing.B, name string, c config) {
	s := startServer(b, c)
	defer s.unmount()
	if k := s.ask("transport"); k != string(c.kind) {
		b.Fatal(k)
	}
	b.Run("1/"+name, func(b *testing.B) {
		for b.Loop() {
			statfs(b, s.dir)
		}
	})
	b.Run("n/"+name, func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				statfs(b, s.dir)
			}
		})
	})
}

func statfs(t testing.TB, dir string) {
	var st unix.Statfs_t
	if err := ignoringEINTR(func() error { return unix.Statfs(dir, &st) }); err != nil {
		t.Error(err)
	}
}

// BenchmarkRead measures reads of 1 MiB past the page cache.
func BenchmarkRead(b *testing.B) {
	s := startServer(b, config{})
	const size = 1 << 20
	file, err := os.OpenFile(filepath.Join(s.dir, fmt.Sprint(blankSize+size)), os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	buf := alignedBuffer(size, 0)
	b.SetBytes(size)
	for b.Loop() {
		if _, err := file.ReadAt(buf, 0); err != nil {
			b.Fatal(err)
		}
	}
}
