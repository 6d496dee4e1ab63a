package cow_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"unio/cow"
	"unio/unionfs/merge"
	"unio/unionfs/merge/mergetest"
)

// rack is a union used by its methods alone, over a lower that may be slow.
type rack struct {
	*cow.FS
	t     testing.TB
	o     cow.Options
	lower string // the folder that the lower is a copy of
}

// newRack makes a union over what a script leaves in the lower, which wrap may
// replace by another one.
func newRack(t testing.TB, script string, wrap func(merge.Lower) merge.Lower) *rack {
	t.Helper()
	base := t.TempDir()
	r := &rack{t: t, lower: filepath.Join(base, "lower")}
	r.o = cow.Options{Upper: filepath.Join(base, "upper"), Work: filepath.Join(base, "work"), Root: os.Geteuid() == 0}
	for _, dir := range []string{r.lower, r.o.Upper, r.o.Work} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("bash", "-euc", script)
	cmd.Dir = r.lower
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s\n%s%v", script, out, err)
	}
	tree, err := mergetest.FromDir(r.lower)
	if err != nil {
		t.Fatal(err)
	}
	r.o.Lower = tree
	if wrap != nil {
		r.o.Lower = wrap(tree)
	}
	r.open()
	t.Cleanup(func() { r.Close() })
	return r
}

func (r *rack) open() {
	r.t.Helper()
	var err error
	if r.FS, err = cow.Open(r.o); err != nil {
		r.t.Fatal(err)
	}
}

// reopen does what a remount does.
func (r *rack) reopen() {
	r.t.Helper()
	if err := r.Close(); err != nil {
		r.t.Fatal(err)
	}
	r.open()
}

// find walks to a path; 0 and an error if there is nothing.
func (r *rack) find(path string) (merge.Ino, error) {
	ino := merge.RootIno
	for name := range strings.SplitSeq(path, "/") {
		if name == "" {
			continue
		}
		var st cow.Stat
		if err := r.Lookup(ino, name, &st); err != nil {
			return 0, err
		}
		ino = st.Ino
	}
	return ino, nil
}

// at is find of what must be there.
func (r *rack) at(path string) merge.Ino {
	r.t.Helper()
	ino, err := r.find(path)
	if err != nil {
		r.t.Fatalf("%s: %v", path, err)
	}
	return ino
}

// slowLower holds up who reads the tail of one file, as copy-up does and no
// reader of the head.
type slowLower struct {
	merge.Lower
	ino     merge.Ino
	tail    int64
	reached chan struct{} // gets a value when somebody is held up
	gate    chan error    // what lets one go on, with an error or nil
}

func (s *slowLower) ReadAt(ino merge.Ino, p []byte, off int64) (int, error) {
	if ino == s.ino && off+int64(len(p)) > s.tail {
		s.reached <- struct{}{}
		if err := <-s.gate; err != nil {
			return 0, err
		}
	}
	return s.Lower.ReadAt(ino, p, off)
}

const slowSize = 200_000 // below the size from which a copy-up may be partial

func newSlowRack(t *testing.T) (*rack, *slowLower) {
	slow := &slowLower{tail: slowSize / 2, reached: make(chan struct{}, 8), gate: make(chan error)}
	r := newRack(t, fmt.Sprintf(`mkdir d d/sub e
head -c %d /dev/urandom >d/slow
for n in a b c f g h; do echo $n >d/$n; done; echo x >e/x; ln d/h e/h`, slowSize), func(l merge.Lower) merge.Lower {
		slow.Lower = l
		return slow
	})
	slow.ino = r.at("d/slow")
	return r, slow
}

// during runs what must not wait for a copy-up.
func during(t *testing.T, what string, do func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("%s waits for the copy-up", what)
	}
}

// step is an operation that is done while a file is being copied up.
type step struct {
	what string
	do   func() error
}

// steps are operations on what lies beside the file, and on itself.
func (r *rack) steps() []step {
	var st cow.Stat
	d, e, slow := r.at("d"), r.at("e"), r.at("d/slow")
	a, b, h := r.at("d/a"), r.at("d/b"), r.at("d/h")
	mode := uint32(0o600)
	list := func() error {
		n := 0
		err := r.ReadDir(d, 0, func(cow.Dirent) bool { n++; return true })
		if err == nil && n < 9 {
			err = fmt.Errorf("%d entries", n)
		}
		return err
	}
	return []step{
		{"lookup beside", func() error { return r.Lookup(d, "a", &st) }},
		{"lookup", func() error { return r.Lookup(d, "slow", &st) }},
		{"stat", func() error { return r.Getattr(slow, &st) }},
		{"read", func() error { _, err := r.Read(slow, make([]byte, 4096), 0); return err }},
		{"getxattr", func() error { _, err := r.Getxattr(slow, "user.none"); return ifNot(err, merge.ErrNoXattr) }},
		{"listxattr", func() error { return r.Listxattr(slow, func(string) {}) }},
		{"seek", func() error { _, err := r.Seek(slow, 0, unix.SEEK_HOLE); return err }},
		{"list", list},
		{"create", func() error { return r.Create(d, "new", cow.New{Mode: unix.S_IFREG | 0o644}, &st) }},
		{"mkdir", func() error { return r.Create(d, "newdir", cow.New{Mode: unix.S_IFDIR | 0o755}, &st) }},
		{"symlink", func() error { return r.Create(d, "newlink", cow.New{Mode: unix.S_IFLNK, Target: "x"}, &st) }},
		{"chmod beside", func() error { return r.Setattr(a, cow.Change{Mode: &mode}, &st) }},
		{"write beside", func() error { _, err := r.Write(b, []byte("more"), 1, cow.How{}); return err }},
		{"fsync beside", func() error { return r.Fsync(b, false) }},
		{"link beside", func() error { return r.Link(a, e, "a2", &st) }},
		{"hub", func() error { return r.Setattr(h, cow.Change{Mode: &mode}, &st) }},
		{"unlink beside", func() error { return r.Unlink(d, "c") }},
		{"rmdir beside", func() error { return r.Rmdir(d, "sub") }},
		{"rename beside", func() error { return r.Rename(d, "f", d, "f2", 0) }},
		{"rename across", func() error { return r.Rename(d, "g", e, "g2", 0) }},
		{"rename back", func() error { return r.Rename(e, "x", d, "x2", 0) }},
		{"tmpfile", func() error { return r.Tmpfile(d, cow.New{Mode: unix.S_IFREG | 0o600}, &st) }},
		{"statfs", func() error { var s unix.Statfs_t; return r.Statfs(&s) }},
		{"rename the folder", func() error { return r.Rename(merge.RootIno, "d", e, "d2", 0) }},
		{"list again", list},
	}
}

