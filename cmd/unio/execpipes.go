package main

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

// pipes stand between the streams of this process and those of a program in a
// container: a file of the host that a stream was redirected to must not be in
// the program's hands, where it could be opened anew, truncated or given another
// owner.
type pipes struct {
	theirs []*os.File // to be closed once the program has them
	outs   []*os.File
	moved  sync.WaitGroup
}

// output makes a pipe whose content goes to w.
func (p *pipes) output(w io.Writer) (*os.File, error) {
	r, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.theirs, p.outs = append(p.theirs, theirs), append(p.outs, r)
	p.moved.Go(func() { _, _ = io.Copy(w, r) }) // nobody else could be told
	return theirs, nil
}

// input makes a pipe that gets what in holds. It ends when in does.
func (p *pipes) input(in io.Reader) (*os.File, error) {
	theirs, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.theirs = append(p.theirs, theirs)
	go func() {
		_, _ = io.Copy(w, in) // the program may not want it all
		w.Close()
	}()
	return theirs, nil
}

// given closes what the program has copies of.
func (p *pipes) given() {
	for _, f := range p.theirs {
		f.Close()
	}
	p.theirs = nil
}

// outputWait is how long output may come from what the program has left behind.
const outputWait = time.Second

// finish waits until the output has been handed on.
func (p *pipes) finish() {
	late := time.AfterFunc(outputWait, func() {
		for _, f := range p.outs {
			_ = f.SetReadDeadline(time.Now()) // it may be closed by now
		}
	})
	p.moved.Wait()
	late.Stop()
	for _, f := range p.outs {
		f.Close()
	}
}

// pipes makes the pipes of an execution.
func (x *execution) pipes(interactive bool) (p *pipes, err error) {
	p = &pipes{}
	var errs [3]error
	x.o.Stdout, errs[0] = p.output(x.e.stdout)
	x.o.Stderr, errs[1] = p.output(x.e.stderr)
	if interactive {
		x.o.Stdin, errs[2] = p.input(x.e.stdin)
	}
	if err := errors.Join(errs[:]...); err != nil {
		p.given()
		return nil, err
	}
	return p, nil
}
