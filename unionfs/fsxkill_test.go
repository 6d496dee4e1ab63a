package unionfs_test

import (
	"bytes"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestFsxKill kills the server at any moment of an operation. What had been
// answered is there when it is mounted again; of what had not, each block is
// as before or as after, never half and never zeros.
func TestFsxKill(t *testing.T) {
	for _, name := range []string{"big", "holes"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newFsx(t, name, 2)
			for range fsxRounds() / 4 / 50 {
				x.burst(50)
			}
		})
	}
}

// burst does steps until the server dies in one of the last, and mounts again.
func (x *fsx) burst(steps int) {
	x.t.Helper()
	for range steps - 10 {
		c, changes := x.step()
		if c.err != nil {
			x.fatalf("%v", c.err)
		}
		if changes {
			x.want = c.now
		}
	}
	last := x.untilKilled(time.Duration(x.rnd.IntN(4000)) * time.Microsecond)
	x.close()
	x.kill()
	x.mount(false)
	x.open()
	x.settle(last)
	if x.rnd.IntN(6) == 0 {
		x.startAnew()
	}
}

// untilKilled does steps while the server is killed after some time, and
// returns the one that was not answered.
func (x *fsx) untilKilled(after time.Duration) change {
	x.t.Helper()
	defer time.AfterFunc(after, func() { x.cmd.Process.Kill() }).Stop()
	for {
		c, changes := x.step()
		switch {
		case c.err == errDiffers:
			x.fatalf("%v", c.err)
		case c.err != nil && changes:
			return c
		case c.err != nil:
			return change{old: x.want, now: x.want}
		case changes:
			x.want = c.now
		}
	}
}

// settle looks at what the change that was cut off has left, and takes it
// over.
func (x *fsx) settle(c change) {
	x.t.Helper()
	got, err := os.ReadFile(x.f.Name())
	if err != nil {
		x.fatalf("read after the kill: %v", err)
	}
	lo, hi := min(len(c.old), len(c.now)), max(len(c.old), len(c.now))
	if len(got) < lo || len(got) > hi {
		x.fatalf("%d bytes after the kill, not from %d to %d", len(got), lo, hi)
	}
	old, now := sizedTo(c.old, len(got)), sizedTo(c.now, len(got))
	for at := 0; at < len(got); at += 4096 {
		end := min(at+4096, len(got))
		b, old, now := got[at:end], old[at:end], now[at:end]
		if !bytes.Equal(b, old) && !bytes.Equal(b, now) && !(c.mapped && torn(b, old, now)) {
			x.fatalf("block %d is neither as before (but %d bytes are) nor as after (%d are); size %d, before %d, after %d; %v",
				at/4096, same(b, old), same(b, now), len(got), len(c.old), len(c.now), c.err)
		}
	}
	x.want = got
	x.compare()
}

// torn reports whether each byte of a block is that of one of two others.
func torn(b, old, now []byte) bool {
	for i := range b {
		if b[i] != old[i] && b[i] != now[i] {
			return false
		}
	}
	return true
}

// same counts the bytes that two blocks have in common.
func same(a, b []byte) (n int) {
	for i := range a {
		if a[i] == b[i] {
			n++
		}
	}
	return n
}

func sizedTo(p []byte, size int) []byte {
	out := make([]byte, size)
	copy(out, p)
	return out
}

// TestFsxWriteback collects writes in the kernel: what was synced is there
// after a kill.
func TestFsxWriteback(t *testing.T) {
	t.Setenv("UNIO_TEST_WRITEBACK", "1")
	x := newFsx(t, "big", 4)
	for i := range fsxRounds() / 4 {
		c, changes := x.step()
		if c.err != nil {
			x.fatalf("%v", c.err)
		}
		if changes {
			x.want = c.now
		}
		if i%250 != 249 {
			continue
		}
		if err := unix.Fsync(int(x.f.Fd())); err != nil {
			x.fatalf("fsync: %v", err)
		}
		x.close()
		x.kill()
		x.mount(false)
		x.open()
		x.compare()
	}
}
