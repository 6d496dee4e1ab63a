package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// roleVariable names, in the environment, what a copy of this program is to do
// instead of asking: some things show only between processes. The copy says
// what came of it, and ends when its standard input does.
const roleVariable = "UNIO_POSIX_ROLE"

// play takes a role and returns the exit code.
func play(role string) int {
	name, arg, _ := strings.Cut(role, " ")
	var err error
	switch name {
	case "flock":
		err = hold(arg, func(fd int) error { return unix.Flock(fd, unix.LOCK_EX) })
	case "posix":
		err = hold(arg, func(fd int) error { return setlk(fd, posixLock, flockAll(unix.F_WRLCK)) })
	case "wait":
		err = setlkWait(arg)
	case "deadlock":
		err = deadlock()
	default:
		err = fmt.Errorf("no role %q", role)
	}
	if err != nil {
		fmt.Println(errName(err))
		return 1
	}
	return 0
}

// hold locks a file and waits.
func hold(name string, lock func(fd int) error) error {
	fd, err := unix.Open(name, rdwr, 0)
	if err != nil {
		return err
	}
	if err := lock(fd); err != nil {
		return err
	}
	fmt.Println("held")
	_, _ = io.ReadAll(os.Stdin)
	return nil
}

// setlkWait locks the second file it is told, then waits for the first.
func setlkWait(names string) error {
	first, second, _ := strings.Cut(names, ",")
	return hold(second, func(fd int) error {
		if err := setlk(fd, posixLock, flockAll(unix.F_WRLCK)); err != nil {
			return err
		}
		fmt.Println("holds")
		other, err := unix.Open(first, rdwr, 0)
		if err != nil {
			return err
		}
		return setlk(other, unix.F_SETLKW, flockAll(unix.F_WRLCK))
	})
}

// deadlock locks f and wants g, while another process holds g and wants f.
func deadlock() error {
	f, err := unix.Open("f", rdwr, 0)
	if err != nil {
		return err
	}
	if err := setlk(f, posixLock, flockAll(unix.F_WRLCK)); err != nil {
		return err
	}
	other := copyOf("wait f,g")
	out, err := other.StdoutPipe()
	if err != nil {
		return err
	}
	if err := other.Start(); err != nil {
		return err
	}
	defer func() { _, _ = other.Process.Kill(), other.Wait() }()
	if _, err := io.ReadFull(out, make([]byte, len("holds\n"))); err != nil {
		return err
	}
	g, err := unix.Open("g", rdwr, 0)
	if err != nil {
		return err
	}
	if err := setlk(g, unix.F_SETLKW, flockAll(unix.F_WRLCK)); err != nil {
		return err
	}
	if said, _ := io.ReadAll(out); string(said) == "EDEADLK\n" {
		return unix.EDEADLK // the other one came second
	}
	return nil
}

// copyOf is this program in a role.
func copyOf(role string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	return cmd
}

// role runs a copy of this program to its end and returns what it said.
func (t *T) role(role string) string {
	out, _ := copyOf(role).Output()
	return string(out)
}

// held runs f while another process holds a lock.
func (t *T) held(kind, name string, f func()) {
	cmd := copyOf(kind + " " + name)
	in, err := cmd.StdinPipe()
	t.ok(err)
	out, err := cmd.StdoutPipe()
	t.ok(err)
	t.ok(cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	t.eq(line, "held\n")
	f()
	_ = in.Close()
	_ = cmd.Wait()
	t.ok(err)
}
