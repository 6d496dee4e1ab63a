package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Users without privilege, each in the group of the same number.
const (
	alice = 1001
	bob   = 1002
)

// fails expects an error: one of want.
func (t *T) fails(got error, want ...error) {
	if !slices.ContainsFunc(want, func(e error) bool { return errors.Is(got, e) }) {
		t.errorf("got %s, want %s", errName(got), errNames(want))
	}
}

// ok expects no error, and ends the scenario if there is one.
func (t *T) ok(err error) {
	if err != nil {
		t.fatalf("got %s, want success", errName(err))
	}
}

// eq expects two values to be the same.
func (t *T) eq(got, want any) {
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		t.errorf("got %.200s, want %.200s", g, w)
	}
}

// holds expects something to be true.
func (t *T) holds(cond bool, what string) {
	if !cond {
		t.errorf("not so: %s", what)
	}
}

func errName(err error) string {
	var errno unix.Errno
	switch {
	case err == nil:
		return "success"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

func errNames(list []error) string {
	var names []string
	for _, err := range list {
		names = append(names, errName(err))
	}
	return strings.Join(names, " or ")
}

// open opens a file that is closed at the end.
func (t *T) open(name string, flags int) int {
	fd, err := unix.Open(name, flags|unix.O_CLOEXEC, 0o644)
	if err != nil {
		t.fatalf("open %.50s: %s", name, errName(err))
	}
	return t.adopt(fd)
}

// adopt closes a descriptor at the scenario's end, unless that has done so.
func (t *T) adopt(fd int) int {
	t.opened = append(t.opened, fd)
	t.cleanup = append(t.cleanup, func() {
		if slices.Contains(t.opened, fd) {
			_ = t.close(fd)
		}
	})
	return fd
}

// close closes a descriptor. Closing its number once more, at the end, might hit
// the one that another scenario has got since.
func (t *T) close(fd int) error {
	t.opened = slices.DeleteFunc(t.opened, func(o int) bool { return o == fd })
	return unix.Close(fd)
}

// tryOpen tells what opening gives.
func tryOpen(name string, flags int) error {
	fd, err := unix.Open(name, flags|unix.O_CLOEXEC, 0o644)
	if err == nil {
		err = unix.Close(fd)
	}
	return err
}

// lstat gives the attributes of name itself.
func (t *T) lstat(name string) unix.Stat_t {
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		t.fatalf("lstat %.50s: %s", name, errName(err))
	}
	return st
}

// fstat gives the attributes of an open file.
func (t *T) fstat(fd int) unix.Stat_t {
	var st unix.Stat_t
	t.ok(unix.Fstat(fd, &st))
	return st
}

// mode gives the permission bits of name itself.
func (t *T) mode(name string) string { return fmt.Sprintf("%o", t.lstat(name).Mode&0o7777) }

// owner gives "uid:gid" of name itself.
func (t *T) owner(name string) string {
	st := t.lstat(name)
	return fmt.Sprintf("%d:%d", st.Uid, st.Gid)
}

// nlink gives the count of names.
func (t *T) nlink(name string) uint64 { return uint64(t.lstat(name).Nlink) }

// content reads a whole file.
func (t *T) content(name string) string {
	b, err := os.ReadFile(name)
	if err != nil {
		t.fatalf("read %.50s: %s", name, errName(err))
	}
	return string(b)
}

// put writes a whole file, made if it is not there.
func (t *T) put(name, content string) {
	syscall.ForkLock.RLock() // as in enter
	err := os.WriteFile(name, []byte(content), 0o644)
	syscall.ForkLock.RUnlock()
	t.ok(err)
}

// append writes at the end of a file.
func (t *T) append(name, text string) {
	syscall.ForkLock.RLock() // as in enter
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_APPEND|unix.O_CLOEXEC, 0)
	if err == nil {
		_, err = unix.Write(fd, []byte(text))
		err = errors.Join(err, unix.Close(fd))
	}
	syscall.ForkLock.RUnlock()
	t.ok(err)
}

// pread reads what is at an offset.
func (t *T) pread(fd, n int, off int64) string {
	b := make([]byte, n)
	n, err := unix.Pread(fd, b, off)
	t.ok(err)
	return string(b[:n])
}

// pwrite writes at an offset.
func (t *T) pwrite(fd int, text string, off int64) {
	n, err := unix.Pwrite(fd, []byte(text), off)
	t.ok(err)
	t.eq(n, len(text))
}

