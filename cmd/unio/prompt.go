package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// ask shows a question and returns the line that is typed. The end of the
// input is an empty line. Ctrl-C ends the waiting, and the terminal is then as
// it was before.
func (e *env) ask(ctx context.Context, question string) (string, error) {
	fmt.Fprint(e.stdout, question)
	return e.await(ctx, func() (string, error) {
		line, err := bufio.NewReader(e.stdin).ReadString('\n')
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return strings.TrimRight(line, "\r\n"), err
	})
}

// askSecret is ask on a terminal that does not show what is typed.
func (e *env) askSecret(ctx context.Context, question string, terminal *os.File) (string, error) {
	fd := int(terminal.Fd())
	if before, err := term.GetState(fd); err == nil {
		defer func() { _ = term.Restore(fd, before) }() // Ctrl-C leaves the reader where it is
	}
	hideTyping(fd) // before the question, as some type ahead
	fmt.Fprint(e.stdout, question)
	secret, err := e.await(ctx, func() (string, error) {
		raw, err := term.ReadPassword(fd)
		return string(raw), err
	})
	if err == nil {
		fmt.Fprintln(e.stdout)
	}
	return secret, err
}

// hideTyping turns the echo of a terminal off. [term.ReadPassword] does so too,
// and fails where this does.
func hideTyping(fd int) {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return
	}
	t.Lflag &^= unix.ECHO
	_ = unix.IoctlSetTermios(fd, unix.TCSETS, t)
}

// await lets read wait for input until ctx ends. What is typed later is lost
// with the program.
func (e *env) await(ctx context.Context, read func() (string, error)) (string, error) {
	type answer struct {
		text string
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		text, err := read()
		done <- answer{text, err}
	}()
	select {
	case a := <-done:
		return a.text, a.err
	case <-ctx.Done():
		fmt.Fprintln(e.stdout) // behind the ^C that the terminal shows
		return "", context.Cause(ctx)
	}
}
