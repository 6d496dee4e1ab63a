package integration

import (
	"archive/tar"
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// long reports whether the long variants of tests are asked for, as by make
// test-long.
func long() bool { return os.Getenv("UNIO_TEST_LONG") != "" }

// manyFiles writes a tar of n empty files, 1,000 a folder.
func manyFiles(w io.Writer, n int) error {
	buffer := bufio.NewWriterSize(w, 1<<20)
	out := tar.NewWriter(buffer)
	for i := range n {
		dir := fmt.Sprintf("many/%04d/", i/1000)
		if i%1000 == 0 {
			if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}); err != nil {
				return err
			}
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("%sfile-%07d.txt", dir, i), Mode: 0o644}
		if err := out.WriteHeader(h); err != nil {
			return err
		}
	}
	if err := out.Close(); err != nil {
		return err
	}
	return buffer.Flush()
}

// importMany imports an image of n empty files.
func (b *box) importMany(n int, name string) {
	b.t.Helper()
	cmd := b.command("import", "-q", "-", name)
	in, err := cmd.StdinPipe()
	must(b.t, err)
	must(b.t, cmd.Start())
	must(b.t, manyFiles(in, n))
	must(b.t, in.Close())
	must(b.t, cmd.Wait())
}

// memory is what a process has in memory, in bytes.
type memory struct{ anon, file int64 }

func (m memory) String() string {
	return fmt.Sprintf("%d KiB anonymous, %d KiB of files", m.anon>>10, m.file>>10)
}

func (m memory) total() int64 { return m.anon + m.file }

// memoryOf reads /proc/PID/status (proc_pid_status(5)).
func memoryOf(t *testing.T, pid int64) (m memory) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	for line := range strings.SplitSeq(string(text), "\n") {
		fields := strings.Fields(line)
		if len(fields) < 3 {
			continue
		}
		n, _ := strconv.ParseInt(fields[1], 10, 64)
		switch fields[0] {
		case "RssAnon:":
			m.anon = n << 10
		case "RssFile:", "RssShmem:":
			m.file += n << 10
		}
	}
	return m
}

// TestWalkMemory walks an image of very many files, all of which the kernel
// then knows, and lets it forget them. What the server has in memory stays
// small and goes away again, on either kind of mount.
func TestWalkMemory(t *testing.T) {
	n := 200_000
	if long() {
		n = 1_000_000
	}
	b := newBox(t)
	b.importMany(n, "many:1")
	for _, kind := range []string{"--read-only", "--name=many"} {
		mnt := b.mount(kind, "many:1")
		pid := b.figures(mnt).Process.Pid
		first := memoryOf(t, pid)
		if out := tool(t, "sh", "-c", "find "+filepath.Join(mnt, "many")+" -type f -size 0 | wc -l"); out != fmt.Sprint(n) {
			t.Errorf("%s files, want %d", out, n)
		}
		walked := memoryOf(t, pid)
		if budget := 24<<20 + 120*int64(n); walked.total() > budget { // 400 MiB would be 400 bytes a file
			t.Errorf("%s: after a walk of %d files %v, budget %d KiB", kind, n, walked, budget>>10)
		}
		if own := 16<<20 + 4*int64(n); walked.anon > own { // a count for each, and no garbage
			t.Errorf("%s: after a walk of %d files %v, budget %d KiB anonymous", kind, n, walked, own>>10)
		}
		left := b.forgotten(pid, first.total()+32<<20)
		t.Logf("%s: %v; after a walk of %d files %v; when they are forgotten %v", kind, first, n, walked, left)
		b.run("umount", mnt)
	}
}

// forgotten makes the kernel forget all files that nobody uses, and waits for
// a server to come down to a number of bytes.
func (b *box) forgotten(pid, budget int64) (m memory) {
	b.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		must(b.t, os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0))
		if m = memoryOf(b.t, pid); m.total() <= budget {
			return m
		}
		if time.Now().After(end) {
			b.t.Errorf("the server keeps %v when all is forgotten, budget %d KiB", m, budget>>10)
			return m
		}
	}
}
