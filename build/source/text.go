package source

import (
	"io"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Text is a file whose content stands in the Dockerfile: a here-document.
type Text struct {
	Name    string // one component
	Content string
	ModTime time.Time
}

// OpenText returns a tree that holds one file, of mode 0644 as in BuildKit.
func OpenText(t Text) Tree { return &textTree{t} }

// textTree is the root folder and the one file in it.
type textTree struct{ Text }

func (t *textTree) file() Entry {
	return Entry{Name: t.Name, Mode: unix.S_IFREG | 0o644, Size: int64(len(t.Content)), ModTime: t.ModTime}
}

func (t *textTree) Lstat(name string) (Entry, error) {
	switch name {
	case "":
		return Entry{Mode: unix.S_IFDIR | 0o755, ModTime: t.ModTime}, nil
	case t.Name:
		return t.file(), nil
	}
	return Entry{}, notExist("stat", name)
}

func (t *textTree) ReadDir(name string) ([]Entry, error) {
	if name != "" {
		return nil, notExist("read", name)
	}
	return []Entry{t.file()}, nil
}

func (t *textTree) Open(name string) (io.ReadCloser, error) {
	if name != t.Name {
		return nil, notExist("open", name)
	}
	return io.NopCloser(strings.NewReader(t.Content)), nil
}
