package integration

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The programs of [comparisons]. Each says in a word or two what it found.

func (p *probe) must(err error) {
	p.t.Helper()
	must(p.t, err)
}

func (p *probe) open(name string, flags int) *os.File {
	p.t.Helper()
	f, err := os.OpenFile(p.path(name), flags, 0o644)
	p.must(err)
	return f
}

func (p *probe) stat(name string) (st unix.Stat_t) {
	p.t.Helper()
	p.must(unix.Lstat(p.path(name), &st))
	return st
}

// overwrite makes the first bytes of a file "new", in place.
func (p *probe) overwrite(name string) {
	p.t.Helper()
	p.must(writeFile(p.path(name), 0, []byte("new"), 0))
}

func word(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

func sameOrNot(same bool) string {
	if same {
		return "same"
	}
	return "different"
}

// outcome is "done" or the name of the errno.
func outcome(err error) string {
	var errno unix.Errno
	switch {
	case err == nil:
		return "done"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

func openThenWrite(p *probe) string {
	f := p.open("file", os.O_RDONLY)
	defer f.Close()
	p.overwrite("file")
	got := make([]byte, 3)
	_, err := f.ReadAt(got, 0)
	p.must(err)
	return string(got)
}

func mapThenWrite(p *probe) string {
	f := p.open("file", os.O_RDONLY)
	defer f.Close()
	m, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
	p.must(err)
	defer func() { p.must(unix.Munmap(m)) }()
	_ = string(m[:3]) // the page is there before it changes
	p.overwrite("file")
	return string(m[:3])
}

func inotifyAppend(p *probe) string {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	p.must(err)
	defer unix.Close(fd)
	_, err = unix.InotifyAddWatch(fd, p.path("file"), unix.IN_MODIFY)
	p.must(err)
	p.must(writeFile(p.path("file"), unix.O_APPEND, []byte("more\n"), -1))
	n, _ := unix.Read(fd, make([]byte, 4096))
	if n > 0 {
		return "told"
	}
	return "missed"
}

// tailFollows runs tail -f, which reads the descriptor that it opened before
// the copy-up.
func tailFollows(p *probe) string {
	tail := exec.Command("tail", "-n", "+1", "-s", "0.1", "-f", p.path("file"))
	out, err := tail.StdoutPipe()
	p.must(err)
	p.must(tail.Start())
	kill := time.AfterFunc(3*time.Second, func() { _ = tail.Process.Kill() })
	defer kill.Stop()
	lines := bufio.NewScanner(out)
	lines.Scan() // "old": it has the file open
	p.must(writeFile(p.path("file"), unix.O_APPEND, []byte("appended\n"), -1))
	seen := lines.Scan() && lines.Text() == "appended"
	_, _ = tail.Process.Kill(), tail.Wait()
	return word(seen)
}

func writeToRunning(p *probe) string {
	sleep := exec.Command(p.path("bin/sleep"), "60")
	p.must(sleep.Start())
	defer func() { _, _ = sleep.Process.Kill(), sleep.Wait() }()
	err := writeFile(p.path("bin/sleep"), 0, []byte("x"), 0)
	return outcome(err)
}

func runOpenForWriting(p *probe) string {
	f := p.open("bin/sleep", os.O_WRONLY)
	defer f.Close()
	return outcome(exec.Command(p.path("bin/sleep"), "0").Run())
}

func openForWriting(p *probe) string {
	return p.taken(func() { p.must(p.open("large", os.O_RDWR).Close()) })
}

func openOrCreate(p *probe) string {
	return p.taken(func() { p.must(p.open("large", os.O_RDWR|os.O_CREATE).Close()) })
}

func openTruncating(p *probe) string {
	return p.taken(func() { p.must(p.open("large", os.O_RDWR|os.O_TRUNC).Close()) })
}

func changeAttributes(p *probe) string {
	return p.taken(func() {
		p.must(os.Chmod(p.path("large"), 0o600))
		p.must(os.Chown(p.path("large"), 5, 6))
		p.must(os.Chtimes(p.path("large"), time.Unix(1, 0), time.Unix(2, 0)))
		p.must(unix.Setxattr(p.path("large"), "user.note", []byte("x"), 0))
	})
}

func linkLarge(p *probe) string {
	return p.taken(func() { p.must(os.Link(p.path("large"), p.path("again"))) })
}

func renameLarge(p *probe) string {
	return p.taken(func() { p.must(os.Rename(p.path("large"), p.path("other/large"))) })
}

func copyUpHole(p *probe) string {
	return p.taken(func() { p.must(writeFile(p.path("sparse"), unix.O_APPEND, []byte("x"), -1)) })
}

func numbersAtCopyUp(p *probe) string {
	before := p.stat("file")
	p.overwrite("file")
	after := p.stat("file")
	return sameOrNot(before.Ino == after.Ino && before.Dev == after.Dev)
}

func linkNumbersAtCopyUp(p *probe) string {
	before := p.stat("twin")
	p.overwrite("twin")
	after, other := p.stat("twin"), p.stat("folder/twin")
	return sameOrNot(before.Ino == after.Ino && after.Ino == other.Ino)
}

func writeThroughLink(p *probe) string {
	p.overwrite("twin")
	text, err := os.ReadFile(p.path("folder/sub/twin"))
	p.must(err)
	return word(strings.HasPrefix(string(text), "new"))
}

func linkCount(p *probe) string {
	p.overwrite("twin")
	p.must(os.Remove(p.path("folder/twin")))
	return fmt.Sprint(p.stat("folder/sub/twin").Nlink)
}

func folderLinks(p *probe) string {
	p.must(os.Mkdir(p.path("folder/second"), 0o755))
	return fmt.Sprint(p.stat("folder").Nlink)
}

func renameLower(p *probe) string {
	return outcome(unix.Rename(p.path("folder"), p.path("other/moved")))
}

func renameMerged(p *probe) string {
	p.must(os.WriteFile(p.path("merged/new"), nil, 0o644))
	return outcome(unix.Rename(p.path("merged"), p.path("moved")))
}

func exchangeLower(p *probe) string {
	return outcome(unix.Renameat2(unix.AT_FDCWD, p.path("folder"), unix.AT_FDCWD, p.path("merged"), unix.RENAME_EXCHANGE))
}

func renameOntoMerged(p *probe) string {
	p.must(os.WriteFile(p.path("empty/passing"), nil, 0o644))
	p.must(os.Remove(p.path("empty/passing")))
	return outcome(unix.Rename(p.path("folder"), p.path("empty")))
}

func folderTimeAtCopyUp(p *probe) string {
	before := p.stat("folder")
	p.overwrite("folder/5")
	return sameOrNot(before.Mtim == p.stat("folder").Mtim)
}

func timeAtChmod(p *probe) string {
	before := p.stat("file")
	p.must(os.Chmod(p.path("file"), 0o600))
	return sameOrNot(before.Mtim == p.stat("file").Mtim)
}

func flockAcrossCopyUp(p *probe) string {
	f := p.open("file", os.O_RDONLY)
	defer f.Close()
	p.must(unix.Flock(int(f.Fd()), unix.LOCK_EX))
	p.overwrite("file")
	other := p.open("file", os.O_RDONLY)
	defer other.Close()
	return word(unix.Flock(int(other.Fd()), unix.LOCK_EX|unix.LOCK_NB) == unix.EWOULDBLOCK)
}

// recordLockAcrossCopyUp uses locks of open file descriptions, which do not
// need a second process.
func recordLockAcrossCopyUp(p *probe) string {
	const setLock = 37 // F_OFD_SETLK in include/uapi/asm-generic/fcntl.h
	f := p.open("file", os.O_RDONLY)
	defer f.Close()
	p.must(unix.FcntlFlock(f.Fd(), setLock, &unix.Flock_t{Type: unix.F_RDLCK, Len: 2}))
	other := p.open("file", os.O_RDWR)
	defer other.Close()
	p.overwrite("file")
	err := unix.FcntlFlock(other.Fd(), setLock, &unix.Flock_t{Type: unix.F_WRLCK, Len: 2})
	return word(err == unix.EAGAIN || err == unix.EACCES)
}

func lease(p *probe) string {
	f := p.open("file", os.O_RDONLY)
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK); err != nil {
		return outcome(err)
	}
	return "given"
}

func handleAcrossCopyUp(p *probe) string {
	handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, p.path("file"), 0)
	if err != nil {
		return outcome(err)
	}
	p.overwrite("file")
	top := p.open(".", os.O_RDONLY)
	defer top.Close()
	fd, err := unix.OpenByHandleAt(int(top.Fd()), handle, unix.O_RDONLY)
	if err != nil {
		return outcome(err)
	}
	defer unix.Close(fd)
	got := make([]byte, 3)
	if _, err := unix.Pread(fd, got, 0); err != nil || string(got) != "new" {
		return "another"
	}
	return "the file"
}

func seekHole(p *probe) string {
	f := p.open("sparse", os.O_RDONLY)
	defer f.Close()
	data, err := f.Seek(0, unix.SEEK_DATA)
	return word(err == nil && data == 8<<20)
}

// readWhileCopyingUp reads a folder a few entries at a time and writes to what
// it has just read.
func readWhileCopyingUp(p *probe) string {
	f := p.open("folder", os.O_RDONLY)
	defer f.Close()
	seen := map[string]int{}
	for {
		names, err := f.Readdirnames(7)
		if err != nil {
			break
		}
		for _, name := range names {
			seen[name]++
			if name != "sub" {
				p.overwrite("folder/" + name)
			}
		}
	}
	for name, n := range seen {
		if n != 1 {
			return fmt.Sprintf("%s %d times", name, n)
		}
	}
	if len(seen) != 202 {
		return fmt.Sprintf("%d of 202", len(seen))
	}
	return "once"
}

func numbersListed(p *probe) string {
	p.overwrite("folder/5")
	entries, err := getdents(p.path("folder"))
	p.must(err)
	for _, e := range entries {
		var st unix.Stat_t
		p.must(unix.Lstat(p.path("folder")+"/"+e.name, &st))
		if st.Ino != e.ino {
			return "no: " + e.name
		}
	}
	return "yes"
}
