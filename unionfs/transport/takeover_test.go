package transport

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// connection is what a successor needs of a child.
type connection struct {
	device *os.File
	init   string
}

// connectionOf copies the descriptor of a child, which a process that holds it
// like a keeper would have inherited.
func connectionOf(t *testing.T, s *child) connection {
	t.Helper()
	var fd int
	var c connection
	if _, err := fmt.Sscan(s.ask("connection"), &fd, &c.init); err != nil {
		t.Fatal(err)
	}
	pidfd, err := unix.PidfdOpen(s.cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	mine, err := unix.PidfdGetfd(pidfd, fd, 0)
	if err != nil {
		t.Fatal(err)
	}
	c.device = os.NewFile(uintptr(mine), "fuse")
	t.Cleanup(func() { c.device.Close() })
	return c
}

// succeed starts a child that takes the connection over.
func (c *connection) succeed(t *testing.T, dir string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0], dir, "readers=2", "bound=64", "procs=4")
	cmd.ExtraFiles = []*os.File{c.device}
	cmd.Env = []string{initEnv + "=" + c.init}
	s, err := startChild(t, dir, cmd)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestTakeover kills a server twice while a request waits. The successor gets
// it again, marked as repeated, and nobody sees an error.
func TestTakeover(t *testing.T) {
	needRoot(t)
	first := startServer(t, config{})
	c := connectionOf(t, first)
	// A fork of this process closes what is open here. That must not be a
	// request, for the server is what is started: once told, the kernel knows
	// that there is no FLUSH.
	if _, err := os.ReadFile(filepath.Join(first.dir, "1")); err != nil {
		t.Fatal(err)
	}
	open, err := os.Open(filepath.Join(first.dir, "5000"))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	slow := make(chan error, 1)
	go func() {
		var st unix.Stat_t
		slow <- ignoringEINTR(func() error { return unix.Stat(filepath.Join(first.dir, "slow"), &st) })
	}()
	waitFor(t, "the slow one", func() bool { return first.ask("blocked") == "1" })
	server := first
	for range 2 {
		server.kill()
		server = c.succeed(t, first.dir)
		waitFor(t, "the slow one again", func() bool { return server.ask("blocked") == "1" })
	}
	if got := server.ask("repeated"); got != "1" {
		t.Errorf("%s requests were marked as repeated, want 1", got)
	}
	buf := make([]byte, 5000)
	if n, err := open.ReadAt(buf, 0); n != 5000 || buf[4999] != pattern(4999) {
		t.Errorf("read from a file that was open: %d bytes, %v", n, err)
	}
	server.ask("release")
	if err := <-slow; err != nil {
		t.Errorf("the request that waited: %v", err)
	}
	open.Close()
	if end := server.unmount(); !strings.HasPrefix(end, "ended") {
		t.Error(end)
	}
	if !Gone(int(c.device.Fd())) {
		t.Error("an unmounted connection does not count as gone")
	}
}

// TestDrain hands over with requests at work: they are answered, and what
// comes later is the successor's.
func TestDrain(t *testing.T) {
	needRoot(t)
	first := startServer(t, config{})
	c := connectionOf(t, first)
	if first.ask("drain") != "true" {
		t.Error("an idle server does not drain")
	}
	later := make(chan error, 8)
	for range cap(later) {
		go func() {
			var st unix.Statfs_t
			later <- ignoringEINTR(func() error { return unix.Statfs(first.dir, &st) })
		}()
	}
	first.kill()
	second := c.succeed(t, first.dir)
	for range cap(later) {
		if err := <-later; err != nil {
			t.Error(err)
		}
	}
	second.unmount()
}

func TestTakeoverNeedsResend(t *testing.T) {
	for name, init := range map[string][]byte{"nothing": nil, "of an old kernel": make([]byte, 104)} {
		if _, err := Takeover(MountOptions{Dir: "/x"}, -1, init); !errors.Is(err, ErrNoResend) {
			t.Errorf("INIT %s: %v", name, err)
		}
	}
}
