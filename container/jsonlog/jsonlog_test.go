package jsonlog

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// collect reads a log as text, a stream's letter before each entry.
func collect(t *testing.T, path string, o ReadOptions) string {
	t.Helper()
	var b strings.Builder
	must(t, Read(t.Context(), path, o, func(e Entry) error {
		b.WriteString(e.Stream[3:4] + ":" + e.Log)
		return nil
	}))
	return b.String()
}

func TestWriteAndRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, err := Open(path, Options{})
	must(t, err)
	out, errs := l.Stream("stdout"), l.Stream("stderr")
	for _, text := range []string{"one\ntw", "o\n", "<&>\n", "no newline"} {
		_, err := out.Write([]byte(text))
		must(t, err)
	}
	_, err = errs.Write([]byte("err\n"))
	must(t, err)
	must(t, out.Close())
	must(t, l.Close())
	if got := collect(t, path, ReadOptions{Tail: -1}); got != "o:one\no:two\no:<&>\ne:err\no:no newline" {
		t.Errorf("got %q", got)
	}
	if got := collect(t, path, ReadOptions{Tail: 2}); got != "e:err\no:no newline" {
		t.Errorf("tail: %q", got)
	}
	if got := collect(t, path, ReadOptions{Tail: 0}); got != "" {
		t.Errorf("tail 0: %q", got)
	}
	if got := collect(t, path, ReadOptions{Tail: -1, Since: time.Now()}); got != "" {
		t.Errorf("since: %q", got)
	}
	if got := collect(t, path, ReadOptions{Tail: -1, Until: time.Now().Add(-time.Hour)}); got != "" {
		t.Errorf("until: %q", got)
	}
	// The form is docker's.
	data, err := os.ReadFile(path)
	must(t, err)
	first, _, _ := strings.Cut(string(data), "\n")
	if !strings.HasPrefix(first, `{"log":"one\n","stream":"stdout","time":"20`) || !strings.HasSuffix(first, `Z"}`) {
		t.Errorf("line: %s", first)
	}
}

// TestLongLines checks that a long line is kept in parts that are whole
// characters.
func TestLongLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, err := Open(path, Options{})
	must(t, err)
	text := "x" + strings.Repeat("é€😀", 9000) + "\n"
	out := l.Stream("stdout")
	for i := 0; i < len(text); i += 777 {
		_, err := out.Write([]byte(text[i:min(i+777, len(text))]))
		must(t, err)
	}
	must(t, l.Close())
	var whole string
	must(t, Read(t.Context(), path, ReadOptions{Tail: -1}, func(e Entry) error {
		if len(e.Log) > maxLine {
			t.Errorf("a part of %d bytes", len(e.Log))
		}
		whole += e.Log
		return nil
	}))
	if whole != text {
		t.Error("the line is another one now")
	}
}

func TestRotation(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	l, err := Open(path, Options{MaxSize: 1000, MaxFiles: 3})
	must(t, err)
	out := l.Stream("stdout")
	for i := range 100 {
		_, err := fmt.Fprintf(out, "line %d\n", i)
		must(t, err)
	}
	must(t, l.Close())
	files, err := os.ReadDir(dir)
	must(t, err)
	if len(files) != 3 {
		t.Errorf("%d files", len(files))
	}
	for _, f := range files {
		if fi, err := f.Info(); err != nil || fi.Size() > 1000 {
			t.Errorf("%s: %d bytes, %v", f.Name(), fi.Size(), err)
		}
	}
	if got := collect(t, path, ReadOptions{Tail: 2}); got != "o:line 98\no:line 99\n" {
		t.Errorf("tail: %q", got)
	}
	got := collect(t, path, ReadOptions{Tail: -1})
	if lines := strings.Count(got, "\n"); lines < 20 || !strings.HasSuffix(got, "o:line 98\no:line 99\n") {
		t.Errorf("%d lines: %q", lines, got)
	}
}

// TestFollow reads a log while it is written and rotated: nothing is missed.
func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, err := Open(path, Options{MaxSize: 4000, MaxFiles: 2})
	must(t, err)
	out := l.Stream("stdout")
	var seen, ended atomic.Int64
	go func() {
		for i := range 200 {
			fmt.Fprintf(out, "line %d\n", i)
			for int(seen.Load()) < i-5 && t.Context().Err() == nil {
				time.Sleep(time.Millisecond)
			}
		}
		ended.Store(1)
	}()
	must(t, Read(t.Context(), path, ReadOptions{Tail: -1, Follow: func() bool { return ended.Load() == 0 }}, func(e Entry) error {
		if want := fmt.Sprintf("line %d\n", seen.Load()); e.Log != want {
			return fmt.Errorf("got %q, want %q", e.Log, want)
		}
		seen.Add(1)
		return nil
	}))
	if seen.Load() != 200 {
		t.Errorf("%d lines", seen.Load())
	}
	must(t, l.Close())
}

