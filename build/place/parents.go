package place

import (
	"fmt"
	"path"
	"strings"

	"github.com/moby/patternmatcher"

	"unio/build/source"
)

// expandParents finds what a source of COPY --parents stands for. What stands
// before "/./" is where the folders to be kept begin; "**" matches any number
// of components (buildkit, frontend/dockerfile/docs/reference.md, "COPY --parents").
func (c *Copy) expandParents(src string) ([]match, error) {
	before, pattern, pivot := strings.Cut(src, "/./")
	if !pivot {
		before, pattern = "", src
	}
	pattern = source.Clean(pattern)
	roots := []string{source.Clean(before)}
	if source.HasWildcard(before) {
		var err error
		if roots, err = source.Glob(c.From, before); err != nil {
			return nil, err
		}
	}
	var list []match
	for _, root := range roots {
		found, err := c.parentsBelow(root, pattern)
		if err != nil {
			return nil, err
		}
		list = append(list, found...)
	}
	return list, nil
}

// parentsBelow finds what matches below one root.
func (c *Copy) parentsBelow(root, pattern string) ([]match, error) {
	names := []string{pattern}
	if source.HasWildcard(pattern) {
		at, err := source.Resolve(c.From, root)
		if err != nil {
			return nil, err
		}
		root = at
		m, err := patternmatcher.New([]string{pattern})
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", pattern, err)
		}
		if names, err = matchBelow(c.From, root, "", m); err != nil {
			return nil, err
		}
	}
	var list []match
	for _, n := range names {
		m, err := c.fromTree(source.Clean(root + "/" + n))
		if err != nil {
			return nil, err
		}
		m.parents, m.root, m.under = true, root, strings.TrimPrefix(path.Dir("/"+n), "/")
		if n == "" {
			m.as = ""
		}
		list = append(list, m)
	}
	return list, nil
}

// matchBelow lists the names below root/dir, relative to root, that match as a
// whole. In a folder that matches it does not look further.
func matchBelow(t source.Tree, root, dir string, m *patternmatcher.PatternMatcher) ([]string, error) {
	entries, err := t.ReadDir(source.Clean(root + "/" + dir))
	if err != nil {
		return nil, err
	}
	var names []string
	for i := range entries {
		name := strings.TrimPrefix(dir+"/"+entries[i].Name, "/")
		ok, err := m.MatchesOrParentMatches(name)
		if err != nil {
			return nil, fmt.Errorf("pattern: %w", err)
		}
		if ok {
			names = append(names, name)
			continue
		}
		if !entries[i].IsDir() {
			continue
		}
		below, err := matchBelow(t, root, name, m)
		if err != nil {
			return nil, err
		}
		names = append(names, below...)
	}
	return names, nil
}
