package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// flockAll is struct flock for a whole file.
func flockAll(typ int16) *unix.Flock_t { return &unix.Flock_t{Type: typ, Whence: unix.SEEK_SET} }

func flockPart(typ int16, from, n int64) *unix.Flock_t {
	return &unix.Flock_t{Type: typ, Whence: unix.SEEK_SET, Start: from, Len: n}
}

// setlk is fcntl(2) F_SETLK, F_OFD_SETLK and the like.
func setlk(fd, cmd int, lk *unix.Flock_t) error { return unix.FcntlFlock(uintptr(fd), cmd, lk) }

const (
	posixLock = unix.F_SETLK
	ofdLock   = unix.F_OFD_SETLK
	noWait    = unix.LOCK_NB
)

// flockSoon takes a lock that a closed descriptor has held. A program that is
// just being started has that descriptor too, until its exec.
func flockSoon(fd int) error {
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if err := unix.Flock(fd, unix.LOCK_EX|noWait); err != unix.EWOULDBLOCK || time.Now().After(end) {
			return err
		}
	}
}

// locking is about flock(2) and the locks of fcntl(2).
var locking = group{
	"flock keeps others out": {"f", func(t *T) {
		a, b := t.open("f", rdwr), t.open("f", rdwr)
		t.ok(unix.Flock(a, unix.LOCK_EX|noWait))
		t.fails(unix.Flock(b, unix.LOCK_SH|noWait), unix.EWOULDBLOCK)
		t.ok(unix.Flock(a, unix.LOCK_UN))
		t.ok(unix.Flock(b, unix.LOCK_EX|noWait))
	}},
	"flock is shared": {"f", func(t *T) {
		a, b, c := t.open("f", rdonly), t.open("f", rdonly), t.open("f", rdonly)
		t.ok(unix.Flock(a, unix.LOCK_SH|noWait))
		t.ok(unix.Flock(b, unix.LOCK_SH|noWait))
		t.fails(unix.Flock(c, unix.LOCK_EX|noWait), unix.EWOULDBLOCK)
	}},
	"flock goes with close": {"f", func(t *T) {
		a, err := unix.Open("f", rdwr, 0)
		t.ok(err)
		t.ok(unix.Flock(a, unix.LOCK_EX))
		t.ok(t.close(a))
		t.ok(flockSoon(t.open("f", rdwr)))
	}},
	"flock of a folder": {"d/", func(t *T) {
		a, b := t.open("d", rdonly), t.open("d", rdonly)
		t.ok(unix.Flock(a, unix.LOCK_EX|noWait))
		t.fails(unix.Flock(b, unix.LOCK_EX|noWait), unix.EWOULDBLOCK)
	}},
	"flock upgrades": {"f", func(t *T) {
		a, b := t.open("f", rdwr), t.open("f", rdwr)
		t.ok(unix.Flock(a, unix.LOCK_SH))
		t.ok(unix.Flock(a, unix.LOCK_EX|noWait))
		t.fails(unix.Flock(b, unix.LOCK_SH|noWait), unix.EWOULDBLOCK)
	}},
	"flock across names": {"f h==f", func(t *T) {
		t.ok(unix.Flock(t.open("f", rdwr), unix.LOCK_EX))
		t.fails(unix.Flock(t.open("h", rdwr), unix.LOCK_EX|noWait), unix.EWOULDBLOCK)
	}},
	"flock across a copy-up": {"f=x", func(t *T) {
		a := t.open("f", rdonly)
		t.ok(unix.Flock(a, unix.LOCK_EX))
		t.append("f", "y")
		t.fails(unix.Flock(t.open("f", rdonly), unix.LOCK_EX|noWait), unix.EWOULDBLOCK)
	}},
	"flock across a rename": {"f=x", func(t *T) {
		a := t.open("f", rdonly)
		t.ok(unix.Flock(a, unix.LOCK_EX))
		t.ok(unix.Rename("f", "g"))
		t.fails(unix.Flock(t.open("g", rdonly), unix.LOCK_EX|noWait), unix.EWOULDBLOCK)
	}},
	"flock of another process": {"f", func(t *T) {
		t.held("flock", "f", func() { t.fails(unix.Flock(t.open("f", rdwr), unix.LOCK_EX|noWait), unix.EWOULDBLOCK) })
		t.ok(unix.Flock(t.open("f", rdwr), unix.LOCK_EX))
	}},
	"flock bad operation":    {"f", func(t *T) { t.fails(unix.Flock(t.open("f", rdwr), 77), unix.EINVAL) }},
	"flock of a path handle": {"f", func(t *T) { t.fails(unix.Flock(t.open("f", opath), unix.LOCK_EX), unix.EBADF) }},
	"lock of another process": {"f#100", func(t *T) {
		t.held("posix", "f", func() {
			fd := t.open("f", rdwr)
			t.fails(setlk(fd, posixLock, flockAll(unix.F_WRLCK)), unix.EAGAIN, unix.EACCES)
			t.fails(setlk(fd, posixLock, flockAll(unix.F_RDLCK)), unix.EAGAIN, unix.EACCES)
			lk := flockAll(unix.F_WRLCK)
			t.ok(setlk(fd, unix.F_GETLK, lk))
			t.eq(lk.Type, unix.F_WRLCK)
			t.holds(lk.Pid > 1 && int(lk.Pid) != unix.Getpid(), "the other process is named")
		})
		t.ok(setlk(t.open("f", rdwr), posixLock, flockAll(unix.F_WRLCK)))
	}},
	"locks of one process": {"f", func(t *T) {
		a, b := t.open("f", rdwr), t.open("f", rdwr)
		t.ok(setlk(a, posixLock, flockAll(unix.F_WRLCK)))
		t.ok(setlk(b, posixLock, flockAll(unix.F_WRLCK)))
	}},
	"lock and flock are apart": {"f", func(t *T) {
		t.ok(setlk(t.open("f", rdwr), posixLock, flockAll(unix.F_WRLCK)))
		t.ok(unix.Flock(t.open("f", rdwr), unix.LOCK_EX|noWait))
	}},
	"OFD locks conflict": {"f", func(t *T) {
		a, b := t.open("f", rdwr), t.open("f", rdwr)
		t.ok(setlk(a, ofdLock, flockAll(unix.F_WRLCK)))
		t.fails(setlk(b, ofdLock, flockAll(unix.F_RDLCK)), unix.EAGAIN)
	}},
	"OFD and POSIX conflict": {"f", func(t *T) {
		a, b := t.open("f", rdwr), t.open("f", rdwr)
		t.ok(setlk(a, ofdLock, flockAll(unix.F_WRLCK)))
		t.fails(setlk(b, posixLock, flockAll(unix.F_RDLCK)), unix.EAGAIN)
	}},
	"parts of a file": {"f#100", func(t *T) {
		a, b := t.open("f", rdwr), t.open("f", rdwr)
		t.ok(setlk(a, ofdLock, flockPart(unix.F_WRLCK, 0, 10)))
		t.ok(setlk(b, ofdLock, flockPart(unix.F_WRLCK, 10, 10)))
		t.fails(setlk(b, ofdLock, flockPart(unix.F_WRLCK, 9, 1)), unix.EAGAIN)
	}},
	"split by unlocking": {"f#100", func(t *T) {
		a, b := t.open("f", rdwr), t.open("f", rdwr)
		t.ok(setlk(a, ofdLock, flockPart(unix.F_WRLCK, 0, 30)))
		t.ok(setlk(a, ofdLock, flockPart(unix.F_UNLCK, 10, 10)))
		t.ok(setlk(b, ofdLock, flockPart(unix.F_WRLCK, 10, 10)))
		t.fails(setlk(b, ofdLock, flockPart(unix.F_RDLCK, 25, 1)), unix.EAGAIN)
	}},
	"readers share": {"f#100", func(t *T) {
		a, b := t.open("f", rdwr), t.open("f", rdwr)
		t.ok(setlk(a, ofdLock, flockAll(unix.F_RDLCK)))
		t.ok(setlk(b, ofdLock, flockAll(unix.F_RDLCK)))
		t.fails(setlk(b, ofdLock, flockAll(unix.F_WRLCK)), unix.EAGAIN)
	}},
	"write lock needs writing": {"f", func(t *T) {
		t.fails(setlk(t.open("f", rdonly), posixLock, flockAll(unix.F_WRLCK)), unix.EBADF)
		t.fails(setlk(t.open("f", wronly), posixLock, flockAll(unix.F_RDLCK)), unix.EBADF)
	}},
	"bad range": {"f", func(t *T) { t.fails(setlk(t.open("f", rdwr), posixLock, flockPart(unix.F_WRLCK, -5, 1)), unix.EINVAL) }},
	"beyond the end": {"f", func(t *T) {
		a, b := t.open("f", rdwr), t.open("f", rdwr)
		t.ok(setlk(a, ofdLock, flockPart(unix.F_WRLCK, 1<<40, 0)))
		t.fails(setlk(b, ofdLock, flockPart(unix.F_WRLCK, 1<<50, 1)), unix.EAGAIN)
	}},
	"goes with any close": {"f", func(t *T) {
		a := t.open("f", rdwr)
		t.ok(setlk(a, posixLock, flockAll(unix.F_WRLCK)))
		t.ok(t.close(must(unix.Open("f", rdonly, 0))))
		t.ok(setlk(t.open("f", rdwr), ofdLock, flockAll(unix.F_WRLCK)))
	}},
	"OFD stays with another close": {"f", func(t *T) {
		a := t.open("f", rdwr)
		t.ok(setlk(a, ofdLock, flockAll(unix.F_WRLCK)))
		t.ok(t.close(must(unix.Open("f", rdonly, 0))))
		t.fails(setlk(t.open("f", rdwr), ofdLock, flockAll(unix.F_WRLCK)), unix.EAGAIN)
	}},
	"ends with its process": {"f", func(t *T) {
		t.held("posix", "f", func() {})
		t.ok(setlk(t.open("f", rdwr), posixLock, flockAll(unix.F_WRLCK)))
	}},
	"deadlock is seen": {"f g", func(t *T) { t.eq(t.role("deadlock"), "EDEADLK\n") }},
	"on an unlinked file": {"f", func(t *T) {
		a := t.open("f", rdwr)
		b := t.open("f", rdwr)
		t.remove("f")
		t.ok(unix.Flock(a, unix.LOCK_EX))
		t.fails(unix.Flock(b, unix.LOCK_EX|noWait), unix.EWOULDBLOCK)
	}},
	"lease": {"f", func(t *T) {
		fd := t.open("f", rdonly)
		_, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
		t.fails(err, nil, unix.EINVAL, unix.EAGAIN)
	}},
}

func must(fd int, _ error) int { return fd }
