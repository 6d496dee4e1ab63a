package unionfs

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLedger: what a server has noted is there for the next one, until as many
// notes as there is room for have been made since.
func TestLedger(t *testing.T) {
	first, err := NewLedger()
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	fd, err := unix.FcntlInt(first.File().Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	next, err := OpenLedger(os.NewFile(uintptr(fd), "ledger"))
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if _, _, noted := next.find(2); noted || next.Answered() {
		t.Error("a new one is not empty")
	}
	for unique := uint64(2); unique < 2*ledgerNotes+10; unique += 2 {
		first.put(unique, unique+1, ^unique)
	}
	first.setAnswered()
	for unique := uint64(10); unique < 2*ledgerNotes+10; unique += 2 {
		if a, b, noted := next.find(unique); !noted || a != unique+1 || b != ^unique {
			t.Fatalf("request %d: %d %d %v", unique, a, b, noted)
		}
	}
	if _, _, noted := next.find(2); noted {
		t.Error("the oldest note is still there")
	}
	if !next.Answered() || next.Answered() {
		t.Error("an answer is told once")
	}
}

// TestLedgerTooShort: a file that is no ledger is refused instead of read
// behind its end, which would be a SIGBUS.
func TestLedgerTooShort(t *testing.T) {
	fd, err := unix.MemfdCreate("short", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "short")
	if err := file.Truncate(int64(ledgerSize) - 1); err != nil {
		t.Fatal(err)
	}
	if l, err := OpenLedger(file); err == nil {
		l.Close()
		t.Error("opened")
	}
}

// TestGroupsOf: the groups of a thread are those that the kernel shows, and
// nobody's are those of one that is gone.
func TestGroupsOf(t *testing.T) {
	want, err := unix.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, gid := range groupsOf(uint32(os.Getpid())) {
		got = append(got, int(gid))
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	text, err := os.ReadFile("/proc/sys/kernel/pid_max")
	if err != nil {
		t.Fatal(err)
	}
	most, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	if list := groupsOf(uint32(most)); list != nil { // pids are less
		t.Errorf("a process that is not there: %v", list)
	}
}
