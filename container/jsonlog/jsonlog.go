// Package jsonlog keeps the output of a container in docker's json-file form:
// one JSON object a line, {"log":"text\n","stream":"stdout","time":"…"}, in one
// file or several that rotate: X, X.1 (older), X.2 …
//
// A line longer than [maxLine] is kept in several objects, of which only the
// last ends with a newline. The time is when the object was written.
package jsonlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/docker/go-units"
)

// maxLine is the most bytes of one object's text (moby, daemon/logger/copier.go).
const maxLine = 16 << 10

// Entry is one object of a log.
type Entry struct {
	Log    string            `json:"log"`
	Stream string            `json:"stream"` // stdout or stderr
	Attrs  map[string]string `json:"attrs,omitempty"`
	Time   time.Time         `json:"time"`
}

// Options say how a log is kept. The zero value keeps all in one file.
type Options struct {
	MaxSize  int64 // bytes after which a new file is begun; 0: never
	MaxFiles int   // how many files are kept, 1 at least
}

// ParseOptions reads docker's --log-opt values of json-file. The errors are
// docker's words.
func ParseOptions(config map[string]string) (o Options, err error) {
	o.MaxFiles = 1
	for name, value := range config {
		switch name {
		case "max-size":
			if o.MaxSize, err = units.FromHumanSize(value); err != nil {
				return o, fmt.Errorf("failed to initialize logging driver: %w", err)
			}
			if o.MaxSize <= 0 {
				return o, fmt.Errorf("failed to initialize logging driver: max-size must be a positive number")
			}
		case "max-file":
			if o.MaxFiles, err = strconv.Atoi(value); err != nil {
				return o, fmt.Errorf("failed to initialize logging driver: %w", err)
			}
			if o.MaxFiles < 1 {
				return o, fmt.Errorf("failed to initialize logging driver: max-file cannot be less than 1")
			}
		case "labels", "labels-regex", "env", "env-regex", "compress", "tag", "mode", "max-buffer-size":
		default:
			return o, fmt.Errorf("unknown log opt '%s' for json-file log driver", name)
		}
	}
	if o.MaxFiles > 1 && o.MaxSize == 0 {
		return o, fmt.Errorf("failed to initialize logging driver: max-file set without max-size")
	}
	return o, nil
}

// Log is a log that is being written. Several streams may write at once.
type Log struct {
	path string
	o    Options

	mu   sync.Mutex // guards what follows; held while a line is written to the disk's cache
	file *os.File
	size int64
	torn bool // the last line in the file has no end: the disk was full
}

// Open opens a log to be continued.
func Open(path string, o Options) (*Log, error) {
	l := &Log{path: path, o: o}
	return l, l.open()
}

func (l *Log) open() error {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return fmt.Errorf("open log: %w", err)
	}
	l.file, l.size = f, st.Size()
	return nil
}

// Close closes the log.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}

// write adds one object.
func (l *Log) write(stream string, text []byte) error {
	line, err := json.Marshal(Entry{Log: string(text), Stream: stream, Time: time.Now().UTC()})
	if err != nil {
		return err
	}
	line = append(line, '\n')
	l.mu.Lock()
	defer l.mu.Unlock()
	var rotateErr error
	if l.o.MaxSize > 0 && l.size > 0 && l.size+int64(len(line)) > l.o.MaxSize {
		rotateErr = l.rotate() // whatever comes of it, there is a file to write to
	}
	if l.torn {
		line = append([]byte{'\n'}, line...)
	}
	n, err := l.file.Write(line)
	l.size += int64(n)
	if n > 0 {
		l.torn = n < len(line)
	}
	return errors.Join(rotateErr, err)
}

// rotate begins a new file. Where that fails the old one goes on.
func (l *Log) rotate() error {
	for i := l.o.MaxFiles - 1; i > 0; i-- {
		if err := os.Rename(rotated(l.path, i-1), rotated(l.path, i)); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	if l.o.MaxFiles < 2 {
		if err := os.Remove(l.path); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	old := l.file
	if err := l.open(); err != nil {
		return err
	}
	l.torn = false
	return old.Close()
}

// rotated is the name of the i-th file of a log, the newest first.
func rotated(path string, i int) string {
	if i == 0 {
		return path
	}
	return fmt.Sprintf("%s.%d", path, i)
}

// Stream returns a writer for one stream. Close writes what is left of an
// unfinished line.
func (l *Log) Stream(name string) *Stream { return &Stream{log: l, name: name} }

// Stream cuts what is written to it into lines.
type Stream struct {
	log  *Log
	name string
	rest []byte
}

// Write adds what forms whole lines and keeps the rest.
func (s *Stream) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		end := bytes.IndexByte(p, '\n') + 1
		if end == 0 {
			end = len(p)
		}
		end = min(end, maxLine-len(s.rest))
		s.rest = append(s.rest, p[:end]...)
		p = p[end:]
		if len(s.rest) < maxLine && s.rest[len(s.rest)-1] != '\n' {
			break
		}
		if err := s.flush(cutRune(s.rest)); err != nil {
			return n - len(p), err
		}
	}
	return n, nil
}

// cutRune is how many bytes at the end of a text are the beginning of a
// character: JSON could not hold them without the rest.
func cutRune(text []byte) int {
	for n := 1; n < utf8.UTFMax && n < len(text); n++ {
		if b := text[len(text)-n]; utf8.RuneStart(b) {
			if b >= utf8.RuneSelf && !utf8.FullRune(text[len(text)-n:]) {
				return n
			}
			return 0
		}
	}
	return 0
}

// flush writes what is there but the last bytes.
func (s *Stream) flush(keep int) error {
	at := len(s.rest) - keep
	err := s.log.write(s.name, s.rest[:at])
	s.rest = append(s.rest[:0], s.rest[at:]...)
	return err
}

// Close writes what is left.
func (s *Stream) Close() error {
	if len(s.rest) == 0 {
		return nil
	}
	return s.flush(0)
}
