package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestNothingLeaks makes and removes very many files and folders in every way
// that takes a node's last name. In the end the server has as many descriptors,
// nodes and bytes as before, and its work folder is empty.
func TestNothingLeaks(t *testing.T) {
	rounds := 6_000
	if long() {
		rounds = 100_000
	}
	b := newBox(t)
	b.run("import", "-q", busyboxRoot(t, b.dir), "busybox:leaks")
	mnt := b.mount("--name", "leaks", "busybox:leaks")
	dir := filepath.Join(mnt, "usr/share")
	path := func(name string) string { return filepath.Join(dir, name) }
	must(t, os.Chmod(dir, 0o755)) // copied up before the first count
	for _, kind := range []struct {
		name   string
		rounds int
		do     func(i int) error
	}{
		{"unlink while open", rounds, func(int) error { return unlinkOpen(path("open")) }},
		{"mkdir, rmdir", rounds / 4, func(i int) error {
			name := path(fmt.Sprint("dir", i%7))
			if err := unix.Mkdir(name, 0o755); err != nil {
				return err
			}
			return unix.Rmdir(name)
		}},
		{"rename over", rounds / 10, func(int) error { return replaceFile(path("new"), path("old")) }},
		{"O_TMPFILE", rounds / 4, func(int) error { return useTmpfile(dir) }},
		{"another name", rounds / 4, func(int) error { return linkOpen(path("one"), path("two")) }},
	} {
		before, start := b.settled(mnt, figures{}), time.Now()
		for i := range kind.rounds {
			if err := kind.do(i); err != nil {
				t.Fatalf("%s, round %d: %v", kind.name, i, err)
			}
		}
		after := b.settled(mnt, before)
		if d := after.Process.Descriptors - before.Process.Descriptors; d > moreDescriptors {
			t.Errorf("%s: %d descriptors more", kind.name, d)
		}
		if n := after.Upper.Nodes - before.Upper.Nodes; n > moreNodes {
			t.Errorf("%s: %d nodes more", kind.name, n)
		}
		if m := after.Process.Resident - before.Process.Resident; m > 32<<20 {
			t.Errorf("%s: %d KiB more", kind.name, m>>10)
		}
		t.Logf("%s: %d descriptors, %d nodes, %d KiB, %d goroutines, %v", kind.name,
			after.Process.Descriptors, after.Upper.Nodes, after.Process.Resident>>10, after.Process.Goroutines, time.Since(start))
	}
	work := filepath.Join(filepath.Dir(b.upper("leaks")), "work")
	// The whiteout that others are links of may stay.
	if left := tool(t, "find", work, "-type", "f"); left != "" {
		t.Errorf("left in the work folder: %s", left)
	}
}

// What a server may have more than before without leaking: the whiteout that
// others are links of, the folders that were copied up.
const moreDescriptors, moreNodes = 8, 2

// settled returns the figures of a server once it has no more than before, or
// after a while: FORGET comes when the kernel likes, and readers that a burst
// needed leave after a second, one with each request.
func (b *box) settled(mnt string, before figures) (f figures) {
	b.t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		for range 64 {
			must(b.t, unix.Statfs(mnt, new(unix.Statfs_t)))
		}
		f = b.figures(mnt)
		p, q := f.Process, before.Process
		if q.Pid == 0 || time.Now().After(end) ||
			p.Descriptors <= q.Descriptors+moreDescriptors && f.Upper.Nodes <= before.Upper.Nodes+moreNodes && p.Goroutines <= q.Goroutines {
			return f
		}
	}
}

// unlinkOpen makes a file, takes its name, and uses it.
func unlinkOpen(path string) error {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Unlink(path); err != nil {
		return err
	}
	if _, err := unix.Pwrite(fd, []byte("x"), 0); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Nlink != 0 || st.Size != 1 {
		return fmt.Errorf("%d links, %d bytes: %w", st.Nlink, st.Size, err)
	}
	return nil
}

// replaceFile makes a file and renames it over another one that is open.
func replaceFile(fresh, old string) error {
	fd, err := unix.Open(fresh, unix.O_RDWR|unix.O_CREAT, 0o644)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Rename(fresh, old)
}

func useTmpfile(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDWR|unix.O_TMPFILE, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte("temporary"))
	return err
}

// linkOpen gives a file a second name and takes both away while it is open.
func linkOpen(one, two string) error {
	fd, err := unix.Open(one, unix.O_RDWR|unix.O_CREAT, 0o644)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, err := range []error{unix.Link(one, two), unix.Unlink(one), unix.Unlink(two)} {
		if err != nil {
			return err
		}
	}
	return nil
}
