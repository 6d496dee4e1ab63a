package source

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// ignoreLimit bounds the size of a .dockerignore, in bytes.
const ignoreLimit = 1 << 20

// ReadIgnore returns the patterns of what a build with this Dockerfile does
// not read: those of DOCKERFILE.dockerignore beside it or, without one, of
// .dockerignore at the root. No file: no patterns. dockerfile is a name in the
// tree; "" when it lies elsewhere.
func ReadIgnore(t Tree, dockerfile string) ([]string, error) {
	names := []string{".dockerignore"}
	if dockerfile != "" {
		names = []string{Clean(dockerfile) + ".dockerignore", ".dockerignore"}
	}
	for _, name := range names {
		data, err := ReadFile(t, name, ignoreLimit)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("error reading %s: %w", name, err)
		}
		return ParseIgnore(bytes.NewReader(data))
	}
	return nil, nil
}

// ParseIgnore reads patterns in the form of .dockerignore.
func ParseIgnore(r io.Reader) ([]string, error) {
	list, err := ignorefile.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("%w: .dockerignore: %w", ErrInvalid, err)
	}
	return list, nil
}

// Filter returns a tree that shows what the patterns do not hide.
func Filter(t Tree, patterns []string) (Tree, error) {
	seen, err := newIgnorer(patterns)
	if err != nil || seen == nil {
		return t, err
	}
	return &filtered{t, seen}, nil
}

// filtered is a tree behind patterns.
type filtered struct {
	Tree
	seen *ignorer
}

func (f *filtered) Lstat(name string) (Entry, error) {
	if err := f.check("stat", name); err != nil {
		return Entry{}, err
	}
	return f.Tree.Lstat(name)
}

func (f *filtered) ReadDir(name string) ([]Entry, error) {
	list, err := f.Tree.ReadDir(name)
	if err != nil {
		return nil, err
	}
	return f.seen.filter(f.Tree, name, list)
}

func (f *filtered) Open(name string) (io.ReadCloser, error) {
	if err := f.check("open", name); err != nil {
		return nil, err
	}
	return f.Tree.Open(name)
}

// check makes what is hidden look as if it were not there.
func (f *filtered) check(op, name string) error {
	visible, err := f.seen.visible(f.Tree, name)
	if err == nil && !visible {
		return notExist(op, name)
	}
	return err
}

// ignorer decides what patterns hide. The module's matcher compiles patterns
// when they are first used, so its calls take turns.
type ignorer struct {
	mu sync.Mutex
	pm *patternmatcher.PatternMatcher // guarded by mu
	// exceptions are the patterns behind "!", which may lie in hidden folders.
	exceptions []string
}

// newIgnorer returns nil when there is no pattern.
func newIgnorer(patterns []string) (*ignorer, error) {
	if len(patterns) == 0 {
		return nil, nil
	}
	pm, err := patternmatcher.New(patterns)
	if err != nil {
		return nil, fmt.Errorf("%w: ignore pattern: %w", ErrInvalid, err)
	}
	ig := &ignorer{pm: pm}
	for _, p := range pm.Patterns() {
		if p.Exclusion() {
			ig.exceptions = append(ig.exceptions, p.String())
		}
	}
	return ig, nil
}

// hidden asks the patterns alone; a folder may be in sight all the same.
func (ig *ignorer) hidden(name string) (bool, error) {
	ig.mu.Lock()
	defer ig.mu.Unlock()
	hidden, err := ig.pm.MatchesOrParentMatches(name)
	if err != nil {
		return false, fmt.Errorf("%w: ignore pattern: %w", ErrInvalid, err)
	}
	return hidden, nil
}

// visible reports whether a name is in sight. A hidden folder is, when an
// exception brings back something in it.
func (ig *ignorer) visible(t Tree, name string) (bool, error) {
	if name == "" {
		return true, nil
	}
	hidden, err := ig.hidden(name)
	if err != nil || !hidden {
		return err == nil, err
	}
	if !ig.exceptionBelow(name) {
		return false, nil
	}
	e, err := t.Lstat(name)
	if err != nil || !e.IsDir() {
		return false, err
	}
	return ig.anyVisible(t, name)
}

// exceptionBelow reports whether an exception may match something in folder
// dir. One with a wildcard may match anywhere.
func (ig *ignorer) exceptionBelow(dir string) bool {
	for _, p := range ig.exceptions {
		if strings.HasPrefix(p, dir+"/") || strings.ContainsAny(p, `*?[\`) {
			return true
		}
	}
	return false
}

// anyVisible looks for a first entry in sight. It ends early, since folders
// that are hidden tend to be large.
func (ig *ignorer) anyVisible(t Tree, dir string) (bool, error) {
	list, err := t.ReadDir(dir)
	if err != nil {
		return false, err
	}
	for i := range list {
		ok, err := ig.visibleEntry(t, dir, &list[i])
		if err != nil || ok {
			return ok, err
		}
	}
	return false, nil
}

// visibleEntry is visible for an entry that was just listed.
func (ig *ignorer) visibleEntry(t Tree, dir string, e *Entry) (bool, error) {
	name := join(dir, e.Name)
	hidden, err := ig.hidden(name)
	if err != nil || !hidden {
		return err == nil, err
	}
	if !e.IsDir() || !ig.exceptionBelow(name) {
		return false, nil
	}
	return ig.anyVisible(t, name)
}

// filter takes what is hidden out of a listing.
func (ig *ignorer) filter(t Tree, dir string, list []Entry) ([]Entry, error) {
	kept := list[:0]
	for i := range list {
		ok, err := ig.visibleEntry(t, dir, &list[i])
		if err != nil {
			return nil, err
		}
		if ok {
			kept = append(kept, list[i])
		}
	}
	return kept, nil
}
