package cow_test

import (
	"fmt"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"unio/cow"
	"unio/unionfs/merge"
)

// BenchmarkNodes makes files in the upper, 1,000 a folder, and reports what a
// node takes in memory.
func BenchmarkNodes(b *testing.B) {
	r := newRack(b, "mkdir d", nil)
	before := heap()
	var st cow.Stat
	dir := merge.RootIno
	i := 0
	for b.Loop() {
		if i%1000 == 0 {
			if err := r.Create(merge.RootIno, fmt.Sprint("dir", i), cow.New{Mode: unix.S_IFDIR | 0o755}, &st); err != nil {
				b.Fatal(err)
			}
			dir = st.Ino
		}
		if err := r.Create(dir, fmt.Sprintf("file-%06d.txt", i), cow.New{Mode: unix.S_IFREG | 0o644}, &st); err != nil {
			b.Fatal(err)
		}
		i++
	}
	b.ReportMetric(float64(heap()-before)/float64(i), "bytes/node")
	runtime.KeepAlive(r)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
