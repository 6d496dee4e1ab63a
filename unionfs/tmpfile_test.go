package unionfs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestTmpfile(t *testing.T) {
	r := newRig(t, lowerScript)
	r.mount(false)
	fd, err := unix.Open(filepath.Join(r.dir, "etc"), unix.O_TMPFILE|unix.O_RDWR, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Pwrite(fd, []byte("nameless"), 0); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Nlink != 0 || st.Size != 8 || st.Mode&0o777 != 0o640 {
		t.Errorf("nlink %d, size %d, mode %o, %v", st.Nlink, st.Size, st.Mode, err)
	}
	if out := r.run("ls etc | grep -v -e disk -e fifo -e lib -e null -e passwd || :"); out != "" {
		t.Errorf("it has a name: %s", out)
	}
	// Over a whiteout, and where nothing was.
	r.run("rm etc/passwd")
	for _, name := range []string{"etc/passwd", "etc/named"} {
		err := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD,
			filepath.Join(r.dir, name), unix.AT_SYMLINK_FOLLOW)
		if err != nil {
			t.Fatalf("link to %s: %v", name, err)
		}
	}
	r.equal("named", r.run("cat etc/named etc/passwd; stat -c %h etc/named"), "namelessnameless2\n")
	unix.Close(fd)
	r.remount()
	r.equal("remounted", r.run("cat etc/named etc/passwd; stat -c %h etc/named"), "namelessnameless2\n")
}

// TestTmpfilesEnd makes many files that never get a name: their descriptors in
// the server end with the kernel's interest.
func TestTmpfilesEnd(t *testing.T) {
	r := newRig(t, lowerScript)
	r.mount(false)
	count := func() int {
		list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	before := count()
	for range 500 {
		fd, err := unix.Open(r.dir, unix.O_TMPFILE|unix.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
	}
	after := count()
	for end := time.Now().Add(5 * time.Second); after > before+20 && time.Now().Before(end); after = count() {
		time.Sleep(10 * time.Millisecond)
	}
	if after > before+20 {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}
