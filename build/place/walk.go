package place

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/moby/patternmatcher"

	"unio/build/source"
)

// walk calls visit for everything in the folder of a match that --exclude does
// not name, a folder before what is in it. rel is relative to the folder, name
// is that in the tree.
func (c *Copy) walk(ctx context.Context, m *match, visit func(rel, name string, e *source.Entry) error) error {
	w := &walker{ctx: ctx, tree: m.tree, visit: visit, prefix: m.excludePrefix()}
	if len(c.Exclude) > 0 {
		var err error
		if w.exclude, err = patternmatcher.New(c.Exclude); err != nil {
			return fmt.Errorf("exclude: %w", err)
		}
	}
	return w.folder("", m.name)
}

// excludePrefix is what paths start with that --exclude is matched against:
// those of --parents are relative to its root, others to the source.
func (m *match) excludePrefix() string {
	if !m.parents {
		return ""
	}
	return strings.TrimPrefix(path.Join(m.under, m.as), "/")
}

// walker goes through the folder of a match.
type walker struct {
	ctx     context.Context
	tree    source.Tree
	prefix  string
	exclude *patternmatcher.PatternMatcher // nil: all is copied
	visit   func(rel, name string, e *source.Entry) error
}

func (w *walker) folder(rel, name string) error {
	list, err := w.tree.ReadDir(name)
	if err != nil {
		return err
	}
	for i := range list {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		e := &list[i]
		if err := w.entry(path.Join(rel, e.Name), path.Join(name, e.Name), e); err != nil {
			return err
		}
	}
	return nil
}

// entry visits one entry. A folder that is left out is looked into where an
// exception ("!") may bring back something in it.
func (w *walker) entry(rel, name string, e *source.Entry) error {
	skip, err := w.excluded(rel)
	if err != nil {
		return err
	}
	if skip && (!e.IsDir() || !w.exclude.Exclusions()) {
		return nil
	}
	if !skip {
		if err := w.visit(rel, name, e); err != nil {
			return err
		}
	}
	if e.IsDir() {
		return w.folder(rel, name)
	}
	return nil
}

// excluded asks the patterns, which are relative to what was named, not to the
// context (buildkit, docs/reference.md, "COPY --exclude").
func (w *walker) excluded(rel string) (bool, error) {
	if w.exclude == nil {
		return false, nil
	}
	skip, err := w.exclude.MatchesOrParentMatches(path.Join(w.prefix, rel))
	if err != nil {
		return false, fmt.Errorf("exclude: %w", err)
	}
	return skip, nil
}

// eachParent calls visit for each folder that --parents makes above a match,
// from the top; rel is relative to the destination.
func (m *match) eachParent(visit func(rel string, e *source.Entry) error) error {
	if m.under == "" {
		return nil
	}
	rel := ""
	for part := range strings.SplitSeq(m.under, "/") {
		rel = path.Join(rel, part)
		at, err := source.Resolve(m.tree, path.Join(m.root, rel))
		if err != nil {
			return err
		}
		e, err := m.tree.Lstat(at)
		if err != nil {
			return err
		}
		if err := visit(rel, &e); err != nil {
			return err
		}
	}
	return nil
}
