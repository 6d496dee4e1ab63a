package layer

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"unio/whiteout"
)

var errName = errors.New("bad name")

// cleanPath brings a name of the tar to the form of an index: relative to the
// root of the image, without ".", ".." or a slash at either end. What leads
// above the root stays at the root. "" is the root. Nothing is looked up for
// that, on the host least of all: "a/../b" is "b" whatever a may be, as it is
// for container engines.
func cleanPath(name string, lim Limits) (string, error) {
	p := path.Clean("/" + name)[1:]
	if len(p) > lim.Path {
		return "", limitError("bytes of a path", int64(len(p)), int64(lim.Path))
	}
	if strings.IndexByte(p, 0) >= 0 {
		return "", fmt.Errorf("%w: NUL in it", errName)
	}
	depth := 0
	for component := range strings.SplitSeq(p, "/") {
		if depth++; len(component) > maxName {
			return "", fmt.Errorf("%w: a component of %d bytes, more than %d", errName, len(component), maxName)
		}
	}
	if depth > lim.Depth {
		return "", limitError("components of a path", int64(depth), int64(lim.Depth))
	}
	return p, nil
}

// classify says what an entry's path means: itself, a whiteout of the path
// returned, an opaque marker of the folder returned, or nothing.
func classify(p string) (kind whiteout.Kind, means string, err error) {
	if !strings.Contains(p, whiteout.Prefix) {
		return whiteout.None, p, nil
	}
	dir, base := path.Split(p)
	// Nothing can lie below a name that means something else.
	dir = strings.TrimSuffix(dir, "/")
	for component := range strings.SplitSeq(dir, "/") {
		switch kind, _, err := whiteout.Parse(component); {
		case err != nil:
			return whiteout.None, "", err
		case kind == whiteout.Ignore:
			return whiteout.Ignore, p, nil
		case kind != whiteout.None:
			return whiteout.None, "", fmt.Errorf("%w: entry below whiteout %q", whiteout.ErrName, component)
		}
	}
	kind, hides, err := whiteout.Parse(base)
	switch {
	case err != nil:
		return whiteout.None, "", err
	case kind == whiteout.File:
		return kind, path.Join(dir, hides), nil
	case kind == whiteout.Opaque:
		return kind, dir, nil
	}
	return kind, p, nil
}
