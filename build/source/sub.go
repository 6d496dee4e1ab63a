package source

import (
	"errors"
	"io"
	"slices"
)

// sub is a part of a tree.
type sub struct {
	t   Tree
	dir string
}

// name is a name of the part in the whole tree.
func (s *sub) name(n string) string {
	if n == "" {
		return s.dir
	}
	return s.dir + "/" + n
}

func (s *sub) Lstat(name string) (Entry, error) {
	e, err := s.t.Lstat(s.name(name))
	if name == "" {
		e.Name = ""
	}
	return e, err
}

func (s *sub) ReadDir(name string) ([]Entry, error)    { return s.t.ReadDir(s.name(name)) }
func (s *sub) Open(name string) (io.ReadCloser, error) { return s.t.Open(s.name(name)) }

// errorsIs is errors.Is for any of several.
func errorsIs(err error, targets ...error) bool {
	return slices.ContainsFunc(targets, func(t error) bool { return errors.Is(err, t) })
}
