package main

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// living is about what files do beside holding data: fifos, sockets, programs,
// and telling others what happens.
var living = group{
	"fifo": {"p|", func(t *T) {
		r, w := t.open("p", rdonly|unix.O_NONBLOCK), t.open("p", wronly|unix.O_NONBLOCK)
		_, err := unix.Write(w, []byte("through"))
		t.ok(err)
		b := make([]byte, 20)
		n, err := unix.Read(r, b)
		t.ok(err)
		t.eq(string(b[:n]), "through")
		t.eq(t.lstat("p").Size, 0)
	}},
	"fifo across a copy-up": {"p|@622", func(t *T) {
		r := t.open("p", rdonly|unix.O_NONBLOCK)
		t.ok(unix.Chmod("p", 0o666))
		w := t.open("p", wronly|unix.O_NONBLOCK)
		_, err := unix.Write(w, []byte("x"))
		t.ok(err)
		n, err := unix.Read(r, make([]byte, 2))
		t.ok(err)
		t.eq(n, 1)
	}},
	"fifo of two names": {"p|", func(t *T) {
		t.ok(unix.Link("p", "q"))
		r := t.open("p", rdonly|unix.O_NONBLOCK)
		w := t.open("q", wronly|unix.O_NONBLOCK)
		_, err := unix.Write(w, []byte("x"))
		t.ok(err)
		n, err := unix.Read(r, make([]byte, 2))
		t.ok(err)
		t.eq(n, 1)
	}},
	"fifo without readers": {"p|", func(t *T) {
		r := t.open("p", rdonly|unix.O_NONBLOCK)
		t.open("p", wronly|unix.O_NONBLOCK)
		t.ok(t.close(r))
		t.fails(tryOpen("p", wronly|unix.O_NONBLOCK), unix.ENXIO)
	}},
	"fifo seeks not": {"p|", func(t *T) { t.eq(t.seek(t.open("p", rdwr), 0, unix.SEEK_SET), "ESPIPE") }},
	"socket": {"", func(t *T) {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: self(t.open(".", opath)) + "/s", Net: "unix"})
		t.ok(err)
		defer l.Close()
		l.SetUnlinkOnClose(false)
		t.eq(t.lstat("s").Mode&unix.S_IFMT, unix.S_IFSOCK)
		fd := t.socket("s", nil)
		_, err = unix.Write(fd, []byte("hello"))
		t.ok(err)
		c, err := l.Accept()
		t.ok(err)
		b := make([]byte, 9)
		n, err := c.Read(b)
		t.ok(errors.Join(err, c.Close()))
		t.eq(string(b[:n]), "hello")
	}},
	"socket moves": {"d/", func(t *T) {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: self(t.open(".", opath)) + "/s", Net: "unix"})
		t.ok(err)
		defer l.Close()
		l.SetUnlinkOnClose(false)
		t.ok(unix.Rename("s", "d/t"))
		t.socket("d/t", nil)
		t.socket("s", unix.ENOENT)
	}},
	"socket that nobody hears": {"", func(t *T) { t.ok(unix.Mknod("s", unix.S_IFSOCK|0o777, 0)); t.socket("s", unix.ECONNREFUSED) }},
	"socket over a name":       {"s=x", func(t *T) { _, err := net.Listen("unix", self(t.open(".", opath))+"/s"); t.fails(err, unix.EADDRINUSE) }},
	"socket needs write": {"", func(t *T) {
		l, err := net.Listen("unix", self(t.open(".", opath))+"/s")
		t.ok(err)
		defer l.Close()
		t.ok(unix.Chmod("s", 0o600))
		t.as(alice, func() { t.socket("s", unix.EACCES) })
	}},
	"program":                  {"run<=/bin/true@755", func(t *T) { t.eq(t.start("./run"), "") }},
	"program of a user":        {"run<=/bin/true@711", func(t *T) { t.as(alice, func() { t.eq(t.start("./run"), "") }) }},
	"program without x":        {"run<=/bin/true@644", func(t *T) { t.eq(t.start("./run"), "EACCES") }},
	"program that is a folder": {"run/", func(t *T) { t.eq(t.start("./run"), "EACCES") }},
	"program of no format":     {"run=nonsense@755", func(t *T) { t.eq(t.start("./run"), "ENOEXEC") }},
	"program that is missing":  {"", func(t *T) { t.eq(t.start("./run"), "ENOENT") }},
	"script": {"", func(t *T) {
		t.put("run", "#!/bin/sh\nexit 7\n")
		t.ok(unix.Chmod("run", 0o755))
		t.eq(t.start("./run"), "exit status 7")
	}},
	"script without interpreter": {"", func(t *T) {
		t.put("run", "#!/no/such\n")
		t.ok(unix.Chmod("run", 0o755))
		t.eq(t.start("./run"), "ENOENT")
	}},
	"program that was written": {"run<=/bin/true@755", func(t *T) { t.append("run", "more"); t.eq(t.start("./run"), "") }},
	"program being written":    {"run<=/bin/true@755", func(t *T) { t.open("run", wronly); t.eq(t.start("./run"), "ETXTBSY") }},
	"running program is not written": {"run<=/bin/sleep@755", func(t *T) {
		cmd := exec.Command("./run", "60")
		t.ok(cmd.Start())
		defer func() { _, _ = cmd.Process.Kill(), cmd.Wait() }()
		t.fails(tryOpen("run", wronly), unix.ETXTBSY)
		t.fails(tryOpen("run", rdonly|trunc), unix.ETXTBSY)
		t.fails(unix.Truncate("run", 0), unix.ETXTBSY)
		t.ok(tryOpen("run", rdonly))
		t.ok(unix.Chmod("run", 0o700))
		t.remove("run")
	}},
	"running program is replaced": {"run<=/bin/sleep@755 new<=/bin/true@755", func(t *T) {
		cmd := exec.Command("./run", "60")
		t.ok(cmd.Start())
		defer func() { _, _ = cmd.Process.Kill(), cmd.Wait() }()
		t.ok(unix.Rename("new", "run"))
		t.eq(t.start("./run"), "")
	}},
	"setuid program": {".@755 id<=/usr/bin/id@4755:1002:1002", func(t *T) {
		t.as(alice, func() {
			out, err := exec.Command("./id", "-u").Output()
			t.ok(err)
			t.eq(strings.TrimSpace(string(out)), "1002")
		})
	}},
	"setgid program": {".@755 id<=/usr/bin/id@2755:1002:1002", func(t *T) {
		t.as(alice, func() {
			out, err := exec.Command("./id", "-g").Output()
			t.ok(err)
			t.eq(strings.TrimSpace(string(out)), "1002")
		})
	}},
	"inotify: file": {"f=x", func(t *T) {
		t.eq(t.watch("f", func() { t.append("f", "y"); t.ok(unix.Chmod("f", 0o600)); t.content("f") }), "OPEN MODIFY CLOSE_WRITE ATTRIB OPEN ACCESS CLOSE_NOWRITE")
	}},
	"inotify: file that goes": {"f=x", func(t *T) { t.eq(t.watch("f", func() { t.remove("f") }), "ATTRIB DELETE_SELF IGNORED") }},
	"inotify: folder": {"d/ d/f=x", func(t *T) {
		t.eq(t.watch("d", func() {
			t.put("d/g", "")
			t.ok(unix.Rename("d/g", "d/h"))
			t.ok(unix.Mkdir("d/e", 0o755))
			t.ok(unix.Link("d/f", "d/l"))
			t.remove("d/h", "d/e")
		}), "CREATE:g OPEN:g CLOSE_WRITE:g MOVED_FROM:g MOVED_TO:h CREATE:e CREATE:l DELETE:h DELETE:e")
	}},
	"inotify: append to what was there": {"d/ d/f=x", func(t *T) { t.eq(t.watch("d", func() { t.append("d/f", "y") }), "OPEN:f MODIFY:f CLOSE_WRITE:f") }},
	"inotify: truncate":                 {"d/ d/f=x", func(t *T) { t.eq(t.watch("d", func() { t.ok(unix.Truncate("d/f", 0)) }), "MODIFY:f") }},
	"tail follows": {"f=one", func(t *T) {
		fd := t.open("f", rdonly)
		for _, word := range []string{"two", "three", "four"} {
			t.append("f", word)
			t.eq(t.pread(fd, 100, t.fstat(fd).Size-int64(len(word))), word)
		}
		t.eq(t.pread(fd, 100, 0), "onetwothreefour")
	}},
	"working folder on it": {"d/ d/f=x", func(t *T) {
		t.ok(unix.Chdir("d"))
		wd, err := os.Readlink("/proc/thread-self/cwd")
		t.ok(err)
		t.holds(strings.HasSuffix(wd, "/d"), "the folder is named")
		t.ok(unix.Rename("../d", "../e"))
		wd, err = os.Readlink("/proc/thread-self/cwd")
		t.ok(err)
		t.holds(strings.HasSuffix(wd, "/e"), "and renamed")
	}},
	"deleted file in /proc": {"f=x", func(t *T) {
		fd := t.open("f", rdonly)
		t.remove("f")
		name, err := os.Readlink(self(fd))
		t.ok(err)
		t.holds(strings.HasSuffix(name, "/f (deleted)"), "it is shown as deleted")
	}},
}