// list gives the names in a folder, sorted.
func (t *T) list(dir string) []string {
	f, err := os.Open(dir)
	t.ok(err)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	t.ok(err)
	slices.Sort(names)
	return names
}

// exists tells whether a name is there, itself.
func exists(name string) bool {
	var st unix.Stat_t
	return unix.Lstat(name, &st) == nil
}

// as runs f with the identity of an ordinary user, in the groups given.
func (t *T) as(uid int, f func(), groups ...uint32) {
	t.become(uid, groups)
	defer t.become(0, nil)
	f()
}

// become sets the identity of this thread alone; root stays within reach.
func (t *T) become(uid int, groups []uint32) {
	call := func(trap, a, b, c uintptr) {
		if _, _, errno := unix.RawSyscall(trap, a, b, c); errno != 0 {
			t.fatalf("change of identity: %s", errName(errno))
		}
	}
	if uid == 0 {
		call(unix.SYS_SETRESUID, 0, 0, 0)
	}
	call(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(unsafe.SliceData(groups))), 0)
	call(unix.SYS_SETRESGID, uintptr(uid), uintptr(uid), 0)
	if uid != 0 {
		call(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), 0)
	}
}

// times are the three times of a file.
type times struct{ a, m, c unix.Timespec }

func (t *T) times(name string) times {
	if fd, ok := strings.CutPrefix(name, "fd:"); ok {
		var n int
		_, err := fmt.Sscan(fd, &n)
		t.ok(err)
		st := t.fstat(n)
		return times{st.Atim, st.Mtim, st.Ctim}
	}
	st := t.lstat(name)
	return times{st.Atim, st.Mtim, st.Ctim}
}

// tick is longer than the coarse clock of files takes to advance.
const tick = 12 * time.Millisecond

// touches expects that f changes just the times that spec says: words
// "NAME:TIMES" where TIMES are some of a, m and c, or several such with "|"
// between; NAME may be "fd:N". Times
// that change together in one step of the kernel must be the same to the
// nanosecond, and none may lie in the future or before the change.
func (t *T) touches(spec string, f func()) {
	type watched struct {
		name, want string
		before     times
	}
	var list []watched
	for word := range strings.FieldsSeq(spec) {
		i := strings.LastIndexByte(word, ':')
		list = append(list, watched{word[:i], word[i+1:], t.times(word[:i])})
	}
	t.awaitTick()
	begin := t.coarse() // on a virtual machine it may be well behind time.Now
	start := time.Unix(begin.Unix())
	f()
	for _, w := range list {
		after := t.times(w.name)
		got := after.since(w.before)
		if !slices.Contains(strings.Split(w.want, "|"), got) {
			t.errorf("of %s changed %q, want %q", w.name, got, w.want)
			continue
		}
		t.timely(w.name, got, after, start)
	}
}

// awaitTick waits until the clock that files are stamped with has moved on,
// which takes longer than usual on a virtual machine that has to wait itself.
func (t *T) awaitTick() {
	before := t.coarse()
	for time.Sleep(tick); t.coarse() == before; {
		time.Sleep(time.Millisecond)
	}
}

func (t *T) coarse() (now unix.Timespec) {
	t.ok(unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now))
	return now
}

// timely checks the values of times that have just changed.
func (t *T) timely(name, changed string, now times, start time.Time) {
	if !strings.ContainsRune(changed, 'c') {
		return
	}
	at := time.Unix(now.c.Unix())
	if at.Before(start.Add(-tick)) || at.After(time.Now()) {
		t.errorf("change time of %s is %v, the change began at %v", name, at, start)
	}
	if strings.ContainsRune(changed, 'm') && now.m != now.c {
		t.errorf("mtime of %s is %v, ctime %v: not one moment", name, now.m, now.c)
	}
}

// since names the times that differ.
func (now times) since(before times) string {
	changed := ""
	if now.a != before.a {
		changed += "a"
	}
	if now.m != before.m {
		changed += "m"
	}
	if now.c != before.c {
		changed += "c"
	}
	return changed
}

// age gives files times of long ago, so that relatime lets reading show.
func (t *T) age(names ...string) {
	for _, name := range names {
		old := []unix.Timespec{{Sec: 1e9, Nsec: 123456789}, {Sec: 1e9 + 1, Nsec: 987654321}}
		t.ok(unix.UtimesNanoAt(unix.AT_FDCWD, name, old, unix.AT_SYMLINK_NOFOLLOW))
	}
}

func sorted(list []string) []string { slices.Sort(list); return list }
