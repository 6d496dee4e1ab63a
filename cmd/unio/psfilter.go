package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"unio/container"
	"unio/imagestore"
)

// containerFilter decides which containers a list shows (moby,
// daemon/list.go).
type containerFilter struct {
	f             filters
	anyState      bool // a filter asks for others than running ones
	before, since time.Time
	ancestors     map[digest.Digest]bool // nil: any
	exited        []int
}

// newContainerFilter understands the filters of docker's "ps".
func newContainerFilter(ctx context.Context, e *env, f filters, list []*container.Container) (*containerFilter, error) {
	m := &containerFilter{f: f, anyState: len(f["status"])+len(f["exited"]) > 0}
	for _, v := range f["status"] {
		if !slices.Contains([]string{"created", "dead", "exited", "paused", "removing", "restarting", "running"}, v) {
			return nil, fmt.Errorf("Invalid filter 'status=%s'", v) //lint:ignore ST1005 docker's words
		}
	}
	for _, v := range f["health"] {
		if !slices.Contains([]string{"none", "starting", "healthy", "unhealthy"}, v) {
			return nil, fmt.Errorf("Unrecognised filter value for health: %s", v) //lint:ignore ST1005 docker's words
		}
	}
	for _, v := range f["exited"] {
		code, err := strconv.Atoi(v)
		if err != nil {
			return nil, err
		}
		m.exited = append(m.exited, code)
	}
	for name, to := range map[string]*time.Time{"before": &m.before, "since": &m.since} {
		for _, v := range f[name] {
			one, err := e.containers().Lookup(v)
			if err != nil {
				return nil, fmt.Errorf("no such container %s", v)
			}
			*to = one.Created
		}
	}
	var err error
	if len(f["ancestor"]) > 0 {
		m.ancestors, err = descendants(ctx, e, f["ancestor"], list)
	}
	return m, err
}

// descendants are the images of containers that are, or were built on, one of
// some images.
func descendants(ctx context.Context, e *env, names []string, list []*container.Container) (map[digest.Digest]bool, error) {
	st, err := e.store()
	if err != nil {
		return nil, err
	}
	found := map[digest.Digest]bool{}
	for _, name := range names {
		base, err := st.Lookup(ctx, name)
		if errors.Is(err, imagestore.ErrNotFound) || errors.Is(err, imagestore.ErrInvalid) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, c := range list {
			img, err := st.Get(ctx, c.Image)
			if err != nil {
				found[c.Image] = found[c.Image] || c.Image == base.ID
				continue
			}
			found[c.Image] = found[c.Image] || hasPrefix(img.DiffIDs(), base.DiffIDs()) && (img.ID == base.ID || descends(ctx, st, img, base.ID))
		}
	}
	return found, nil
}

func hasPrefix(list, prefix []digest.Digest) bool {
	return len(list) >= len(prefix) && slices.Equal(list[:len(prefix)], prefix)
}

// descends follows parents.
func descends(ctx context.Context, st *imagestore.Store, img *imagestore.Image, base digest.Digest) bool {
	for range 1000 { // more than any chain; a circle ends
		if img.Parent == base {
			return true
		}
		if img.Parent == "" {
			return false
		}
		var err error
		if img, err = st.Get(ctx, img.Parent); err != nil {
			return false
		}
	}
	return false
}

// matches reports whether a container is to be shown.
func (m *containerFilter) matches(c *container.Container) bool {
	f := m.f
	switch {
	case !m.before.IsZero() && !c.Created.Before(m.before),
		!m.since.IsZero() && !c.Created.After(m.since),
		m.ancestors != nil && !m.ancestors[c.Image],
		len(m.exited) > 0 && (c.State.Status != container.StatusExited || !slices.Contains(m.exited, c.State.ExitCode)),
		!anyMatches(f["name"], c.Name) && !anyMatches(f["name"], "/"+c.Name),
		!anyMatches(f["id"], c.ID),
		len(f["status"]) > 0 && !slices.Contains(f["status"], c.State.Word()),
		len(f["health"]) > 0 && !slices.Contains(f["health"], "none"),
		len(f["network"]) > 0 && !slices.Contains(f["network"], c.Host.NetworkMode),
		slices.Contains(f["is-task"], "true"),
		!hasLabels(c.Config.Labels, f["label"]):
		return false
	}
	return m.matchesPlaces(c)
}

// matchesPlaces looks at volumes and ports.
func (m *containerFilter) matchesPlaces(c *container.Container) bool {
	if want := m.f["volume"]; len(want) > 0 && !slices.ContainsFunc(c.Mounts, func(p container.MountPoint) bool {
		return slices.Contains(want, p.Name) || slices.Contains(want, p.Destination)
	}) {
		return false
	}
	exposed := func(port string) bool { _, ok := c.Config.ExposedPorts[port]; return ok }
	published := func(port string) bool { _, ok := c.Host.PortBindings[port]; return ok }
	return anyPort(m.f["expose"], exposed) && anyPort(m.f["publish"], published)
}

func anyPort(want []string, has func(string) bool) bool {
	return len(want) == 0 || slices.ContainsFunc(want, func(p string) bool {
		if !strings.ContainsRune(p, '/') {
			p += "/tcp"
		}
		return has(p)
	})
}

// anyMatches reports whether a text is, or fits as a regular expression, one
// of the values; no values fit all.
func anyMatches(values []string, text string) bool {
	return len(values) == 0 || slices.ContainsFunc(values, func(v string) bool {
		if v == text {
			return true
		}
		re, err := regexp.Compile(v)
		return err == nil && re.MatchString(text)
	})
}