// socket connects to a name in the working folder.
func (t *T) socket(name string, want error) int {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	t.ok(err)
	t.fails(unix.Connect(t.adopt(fd), &unix.SockaddrUnix{Name: name}), want)
	return fd
}

// start runs a program: empty for success, the name of the error, or the exit
// status.
func (t *T) start(path string) string {
	var err error
	for range 100 {
		// A process that another scenario is just starting has all our
		// descriptors until it runs, also those for writing.
		if err = exec.Command(path).Run(); !errors.Is(err, unix.ETXTBSY) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	var exit *exec.ExitError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &exit):
		return exit.Error()
	}
	return errName(err)
}

// watch tells what inotify(7) says of a name while f runs.
func (t *T) watch(name string, f func()) string {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	t.ok(err)
	defer t.close(fd)
	_, err = unix.InotifyAddWatch(fd, name, unix.IN_ALL_EVENTS)
	t.ok(err)
	f()
	time.Sleep(tick) // a file's end may be told a little later
	buf := make([]byte, 65536)
	n, err := unix.Read(fd, buf)
	t.ok(err)
	var said []string
	for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
		e := (*unix.InotifyEvent)(unsafe.Pointer(unsafe.SliceData(b)))
		end := unix.SizeofInotifyEvent + int(e.Len)
		about := strings.TrimRight(string(b[unix.SizeofInotifyEvent:end]), "\x00")
		text := eventName(e.Mask)
		if about != "" {
			text += ":" + about
		}
		said = append(said, text)
		b = b[end:]
	}
	return strings.Join(said, " ")
}

func eventName(mask uint32) string {
	names := map[uint32]string{
		unix.IN_ACCESS: "ACCESS", unix.IN_ATTRIB: "ATTRIB", unix.IN_CLOSE_WRITE: "CLOSE_WRITE",
		unix.IN_CLOSE_NOWRITE: "CLOSE_NOWRITE", unix.IN_CREATE: "CREATE", unix.IN_DELETE: "DELETE",
		unix.IN_DELETE_SELF: "DELETE_SELF", unix.IN_MODIFY: "MODIFY", unix.IN_MOVE_SELF: "MOVE_SELF",
		unix.IN_MOVED_FROM: "MOVED_FROM", unix.IN_MOVED_TO: "MOVED_TO", unix.IN_OPEN: "OPEN", unix.IN_IGNORED: "IGNORED",
	}
	return names[mask&^unix.IN_ISDIR]
}
