package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// cmdJobControl is "jobcontrol CONTAINER": it types into a shell in a chroot,
// with a terminal of its own, and checks that keys reach the right processes.
func cmdJobControl(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: jobcontrol CONTAINER")
	}
	term, err := startOnTerminal(ts, "unio", "chroot", args[0], "sh")
	ts.Check(err)
	defer term.close()
	for _, step := range []struct{ keys, want string }{
		{"echo on $((40+2))\n", "on 42"},
		// Programs that say themselves that the terminal is now theirs.
		{"sh -c 'echo first=$((0+1)); exec sleep 60'; echo code=$((0+$?))\n", "first=1"},
		{"\x03", "^C"},
		{"echo after=$((1+1))\n", "after=2"},
		{"sh -c 'echo second=$((1+1)); exec sleep 61'\n", "second=2"},
		{"\x1a", "Stopped"},
		{"jobs | wc -l; echo jobs=$((1+0))\n", "jobs=1"},
		{"kill -9 %1\n", ""},
		{"exit 5\n", ""}, // the shell may warn of a job that it has not waited for
		{"exit 5\n", ""},
	} {
		if step.want == "" {
			term.typeKeys(step.keys)
			time.Sleep(300 * time.Millisecond) // the shell takes it
			continue
		}
		term.typeKeys(step.keys)
		if !term.waitFor(step.want) {
			ts.Fatalf("no %q after %q:\n%s", step.want, step.keys, term.text())
		}
	}
	stuck := time.AfterFunc(20*time.Second, term.hangUp)
	defer stuck.Stop()
	if err := term.cmd.Wait(); term.cmd.ProcessState.ExitCode() != 5 {
		ts.Fatalf("exit: %v\n%s", err, term.text())
	}
}

// session is a program on a pseudo-terminal.
type session struct {
	cmd    *exec.Cmd
	master *os.File
	mu     sync.Mutex
	out    bytes.Buffer
}

func startOnTerminal(ts *testscript.TestScript, name string, args ...string) (*session, error) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, err
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, err
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer tty.Close()
	t := &session{cmd: exec.Command(name, args...), master: master}
	t.cmd.Stdin, t.cmd.Stdout, t.cmd.Stderr = tty, tty, tty
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	t.cmd.Env = append(os.Environ(), "UNIO_ROOT="+ts.Getenv("UNIO_ROOT"), "UNIO_RUNROOT="+ts.Getenv("UNIO_RUNROOT"))
	if err := t.cmd.Start(); err != nil {
		return nil, err
	}
	go t.read()
	return t, nil
}

func (t *session) read() {
	buf := make([]byte, 4096)
	for {
		n, err := t.master.Read(buf)
		t.mu.Lock()
		t.out.Write(buf[:n])
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (t *session) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.out.String()
}

func (t *session) typeKeys(keys string) { _, _ = t.master.WriteString(keys) }

func (t *session) waitFor(want string) bool {
	for range 200 {
		if strings.Contains(t.text(), want) {
			return true
		}
		time.Sleep(50 * time.Millisecond)
	}
	return false
}

// hangUp ends all that runs on the terminal.
func (t *session) hangUp() { _ = unix.Kill(-t.cmd.Process.Pid, unix.SIGKILL); t.master.Close() }

func (t *session) close() {
	t.hangUp()
	if t.cmd.ProcessState == nil {
		_ = t.cmd.Wait()
	}
}
