package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"unio/unionfs/transport/transporttest"
)

// counters are the requests a mount server has answered, by opcode.
type counters struct {
	Requests map[string]int64 `json:"requests"`
	Total    int64            `json:"total"`
}

func (b *box) counters(mnt string) counters {
	b.t.Helper()
	var c counters
	text := b.run("mount", "--stats", mnt)
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		b.t.Fatalf("mount --stats: %v in %s", err, text)
	}
	return c
}

// cost runs do and returns the requests it caused. What the kernel sends in
// its own time (FORGET, for one) is not counted.
func (b *box) cost(mnt string, do func()) map[string]int64 {
	b.t.Helper()
	time.Sleep(50 * time.Millisecond)
	before := b.counters(mnt)
	do()
	time.Sleep(50 * time.Millisecond)
	after := b.counters(mnt)
	cost := maps.Clone(after.Requests)
	for op, n := range before.Requests {
		cost[op] -= n
	}
	for op, n := range cost {
		if n == 0 || op == "FORGET" || op == "BATCH_FORGET" || op == "INTERRUPT" {
			delete(cost, op)
		}
	}
	return cost
}

func sum(cost map[string]int64) (n int64) {
	for _, c := range cost {
		n += c
	}
	return n
}

// TestSeenFilesCostNothing is the counter test: stat, open, read, readdir and
// readlink of what was seen before never reach the server, on either kind of
// mount.
func TestSeenFilesCostNothing(t *testing.T) { transporttest.Each(t, seenFilesCostNothing) }

func seenFilesCostNothing(t *testing.T) {
	b := newBox(t)
	b.run("import", "-q", busyboxRoot(t, b.dir), "busybox:count")
	mounts := map[string]string{
		"read-only": b.mount("--read-only", "busybox:count"),
		"writable":  b.mount("--name", "count", "busybox:count"),
	}
	if err := os.WriteFile(filepath.Join(mounts["writable"], "usr/share/doc/a/fresh"), []byte("new here"), 0o644); err != nil {
		t.Fatal(err)
	}
	for kind, mnt := range mounts {
		walk := func() { seeEverything(t, filepath.Join(mnt, "usr")) }
		walk()
		var cost map[string]int64
		for range 4 { // a kernel short of memory may drop a page between two walks, not between all
			walk()
			if cost = b.cost(mnt, walk); sum(cost) == 0 {
				break
			}
		}
		if sum(cost) != 0 {
			t.Errorf("%s: a warm walk cost %v", kind, cost)
		}
	}
}

// seeEverything stats, opens, reads and lists everything below dir.
func seeEverything(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if _, err := os.Lstat(path); err != nil {
			return err
		}
		switch {
		case d.Type()&os.ModeSymlink != 0:
			_, err = os.Readlink(path)
		case d.Type().IsRegular():
			err = readAll(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func readAll(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(io.Discard, f)
	return err
}

// TestRequestBudget holds what changes the tree to the number of requests the
// design allows.
func TestRequestBudget(t *testing.T) { transporttest.Each(t, requestBudget) }

func requestBudget(t *testing.T) {
	b := newBox(t)
	b.run("import", "-q", busyboxRoot(t, b.dir), "busybox:budget")
	mnt := b.mount("--name", "budget", "busybox:budget")
	dir := filepath.Join(mnt, "work")
	must(t, os.Mkdir(dir, 0o755))
	file := func(i int) string { return filepath.Join(dir, fmt.Sprintf("file%d", i)) }
	create := func(i int) { must(t, os.WriteFile(file(i), make([]byte, 4096), 0o644)) }
	create(0) // the first use of the folder costs more
	const n = 50
	for _, step := range []struct {
		name   string
		budget int64 // requests for each
		do     func(i int)
	}{
		{"create, write 4 KiB, close", 5, create},
		{"chmod", 1, func(i int) { must(t, os.Chmod(file(i), 0o600)) }},
		{"utimes", 1, func(i int) { must(t, os.Chtimes(file(i), time.Unix(5, 0), time.Unix(6, 0))) }},
		{"chown", 2, func(i int) { must(t, os.Lchown(file(i), 5, 6)) }},
		{"unlink", 2, func(i int) { must(t, os.Remove(file(i))) }},
	} {
		cost := b.cost(mnt, func() {
			for i := 1; i <= n; i++ {
				step.do(i)
			}
		})
		t.Logf("%s: %.2f requests each %v", step.name, float64(sum(cost))/n, cost)
		if sum(cost) > step.budget*n+2 {
			t.Errorf("%s: %d requests for %d, budget %d each: %v", step.name, sum(cost), n, step.budget, cost)
		}
	}
}

// TestColdWalkBudget walks a folder of many entries for the first time.
func TestColdWalkBudget(t *testing.T) { transporttest.Each(t, coldWalkBudget) }

func coldWalkBudget(t *testing.T) {
	b := newBox(t)
	root := b.path("root")
	shell(t, b.dir, "mkdir -p root/many && cd root/many && seq -f 'file-%05g' 5000 | xargs touch")
	pack(t, root, b.path("many.tar"))
	b.run("import", "-q", b.path("many.tar"), "many:1")
	mnt := b.mount("--read-only", "many:1")
	cost := b.cost(mnt, func() {
		// find reads folders with glibc's buffer of 32 KiB; Go's is smaller.
		if out := tool(t, "find", filepath.Join(mnt, "many"), "-type", "f", "-size", "0"); strings.Count(out, "\n") != 4999 {
			t.Errorf("%d lines, want 5000", strings.Count(out, "\n")+1)
		}
	})
	if budget := int64(5000/64 + 2); sum(cost) > budget {
		t.Errorf("a cold listing with stat of 5000 entries cost %d requests, budget %d: %v", sum(cost), budget, cost)
	}
	t.Logf("cost %v", cost)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
