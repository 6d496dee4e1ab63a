package unionfs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFolderTimes changes a folder while others ask for its attributes. An
// answer from before the change that the kernel takes after it must not be what
// it keeps.
func TestFolderTimes(t *testing.T) {
	r := newRig(t, `mkdir d`)
	r.mount(false)
	dir := filepath.Join(r.dir, "d")
	ask := func(flags int) unix.StatxTimestamp {
		var st unix.Statx_t
		if err := unix.Statx(unix.AT_FDCWD, dir, flags, unix.STATX_BASIC_STATS, &st); err != nil {
			t.Error(err)
		}
		return st.Mtime
	}
	for i := range 500 {
		var askers sync.WaitGroup
		for range 3 {
			askers.Go(func() {
				for range 4 {
					ask(unix.AT_STATX_FORCE_SYNC)
				}
			})
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		askers.Wait()
		if kept, now := ask(0), ask(unix.AT_STATX_FORCE_SYNC); kept != now {
			t.Fatalf("round %d: the kernel keeps %d.%09d, the folder has %d.%09d", i, kept.Sec, kept.Nsec, now.Sec, now.Nsec)
		}
	}
}
