package unionfs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"unio/unionfs/merge"
	"unio/unionfs/transport"
	"unio/unionfs/transport/transporttest"
)

// gateEnv names a file: until it is there, nobody can read the end of the slow
// files of the lower, as copy-up does and the kernel's read-ahead does not.
const gateEnv = "UNIO_TEST_GATE"

// slowBytes is the size of a slow file, too small for a copy-up of parts.
const slowBytes = 200_000

// gatedLower holds up readers.
type gatedLower struct {
	merge.Lower
	gate string
}

func (g gatedLower) ReadAt(ino merge.Ino, p []byte, off int64) (int, error) {
	for off+int64(len(p)) > slowBytes-1000 {
		if _, err := os.Stat(g.gate); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return g.Lower.ReadAt(ino, p, off)
}

// askFromEachCPU sends a short request from each CPU. Over io_uring those that
// came while a queue had no entry left wait until one of that queue is answered:
// the kernel does not give them to entries that are added later
// (fs/fuse/dev_uring.c, fuse_uring_do_register).
func askFromEachCPU(dir string) {
	for cpu := range runtime.NumCPU() {
		go func() { // whose request may have to wait itself
			runtime.LockOSThread() // and the thread ends with it
			var one unix.CPUSet
			one.Set(cpu)
			var st unix.Statfs_t
			if unix.SchedSetaffinity(0, &one) == nil {
				_ = unix.Statfs(dir, &st)
			}
		}()
	}
	time.Sleep(50 * time.Millisecond)
}

// TestCopyUpsStallNobody has a hundred files wait in their copy-up at once,
// while everything else goes on: in the folders they are in, on other files
// and, but for changes and the page that is being written, on themselves: those
// the kernel makes wait on every filesystem.
func TestCopyUpsStallNobody(t *testing.T) {
	const files = 100
	r := newRig(t, fmt.Sprintf(`mkdir d d/sub e
for i in $(seq %d); do head -c %d /dev/urandom >d/slow$i; done
for n in a b c f g; do echo $n >d/$n; done; echo x >e/x`, files, slowBytes))
	gate := filepath.Join(t.TempDir(), "gate")
	r.env = append(r.env, gateEnv+"="+gate)
	r.mount(false)
	written := make(chan error, files)
	for i := 1; i <= files; i++ {
		go func() { written <- overwrite(filepath.Join(r.dir, fmt.Sprint("d/slow", i))) }()
	}
	for end := time.Now().Add(time.Minute); r.requests()["WRITE"] < files; {
		if transporttest.Chosen() == transport.Uring {
			askFromEachCPU(r.dir)
		}
		if time.Now().After(end) {
			t.Fatalf("of %d writes only %d arrived: the others wait for them", files, r.requests()["WRITE"])
		}
	}
	r.run(`exec timeout 60 bash -euxc '
		ls -l d >/dev/null; test "$(ls d | wc -l)" = 106
		test "$(dd if=d/slow7 bs=4096 skip=8 count=1 status=none | wc -c)" = 4096
		stat -c %s d/slow8 | grep -qx 200000; getfattr -d d/slow9
		cat d/a >/dev/null; echo more >>d/b; chmod 600 d/c; sync d/b
		echo new >d/new; mkdir d/newdir; ln d/a e/a; ln -s x d/link
		mv d/f d/f2; mv d/g e/g2; mv e/x d/x; rm d/a; rmdir d/sub
		setfattr -n user.x -v y d/b; truncate -s 0 d/b
		mv d e/d2; ls e/d2 >/dev/null'`)
	if err := os.WriteFile(gate, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for range files {
		if err := <-written; err != nil {
			t.Error(err)
		}
	}
	want := r.sh(r.lower, `for i in d/slow*; do printf changed | dd of=$i conv=notrunc status=none; done; cd d; md5sum slow*`)
	for range 2 {
		r.equal("after the copy-ups", r.sh(filepath.Join(r.dir, "e/d2"), "md5sum slow*"), want)
		r.remount()
	}
	if out := strings.TrimSpace(r.sh(r.work, "find tmp -type f")); out != "" {
		t.Errorf("left in the work folder: %s", out)
	}
}

func overwrite(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("changed")
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}
