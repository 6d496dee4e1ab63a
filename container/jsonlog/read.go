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
// there is empty. What is no entry, as a crash may leave it, is passed over.
func Read(ctx context.Context, path string, o ReadOptions, each func(Entry) error) error {
	r := &reader{o: o, each: each}
	files, err := r.open(path)
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
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
	return stopped(r.follow(ctx, path, files))
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

// open opens the files of a log, the oldest first.
func (r *reader) open(path string) (files []*os.File, err error) {
	for i := 0; ; i++ {
		f, err := os.Open(rotated(path, i))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return files, fmt.Errorf("read log: %w", err)
		}
		files = append(files, f)
	}
	slices.Reverse(files)
	return files, nil
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

// follow goes on reading at the end of the newest file, and in the next one
// when the log has been rotated.
func (r *reader) follow(ctx context.Context, path string, files []*os.File) error {
	var last *os.File
	if len(files) > 0 {
		last = files[len(files)-1]
	}
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
		next, err := successor(path, last)
		if err != nil {
			return err
		}
		if next != nil {
			defer next.Close()
			last, r.part = next, r.part[:0]
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

// successor opens the file that has taken the place of the one that was read
// last; nil: none.
func successor(path string, last *os.File) (*os.File, error) {
	now, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	if last != nil {
		if was, err := last.Stat(); err == nil && os.SameFile(was, now) {
			return nil, nil
		}
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return f, err
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
