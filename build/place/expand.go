package place

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/moby/patternmatcher"
	"golang.org/x/sys/unix"

	"unio/build/source"
)

// match is one thing to copy.
type match struct {
	tree source.Tree
	name string // in the tree, no link
	as   string // the name it gets in a folder
	// under are the folders above that --parents makes, relative to root.
	root, under string
	parents     bool
	entry       source.Entry
	unpack      bool
}

// expand finds what the sources stand for. It works once; later calls return
// the same list, so that digest and layer are of the same things.
func (c *Copy) expand() ([]match, error) {
	if c.expanded != nil {
		return c.expanded, nil
	}
	var list []match
	for _, src := range c.Sources {
		found, err := c.expandSource(src)
		if err != nil {
			return nil, failed(err, "%s failed: %s", c.command(), err)
		}
		list = append(list, found...)
	}
	for _, part := range c.More {
		m, err := newMatch(part.Tree, part.Name, part.Name)
		if err != nil {
			return nil, fmt.Errorf("%s failed: %w", c.command(), err)
		}
		m.unpack = part.Unpack && source.IsTar(m.tree, m.name)
		list = append(list, m)
	}
	if len(list) == 0 && !c.Parents && !c.none {
		return nil, failed(nil, "%s failed: no source files were specified", c.command())
	}
	if _, folder := c.destination(); len(list) > 1 && !folder {
		return nil, failed(nil, "When using %s with more than one source file, the destination must be a directory and end with a /", c.command())
	}
	c.expanded = list
	return list, nil
}

// expandSource finds what one source stands for.
func (c *Copy) expandSource(src string) ([]match, error) {
	if c.From == nil {
		return nil, errors.New("missing build context")
	}
	name := strings.TrimPrefix(strings.TrimPrefix(src, "/"), "./")
	if clean := path.Clean(name); clean == ".." || strings.HasPrefix(clean, "../") {
		return nil, fmt.Errorf("forbidden path outside the build context: %s ()", src)
	}
	if c.Parents {
		return c.expandParents(src)
	}
	if !source.HasWildcard(name) {
		m, err := c.fromTree(name)
		return []match{m}, err
	}
	names, err := source.Glob(c.From, name)
	if err != nil {
		return nil, err
	}
	list := make([]match, 0, len(names))
	for _, n := range names {
		m, err := c.fromTree(n)
		if err != nil {
			return nil, err
		}
		excluded, err := c.excluded(&m)
		if err != nil {
			return nil, err
		}
		if !excluded {
			list = append(list, m)
		}
	}
	c.none = c.none || len(names) > 0
	return list, nil
}

// excluded reports whether --exclude names a file that a wildcard matches. Of
// a folder it is about what is in it.
func (c *Copy) excluded(m *match) (bool, error) {
	if len(c.Exclude) == 0 || m.entry.IsDir() {
		return false, nil
	}
	ok, err := patternmatcher.MatchesOrParentMatches(m.as, c.Exclude)
	if err != nil {
		return false, fmt.Errorf("exclude: %w", err)
	}
	return ok, nil
}

// fromTree makes the match of one name; what is missing is told in docker's
// words.
func (c *Copy) fromTree(name string) (match, error) {
	m, err := newMatch(c.From, name, name)
	if errors.Is(err, fs.ErrNotExist) {
		text := fmt.Sprintf("stat %s: file does not exist", name)
		if !c.Stage {
			text = "file not found in build context or excluded by .dockerignore: " + text
		}
		return m, &failure{text, os.ErrNotExist}
	}
	if errors.Is(err, unix.ENOTDIR) {
		return m, failed(err, "forbidden path outside the build context: %s ()", name)
	}
	if err == nil && c.Add && m.entry.IsRegular() {
		m.unpack = source.IsTar(m.tree, m.name)
	}
	return m, err
}

// newMatch finds what a name stands for. Where a link leads through something
// that is missing, docker goes on by the letter: "none/.." is where it began.
func newMatch(t source.Tree, name, as string) (match, error) {
	at, err := source.ResolveMissing(t, name)
	if err != nil {
		return match{}, err
	}
	e, err := t.Lstat(at)
	return match{tree: t, name: at, as: path.Base(source.Clean(as)), entry: e}, err
}
