package jsonlog

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"
)

// ReadOptions say what of a log is read.
type ReadOptions struct {
	Tail         int // the last lines only; negative: all
	Since, Until time.Time
	// Follow goes on until it returns false at the end of the log. It is asked
	// again and again.
	Follow func() bool
}

// followStep is how often a follower looks for more.
const followStep = 50 * time.Millisecond

// maxObject bounds the length of one object: a text, every byte of which may
// take six as \u00XX, and the rest.
const maxObject = 8*maxLine + 4096

// Read hands the entries of a log to each, the oldest first. A log that is not
// there is empty. What is no entry, as a crash may leave it, is passed over. Who
// follows misses nothing of a log that rotates, as long as he keeps up with as
// many files as it has.
func Read(ctx context.Context, path string, o ReadOptions, each func(Entry) error) (err error) {
	r := &reader{o: o, each: each}
	files, err := newer(path, nil)
	defer func() { closeAll(files) }()
	if err != nil {
		return err
	}
	if err := r.skipTo(files); err != nil {
		return err
	}
	for _, f := range files {
		if err := r.file(f); err != nil {
			return stopped(err)
		}
	}
	if o.Follow == nil {
		return nil
	}
	var last *os.File
	if n := len(files); n > 0 {
		last = files[n-1]
		closeAll(files[:n-1]) // a file that rotation removes must not stay on the disk
	}
	return stopped(r.follow(ctx, path, last))
}

// errUntil ends reading at an entry that is too new.
var errUntil = errors.New("the rest is newer")

func stopped(err error) error {
	if errors.Is(err, errUntil) {
		return nil
	}
	return err
}

type reader struct {
	o    ReadOptions
	each func(Entry) error
	skip int    // lines to pass over
	part []byte // of a line that is not whole yet
	buf  *bufio.Reader
}

// newer opens the files of a log that were begun after last, the oldest first;
// nil: all.
//
// The log may rotate meanwhile. Its files only ever move to the next name, in the
// direction in which they are looked for: so none is missed, one may be met
// again, and one name at a time has no file.
func newer(path string, last *os.File) (files []*os.File, err error) {
	for i, gap := 0, false; ; i++ {
		f, err := os.Open(rotated(path, i))
		switch {
		case errors.Is(err, fs.ErrNotExist) && !gap:
			gap = true
			continue
		case errors.Is(err, fs.ErrNotExist):
			slices.Reverse(files)
			return files, nil
		case err != nil:
			return files, fmt.Errorf("read log: %w", err)
		}
		gap = false
		if last != nil && same(f, last) {
			slices.Reverse(files)
			return files, f.Close()
		}
		if slices.ContainsFunc(files, func(o *os.File) bool { return same(f, o) }) {
			f.Close()
			continue
		}
		files = append(files, f)
	}
}

// same reports whether two open files are one.
func same(a, b *os.File) bool {
	was, err1 := a.Stat()
	now, err2 := b.Stat()
	return err1 == nil && err2 == nil && os.SameFile(was, now)
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// skipTo finds out how many lines come before the last ones that are wanted.
func (r *reader) skipTo(files []*os.File) error {
	if r.o.Tail < 0 {
		return nil
	}
	lines := 0
	for _, f := range files {
		n, err := countLines(f)
		if err != nil {
			return err
		}
		lines += n
	}
	r.skip = max(0, lines-r.o.Tail)
	return nil
}

func countLines(f *os.File) (lines int, err error) {
	buf := make([]byte, 64<<10)
	for off := int64(0); ; {
		n, err := f.ReadAt(buf, off)
		lines += bytes.Count(buf[:n], []byte{'\n'})
		off += int64(n)
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		if err != nil {
			return 0, fmt.Errorf("read log: %w", err)
		}
	}
}

// file reads the rest of one file. A line that is not whole yet is kept.
func (r *reader) file(f io.Reader) error {
	if r.buf == nil {
		r.buf = bufio.NewReaderSize(f, 64<<10)
	} else {
		r.buf.Reset(f)
	}
	for {
		line, err := r.buf.ReadSlice('\n')
		r.part = append(r.part, line...)
		if errors.Is(err, bufio.ErrBufferFull) && len(r.part) < maxObject {
			continue
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return fmt.Errorf("read log: %w", err)
		}
		err = r.line(r.part)
		r.part = r.part[:0]
		if err != nil {
			return err
		}
	}
}

func (r *reader) line(line []byte) error {
	if r.skip > 0 {
		r.skip--
		return nil
	}
	var e Entry
	if json.Unmarshal(line, &e) != nil {
		return nil
	}
	if !r.o.Since.IsZero() && e.Time.Before(r.o.Since) {
		return nil
	}
	if !r.o.Until.IsZero() && e.Time.After(r.o.Until) {
		return errUntil
	}
	return r.each(e)
}

// follow goes on reading at the end of the newest file, which it closes, and in
// the next ones when the log has been rotated.
func (r *reader) follow(ctx context.Context, path string, last *os.File) (err error) {
	defer func() {
		if last != nil {
			last.Close()
		}
	}()
	for {
		more := r.o.Follow() // asked before reading: what comes after is not missed
		if !r.o.Until.IsZero() && time.Now().After(r.o.Until) {
			more = false
		}
		if last != nil {
			if err := r.file(last); err != nil {
				return err
			}
		}
		next, err := r.catchUp(path, last)
		if err != nil {
			return err
		}
		if next != last {
			last = next
			continue
		}
		if !more {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(followStep):
		}
	}
}

// catchUp reads what has come between the end of last, which it closes then, and
// the newest file, which it returns to be read; last itself if that is it.
func (r *reader) catchUp(path string, last *os.File) (*os.File, error) {
	files, err := newer(path, last)
	if err != nil || len(files) == 0 {
		closeAll(files)
		return last, err
	}
	if last != nil {
		// It may have grown between the look at its end and the rotation, but
		// not any more.
		err = r.file(last)
		last.Close()
	}
	newest := len(files) - 1
	for _, f := range files[:newest] {
		if err == nil {
			r.part = r.part[:0]
			err = r.file(f)
		}
		f.Close()
	}
	r.part = r.part[:0]
	return files[newest], err
}

// Details are an entry's attributes as docker's logs --details shows them.
func (e *Entry) Details() string {
	var list []string
	for name, value := range e.Attrs {
		list = append(list, name+"="+value)
	}
	slices.Sort(list)
	return strings.Join(list, ",")
}