// TestFollowBursts has more files begun between two looks at the log than one,
// and keeps none open that is gone.
func TestFollowBursts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	l, err := Open(path, Options{MaxSize: 500, MaxFiles: 20})
	must(t, err)
	out := l.Stream("stdout")
	const bursts, lines = 6, 60 // of some 12 files
	seen, sent := 0, 0
	burst := func() bool { // asked before each look at the log
		for end := min(sent+lines, bursts*lines); sent < end; sent++ {
			_, err := fmt.Fprintf(out, "line %d\n", sent)
			must(t, err)
		}
		return sent < bursts*lines
	}
	must(t, Read(t.Context(), path, ReadOptions{Tail: -1, Follow: burst}, func(e Entry) error {
		if want := fmt.Sprintf("line %d\n", seen); e.Log != want {
			return fmt.Errorf("got %q, want %q", e.Log, want)
		}
		seen++
		if seen%lines != 0 {
			return nil
		}
		if gone := openDeleted(t, dir); gone > 1+12 { // the one that was read last, and a burst
			return fmt.Errorf("%d files are open that are gone", gone)
		}
		return nil
	}))
	if seen != bursts*lines {
		t.Errorf("%d lines", seen)
	}
	must(t, l.Close())
}

// openDeleted counts the open files of a folder that have no name any more.
func openDeleted(t *testing.T, dir string) (n int) {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	must(t, err)
	for _, fd := range fds {
		if at, err := os.Readlink(fd); err == nil && strings.HasPrefix(at, dir) && strings.HasSuffix(at, " (deleted)") {
			n++
		}
	}
	return n
}

// TestFilesBetweenRotations looks at a log at an instant of a rotation at which one
// name has no file.
func TestFilesBetweenRotations(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	for gap := range 3 {
		for i := range 3 {
			line, err := json.Marshal(Entry{Log: fmt.Sprintf("%d\n", i), Stream: "stdout"})
			must(t, err)
			must(t, os.WriteFile(rotated(path, i), append(line, '\n'), 0o600))
		}
		must(t, os.Remove(rotated(path, gap)))
		want := strings.ReplaceAll("o:2\no:1\no:0\n", fmt.Sprintf("o:%d\n", gap), "")
		if got := collect(t, path, ReadOptions{Tail: -1}); got != want {
			t.Errorf("without %d: %q", gap, got)
		}
	}
}

// TestRotationFails goes on in the file that there is.
func TestRotationFails(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	must(t, os.MkdirAll(rotated(path, 1)+"/in the way", 0o700))
	l, err := Open(path, Options{MaxSize: 200, MaxFiles: 2})
	must(t, err)
	want := ""
	for i := range 10 {
		err = l.write("stdout", fmt.Appendf(nil, "line %d\n", i))
		want += fmt.Sprintf("o:line %d\n", i)
	}
	if err == nil {
		t.Error("nobody is told")
	}
	must(t, os.RemoveAll(rotated(path, 1)))
	if got := collect(t, path, ReadOptions{Tail: -1}); got != want {
		t.Errorf("got %q", got)
	}
	must(t, l.write("stdout", []byte("more\n")))
	if got := collect(t, path, ReadOptions{Tail: -1}); got != want+"o:more\n" {
		t.Errorf("after the next rotation: %q", got)
	}
	must(t, l.Close())
}

// TestFullDisk writes what a disk that was full for a while takes.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	l, err := Open(path, Options{})
	must(t, err)
	must(t, l.write("stdout", []byte("one\n")))
	_, err = l.file.WriteString(`{"log":"two`) // what a short write leaves
	must(t, err)
	l.torn = true
	must(t, l.write("stdout", []byte("three\n")))
	must(t, l.write("stdout", []byte("four\n")))
	if got := collect(t, path, ReadOptions{Tail: -1}); got != "o:one\no:three\no:four\n" {
		t.Errorf("got %q", got)
	}
	must(t, l.Close())
}

func TestFollowEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := Read(ctx, filepath.Join(t.TempDir(), "none"), ReadOptions{Tail: -1, Follow: func() bool { return true }}, func(Entry) error { return nil })
	if err == nil {
		t.Error("it ended by itself")
	}
}

// TestDamage passes over what a crash has left, and ends with lines that are
// too long to be entries.
func TestDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	good, err := json.Marshal(Entry{Log: "good\n", Stream: "stdout", Time: time.Now()})
	must(t, err)
	text := "\x00\x00garbage\n" + string(good) + "\n{\"log\":\n" + strings.Repeat("y", 3*maxObject) + "\n" + string(good) + "\n{\"log\":\"cut"
	must(t, os.WriteFile(path, []byte(text), 0o600))
	if got := collect(t, path, ReadOptions{Tail: -1}); got != "o:good\no:good\n" {
		t.Errorf("got %q", got)
	}
}

func TestParseOptions(t *testing.T) {
	for _, test := range []struct {
		config map[string]string
		err    string
	}{
		{nil, ""},
		{map[string]string{"max-size": "10m", "max-file": "3", "labels": "x", "compress": "true"}, ""},
		{map[string]string{"foo": "1"}, "unknown log opt 'foo' for json-file log driver"},
		{map[string]string{"max-size": "x"}, "failed to initialize logging driver: invalid size: 'x'"},
		{map[string]string{"max-size": "1k", "max-file": "0"}, "failed to initialize logging driver: max-file cannot be less than 1"},
		{map[string]string{"max-file": "2"}, "failed to initialize logging driver: max-file set without max-size"},
	} {
		_, err := ParseOptions(test.config)
		if got := fmt.Sprint(err); got != test.err && (err != nil || test.err != "") {
			t.Errorf("%v: %v", test.config, err)
		}
	}
}
