package main

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/urfave/cli/v2"

	"unio/imagestore"
)

// filters are --filter arguments, name=value, in any number.
type filters map[string][]string

// errFilterForm is docker's text for an argument without "=".
const errFilterForm = "bad format of filter (expected name=value)"

// parseFilters reads --filter arguments. Names other than those allowed are
// refused; a malformed argument is a bad flag.
func parseFilters(c *cli.Context, allowed ...string) (filters, error) {
	f := filters{}
	for _, arg := range c.StringSlice("filter") {
		if arg == "" {
			continue // docker takes it for no filter
		}
		name, value, ok := strings.Cut(arg, "=")
		name = strings.ToLower(strings.TrimSpace(name))
		if !ok {
			return nil, &usageError{
				code: exitBadFlag, app: c.App, command: c.Command,
				msg: fmt.Sprintf("invalid argument %q for %q flag: %s", arg, flagTitle(findFlag(c.Command.Flags, "filter")), errFilterForm),
			}
		}
		if !slices.Contains(allowed, name) {
			word := "invalid"
			if isContainerList(c.Command) {
				word = "Invalid" // docker's daemon spells it so there
			}
			return nil, fmt.Errorf("%s filter '%s'", word, name)
		}
		f[name] = append(f[name], strings.TrimSpace(value))
	}
	return f, nil
}

// yesOrNo reads a filter that is true or false, nil if it is not given. Both
// at once are refused, as anything else is.
func (f filters) yesOrNo(name string) (*bool, error) {
	values := slices.Sorted(slices.Values(f[name]))
	if len(values) == 0 {
		return nil, nil
	}
	yes := slices.Contains(values, "1") || slices.Contains(values, "true")
	no := slices.Contains(values, "0") || slices.Contains(values, "false")
	if yes == no {
		return nil, fmt.Errorf("invalid filter '%s=%s'", name, values)
	}
	return &yes, nil
}

// imageFilter decides which images a list shows.
type imageFilter struct {
	patterns      []string // any must match a name
	dangling      *bool
	labels        []string // all must hold
	before, since time.Time
	until         time.Time
}

// newImageFilter understands the filters of docker's "images".
func newImageFilter(ctx context.Context, st *imagestore.Store, f filters, now time.Time) (*imageFilter, error) {
	m := &imageFilter{patterns: f["reference"], labels: f["label"]}
	for _, p := range m.patterns {
		if _, err := path.Match(p, ""); err != nil {
			return nil, err // "syntax error in pattern"
		}
	}
	var err error
	if m.dangling, err = f.yesOrNo("dangling"); err != nil {
		return nil, err
	}
	for _, v := range f["before"] {
		img, err := st.Lookup(ctx, v)
		if err != nil {
			return nil, err
		}
		m.before = img.Config.CreatedAt()
	}
	for _, v := range f["since"] {
		img, err := st.Lookup(ctx, v)
		if err != nil {
			return nil, err
		}
		m.since = img.Config.CreatedAt()
	}
	for _, v := range f["until"] {
		t, err := parseMoment(v, now)
		if err != nil {
			return nil, err
		}
		m.until = t
	}
	return m, nil
}

// parseMoment reads a time as docker does: a duration before now, seconds
// since 1970, or a date with or without time and zone.
func parseMoment(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	if sec, err := strconv.ParseFloat(s, 64); err == nil {
		return time.UnixMicro(int64(sec * 1e6)), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02Z07:00", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("failed to parse value as time or duration: %q", s)
}

// headsOnly reports whether only images are wanted that have no tag and no
// image built on them. One with a registry's digest alone is, to docker, both
// dangling and not.
func (m *imageFilter) headsOnly() bool { return m.dangling != nil && *m.dangling }

// matches reports whether an image is to be shown, by everything but its
// names.
func (m *imageFilter) matches(img *imagestore.Image) bool {
	created := img.Config.CreatedAt()
	switch {
	case m.headsOnly() && len(img.Names) > 0:
	case m.dangling != nil && !*m.dangling && img.Dangling():
	case !m.before.IsZero() && !created.Before(m.before):
	case !m.since.IsZero() && !created.After(m.since):
	case !m.until.IsZero() && !created.Before(m.until):
	default:
		return hasLabels(img.Config.Config.Labels, m.labels)
	}
	return false
}

// hasLabels checks for labels given as "name" or "name=value".
func hasLabels(have map[string]string, want []string) bool {
	for _, w := range want {
		name, value, exact := strings.Cut(w, "=")
		v, ok := have[name]
		if !ok || exact && v != value {
			return false
		}
	}
	return true
}

// matchesName reports whether a name fits one of the patterns, if there are
// any.
func (m *imageFilter) matchesName(name string) bool {
	if len(m.patterns) == 0 {
		return true
	}
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(m.patterns, func(p string) bool {
		ok, err := reference.FamiliarMatch(p, ref)
		return err == nil && ok
	})
}
