package cow_test

import (
	"fmt"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"unio/cow"
)

// TestNumbersComeBack makes and removes from several sides: the upper gives an
// inode number out again at once, while the removal of its former owner is
// still being noted, and the new one must be there all the same.
func TestNumbersComeBack(t *testing.T) {
	t.Parallel()
	r := newRack(t, "mkdir a b c d", nil)
	var wait sync.WaitGroup
	for _, dir := range []string{"a", "b", "c", "d"} {
		d, err := r.find(dir)
		if err != nil {
			t.Fatal(err)
		}
		wait.Go(func() {
			for i := range 2000 {
				name := fmt.Sprint("n", i)
				var st, again cow.Stat
				if err := r.Create(d, name, cow.New{Mode: unix.S_IFDIR | 0o755}, &st); err != nil {
					t.Errorf("make: %v", err)
					return
				}
				if err := r.Getattr(st.Ino, &again); err != nil {
					t.Errorf("fresh node %#x: %v", st.Ino, err)
				}
				if err := r.Rmdir(d, name); err != nil {
					t.Errorf("remove: %v", err)
				}
			}
		})
	}
	wait.Wait()
}