// ifNot returns err unless it is the expected one.
func ifNot(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}

// TestCopyUpHoldsUpNobody stops a copy-up half-way. Everything else goes on,
// on other files, in the same folder and, but for changes, on the same file;
// the folder may even move. Then the copy-up ends as if nothing had been.
func TestCopyUpHoldsUpNobody(t *testing.T) {
	r, slow := newSlowRack(t)
	written := make(chan error, 1)
	go func() {
		_, err := r.Write(slow.ino, []byte("changed"), 5, cow.How{})
		written <- err
	}()
	<-slow.reached
	for _, s := range r.steps() {
		during(t, s.what, s.do)
	}
	slow.gate <- nil
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	r.sameAs("e/d2/slow", func(want []byte) { copy(want[5:], "changed") })
	r.reopen()
	r.sameAs("e/d2/slow", func(want []byte) { copy(want[5:], "changed") })
}

// sameAs compares a file with the lower's, changed as the test did.
func (r *rack) sameAs(path string, change func(want []byte)) {
	r.t.Helper()
	want, err := os.ReadFile(filepath.Join(r.lower, "d/slow"))
	if err != nil {
		r.t.Fatal(err)
	}
	change(want)
	got := make([]byte, len(want)+1)
	n, err := r.Read(r.at(path), got, 0)
	if err != nil || !bytes.Equal(got[:n], want) {
		r.t.Errorf("%s: wrong content, %d bytes: %v", path, n, err)
	}
}

// TestUnlinkDuringCopyUp removes the name of a file that is being copied up:
// who has it open gets the copy, and nothing is left in the upper.
func TestUnlinkDuringCopyUp(t *testing.T) {
	r, slow := newSlowRack(t)
	r.Remember(slow.ino)
	written := make(chan error, 1)
	go func() {
		_, err := r.Write(slow.ino, []byte("changed"), 5, cow.How{})
		written <- err
	}()
	<-slow.reached
	during(t, "unlink", func() error { return r.Unlink(r.at("d"), "slow") })
	during(t, "create in its place", func() error {
		return r.Create(r.at("d"), "slow", cow.New{Mode: unix.S_IFREG | 0o644}, new(cow.Stat))
	})
	slow.gate <- nil
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 7)
	if n, err := r.Read(slow.ino, p, 5); err != nil || string(p[:n]) != "changed" {
		t.Errorf("the open file: %q, %v", p[:n], err)
	}
	r.Forget(slow.ino, 1)
	if left, err := os.ReadDir(filepath.Join(r.o.Work, "tmp")); err != nil || len(left) > 1 { // the whiteout that others are links of
		t.Errorf("left in the work folder: %v, %v", left, err)
	}
}

// TestFailedCopyUp: a lower that cannot be read fails the write and changes
// nothing; the next one tries again.
func TestFailedCopyUp(t *testing.T) {
	r, slow := newSlowRack(t)
	written := make(chan error, 1)
	write := func() {
		_, err := r.Write(slow.ino, []byte("changed"), 5, cow.How{})
		written <- err
	}
	go write()
	<-slow.reached
	slow.gate <- unix.EIO
	if err := <-written; !errors.Is(err, unix.EIO) {
		t.Errorf("a write over an unreadable lower: %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(r.o.Work, "tmp")); err != nil || len(left) > 0 {
		t.Errorf("left in the work folder: %v, %v", left, err)
	}
	go write()
	<-slow.reached
	slow.gate <- nil
	if err := <-written; err != nil {
		t.Error(err)
	}
	r.sameAs("d/slow", func(want []byte) { copy(want[5:], "changed") })
}

// TestOneCopyUpForAll: sixteen writers to one untouched file cause one
// copy-up, and lose nothing of what they wrote.
func TestOneCopyUpForAll(t *testing.T) {
	r, slow := newSlowRack(t)
	const writers = 16
	written := make(chan error, writers)
	for w := range writers {
		go func() {
			_, err := r.Write(slow.ino, bytes.Repeat([]byte{byte('A' + w)}, 100), int64(w*1000), cow.How{})
			written <- err
		}()
	}
	<-slow.reached
	slow.gate <- nil
	for range writers {
		if err := <-written; err != nil {
			t.Error(err)
		}
	}
	r.sameAs("d/slow", func(want []byte) {
		for w := range writers {
			copy(want[w*1000:], bytes.Repeat([]byte{byte('A' + w)}, 100))
		}
	})
	if s := r.Stats(); s.CopyUps.Whole != 1 || s.CopiedBytes != slowSize {
		t.Errorf("%+v, %d bytes", s.CopyUps, s.CopiedBytes)
	}
}
